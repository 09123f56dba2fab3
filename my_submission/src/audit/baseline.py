"""Values that are normal for the stems of an instrument, and scores relative to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from my_submission.src.training import DEFAULT_THRESHOLD

Array = NDArray[np.float64]

MAX_SCORE = 10.0  # scores are clipped to +-MAX_SCORE
MIN_STEMS = 8  # of an instrument, for a baseline
CUT_SPREADS = 2.0  # distance of the cut from the centre
SPREAD_PERCENTILE = 84  # one standard deviation above the median of a normal distribution
MIN_SPREAD_DB = 1.0
EM_ROUNDS = 40  # of expectation maximisation
MIN_UPPER_SHARE = 0.4  # of the values, in the upper of two groups; a few outliers above the others are no group of right stems


@dataclass(frozen=True)
class Baseline:
    """The values that are normal for the stems of an instrument."""

    stems: int  # number of stems that are not silent
    centre: float  # dB
    spread: float  # dB

    @property
    def is_reliable(self) -> bool:
        """Whether there were enough stems to compute it from."""
        return self.stems >= MIN_STEMS

    def score(self, value: float) -> float:
        """Return the score of a value in dB."""
        score = (value - self.centre) / self.spread + CUT_SPREADS + DEFAULT_THRESHOLD
        return min(MAX_SCORE, max(-MAX_SCORE, score))


def fit_baseline(values: Sequence[float]) -> Baseline:
    """Return the baseline of an instrument's own shares or self-SDRs; a fixed one if there are too few."""
    if len(values) < MIN_STEMS:
        return Baseline(len(values), centre=3.0 * CUT_SPREADS, spread=3.0)
    array = np.array(values)
    group = _upper_group(array)
    if group is not None:
        return Baseline(len(array), *group)
    centre = float(np.median(array))
    return Baseline(len(array), centre, max(MIN_SPREAD_DB, float(np.percentile(array, SPREAD_PERCENTILE)) - centre))


def _upper_group(values: Array) -> tuple[float, float] | None:
    """Return centre and spread of the upper of two groups of values; None if there is only one group.

    Two normal distributions are fitted by expectation maximisation. There are two groups if the two distributions explain
    the values better than one (Bayesian information criterion, with three more parameters) and are well separated (Ashman's
    D above 2), and if the upper one is not small.
    """
    centres, spreads = np.quantile(values, [0.1, 0.75]), np.full(2, max(MIN_SPREAD_DB, values.std() / 2))
    shares = np.array([0.3, 0.7])
    for _ in range(EM_ROUNDS):
        densities = shares * _normal(values[:, None], centres, spreads)  # [N, 2]
        belongs = densities / densities.sum(axis=1, keepdims=True)
        shares = belongs.mean(axis=0).clip(0.01, 0.99)
        centres = (belongs * values[:, None]).sum(axis=0) / (len(values) * shares)
        variances = (belongs * (values[:, None] - centres) ** 2).sum(axis=0) / (len(values) * shares)
        spreads = np.sqrt(variances).clip(MIN_SPREAD_DB)
    two = np.log((shares * _normal(values[:, None], centres, spreads)).sum(axis=1)).sum()
    one = np.log(_normal(values, float(values.mean()), max(MIN_SPREAD_DB, float(values.std())))).sum()
    is_better = 2 * (two - one) > 3 * np.log(len(values))
    is_apart = centres[1] - centres[0] > 2 * np.sqrt((spreads**2).mean())
    is_large = shares[1] >= MIN_UPPER_SHARE
    return (float(centres[1]), float(spreads[1])) if is_better and is_apart and is_large else None


def _normal(values: Array, centre: NDArray[np.floating] | float, spread: NDArray[np.floating] | float) -> Array:
    """Return the density of a normal distribution, plus a tiny constant, so that it is never 0."""
    return np.exp(-(((values - centre) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi)) + 1e-100
