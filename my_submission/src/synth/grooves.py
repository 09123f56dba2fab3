"""Drum patterns: grooves as grids of sixteenth notes, varied a little for each song, and fills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# (tempo range in beats per minute, kick, snare, hats). A grid has one letter per step: X loud, x normal, o soft, . silent.
GRIDS = {
    "rock": ((85, 165), "X.....x.X.x.....", "....X.......X...", "x.x.x.x.x.x.x.x."),
    "straight": ((75, 140), "X.......X.......", "....X.......X..o", "X.x.X.x.X.x.X.x."),
    "four on the floor": ((100, 140), "X...X...X...X...", "....x.......x...", "..X...X...X...X."),
    "disco": ((105, 132), "X...X...X...X...", "....X.......X...", "x.ooX.oox.ooX.oo"),
    "funk": ((80, 118), "X.x....x..x..x..", "....X..o.o..X..o", "xoxoxoxoxoxoxoxo"),
    "break": ((85, 175), "X.X.......XX....", "....X..o.o..X..o", "x.x.x.x.x.x.x.x."),
    "half time": ((110, 170), "X......x..x.....", "........X.......", "x.x.x.x.x.x.x.x."),
    "trap": ((120, 160), "X......X..X...x.", "........X.......", "x.x.x.xxx.x.xoxo"),
    "bossa": ((100, 150), "X..xX..xX..xX..x", "..x..x...x..x...", "xoxoxoxoxoxoxoxo"),
    "tresillo": ((85, 115), "X...X...X...X...", "...X..X....X..X.", "x.x.x.x.x.x.x.x."),
    "motown": ((90, 130), "X.x...x.X.x...x.", "x...x...x...x...", "x.x.x.x.x.x.x.x."),
    "ballad": ((62, 90), "X.........x.....", "........X.......", "x.x.x.x.x.x.x.x."),
    "waltz": ((80, 170), "X...........", "....x...x...", "x.x.x.x.x.x."),
    "slow six": ((100, 150), "X.....x...x.", "......X.....", "X.x.x.X.x.x."),
}
LOUDNESS = {"X": 1.0, "x": 0.75, "o": 0.35, ".": 0.0}


@dataclass(frozen=True)
class Groove:
    """A song's drum pattern: the loudness of each drum on each step, 0 for no hit."""

    name: str
    tempo: tuple[float, float]  # beats (of four steps) per minute: from, to
    kick: tuple[float, ...]
    snare: tuple[float, ...]
    hats: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Number of steps in a bar."""
        return len(self.kick)


def draw_groove(rng: np.random.Generator) -> Groove:
    """Draw a groove and vary it."""
    name = list(GRIDS)[rng.integers(len(GRIDS))]
    tempo, *grids = GRIDS[name]
    kick, snare, hats = (np.array([LOUDNESS[letter] for letter in grid]) for grid in grids)
    kick = _vary(rng, kick, missing=0.12, added=0.08)
    kick[0] = 1.0
    snare = _vary(rng, snare, missing=0.05, added=0.04)
    hats = _vary(rng, hats, missing=0.1, added=0.1)
    if rng.random() < 0.2:
        hats[1::2] = 0  # eighths only
    elif rng.random() < 0.2:
        hats = np.maximum(hats, 0.4)  # all sixteenths
    return Groove(name, tempo, tuple(kick), tuple(snare), tuple(hats))


def _vary(rng: np.random.Generator, grid: NDArray[np.float64], missing: float, added: float) -> NDArray[np.float64]:
    """Remove a hit with probability `missing`; add a soft hit on an empty step with probability `added`."""
    kept = np.where(rng.random(len(grid)) < missing, 0.0, grid)
    return np.where((kept == 0) & (rng.random(len(grid)) < added), 0.35, kept)


def draw_fill(rng: np.random.Generator, steps: int, names: tuple[str, ...]) -> list[tuple[int, str, float]]:
    """Draw a fill at the end of a bar, which gets louder and often lower in pitch: (step, drum, loudness)."""
    length = int(rng.choice([2, 4, 4, 6, 8]))
    chance = rng.uniform(0.55, 1.0)
    hits = []
    for step in range(steps - length, steps):
        progress = (step - steps + length) / length
        drum = names[min(int(progress * len(names)), len(names) - 1)] if rng.random() < 0.8 else "snare"
        if rng.random() < chance:
            hits.append((step, drum, 0.5 + 0.5 * progress))
    return hits
