"""The melody of the voice: phrases of syllables, with motifs that repeat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from my_submission.src.synth.score import Bar, Score

VOWELS = ("a", "e", "i", "o", "u", "uh", "ae", "er")
CONSONANTS = ("", "s", "sh", "f", "h", "t", "k", "p", "m", "n", "l", "r", "w", "y", "d", "b")
COMMON = (4, 2, 1, 1, 2, 2, 2, 1, 2, 3, 2, 2, 1, 1, 2, 2)  # relative frequency of each consonant


@dataclass(frozen=True)
class Syllable:
    """One sung syllable: a consonant just before `start`, then a vowel that may change into another one."""

    start: float  # seconds; the beginning of the vowel
    seconds: float  # duration of the vowel
    pitch: float  # MIDI
    consonant: str
    vowels: tuple[str, str]  # from, to
    effort: float  # 0..1
    first: bool  # in its phrase; a breath comes before it


@dataclass(frozen=True)
class _Motif:
    """The rhythm and the contour of one bar of melody."""

    starts: tuple[int, ...]  # steps
    ends: tuple[int, ...]  # steps
    contour: tuple[int, ...]  # degrees of the scale above the bottom of the voice


def write_melody(rng: np.random.Generator, score: Score, lowest: float) -> list[Syllable]:
    """Write the melody of a song for a voice whose lowest note is the MIDI pitch `lowest`."""
    busy = rng.uniform(0.3, 0.9)
    motifs = [[_draw_motif(rng, score, busy) for _ in range(rng.integers(1, 4))] for _ in range(3)]
    rest_chance = rng.uniform(0, 0.35)
    sloppy, legato = rng.uniform(0, 0.02), rng.uniform(0.7, 1.0)
    syllables: list[Syllable] = []
    before: Bar | None = None
    for bar in score.bars_of("vocals"):
        follows = before is not None and abs(bar.start - before.start - score.steps * score.step) < 1e-6
        before = bar
        if follows and bar.number % 2 and rng.random() < rest_chance:
            before = None
            continue
        motif = motifs[bar.kind][bar.number % len(motifs[bar.kind])]
        for number, (begin, end, degree) in enumerate(zip(motif.starts, motif.ends, motif.contour, strict=True)):
            start = score.time(bar, begin)
            start += 0.0 if begin == 0 and bar is score.bars[0] else rng.normal(0, sloppy)
            syllables.append(
                Syllable(
                    start=max(0.0, start),
                    seconds=max(0.08, (end - begin) * score.step * legato),
                    pitch=_singable(score, bar, degree, lowest, strong=begin % 4 == 0),
                    consonant=str(rng.choice(CONSONANTS, p=np.array(COMMON) / sum(COMMON))),
                    vowels=_draw_vowels(rng),
                    effort=float(np.clip(0.35 + 0.45 * bar.energy + rng.normal(0, 0.1), 0.1, 1)),
                    first=number == 0,
                )
            )
    return syllables


def _draw_motif(rng: np.random.Generator, score: Score, busy: float) -> _Motif:
    """Draw a motif that begins on the first beat and often ends before the bar does, for a breath."""
    unit = 2 if score.step < 0.17 else 1  # singers manage about eight syllables per second
    grid = np.arange(0, score.steps, unit)
    weight = np.where(grid % 4 == 0, 1.3, 0.8) * busy
    chosen = grid[rng.random(len(grid)) < weight]
    end = score.steps - int(rng.choice([0, 1, 2, 4]))
    starts = [0, *(int(step) for step in chosen if 0 < step < end - 1)]
    ends = [*starts[1:], end]
    steps = rng.choice([-4, -2, -1, -1, 0, 0, 1, 1, 2, 3], len(starts))
    contour = [int(rng.integers(1, 7))]
    for step in steps[1:]:
        contour.append(int(np.clip(contour[-1] + step, -1, 9)))  # stays within the range of the voice
    return _Motif(tuple(starts), tuple(ends), tuple(contour))


def _singable(score: Score, bar: Bar, degree: int, lowest: float, strong: bool) -> float:
    """Return the pitch of a degree above the bottom of the voice; on strong beats, move it to the nearest note of the chord."""
    bottom = 0
    while score.pitch(bottom) < lowest:
        bottom += 1
    candidates = [bottom + degree + shift for shift in (0, -1, 1, -2, 2)]
    tones = {tone % 7 for tone in score.chord_degrees(bar)}
    fitting = [candidate for candidate in candidates if candidate % 7 in tones]
    return score.pitch(fitting[0] if strong and fitting else candidates[0])


def _draw_vowels(rng: np.random.Generator) -> tuple[str, str]:
    """Draw a vowel and the one it changes into, mostly the same."""
    one, two = rng.integers(0, len(VOWELS), 2)
    return VOWELS[one], VOWELS[two if rng.random() < 0.35 else one]
