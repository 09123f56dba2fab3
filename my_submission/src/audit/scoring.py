"""From windows to scores: how far a stem is from what is usual for its instrument.

A network that is given one stem, where it has learned from mixtures, loses part even of a clean one to its other outputs,
much of a bass, little of a voice: no level tells by itself that something is wrong. So a stem is compared with the others.

    own share of a window   energy of the stem's own output over that of all others together, dB, within +-30
    own share of a stem     that which a tenth of its windows are below, each counting as the square root of its energy: low,
                            so that a stretch shows that is wrong; not the lowest, which any stem may have by chance. A window
                            30 dB below the loudest, or below -60 dBFS, does not count; a stem without others is silent
    self-SDR of a stem      energy of the stem over that of what its own output lacks or adds, dB, within +-30
    score                   the mean of (own share - centre) / spread + 2 and of the same for the self-SDR, each within +-10

Where the values of an instrument's stems fall into two groups, centre and spread (one standard deviation) are those of the
upper one, since what is wrong is below. Where they do not, the centre is their median, and the spread how far above it the
84th percentile is; 1 dB at least. At 0, the recommended cut, a stem is two spreads below what is usual. While fewer than 8
stems of an instrument are heard, nothing is usual: the score is then the own share over 3 dB, and 0 is where the others are as
loud as it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audit.stems import Stem
from my_submission.src.audit.windows import DISTORTION, OUTPUTS, STEM
from my_submission.src.training import DEFAULT_THRESHOLD

LIMIT = 30.0  # dB: shares are within +-LIMIT
HIGHEST = 10.0  # scores are within +-HIGHEST
LOW = 0.1  # of a stem's windows, by weight, are below its own share
FAR_BELOW = 1e-3  # of the loudest window's energy: what is below counts for nothing
QUIETEST = 1e-6  # mean square, below which nothing is heard
FEW = 8  # stems that it takes to say what is usual
CUT = 2.0  # spreads below the centre
ABOVE = 0.84  # quantile: one standard deviation above the median of a normal distribution
NARROWEST = 1.0  # dB
ROUNDS = 40  # of expectation maximisation
TINY = 1e-12


@dataclass(frozen=True)
class Measured:
    """A stem and its windows."""

    stem: Stem
    seconds: float
    energies: NDArray[np.float64]  # [W, 2 + S], as windows.measure gives them
    window: float  # seconds


@dataclass(frozen=True)
class Baseline:
    """What is usual for the stems of an instrument."""

    stems: int  # that are not silent
    centre: float  # dB
    spread: float  # dB

    @property
    def is_reliable(self) -> bool:
        """Whether there are stems enough to say."""
        return self.stems >= FEW

    def score(self, value: float) -> float:
        """A value, dB, as a score."""
        return min(HIGHEST, max(-HIGHEST, (value - self.centre) / self.spread + CUT + DEFAULT_THRESHOLD))


@dataclass(frozen=True)
class Scored:
    """What came of a stem; None where it is silent throughout."""

    stem: Stem
    seconds: float
    score: float | None
    self_sdr: float | None  # dB: global SDR of the own output, the stem being the truth
    margin: float | None  # dB: energy of the own output over that of the loudest other
    worst: tuple[float, float] | None  # seconds, from and to
    contains: str  # the other instrument that it seems to hold; empty where none
    loudest: str  # the loudest other output where it is worst
    windows: list[tuple[float, float, float | None]]  # from and to in seconds, score; None where it does not count


def own_share(stem: Measured, own: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], float | None]:
    """Of each window in dB, and whether it counts; of the stem, None where no window does."""
    energy, outputs = stem.energies[:, STEM], stem.energies[:, OUTPUTS]
    counts = energy >= max(FAR_BELOW * energy.max(), QUIETEST * stem.window)
    counts &= energy > 0
    shares = _decibels(outputs[:, own], np.delete(outputs, own, axis=1).sum(axis=1))
    if not counts.any():
        return shares, counts, None
    weights, order = np.sqrt(energy[counts]), np.argsort(shares[counts])
    reached = np.cumsum(weights[order]) / weights.sum()
    return shares, counts, float(shares[counts][order][np.searchsorted(reached, LOW)])


def self_sdr(stem: Measured) -> float:
    """Global SDR of the own output, the stem being the truth: dB."""
    total = stem.energies.sum(axis=0)
    return float(_decibels(total[STEM], total[DISTORTION]))


def _decibels(energy: NDArray[np.float64], of: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(10 * np.log10((energy + TINY) / (of + TINY)), -LIMIT, LIMIT)


def usual(found: Sequence[float]) -> Baseline:
    """What is usual, from the own shares (or self-SDRs) of an instrument's stems; of few stems, what can be said of any."""
    if len(found) < FEW:
        return Baseline(len(found), centre=3.0 * CUT, spread=3.0)
    values = np.array(found)
    group = _upper_group(values)
    if group is not None:
        return Baseline(len(found), *group)
    centre = float(np.median(values))
    return Baseline(len(found), centre, max(NARROWEST, float(np.quantile(values, ABOVE)) - centre))


def _upper_group(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Centre and spread of the upper of two groups of values; None where they are one.

    Two normal distributions are fitted by expectation maximisation. They have to explain the values better than a single one
    does (by the Bayesian information criterion, of three parameters more), and to be apart (Ashman's D above 2).
    """
    centres, spreads = np.quantile(values, [0.1, 0.75]), np.full(2, max(NARROWEST, values.std() / 2))
    shares = np.array([0.3, 0.7])
    for _ in range(ROUNDS):
        densities = shares * _normal(values[:, None], centres, spreads)  # [N, 2]
        belongs = densities / densities.sum(axis=1, keepdims=True)
        shares = belongs.mean(axis=0).clip(0.01, 0.99)
        centres = (belongs * values[:, None]).sum(axis=0) / (len(values) * shares)
        variances = (belongs * (values[:, None] - centres) ** 2).sum(axis=0) / (len(values) * shares)
        spreads = np.sqrt(variances).clip(NARROWEST)
    two = np.log((shares * _normal(values[:, None], centres, spreads)).sum(axis=1)).sum()
    one = np.log(_normal(values, values.mean(), max(NARROWEST, values.std()))).sum()
    is_better = 2 * (two - one) > 3 * np.log(len(values))
    is_apart = centres[1] - centres[0] > 2 * np.sqrt((spreads**2).mean())
    return (float(centres[1]), float(spreads[1])) if is_better and is_apart else None


def _normal(values: NDArray[np.float64], centre: Any, spread: Any) -> NDArray[np.float64]:
    """The density of a normal distribution, never quite 0."""
    return np.exp(-(((values - centre) / spread) ** 2) / 2) / (spread * np.sqrt(2 * np.pi)) + 1e-100


def score(stems: Sequence[Measured], sources: Sequence[str]) -> tuple[list[Scored], dict[str, Baseline]]:
    """Every stem's score, the worst first and those without one last, and what is usual by instrument."""
    shares = [own_share(stem, sources.index(stem.stem.instrument)) for stem in stems]
    by_instrument: dict[str, list[int]] = {name: [] for name in sources}
    for index, (stem, (_, _, share)) in enumerate(zip(stems, shares, strict=True)):
        if share is not None:
            by_instrument[stem.stem.instrument].append(index)
    heard = {name: indices for name, indices in by_instrument.items() if indices}
    usuals = {name: usual([shares[index][2] for index in indices]) for name, indices in heard.items()}
    usual_sdrs = {name: usual([self_sdr(stems[index]) for index in indices]) for name, indices in heard.items()}
    levels = {
        name: np.median([_levels(stems[index].energies[shares[index][1]]) for index in indices], axis=0)
        if len(indices) >= FEW
        else np.where(np.array(sources) == name, 0.0, -LIMIT)
        for name, indices in by_instrument.items()
    }
    scored = [_score(*both, sources, usuals, usual_sdrs, levels) for both in zip(stems, shares, strict=True)]
    return sorted(scored, key=_worst_first), usuals


def count_below(scored: Sequence[Scored], instrument: str) -> int:
    """How many stems of an instrument are below the cut."""
    scores = [stem.score for stem in scored if stem.stem.instrument == instrument and stem.score is not None]
    return sum(value < DEFAULT_THRESHOLD for value in scores)


def _worst_first(scored: Scored) -> tuple[bool, float, str, str]:
    return scored.score is None, scored.score or 0.0, scored.stem.track, scored.stem.instrument


def _score(
    stem: Measured,
    shares: tuple[NDArray[np.float64], NDArray[np.bool_], float | None],
    sources: Sequence[str],
    usuals: Mapping[str, Baseline],
    usual_sdrs: Mapping[str, Baseline],
    levels: Mapping[str, NDArray[np.float64]],
) -> Scored:
    by_window, counts, share = shares
    name, starts = stem.stem.instrument, stem.window * np.arange(len(counts))
    ends = np.minimum(starts + stem.window, stem.seconds)
    if share is None:
        silent = [(float(start), float(end), None) for start, end in zip(starts, ends, strict=True)]
        return Scored(stem.stem, stem.seconds, None, None, None, None, "", "", silent)
    scores = [usuals[name].score(value) if heard else None for value, heard in zip(by_window, counts, strict=True)]
    first, last = _worst_stretch(scores)
    score = usuals[name].score(share)
    if usuals[name].is_reliable:  # what another instrument hides in the outputs may show in what the own one lacks
        score = (score + usual_sdrs[name].score(self_sdr(stem))) / 2
    inside = stem.energies[first : last + 1][counts[first : last + 1]]
    foreign, loudest = _foreign(inside, name, sources, levels)
    total = stem.energies.sum(axis=0)
    own = sources.index(name)
    return Scored(
        stem.stem,
        stem.seconds,
        score,
        self_sdr=self_sdr(stem),
        margin=float(10 * np.log10((total[OUTPUTS][own] + TINY) / (np.delete(total[OUTPUTS], own).max() + TINY))),
        worst=(float(starts[first]), float(ends[last])),
        contains=foreign if score < DEFAULT_THRESHOLD else "",
        loudest=loudest,
        windows=list(zip(starts.tolist(), ends.tolist(), scores, strict=True)),
    )


def _worst_stretch(scores: Sequence[float | None]) -> tuple[int, int]:
    """First and last of the windows around the worst one that are below the cut, one after the other, as it is."""

    def is_bad(index: int) -> bool:
        return 0 <= index < len(scores) and scores[index] is not None and scores[index] < DEFAULT_THRESHOLD

    first = last = min((index for index, value in enumerate(scores) if value is not None), key=lambda index: scores[index])
    if is_bad(first):
        while is_bad(first - 1):
            first -= 1
        while is_bad(last + 1):
            last += 1
    return first, last


def _levels(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of windows [W, 2 + S]: the outputs' levels beside the stem's, dB."""
    total = energies.sum(axis=0)
    return _decibels(total[OUTPUTS], total[STEM])


def _foreign(
    energies: NDArray[np.float64], name: str, sources: Sequence[str], levels: Mapping[str, NDArray[np.float64]]
) -> tuple[str, str]:
    """The other instrument most likely to be heard in windows [W, 2 + S] of a stem of `name`, and the loudest other output.

    The level of an instrument's output is usually one thing in stems of `name` and another in its own: halfway between them
    (in dB) it may be either, and the one farthest above that is the likeliest. A `levels` that is not known is silent in
    other stems, and whole in its own.
    """
    found = _levels(energies)
    others = [index for index, source in enumerate(sources) if source != name]
    halfway = {index: (levels[name][index] + levels[sources[index]][index]) / 2 for index in others}
    likeliest = max(others, key=lambda index: found[index] - halfway[index])
    return sources[likeliest], sources[max(others, key=lambda index: found[index])]
