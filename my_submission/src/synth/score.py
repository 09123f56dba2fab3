"""The plan of a song: tempo, key, chords, sections, and the parts that play in each section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from my_submission.src.synth.grooves import Groove, draw_groove
from my_submission.src.synth.waves import log_uniform

INSTRUMENTS = ("vocals", "drums", "bass", "other")

SCALES = (  # semitones above the tonic; common scales are listed twice
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 4, 5, 7, 9, 11),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 8, 10),
    (0, 2, 3, 5, 7, 9, 10),
    (0, 2, 4, 5, 7, 9, 10),
    (0, 2, 3, 5, 7, 8, 11),
)
PROGRESSIONS = (  # degrees of the scale; 0 is the tonic
    (0, 4, 5, 3),
    (0, 5, 3, 4),
    (5, 3, 0, 4),
    (0, 3, 4, 3),
    (1, 4, 0, 5),
    (0, 6, 5, 6),
    (0, 2, 3, 4),
    (0, 0, 3, 4),
    (3, 4, 2, 5),
    (0, 6, 3, 0),
    (5, 4, 3, 4),
    (0, 3, 0, 4),
)
CHORDS = ((0, 2, 4), (0, 2, 4), (0, 2, 4, 6), (0, 1, 4), (0, 3, 4), (0, 4), (0, 2, 4, 8))  # steps of the scale above the root


@dataclass(frozen=True)
class Bar:
    """One bar: its time, its chord and the parts that play in it."""

    start: float  # seconds
    chord: int  # degree of the scale
    playing: frozenset[str]  # parts: vocals, drums, bass, other0, other1, ...
    kind: int  # of section, 0..2 (verse, chorus, ...); bars of one kind share melodies and patterns
    energy: float  # 0..1
    number: int  # position in its section, from 0
    first: bool  # in its section
    last: bool  # in its section


@dataclass(frozen=True)
class Score:
    """The plan of a song. Each bar has `steps` steps, which are sixteenth notes."""

    seconds: float
    bars: tuple[Bar, ...]
    step: float  # seconds
    groove: Groove
    swing: float  # delay of every second step, as a fraction of a step
    tonic: float  # MIDI pitch between 24 and 36, including the detuning of the song
    scale: tuple[int, ...]  # one of SCALES
    voicing: tuple[int, ...]  # one of CHORDS

    @property
    def steps(self) -> int:
        """Number of steps in a bar: 16, or 12 in three-four time."""
        return self.groove.steps

    def time(self, bar: Bar, step: float) -> float:
        """Return the time of a step of a bar in seconds; steps past the end of the bar lie in the next one."""
        late = self.swing * (int(step) % 2)
        return bar.start + (step + late) * self.step

    def pitch(self, degree: int, octave: int = 0) -> float:
        """Return the MIDI pitch of a degree of the scale, `octave` octaves up; `degree` may be negative or above 6."""
        return self.tonic + 12 * (octave + degree // 7) + self.scale[degree % 7]

    def chord_degrees(self, bar: Bar) -> tuple[int, ...]:
        """Return the degrees of the scale in a bar's chord, the root first."""
        return tuple(bar.chord + interval for interval in self.voicing)

    def bars_of(self, part: str) -> Iterator[Bar]:
        """Yield the bars in which a part plays."""
        return (bar for bar in self.bars if part in bar.playing)


def compose(rng: np.random.Generator, seconds: float, num_others: int) -> Score:
    """Draw a song of `seconds` whose stem `other` has `num_others` parts."""
    groove = draw_groove(rng)
    step = 60 / log_uniform(rng, *groove.tempo) / 4
    swing = rng.uniform(0, 0.35) if rng.random() < 0.35 else 0.0
    progressions = [_draw_progression(rng) for _ in range(3)]
    sections = _draw_sections(rng, seconds, groove.steps * step)
    parts = (*INSTRUMENTS[:3], *(f"other{number}" for number in range(num_others)))
    playing = _draw_playing(rng, sections, seconds, parts)
    bars: list[Bar] = []
    for (start, length, kind, energy), names in zip(sections, playing, strict=True):
        chords = progressions[kind]
        bars += [
            Bar(
                start=start + number * groove.steps * step,
                chord=chords[number % len(chords)],
                playing=names,
                kind=kind,
                energy=energy,
                number=number,
                first=number == 0,
                last=number == length - 1,
            )
            for number in range(length)
        ]
    return Score(
        seconds=seconds,
        bars=tuple(bars),
        step=step,
        groove=groove,
        swing=swing,
        tonic=24 + rng.integers(0, 12) + rng.uniform(-0.3, 0.3),  # most recordings are not tuned to exactly 440 Hz
        scale=SCALES[rng.integers(len(SCALES))],
        voicing=CHORDS[rng.integers(len(CHORDS))],
    )


def _draw_progression(rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() < 0.7:
        return PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    return (0, *(int(degree) for degree in rng.integers(0, 7, rng.choice([1, 3, 3, 7]))))


def _draw_sections(rng: np.random.Generator, seconds: float, bar: float) -> list[tuple[float, int, int, float]]:
    """Draw sections until `seconds` are full: (start in seconds, number of bars, kind 0..2, energy 0..1)."""
    energies = rng.uniform(0.2, 1.0, 3)
    sections: list[tuple[float, int, int, float]] = []
    start, kind = 0.0, 0
    while start < seconds:
        lengths = [length for length in (1, 2, 4, 8) if 3 <= length * bar <= 11] or [2]
        length = int(rng.choice(lengths))
        sections.append((start, length, kind, float(energies[kind])))
        start += length * bar
        kind = int((kind + rng.integers(1, 3)) % 3) if rng.random() < 0.75 else kind
    return sections


def _draw_playing(
    rng: np.random.Generator, sections: Sequence[tuple[float, int, int, float]], seconds: float, parts: Sequence[str]
) -> list[frozenset[str]]:
    """Draw the parts of each section. Stems rest in some sections, but each stem plays for at least half of the song."""
    starts = np.array([section[0] for section in sections] + [seconds])
    lengths = np.diff(starts)
    chance = {"vocals": 0.25, "drums": 0.18, "bass": 0.18}
    plays = {name: rng.random(len(sections)) >= chance.get(name, 0.35) for name in parts}
    together = rng.random(len(sections)) >= 0.12  # sometimes all parts of `other` rest
    for name in parts[3:]:
        plays[name] &= together
    stems = [[name] for name in parts[:3]] + [list(parts[3:])]
    for names in stems:
        for section in rng.permutation(len(sections)):
            sounding = np.any([plays[name] for name in names], axis=0)
            if lengths[sounding].sum() < 0.5 * seconds:
                plays[names[rng.integers(len(names))]][section] = True
    return [frozenset(name for name in parts if plays[name][section]) for section in range(len(sections))]
