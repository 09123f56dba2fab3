"""Which stem gets which fault, and how much of it: drawn from a seed.

    faults = draw_faults(tracks, Settings("labelnoise", rate=0.2, seed=0))     # a dict per track, instrument -> Fault
    faults[0] = with_stretches(tracks[0], faults[0], rng)                      # reads the parts that move

The numbers of stems come out exactly; which stems, and what becomes of them, depends on the seed and on the tracks' names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from my_submission.src.audio.files import AudioFile
from my_submission.src.corrupt import CorruptError
from my_submission.src.corrupt.tracks import Track

COLUMNS = ("track", "instrument", "wrong", "kind", "holds", "level_db", "cutoff_hz", "delay_ms", "from_s", "to_s", "gain")
LEVEL = (-20.0, -10.0)  # dB, of bleeding
CUTOFF = (2000.0, 8000.0)  # Hz: above it a microphone that points elsewhere hears little
DELAY = (0.001, 0.015)  # seconds: sound takes them for 0.3 to 5 m
CELLS = 96  # parts of a track: a move begins and ends between two of them
LEAST = 0.1  # of a part's energy: as much is moved at least, and as much stays


@dataclass(frozen=True)
class Settings:
    """What is to be wrong. Raises CorruptError for what means nothing."""

    kind: str  # labelnoise or bleeding
    rate: float  # wrong stems per stem
    seed: int
    level: tuple[float, float] = LEVEL  # dB, of bleeding: drawn for each stem from the first to the second

    def __post_init__(self) -> None:
        lowest, highest = self.level
        if self.kind not in ("labelnoise", "bleeding"):
            raise CorruptError(f"kind is {self.kind!r}, expected labelnoise or bleeding")
        if not 0 <= self.rate <= 1:
            raise CorruptError(f"rate is {self.rate:g}, expected 0 to 1")
        if self.seed < 0:
            raise CorruptError(f"seed is {self.seed}, expected 0 or more")
        if not -math.inf < lowest <= highest <= 0:
            raise CorruptError(f"level is {lowest:g} to {highest:g} dB, expected the lower one first and none above 0")


@dataclass(frozen=True)
class Fault:
    """What is wrong with a stem; the numbers are those of the table, to the digit."""

    kind: str = "clean"
    others: tuple[str, ...] = ()  # instruments that are heard in it, or, of a swap, in its stead
    level_db: float | None = None
    cutoff_hz: float | None = None
    delay_ms: float | None = None
    from_s: float | None = None
    to_s: float | None = None

    def row(self, track: str, name: str, gain: float) -> dict[str, Any]:
        """The row of truth.csv of the stem `name`. What a stem is called it holds, be it silent, unless that was swapped."""
        wrong = "no" if self.kind in ("clean", "moved-away") else "yes"
        holds = "+".join(self.others if self.kind == "swap" else (name, *self.others))
        facts = dataclasses.asdict(self) | {"track": track, "instrument": name, "wrong": wrong, "holds": holds, "gain": gain}
        return {column: facts[column] for column in COLUMNS}


Faults = dict[str, Fault]  # of a track, by instrument; who is not there is clean


def draw_faults(tracks: Sequence[Track], settings: Settings) -> list[Faults]:
    """The faults of every track: exactly round(rate * stems) stems are wrong in all. Moves have no stretch yet."""
    rng = np.random.default_rng(settings.seed)
    stems = [(number, name) for number, track in enumerate(tracks) for name in track.stems]
    order = [stems[place] for place in rng.permutation(len(stems))]
    count = round(settings.rate * len(stems))
    if settings.kind == "labelnoise":
        return _label_noise(tracks, order, count, rng)
    faults: list[Faults] = [{} for _ in tracks]
    for number, name in order[:count]:
        faults[number][name] = _bleeding(tracks[number], name, settings.level, rng)
    return faults


def _label_noise(
    tracks: Sequence[Track], order: Sequence[tuple[int, str]], count: int, rng: np.random.Generator
) -> list[Faults]:
    """Every stem in turn gets a kind of fault, drawn from those that leave enough stems free to reach `count`.

    A stem takes part in one fault, but may be heard in any others that it is added to. A silent stem gives nothing, and is
    not swapped. Where every stem that is free must become wrong, it is swapped if it can be, and else added to.
    """
    faults: list[Faults] = [{} for _ in tracks]
    free = len(order)  # never less than count, which can be reached therefore: any free stem can be added to
    for number, name in order:
        if count == 0 or name in faults[number]:
            continue
        givers = [other for other in tracks[number].sounding if other != name]
        partners = [other for other in givers if other not in faults[number]]
        kinds = ["add"]
        if partners and name in tracks[number].sounding and count >= 2:
            kinds.append("swap")
        if partners and count < free:  # takes two stems, and makes one of them wrong
            kinds.append("move")
        kind = kinds[-1] if count == free else kinds[rng.integers(len(kinds))]
        candidates = givers if kind == "add" else partners
        other = candidates[rng.integers(len(candidates))]
        faults[number][name] = Fault(kind, (other,))
        if kind != "add":
            faults[number][other] = Fault("swap", (name,)) if kind == "swap" else Fault("moved-away")
        count -= 2 if kind == "swap" else 1
        free -= 1 if kind == "add" else 2
    return faults


def _bleeding(track: Track, name: str, level: tuple[float, float], rng: np.random.Generator) -> Fault:
    rate = track.stems[name].sample_rate
    highest = min(CUTOFF[1], 0.45 * rate)
    lowest = min(CUTOFF[0], highest)
    delay = max(filter_reach(rate), round(rng.uniform(*DELAY) * rate))  # samples
    return Fault(
        "bleeding",
        tuple(other for other in track.sounding if other != name),
        level_db=_told(rng.uniform(*level)),
        cutoff_hz=_told(math.exp(rng.uniform(math.log(lowest), math.log(highest)))),
        delay_ms=_told(1000 * delay / rate),
    )


def filter_reach(rate: int) -> int:
    """Samples that bleeding's low-pass looks to either side: as many as the shortest delay has, so that it is causal."""
    return max(1, int(DELAY[0] * rate))


def with_stretches(track: Track, faults: Faults, rng: np.random.Generator) -> Faults:
    """The faults of a track with a stretch for every move. A part that sounds too briefly to be divided is added instead.

    Either makes one stem wrong. Raises AudioError for a part that cannot be read.
    """
    settled = dict(faults)
    for name, fault in sorted(faults.items()):
        if fault.kind == "move":
            (other,) = fault.others
            stretch = _draw_stretch(track.stems[other], rng)
            settled[name] = dataclasses.replace(fault, **stretch) if stretch else Fault("add", fault.others)
            settled[other] = Fault("moved-away", **stretch) if stretch else Fault()
    return settled


def _draw_stretch(stem: AudioFile, rng: np.random.Generator) -> dict[str, float]:
    """A third to two thirds of a track with enough of a part within it and enough outside; empty where there is none."""
    energy, position = np.zeros(CELLS), 0
    for block in stem.blocks():
        cells = (position + np.arange(block.shape[1])) * CELLS // stem.num_samples
        energy += np.bincount(cells, np.square(block, dtype=np.float64).sum(axis=0), CELLS)
        position += block.shape[1]
    until = np.concatenate([[0], np.cumsum(energy)]) / energy.sum()  # [CELLS + 1]: the share of it before a cell begins
    stretches = [
        (first, last)
        for first in range(CELLS)
        for last in range(first + CELLS // 3, min(first + 2 * CELLS // 3, CELLS) + 1)
        if LEAST <= until[last] - until[first] <= 1 - LEAST
    ]
    if not stretches:
        return {}
    first, last = stretches[rng.integers(len(stretches))]
    return {"from_s": _told(stem.seconds * first / CELLS), "to_s": _told(stem.seconds * last / CELLS)}


def _told(number: float) -> float:
    """The number with the digits that it has in the table, so that the table says exactly what was done."""
    return float(f"{number:.6g}")
