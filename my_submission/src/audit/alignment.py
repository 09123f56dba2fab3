"""Make the values of several networks comparable: estimate by how much each network's values are higher than those of all.

    offsets = fold_offsets({0: [12.1, 9.8, ...], 1: [11.0, ...]})       # {0: 0.4, 1: -0.4}; subtract them

Each network of a cross-fitted audit judges other stems, so its median differs from the others' by chance already. How much is
chance is estimated by drawing the stems again (bootstrap). Only the rest of the difference is taken for the network's
(empirical Bayes: C. Morris, "Parametric empirical Bayes inference", JASA 1983). With networks of one recipe the offsets are
near 0; a network that has learned less gets a large one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

DRAWS = 200
MIN_VALUES = 4  # of a network, for an offset

K = TypeVar("K", bound=Hashable)


def fold_offsets(values: Mapping[K, Sequence[float]]) -> dict[K, float]:
    """Return the offset of each network's values of one instrument, in their unit; 0 for a network with few values."""
    usable = {key: np.asarray(found, np.float64) for key, found in values.items() if len(found) >= MIN_VALUES}
    offsets = dict.fromkeys(values, 0.0)
    if len(usable) < 2:
        return offsets
    rng = np.random.default_rng(0)
    medians, chance = {}, {}
    for key, found in usable.items():
        drawn = np.median(found[rng.integers(len(found), size=(DRAWS, len(found)))], axis=1)
        medians[key], chance[key] = float(np.median(found)), float(drawn.var())
    centre = float(np.median(np.concatenate(list(usable.values()))))
    between = max(
        0.0, float(np.mean([(median - centre) ** 2 for median in medians.values()])) - float(np.mean(list(chance.values())))
    )
    for key, median in medians.items():
        share = between / (between + chance[key]) if between > 0 else 0.0
        offsets[key] = share * (median - centre)
    return offsets
