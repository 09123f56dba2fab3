"""The bass: plucked strings, a sub, filtered saws or an FM growl, in several rhythms and with slides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from my_submission.src.synth.effects import compress, drive, levelled
from my_submission.src.synth.filters import low_pass
from my_submission.src.synth.score import Bar, Score
from my_submission.src.synth.waves import (
    RATE,
    Sound,
    Timbre,
    add_at,
    cycles,
    envelope,
    fall,
    hertz,
    log_uniform,
    noise,
    samples,
    sine,
)

# (pitches [n], seconds held, velocity) -> the note [n]. A bass slides, so the pitch is a curve.
Bass = Callable[[Sound, float, float], Sound]

RELEASE = 0.06  # seconds from the end of a note to silence


def plucked(rng: np.random.Generator) -> Bass:
    """Draw a plucked string.

    Harmonic k of a string plucked at `place` starts at |sin(pi k place)| / k^tilt; high harmonics decay first.
    """
    place, tilt, dull = rng.uniform(0.1, 0.4), rng.uniform(0.8, 1.6), log_uniform(rng, 400, 5000)
    ring, loss = log_uniform(rng, 0.5, 2.5), log_uniform(rng, 0.05, 1.5)
    row_times = np.linspace(0, 1, 10)[:, None] ** 2 * 2.0  # seconds

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        number = np.arange(1, len(frequencies) + 1)
        start = np.abs(np.sin(np.pi * number * place)) / number**tilt * low_pass(frequencies, dull)
        return start * np.exp(-row_times * (1 / ring + loss * (number - 1) ** 1.2))

    timbre = Timbre(spectra, rng)

    def play(pitches: Sound, held: float, velocity: float) -> Sound:
        count = len(pitches)
        rows = 9 * np.sqrt(np.minimum(np.arange(count) / (2.0 * RATE), 1))
        sound = timbre.play(_top(pitches), cycles(hertz(pitches), count), rows)
        sound[:200] += (1 - np.linspace(0, 1, 200)) * noise(rng, 200)[:count] * 0.06 * velocity  # the noise of the finger
        return sound * velocity * envelope(held, 0.004, 5, 0.9, RELEASE)

    return play


def sub(rng: np.random.Generator) -> Bass:
    """Draw a sub bass: a sine with a little of its second and third harmonic."""
    second, third, warmth = rng.uniform(0, 0.3), rng.uniform(0, 0.15), rng.uniform(0, 1.5)
    attack, decay, sustain = log_uniform(rng, 0.004, 0.03), log_uniform(rng, 0.2, 2), rng.uniform(0.4, 1)

    def play(pitches: Sound, held: float, velocity: float) -> Sound:
        phase = cycles(hertz(pitches), len(pitches))
        sound = sine(phase) + second * sine(2 * phase) + third * sine(3 * phase)
        return drive(sound, warmth) * velocity * envelope(held, attack, decay, sustain, RELEASE)

    return play


def saw(rng: np.random.Generator) -> Bass:
    """Draw a synthesiser bass: one or two detuned saws or squares through a low-pass that opens and closes with each note."""
    odd, detune = rng.random() < 0.4, rng.choice([0.0, 0.05, 0.12]) * rng.uniform(0.5, 1.5)
    closed, peak = log_uniform(rng, 90, 400), rng.uniform(0.7, 3)
    opening, closing = rng.uniform(0, 3.5), log_uniform(rng, 0.05, 0.6)
    decay, sustain = log_uniform(rng, 0.15, 1.5), rng.uniform(0.3, 1)
    cutoffs = closed * np.exp2(np.linspace(0, 5, 11))[:, None]

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        number = np.arange(1, len(frequencies) + 1)
        start = np.where(odd & (number % 2 == 0), 0.05, 1) / number
        return start * low_pass(frequencies, cutoffs, 4, peak**0.5)

    timbre = Timbre(spectra, rng)

    def play(pitches: Sound, held: float, velocity: float) -> Sound:
        count = len(pitches)
        rows = 2 * opening * velocity * fall(count, closing)
        sound = np.zeros(count)
        for shift, start in ((detune, 0.0), (-detune, 0.3))[: 2 if detune else 1]:
            sound += timbre.play(_top(pitches) * 1.01, cycles(hertz(pitches + shift), count, start), rows)
        return sound * velocity * envelope(held, 0.005, decay, sustain, RELEASE)

    return play


def growl(rng: np.random.Generator) -> Bass:
    """Draw an FM bass: a sine modulates the phase of another one, less and less during the note."""
    ratio, depth = rng.choice([0.5, 1, 1, 2, 3]), rng.uniform(0.03, 0.25)
    fading, decay, sustain = log_uniform(rng, 0.05, 0.8), log_uniform(rng, 0.2, 2), rng.uniform(0.3, 1)

    def play(pitches: Sound, held: float, velocity: float) -> Sound:
        count = len(pitches)
        phase = cycles(hertz(pitches), count)
        bend = depth * velocity * (0.2 + 0.8 * fall(count, fading)) * sine(cycles(ratio * hertz(pitches), count))
        return sine(phase + bend) * velocity * envelope(held, 0.004, decay, sustain, RELEASE)

    return play


def _top(pitches: Sound) -> float:
    """Return the highest frequency of a slide in Hz, rounded up to half a semitone, so that notes share wave tables."""
    return float(hertz(np.ceil(pitches.max() * 2) / 2))


def draw_line(rng: np.random.Generator, steps: int, kick: tuple[float, ...]) -> list[tuple[int, int, int]]:
    """Draw a bar of bass: (step, length in steps, degrees of the scale above the chord's root; 4 is a fifth, 7 an octave).

    `kick` is the kick's loudness on each step.
    """
    style = rng.integers(6)
    if style == 0:  # long notes
        starts = [0] if rng.random() < 0.5 else [0, steps // 2]
    elif style == 1:  # on the kick
        starts = [step for step in range(steps) if kick[step] > 0]
    elif style == 2:  # eighths
        starts = list(range(0, steps, 2))
    elif style == 3:  # quarters, a walking bass
        starts = list(range(0, steps, 4))
    elif style == 4:  # off the beat
        starts = [0, *range(2, steps, 4)]
    else:  # at random
        starts = [0, *(int(step) for step in np.flatnonzero(rng.random(steps - 1) < rng.uniform(0.15, 0.5)) + 1)]
    notes = [(0,), (0, 0, 0, 7), (0, 4, 7, 4), (0, 2, 4, 5), (0, 0, 4), (0, 7)][rng.integers(6)]
    fullness = rng.uniform(0.4, 1.0)
    ends = [*starts[1:], steps]
    return [
        (start, max(1, round(fullness * (end - start))), notes[number % len(notes)])
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def play_bass(rng: np.random.Generator, score: Score) -> Sound:
    """Play the bass of a song: mono [n], levelled."""
    track: Sound = np.zeros(samples(score.seconds))
    voice = (plucked, plucked, sub, saw, saw, growl)[rng.integers(6)](rng)
    lines = [draw_line(rng, score.steps, score.groove.kick) for _ in range(3)]
    slide_chance, slide = rng.uniform(0, 0.4), log_uniform(rng, 0.03, 0.15)
    lowest, looseness = rng.uniform(26.5, 31), rng.uniform(0, 0.008)
    before: float | None = None
    for bar in score.bars_of("bass"):
        for step, length, degree in lines[bar.kind]:
            pitch = _into_range(score.pitch(bar.chord), lowest) + _interval(score, bar, degree)
            held = length * score.step
            origin = before if before is not None and rng.random() < slide_chance else pitch
            count = samples(held + RELEASE)
            pitches = pitch + (origin - pitch) * fall(count, slide)
            late = 0.0 if bar is score.bars[0] and step == 0 else rng.normal(0, looseness)
            velocity = rng.uniform(0.75, 1) * (0.7 + 0.3 * bar.energy)
            add_at(track, voice(pitches, held, velocity), score.time(bar, step) + late)
            before = pitch
    track = drive(levelled(track), rng.choice([0, 0, 0.3, 0.8, 2.0]))
    return levelled(compress(track, rng.uniform(0, 0.6)))


def _into_range(pitch: float, lowest: float) -> float:
    """Transpose a pitch by octaves into the octave that begins at `lowest`."""
    return pitch - 12 * np.floor((pitch - lowest) / 12)


def _interval(score: Score, bar: Bar, degree: int) -> float:
    """Return the semitones from a chord's root to `degree` degrees above it."""
    return score.pitch(bar.chord + degree) - score.pitch(bar.chord)
