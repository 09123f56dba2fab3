"""Draw from a seed which stem gets which fault, and how strong it is.

    faults = draw_faults(tracks, Settings("labelnoise", rate=0.2, seed=0))     # per track: instrument -> Fault
    faults[0] = with_stretches(tracks[0], faults[0], rng)                      # reads the stems that move

The number of wrong stems is exact. Which stems are wrong, and how, depends on the seed and on the tracks' names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track
from my_submission.src.corrupt import CorruptError

COLUMNS = ("track", "instrument", "wrong", "kind", "holds", "level_db", "cutoff_hz", "delay_ms", "from_s", "to_s", "gain")
LEVEL = (-20.0, -10.0)  # dB, of bleeding
CUTOFF = (2000.0, 8000.0)  # Hz; a microphone that points elsewhere picks up little above it
DELAY = (0.001, 0.015)  # seconds, in which sound travels 0.3 to 5 m
CELLS = 96  # equal parts of a track; a move begins and ends at their borders
MIN_ENERGY = 0.1  # fraction of a stem's energy that has to be inside a move, and outside it


@dataclass(frozen=True)
class Settings:
    """Which faults to put in. Raises CorruptError for a value outside its range."""

    kind: str  # labelnoise or bleeding
    rate: float  # fraction of all stems that become wrong, 0 to 1
    seed: int
    level: tuple[float, float] = LEVEL  # dB, lowest and highest level of bleeding; each stem's is drawn between them

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
    """The fault of a stem. Its numbers are rounded as in the table, so that the table says exactly what was done."""

    kind: str = "clean"
    others: tuple[str, ...] = ()  # instruments that are added to the stem or, in a swap, replace it
    level_db: float | None = None
    cutoff_hz: float | None = None
    delay_ms: float | None = None
    from_s: float | None = None
    to_s: float | None = None

    def row(self, track: str, name: str, gain: float) -> dict[str, Any]:
        """Return the row of truth.csv of the stem `name`.

        `holds` lists the stem's own instrument even if it is silent, except after a swap.
        """
        wrong = "no" if self.kind in ("clean", "moved-away") else "yes"
        holds = "+".join(self.others if self.kind == "swap" else (name, *self.others))
        facts = dataclasses.asdict(self) | {"track": track, "instrument": name, "wrong": wrong, "holds": holds, "gain": gain}
        return {column: facts[column] for column in COLUMNS}


Faults = dict[str, Fault]  # of a track: instrument -> fault; an instrument without one is clean


def draw_faults(tracks: Sequence[Track], settings: Settings) -> list[Faults]:
    """Return the faults of every track. Exactly round(rate * stems) of all stems are wrong. Moves have no stretch yet."""
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
    """Draw a kind of fault for one stem after the other, from those that leave enough free stems to reach `count`.

    A stem takes part in one fault, but may also be added to any number of others. A silent stem is never added, moved or
    swapped. When every free stem must become wrong, it is swapped if possible, and otherwise another stem is added to it.
    """
    faults: list[Faults] = [{} for _ in tracks]
    free = len(order)  # always at least `count`, so `count` can be reached: another stem can be added to any free stem
    for number, name in order:
        if count == 0 or name in faults[number]:
            continue
        givers = [other for other in tracks[number].sounding if other != name]
        partners = [other for other in givers if other not in faults[number]]
        kinds = ["add"]
        if partners and name in tracks[number].sounding and count >= 2:
            kinds.append("swap")
        if partners and count < free:  # uses two stems, and makes one of them wrong
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
    """Draw the level, low-pass and delay at which the stem `name` holds all others of its track."""
    rate = track.stems[name].sample_rate
    highest = min(CUTOFF[1], 0.45 * rate)
    lowest = min(CUTOFF[0], highest)
    delay = max(filter_reach(rate), round(rng.uniform(*DELAY) * rate))  # samples
    return Fault(
        "bleeding",
        tuple(other for other in track.sounding if other != name),
        level_db=_as_in_table(rng.uniform(*level)),
        cutoff_hz=_as_in_table(math.exp(rng.uniform(math.log(lowest), math.log(highest)))),
        delay_ms=_as_in_table(1000 * delay / rate),
    )


def filter_reach(rate: int) -> int:
    """Return half the length of bleeding's low-pass, in samples: the shortest delay, so that filter and delay are causal."""
    return max(1, int(DELAY[0] * rate))


def with_stretches(track: Track, faults: Faults, rng: np.random.Generator) -> Faults:
    """Return the faults of a track with a stretch for every move.

    If a stem sounds too briefly to be divided, the move becomes an addition of the whole stem, which also makes one stem wrong.

    Raises AudioError for a stem that cannot be read.
    """
    settled = dict(faults)
    for name, fault in sorted(faults.items()):
        if fault.kind == "move":
            (other,) = fault.others
            stretch = _draw_stretch(track.stems[other], rng)
            if stretch is None:
                settled[name], settled[other] = Fault("add", fault.others), Fault()
            else:
                from_s, to_s = stretch
                settled[name] = dataclasses.replace(fault, from_s=from_s, to_s=to_s)
                settled[other] = Fault("moved-away", from_s=from_s, to_s=to_s)
    return settled


def _draw_stretch(stem: AudioFile, rng: np.random.Generator) -> tuple[float, float] | None:
    """Draw a stretch, from and to in seconds, of a third to two thirds of a track.

    At least MIN_ENERGY of the stem's energy is inside it, and as much outside. Return None if no stretch is so.
    """
    energy, position = np.zeros(CELLS), 0
    for block in stem.blocks():
        cells = (position + np.arange(block.shape[1])) * CELLS // stem.num_samples
        energy += np.bincount(cells, np.square(block, dtype=np.float64).sum(axis=0), CELLS)
        position += block.shape[1]
    until = np.concatenate([[0], np.cumsum(energy)]) / energy.sum()  # [CELLS + 1]: fraction before each border
    stretches = [
        (first, last)
        for first in range(CELLS)
        for last in range(first + CELLS // 3, min(first + 2 * CELLS // 3, CELLS) + 1)
        if MIN_ENERGY <= until[last] - until[first] <= 1 - MIN_ENERGY
    ]
    if not stretches:
        return None
    first, last = stretches[rng.integers(len(stretches))]
    return _as_in_table(stem.seconds * first / CELLS), _as_in_table(stem.seconds * last / CELLS)


def _as_in_table(number: float) -> float:
    """Round a number to the six digits that it has in the table."""
    return float(f"{number:.6g}")
