"""The challenge's score: global SDR, one number for a stem of a song.

It is not museval's SDR (a median over frames of one second), which MUSDB18 results are given in: never compare the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src import UserError

DELTA = 1e-7  # keeps a silent stem, or a perfect estimate, finite; there is no other special case for them


class MetricError(UserError):
    """Two stems that cannot be compared."""


def global_sdr(reference: NDArray[Any], estimate: NDArray[Any]) -> float:
    """Global signal-to-distortion ratio of one stem, dB; both are [n, C], and all samples of all channels count together.

    10 log10((sum s^2 + 1e-7) / (sum (s - e)^2 + 1e-7))

    Raises MetricError for arrays of different shapes.
    """
    if np.shape(reference) != np.shape(estimate):
        raise MetricError(
            f"the estimate has shape {list(np.shape(estimate))}, expected the reference's {list(np.shape(reference))}"
        )
    reference, estimate = np.asarray(reference, np.float32), np.asarray(estimate, np.float32)
    ratio = (_energy(reference) + DELTA) / (_energy(reference - estimate) + DELTA)
    return float(10 * np.log10(ratio))


def _energy(signal: NDArray[np.float32]) -> np.float64:
    # Samples, differences and squares are float32, as the challenge has them. Only the running sum is float64: 50 million
    # squares of a long song added up in float32 depend on the order of the additions, which memory layout decides.
    return np.sum(np.square(signal), dtype=np.float64)
