"""Compute scores from windows: how far each stem is from the other stems of its instrument.

A separation network has learned from mixtures. Given a single stem, it loses part even of a clean one to its other outputs:
much of a bass, little of a voice. So no fixed level tells that a stem is wrong; each is compared with the others.

    own share of a window   energy of the stem's own output over that of all other outputs together, dB, clipped to +-30.
    own share of a stem     the 10th percentile of its windows' shares, weighted by the square root of their energy. A low
                            percentile, so that a short wrong passage counts; not the minimum, which a clean stem may reach by
                            chance. A window 30 dB below the loudest one, or below -60 dBFS, does not count. If no window
                            counts, the stem is silent.
    self-SDR of a stem      energy of the stem over that of its difference from its own output, dB, clipped to +-30.
    contrast of a stem      own share of its best windows over that of its worst ones. A part of another instrument that was
                            put into one passage is often too quiet to move the two values above out of their usual range,
                            but the stem differs from itself there.
    foreign level           level of another output in the windows in which it is loudest. The own share hides a quiet
                            instrument behind the output that takes the most of every stem.

Each value is compared with its baseline: (value - centre) / spread + 2, clipped to +-10. The score is the mean of own share
and self-SDR, less a fifth of what contrast and the most unusual foreign level fall short of 2. These two can only lower the
score, since a stem that is wrong throughout has little contrast.

Centre and spread are the baseline of an instrument. If its stems' values fall into two groups, they are the mean and the
standard deviation of the upper group, because wrong stems have lower values. Otherwise the centre is the median, and the
spread is the distance from there to the 84th percentile. A spread is at least 1 dB. If several networks judged the stems, the
differences between them are removed before (`alignment.py`).

The recommended cut is a score of 0, two spreads below the centre. With fewer than 8 stems of an instrument that are not
silent there is no baseline. The score is then own share / 3 dB, which is 0 if the other outputs are as loud as the own one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from my_submission.src.audit.alignment import fold_offsets
from my_submission.src.audit.baseline import CUT_SPREADS, MIN_STEMS, Array, Baseline, fit_baseline
from my_submission.src.audit.stem_score import StemScore, Window, worst_first
from my_submission.src.audit.values import (
    EPS,
    LIMIT_DB,
    Measurement,
    OwnShare,
    contrast,
    foreign_levels,
    own_share,
    ratio_db,
    self_sdr,
)
from my_submission.src.audit.windows import OUTPUTS, STEM
from my_submission.src.training import DEFAULT_THRESHOLD

PENALTY = 0.2  # of what contrast and foreign level fall short of their centres
ALLOWANCE = 0.7  # spreads, added to each, so that right stems keep their scores; a normal distribution falls short by 0.4


@dataclass(frozen=True)
class _Values:
    """The values of a stem that is not silent. All are higher for better stems; those of several networks are aligned."""

    share: float
    sdr: float
    contrast: float
    foreign: Array  # [S]


@dataclass(frozen=True)
class _Reference:
    """The normal values that the stems of an instrument are compared with."""

    share: Baseline
    sdr: Baseline
    contrast: Baseline
    foreign: list[Baseline]  # [S]
    levels: Array  # [S], dB: normal levels of all outputs, relative to the stem


def score(measurements: Sequence[Measurement], sources: Sequence[str]) -> tuple[list[StemScore], dict[str, Baseline]]:
    """Return the scores of all stems, the worst first, and the own shares' baseline of each instrument with sound.

    `sources` are the model's instruments, in the order of its outputs.
    """
    judged: list[tuple[Measurement, OwnShare, _Values | None]] = []
    references: dict[str, _Reference] = {}
    for own, name in enumerate(sources):
        stems = [measurement for measurement in measurements if measurement.stem.instrument == name]
        shares, values = _aligned(stems, [own_share(stem, own) for stem in stems])
        references[name] = _reference(stems, shares, [found for found in values if found], name, sources)
        judged += zip(stems, shares, values, strict=True)
    scores = worst_first([_score(*stem, sources, references) for stem in judged])
    return scores, {name: reference.share for name, reference in references.items() if reference.share.stems}


def _aligned(stems: Sequence[Measurement], shares: Sequence[OwnShare]) -> tuple[list[OwnShare], list[_Values | None]]:
    """Return the own shares and the values of an instrument's stems, None for silent ones, without the networks' offsets."""
    found = {}
    for index, (stem, share) in enumerate(zip(stems, shares, strict=True)):
        if share.of_stem is not None:
            weights = np.sqrt(stem.energies[:, STEM])
            plain = [share.of_stem, self_sdr(stem), contrast(share, weights), *foreign_levels(stem, share, weights)]
            found[index] = np.array(plain)
    offsets: dict[int, Array] = {fold: np.zeros(1) for fold in {stem.fold for stem in stems}}
    if len(offsets) > 1 and found:
        columns = []
        for column in range(len(next(iter(found.values())))):
            by_fold = {fold: [values[column] for i, values in found.items() if stems[i].fold == fold] for fold in offsets}
            columns.append(fold_offsets(by_fold))
        offsets = {fold: np.array([column[fold] for column in columns]) for fold in offsets}
    aligned: list[OwnShare] = []
    values: list[_Values | None] = []
    for index, (stem, share) in enumerate(zip(stems, shares, strict=True)):
        offset = offsets[stem.fold]
        aligned.append(dataclasses.replace(share, by_window=share.by_window - offset[0]))
        if index in found:
            of_stem, sdr, difference, *foreign = (found[index] - offset).tolist()
            values.append(_Values(of_stem, sdr, difference, np.array(foreign)))
        else:
            values.append(None)
    return aligned, values


def _reference(
    stems: Sequence[Measurement], shares: Sequence[OwnShare], values: Sequence[_Values], name: str, sources: Sequence[str]
) -> _Reference:
    """Return the normal values for the stems of one instrument; `values` are of those that are not silent."""
    heard = [(stem, share) for stem, share in zip(stems, shares, strict=True) if share.of_stem is not None]
    if len(heard) < MIN_STEMS:  # assume that an instrument is silent in other stems, and whole in its own
        levels = np.where(np.array(sources) == name, 0.0, -LIMIT_DB)
    else:
        levels = np.median([_levels(stem.energies[share.counts]) for stem, share in heard], axis=0)
    return _Reference(
        share=fit_baseline([value.share for value in values]),
        sdr=fit_baseline([value.sdr for value in values]),
        contrast=fit_baseline([value.contrast for value in values]),
        foreign=[fit_baseline([value.foreign[index] for value in values]) for index in range(len(sources))],
        levels=levels,
    )


def _judge(values: _Values, reference: _Reference, own: int) -> float:
    """Return the score of a stem whose own output is number `own`."""
    share = reference.share.score(values.share)
    if not reference.share.is_reliable:
        return share
    others = [
        baseline.score(value)
        for index, (baseline, value) in enumerate(zip(reference.foreign, values.foreign, strict=True))
        if index != own
    ]
    count = len(others)
    usual = -NormalDist().inv_cdf((count - 0.375) / (count + 0.25)) if count else 0.0  # of the lowest of so many (Blom 1958)
    centre = CUT_SPREADS + DEFAULT_THRESHOLD
    shortfalls = [min(0.0, reference.contrast.score(values.contrast) - centre)]
    if others:
        shortfalls.append(min(0.0, min(others) - usual - centre))
    penalty = PENALTY * sum(shortfall + ALLOWANCE for shortfall in shortfalls)
    return (share + reference.sdr.score(values.sdr)) / 2 + penalty  # the SDR alone shows sound that appears in no output


def _score(
    measurement: Measurement,
    share: OwnShare,
    values: _Values | None,
    sources: Sequence[str],
    references: Mapping[str, _Reference],
) -> StemScore:
    """Return the score of one stem."""
    (track, name), seconds, counts = measurement.stem.key, measurement.seconds, share.counts
    begins = measurement.window * np.arange(len(counts), dtype=np.float64)
    ends = np.minimum(begins + measurement.window, seconds)
    reference, own = references[name], sources.index(name)
    scores = [reference.share.score(value) if heard else None for value, heard in zip(share.by_window, counts, strict=True)]
    windows = tuple(map(Window, begins.tolist(), ends.tolist(), scores))
    if values is None:
        return StemScore(track, name, seconds=seconds, windows=windows)
    result = _judge(values, reference, own)
    first, last = _worst_windows(scores)
    worst = slice(first, last + 1)
    foreign, loudest = _foreign(measurement.energies[worst][counts[worst]], name, sources, references)
    outputs = measurement.energies.sum(axis=0)[OUTPUTS]
    return StemScore(
        track,
        name,
        score=result,
        self_sdr=self_sdr(measurement),
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
    return ratio_db(total[OUTPUTS], total[STEM])


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
