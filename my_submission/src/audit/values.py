"""The values of a stem that scores are computed from, out of the energies of its windows. All of them are in dB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audit.stems import Stem
from my_submission.src.audit.windows import DISTORTION, OUTPUTS, STEM

Array = NDArray[np.float64]

LIMIT_DB = 30.0  # shares, levels and SDRs are clipped to +-LIMIT_DB
STEM_PERCENTILE = 10  # of its windows' shares: the share of a stem
CONTRAST_PART = 1 / 3  # of a stem's windows, the best and the worst
FOREIGN_PART = 1 / 5  # of a stem's windows, those in which another output is loudest
MIN_RELATIVE_ENERGY = 1e-3  # of the loudest window; a window with less does not count
MIN_MEAN_SQUARE = 1e-6  # a window below does not count
EPS = 1e-12  # energy; keeps logarithms finite


@dataclass(frozen=True)
class Measurement:
    """A stem and the energies of its windows."""

    stem: Stem
    seconds: float  # duration
    energies: Array  # [W, 2 + S], from windows.measure
    window: float  # seconds
    fold: int = 0  # the number of the network that measured it, if several did


@dataclass(frozen=True)
class OwnShare:
    """The own shares of a stem, dB."""

    by_window: Array  # [W]
    counts: NDArray[np.bool_]  # [W]: whether a window is loud enough to count
    of_stem: float | None  # None if no window counts


def own_share(measurement: Measurement, own: int) -> OwnShare:
    """Return the own shares of a stem, whose own output is number `own`."""
    energy, outputs = measurement.energies[:, STEM], measurement.energies[:, OUTPUTS]
    counts = energy >= max(MIN_RELATIVE_ENERGY * energy.max(), MIN_MEAN_SQUARE * measurement.window)
    counts &= energy > 0
    shares = ratio_db(outputs[:, own], np.delete(outputs, own, axis=1).sum(axis=1))
    if not counts.any():
        return OwnShare(shares, counts, None)
    weights, order = np.sqrt(energy[counts]), np.argsort(shares[counts])
    reached = np.cumsum(weights[order]) / weights.sum()
    percentile = np.searchsorted(reached, STEM_PERCENTILE / 100)
    return OwnShare(shares, counts, float(shares[counts][order][percentile]))


def self_sdr(measurement: Measurement) -> float:
    """Return the global SDR of a stem's own output, dB, with the stem as the reference."""
    total = measurement.energies.sum(axis=0)
    return float(ratio_db(total[STEM], total[DISTORTION]))


def ratio_db(energy: Array, reference: Array) -> Array:
    """Return a ratio of energies in dB, clipped to +-LIMIT_DB."""
    return np.clip(10 * np.log10((energy + EPS) / (reference + EPS)), -LIMIT_DB, LIMIT_DB)


def contrast(share: OwnShare, weights: Array) -> float:
    """Return the mean own share of the best third of the windows that count, less that of the worst third, negated.

    A part of another instrument that sounds in some windows only lowers the own share there. A stem that is wrong throughout
    has no contrast.
    """
    values, weights = share.by_window[share.counts], weights[share.counts]
    return mean_of_lowest(values, weights, CONTRAST_PART) + mean_of_lowest(-values, weights, CONTRAST_PART)


def foreign_levels(measurement: Measurement, share: OwnShare, weights: Array) -> Array:
    """Return the outputs' levels [S] relative to the stem, in the fifth of the windows where each is loudest, negated."""
    energies = measurement.energies[share.counts]
    levels = ratio_db(energies[:, OUTPUTS], energies[:, STEM, None])  # [W, S]
    return np.array([mean_of_lowest(-level, weights[share.counts], FOREIGN_PART) for level in levels.T])


def mean_of_lowest(values: Array, weights: Array, part: float) -> float:
    """Return the weighted mean of the lowest values, which have that part of the weight."""
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(weights[order]) / weights.sum()
    begins = np.concatenate([[0.0], ends[:-1]])
    used = np.clip(np.minimum(ends, part) - begins, 0, None)
    return float((used * values[order]).sum() / used.sum())
