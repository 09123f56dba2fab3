"""The accompaniment: two to four parts, each with an instrument, a role, a register, effects and a pan position."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from my_submission.src.synth import tones
from my_submission.src.synth.effects import chorus, drive, echo, levelled, tremolo
from my_submission.src.synth.filters import draw_equaliser, filtered
from my_submission.src.synth.score import Bar, Score
from my_submission.src.synth.waves import Sound, Voice, add_at, decibels, log_uniform, pan, samples

Patch = Callable[[np.random.Generator], Voice]
Event = tuple[float, float, float, float]  # start in steps, length in steps, MIDI pitch, velocity

ROLES: dict[str, tuple[Patch, ...]] = {
    "chords": (tones.electric_piano, tones.organ, tones.string, tones.string, tones.synth_pluck),
    "held": (tones.pad, tones.pad, tones.strings, tones.organ, tones.electric_piano),
    "arpeggio": (tones.string, tones.mallet, tones.synth_pluck, tones.electric_piano),
    "line": (tones.brass, tones.flute, tones.strings, tones.synth_pluck, tones.mallet, tones.string),
}


def draw_roles(rng: np.random.Generator) -> list[str]:
    """Draw the roles of a song's parts: chords or held chords first, then any."""
    roles = [("chords", "held")[rng.integers(2)]]
    roles += [list(ROLES)[number] for number in rng.integers(0, len(ROLES), rng.integers(1, 4))]
    return roles


def play_other(rng: np.random.Generator, score: Score, roles: list[str]) -> Sound:
    """Play all parts of a song and add them up: stereo [2, n]."""
    count = samples(score.seconds)
    track = np.zeros((2, count))
    side = rng.choice([-1, 1])
    for number, role in enumerate(roles):
        part = play_part(rng, score, f"other{number}", role, side * rng.uniform(0, 0.9))
        track += decibels(rng.uniform(-5, 2)) * levelled(part)
        side = -side  # alternate, so that parts are apart
    return track


def play_part(rng: np.random.Generator, score: Score, name: str, role: str, position: float) -> Sound:
    """Play one part of a song: stereo [2, n].

    Args:
        rng: draws the instrument, the patterns and the effects.
        score: the song.
        name: the part's name in the score: other0, other1, ...
        role: one of ROLES.
        position: in stereo, from -1 (left) to 1 (right).
    """
    instrument = ROLES[role][rng.integers(len(ROLES[role]))]
    voice = instrument(rng)
    arrange = {"chords": chords, "held": held, "arpeggio": arpeggio, "line": line}[role]
    low = rng.uniform(50, 60) if role in ("chords", "held") else rng.uniform(55, 70)
    patterns = [arrange(rng, score) for _ in range(3)]
    track = np.zeros((2, samples(score.seconds)))
    spread, looseness = rng.uniform(0, 0.5), rng.uniform(0, 0.008)
    for bar in score.bars_of(name):
        notes = patterns[bar.kind](bar, low)
        for start, length, pitch, velocity in notes:
            late = abs(rng.normal(0, looseness)) if bar.start + start > 0 else 0.0
            loud = velocity * (0.75 + 0.25 * bar.energy) * rng.uniform(0.85, 1)
            where = np.clip(position + spread * (pitch - low - 8) / 12, -1, 1)
            sound = voice(pitch, length * score.step, loud)
            add_at(track, sound, score.time(bar, int(start)) + (start % 1) * score.step + late, pan(where))
    return _effects(rng, score, track, instrument)


def _effects(rng: np.random.Generator, score: Score, track: Sound, instrument: Patch) -> Sound:
    """Draw and apply the effects of one part: [2, n] -> [2, n]."""
    if instrument in (tones.string, tones.organ, tones.electric_piano) and rng.random() < 0.3:
        track = drive(levelled(track), log_uniform(rng, 0.3, 6))
        track = filtered(track, lambda frequencies: tones.low_pass(frequencies, 5000, 3))  # the loudspeaker of the amplifier
    if rng.random() < 0.35:
        mid = track.sum(axis=0)
        track = track + rng.uniform(0.3, 1) * chorus(mid, log_uniform(rng, 0.3, 6), log_uniform(rng, 0.0003, 0.002), 1.0)
    if rng.random() < 0.2:
        track = tremolo(track, log_uniform(rng, 2, 8), rng.uniform(0.1, 0.6), stereo=bool(rng.random() < 0.5))
    if rng.random() < 0.3:
        track = echo(track, score.step * rng.choice([2, 3, 4]), rng.uniform(0.15, 0.5), rng.uniform(0, 1))
    return filtered(track, draw_equaliser(rng))


def _chord(score: Score, bar: Bar, low: float) -> list[float]:
    """Return a bar's chord in the octave above `low`, the lowest pitch first, so that neighbouring chords are close."""
    pitches = [score.pitch(degree) for degree in score.chord_degrees(bar)]
    return sorted(pitch - 12 * np.floor((pitch - low) / 12) for pitch in pitches)


def chords(rng: np.random.Generator, score: Score) -> Callable[[Bar, float], list[Event]]:
    """Draw a rhythm of chords: eighths, off the beat, on the kick, at random, or quarters; strummed or not."""
    rhythm = [
        np.arange(score.steps) % 2 == 0,
        np.arange(score.steps) % 4 == 2,
        np.array(score.groove.kick) > 0,
        rng.random(score.steps) < rng.uniform(0.15, 0.5),
        np.arange(score.steps) % 4 == 0,
    ][rng.integers(5)]
    rhythm = rhythm | (np.arange(score.steps) == 0)
    fullness, strum = rng.uniform(0.3, 1), rng.choice([0.0, 0.0, rng.uniform(0.05, 0.25)])
    starts = [*(int(step) for step in np.flatnonzero(rhythm)), score.steps]
    loud = rng.uniform(0.6, 1, score.steps)

    def play(bar: Bar, low: float) -> list[Event]:
        return [
            (start + strum * number, max(0.5, fullness * (end - start)), pitch, loud[start])
            for start, end in itertools.pairwise(starts)
            for number, pitch in enumerate(_chord(score, bar, low))
        ]

    return play


def held(rng: np.random.Generator, score: Score) -> Callable[[Bar, float], list[Event]]:
    """Hold a chord for a whole bar; in some songs, its lowest note is doubled an octave below or above."""
    double = rng.choice([0, 0, -12, 12])
    loud = rng.uniform(0.6, 1)

    def play(bar: Bar, low: float) -> list[Event]:
        pitches = _chord(score, bar, low)
        pitches += [pitches[0] + double] if double else []
        return [(0, score.steps, pitch, loud) for pitch in pitches]

    return play


def arpeggio(rng: np.random.Generator, score: Score) -> Callable[[Bar, float], list[Event]]:
    """Draw an arpeggio: the notes of the chord one after the other over one or two octaves, with rests."""
    pace, octaves = int(rng.choice([1, 2, 2])), int(rng.choice([1, 2]))
    order = rng.integers(0, 3 * octaves, score.steps) if rng.random() < 0.4 else np.arange(score.steps) * rng.choice([1, -1, 2])
    sounds = rng.random(score.steps) < rng.uniform(0.6, 1.1)
    sounds[0] = True
    loud, length = rng.uniform(0.5, 1, score.steps), rng.uniform(0.5, 2.5)

    def play(bar: Bar, low: float) -> list[Event]:
        pitches = [pitch + 12 * octave for octave in range(octaves) for pitch in _chord(score, bar, low)]
        return [
            (step, pace * length, pitches[order[step // pace] % len(pitches)], loud[step])
            for step in range(0, score.steps, pace)
            if sounds[step]
        ]

    return play


def line(rng: np.random.Generator, score: Score) -> Callable[[Bar, float], list[Event]]:
    """Draw a riff: a rhythm and a contour that repeat in every bar, transposed with the chord."""
    chosen = np.flatnonzero(rng.random(score.steps) < rng.uniform(0.15, 0.45))
    starts = [0, *(int(step) for step in chosen if step > 0)]
    contour = np.cumsum(rng.integers(-2, 3, len(starts))) + rng.choice([0, 2, 4])
    ends = [*starts[1:], score.steps]
    fullness = rng.uniform(0.5, 1)

    def play(bar: Bar, low: float) -> list[Event]:
        root = score.pitch(bar.chord)
        base = 12 * np.ceil((low - root) / 12)
        return [
            (start, max(0.6, fullness * min(end - start, 8)), base + score.pitch(bar.chord + int(step)), 0.9)
            for start, end, step in zip(starts, ends, contour, strict=True)
        ]

    return play
