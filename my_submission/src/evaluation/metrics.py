"""The challenge's score: global SDR, one number for a stem of a song.

It is not museval's SDR (a median over frames of one second), which MUSDB18 results are given in: never compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src.common.errors import UserError

DELTA = 1e-7  # keeps a silent stem, or a perfect estimate, finite; there is no other special case for them


class MetricError(UserError):
    """Two stems that cannot be compared."""


def global_sdr(reference: NDArray[Any], estimate: NDArray[Any]) -> float:
    """Global signal-to-distortion ratio of one stem, dB; both are [n, C], and all samples of all channels count together.

    10 log10((sum s^2 + 1e-7) / (sum (s - e)^2 + 1e-7))

    Raises MetricError for arrays of different shapes.
    """
    return global_sdr_of_blocks([(reference, estimate)])


def global_sdr_of_blocks(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Global SDR of a stem that comes in blocks (reference, estimate) of any shape, dB.

    Raises MetricError for blocks of different shapes.
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


def _energy(signal: NDArray[np.float32]) -> np.float64:
    # Samples, differences and squares are float32, as the challenge has them. Only the running sum is float64: 50 million
    # squares of a long song added up in float32 depend on the order of the additions, which memory layout decides.
    return np.sum(np.square(signal), dtype=np.float64)
