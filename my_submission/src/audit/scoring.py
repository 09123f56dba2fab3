"""Compute scores from windows: how far each stem is from the other stems of its instrument.

A separation network has learned from mixtures. Given a single stem, it loses part even of a clean one to its other outputs:
much of a bass, little of a voice. So no fixed level tells that a stem is wrong; each is compared with the others.

    own share of a window   energy of the stem's own output over that of all other outputs together, dB, clipped to +-30.
    own share of a stem     the 10th percentile of its windows' shares, weighted by the square root of their energy. A low
                            percentile, so that a short wrong passage counts; not the minimum, which a clean stem may reach by
                            chance. A window 30 dB below the loudest one, or below -60 dBFS, does not count. If no window
                            counts, the stem is silent.
    self-SDR of a stem      energy of the stem over that of its difference from its own output, dB, clipped to +-30.
    score                   (own share - centre) / spread + 2, clipped to +-10; averaged with the same for the self-SDR.

Centre and spread are the baseline of an instrument. If its stems' values fall into two groups, they are the mean and the
standard deviation of the upper group, because wrong stems have lower values. Otherwise the centre is the median, and the
spread is the distance from there to the 84th percentile. A spread is at least 1 dB.

The recommended cut is a score of 0, two spreads below the centre. With fewer than 8 stems of an instrument that are not
silent there is no baseline. The score is then own share / 3 dB, which is 0 if the other outputs are as loud as the own one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audit.stem_score import StemScore, Window, worst_first
from my_submission.src.audit.stems import Stem
from my_submission.src.audit.windows import DISTORTION, OUTPUTS, STEM
from my_submission.src.training import DEFAULT_THRESHOLD

Array = NDArray[np.float64]

LIMIT_DB = 30.0  # shares and SDRs are clipped to +-LIMIT_DB
MAX_SCORE = 10.0  # scores are clipped to +-MAX_SCORE
STEM_PERCENTILE = 10  # of its windows' shares: the share of a stem
MIN_RELATIVE_ENERGY = 1e-3  # of the loudest window; a window with less does not count
MIN_MEAN_SQUARE = 1e-6  # a window below does not count
MIN_STEMS = 8  # of an instrument, for a baseline
CUT_SPREADS = 2.0  # distance of the cut from the centre
SPREAD_PERCENTILE = 84  # one standard deviation above the median of a normal distribution
MIN_SPREAD_DB = 1.0
EM_ROUNDS = 40  # of expectation maximisation
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


@dataclass(frozen=True)
class _Reference:
    """The normal values that the stems of an instrument are compared with."""

    share: Baseline
    sdr: Baseline
    levels: Array  # [S], dB: normal levels of all outputs, relative to the stem


def own_share(measurement: Measurement, own: int) -> OwnShare:
    """Return the own shares of a stem, whose own output is number `own`."""
    energy, outputs = measurement.energies[:, STEM], measurement.energies[:, OUTPUTS]
    counts = energy >= max(MIN_RELATIVE_ENERGY * energy.max(), MIN_MEAN_SQUARE * measurement.window)
    counts &= energy > 0
    shares = _ratio_db(outputs[:, own], np.delete(outputs, own, axis=1).sum(axis=1))
    if not counts.any():
        return OwnShare(shares, counts, None)
    weights, order = np.sqrt(energy[counts]), np.argsort(shares[counts])
    reached = np.cumsum(weights[order]) / weights.sum()
    percentile = np.searchsorted(reached, STEM_PERCENTILE / 100)
    return OwnShare(shares, counts, float(shares[counts][order][percentile]))


def self_sdr(measurement: Measurement) -> float:
    """Return the global SDR of a stem's own output, dB, with the stem as the reference."""
    total = measurement.energies.sum(axis=0)
    return float(_ratio_db(total[STEM], total[DISTORTION]))


def _ratio_db(energy: Array, reference: Array) -> Array:
    return np.clip(10 * np.log10((energy + EPS) / (reference + EPS)), -LIMIT_DB, LIMIT_DB)


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
    D above 2).
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
    return (float(centres[1]), float(spreads[1])) if is_better and is_apart else None


def _normal(values: Array, centre: NDArray[np.floating] | float, spread: NDArray[np.floating] | float) -> Array:
    """Return the density of a normal distribution, plus a tiny constant, so that it is never 0."""
    return np.exp(-(((values - centre) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi)) + 1e-100


def score(measurements: Sequence[Measurement], sources: Sequence[str]) -> tuple[list[StemScore], dict[str, Baseline]]:
    """Return the scores of all stems, the worst first, and the own shares' baseline of each instrument with sound.

    `sources` are the model's instruments, in the order of its outputs.
    """
    shares = [own_share(measurement, sources.index(measurement.stem.instrument)) for measurement in measurements]
    pairs = list(zip(measurements, shares, strict=True))
    references = {
        name: _reference([pair for pair in pairs if pair[0].stem.instrument == name], name, sources) for name in sources
    }
    scores = worst_first([_score(*pair, sources, references) for pair in pairs])
    return scores, {name: reference.share for name, reference in references.items() if reference.share.stems}


def _reference(pairs: Sequence[tuple[Measurement, OwnShare]], name: str, sources: Sequence[str]) -> _Reference:
    """Return the normal values for the stems of one instrument; `pairs` are those stems."""
    heard = [(measurement, share, share.of_stem) for measurement, share in pairs if share.of_stem is not None]
    if len(heard) < MIN_STEMS:  # assume that an instrument is silent in other stems, and whole in its own
        levels = np.where(np.array(sources) == name, 0.0, -LIMIT_DB)
    else:
        levels = np.median([_levels(measurement.energies[share.counts]) for measurement, share, _ in heard], axis=0)
    return _Reference(
        share=fit_baseline([of_stem for _, _, of_stem in heard]),
        sdr=fit_baseline([self_sdr(measurement) for measurement, _, _ in heard]),
        levels=levels,
    )


def _score(
    measurement: Measurement, share: OwnShare, sources: Sequence[str], references: Mapping[str, _Reference]
) -> StemScore:
    """Return the score of one stem."""
    (track, name), seconds, counts = measurement.stem.key, measurement.seconds, share.counts
    begins = measurement.window * np.arange(len(counts), dtype=np.float64)
    ends = np.minimum(begins + measurement.window, seconds)
    reference, own = references[name], sources.index(name)
    scores = [reference.share.score(value) if heard else None for value, heard in zip(share.by_window, counts, strict=True)]
    windows = tuple(map(Window, begins.tolist(), ends.tolist(), scores))
    if share.of_stem is None:
        return StemScore(track, name, seconds=seconds, windows=windows)
    result, sdr = reference.share.score(share.of_stem), self_sdr(measurement)
    if reference.share.is_reliable:  # sound that appears in no output lowers the self-SDR alone
        result = (result + reference.sdr.score(sdr)) / 2
    first, last = _worst_windows(scores)
    worst = slice(first, last + 1)
    foreign, loudest = _foreign(measurement.energies[worst][counts[worst]], name, sources, references)
    outputs = measurement.energies.sum(axis=0)[OUTPUTS]
    return StemScore(
        track,
        name,
        score=result,
        self_sdr=sdr,
        margin_db=float(10 * np.log10((outputs[own] + EPS) / (np.delete(outputs, own).max() + EPS))),
        seconds=seconds,
        from_s=windows[first].begin,
        to_s=windows[last].end,
        contains=foreign if result < DEFAULT_THRESHOLD else "",
        loudest=loudest,
        windows=windows,
    )


def _worst_windows(scores: Sequence[float | None]) -> tuple[int, int]:
    """Return the first and last of the adjacent windows below the cut around the worst one, or the worst one alone."""
    worst = min((score, index) for index, score in enumerate(scores) if score is not None)[1]

    def is_bad(index: int) -> bool:
        value = scores[index] if 0 <= index < len(scores) else None
        return value is not None and value < DEFAULT_THRESHOLD

    first = last = worst
    if is_bad(worst):
        while is_bad(first - 1):
            first -= 1
        while is_bad(last + 1):
            last += 1
    return first, last


def _levels(energies: Array) -> Array:
    """Return the outputs' levels [S] relative to the stem, dB, over windows [W, 2 + S]."""
    total = energies.sum(axis=0)
    return _ratio_db(total[OUTPUTS], total[STEM])


def _foreign(energies: Array, name: str, sources: Sequence[str], references: Mapping[str, _Reference]) -> tuple[str, str]:
    """Return the other instrument that is most likely heard in windows [W, 2 + S] of a stem, and the loudest other output.

    The output of another instrument has one normal level in stems of `name`, and another in its own stems. Halfway between
    the two, in dB, both are equally likely. The output that is farthest above its halfway level is the likeliest.
    """
    levels = _levels(energies)
    others = [index for index, source in enumerate(sources) if source != name]
    halfway = {index: (references[name].levels[index] + references[sources[index]].levels[index]) / 2 for index in others}
    likeliest = max(others, key=lambda index: levels[index] - halfway[index])
    return sources[likeliest], sources[max(others, key=lambda index: levels[index])]
