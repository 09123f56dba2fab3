"""The metrics of an evaluation; first the challenge's score, global SDR: one number for a stem of a song.

Global SDR is not museval's SDR (a median over frames of one second), in which MUSDB18 results are given: never compare them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src.common.errors import UserError

Pairs = Iterable[tuple[NDArray[Any], NDArray[Any]]]  # blocks (reference, estimate) of one stem, from its beginning to its end

DELTA = 1e-7  # keeps the score of a silent stem or a perfect estimate finite; there is no other special case


class MetricError(UserError):
    """Two stems that cannot be compared."""


def global_sdr(reference: NDArray[Any], estimate: NDArray[Any]) -> float:
    """Return the global signal-to-distortion ratio of one stem, dB.

    10 log10((sum s^2 + 1e-7) / (sum (s - e)^2 + 1e-7))

    Both arrays are [n, C]; the sums run over all samples of all channels. Raises MetricError for arrays of different shapes.
    """
    return global_sdr_of_blocks([(reference, estimate)])


def global_sdr_of_blocks(pairs: Pairs) -> float:
    """Return the global SDR, dB, of a stem that comes in blocks (reference, estimate) of any shape.

    Raises MetricError if the two blocks of a pair have different shapes.
    """
    signal = distortion = DELTA
    for reference, estimate in pairs:
        refuse_other_shape(np.shape(reference), np.shape(estimate))
        truth, found = np.asarray(reference, np.float32), np.asarray(estimate, np.float32)
        signal += _energy(truth)
        distortion += _energy(truth - found)
    return float(10 * np.log10(signal / distortion))


def refuse_other_shape(reference: tuple[int, ...], estimate: tuple[int, ...]) -> None:
    """Raise MetricError unless an estimate has the shape of its reference."""
    if reference != estimate:
        raise MetricError(f"the estimate has shape {list(estimate)}, expected the reference's {list(reference)}")


def _energy(signal: NDArray[np.float32]) -> float:
    # Samples, differences and squares are float32, as in the challenge. Only the running sum is float64: the float32 sum of a
    # long song's 50 million squares would depend on the order of the additions, and the memory layout decides that order.
    return float(np.sum(np.square(signal), dtype=np.float64))


@dataclass(frozen=True)
class Metric:
    """A score of one stem, computed block by block, and its unit ("" for none)."""

    of_blocks: Callable[[Pairs], float]
    unit: str


# Every track is scored by every metric here. The name is a key of the journal, a column of the CSV file and part of the printed
# lines. Members of an ensemble and the page are scored by SDR alone.
METRICS = {"sdr": Metric(global_sdr_of_blocks, "dB")}
