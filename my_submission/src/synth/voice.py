"""The singer: a glottal source through moving formants, with vibrato, portamento, consonants, breaths and doubled takes.

Control curves have one value per frame of HOP samples; `_sing` interpolates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from my_submission.src.synth.effects import chorus, compress, drive, echo, levelled
from my_submission.src.synth.filters import band, coloured_noise, filtered, high_pass, low_pass, moving_filter
from my_submission.src.synth.melody import Syllable, write_melody
from my_submission.src.synth.score import Score
from my_submission.src.synth.waves import (
    NYQUIST,
    RATE,
    Sound,
    Timbre,
    add_at,
    cycles,
    decibels,
    glide,
    hertz,
    log_uniform,
    noise,
    pan,
    samples,
    sine,
    wander,
)

HOP = 512  # samples per frame of the control curves
TOP = 13000  # Hz; the mouth blocks higher frequencies

FORMANTS = {  # Hz, the first three of a man's voice (after Peterson and Barney, 1952, rounded)
    "a": (730, 1090, 2440),
    "e": (530, 1840, 2480),
    "i": (270, 2290, 3010),
    "o": (570, 840, 2410),
    "u": (300, 870, 2240),
    "uh": (640, 1190, 2390),
    "ae": (660, 1720, 2410),
    "er": (490, 1350, 1690),
    "m": (250, 1000, 2200),
    "n": (250, 1450, 2300),
    "l": (360, 1100, 2700),
    "r": (330, 1100, 1550),
    "w": (300, 650, 2200),
    "y": (270, 2200, 3000),
    "d": (300, 1700, 2600),
    "b": (300, 900, 2300),
}
FRICATIVES = {  # band in Hz, seconds, loudness
    "s": (5000, 11000, 0.11, 0.5),
    "sh": (2200, 6500, 0.11, 0.5),
    "f": (1500, 12000, 0.09, 0.2),
    "h": (500, 4000, 0.07, 0.25),
    "t": (3000, 9000, 0.03, 0.5),
    "k": (1300, 4000, 0.03, 0.45),
    "p": (400, 2500, 0.02, 0.4),
    "d": (2500, 7000, 0.012, 0.3),
    "b": (300, 1500, 0.012, 0.3),
}
PLOSIVES = frozenset("tkpdb")  # the mouth is closed, then opens with a burst


@dataclass(frozen=True)
class Singer:
    """The properties of one voice."""

    lowest: float  # MIDI pitch
    tract: float  # frequencies of the formants relative to FORMANTS; a shorter vocal tract has higher ones
    bandwidth: float  # of the formants, relative
    tilt: float  # of the glottal source: harmonic k has the amplitude 1 / k^tilt
    breath: float  # level of the noise that passes through the formants like the tone
    air: float  # level of the noise above 5 kHz, from the lips
    portamento: float  # seconds of the glide from note to note
    scoop: float  # semitones by which a phrase begins below its first note
    vibrato: float  # depth, semitones
    vibrato_rate: float  # Hz
    vibrato_delay: float  # seconds from the beginning of the vowel
    drift: float  # slow random deviation of the pitch, semitones
    sharpness: float  # loudness of consonants, relative
    speaks: bool  # pitches fall within a syllable, as in speech


def draw_singer(rng: np.random.Generator) -> Singer:
    """Draw a voice, from bass to soprano."""
    lowest = rng.uniform(40, 62)
    return Singer(
        lowest=lowest,
        tract=0.9 + 0.3 * (lowest - 40) / 22 + rng.uniform(-0.08, 0.08),
        bandwidth=rng.uniform(0.7, 1.5),
        tilt=rng.uniform(0.55, 1.35),
        breath=log_uniform(rng, 0.008, 0.2),
        air=log_uniform(rng, 0.003, 0.06),
        portamento=log_uniform(rng, 0.02, 0.13),
        scoop=rng.uniform(0, 2.5),
        vibrato=rng.uniform(0, 0.7),
        vibrato_rate=rng.uniform(4.5, 6.8),
        vibrato_delay=rng.uniform(0.1, 0.5),
        drift=rng.uniform(0.02, 0.15),
        sharpness=rng.uniform(0.4, 1.5),
        speaks=bool(rng.random() < 0.12),
    )


def play_vocals(rng: np.random.Generator, score: Score) -> Sound:
    """Sing the vocals of a song, stereo [2, n]: a lead, and in some songs doubled takes, a second voice or echoes."""
    singer = draw_singer(rng)
    melody = write_melody(rng, score, singer.lowest)
    lead = levelled(_sing(rng, score.seconds, singer, melody))
    lead = compress(drive(lead, rng.choice([0, 0, 0.2, 0.6])), rng.uniform(0.2, 0.7))
    track = pan(rng.uniform(-0.15, 0.15))[:, None] * lead
    if rng.random() < 0.45:
        width, level = rng.uniform(0.2, 1), decibels(rng.uniform(-12, -3))
        for side in (-1, 1):
            take = levelled(_sing(rng, score.seconds, singer, _again(rng, melody)))
            track += level * np.outer(pan(side * width), take)
    if rng.random() < 0.3:
        shift, choir = rng.choice([2, 2, -3, 4]), replace(singer, tract=singer.tract * rng.uniform(0.9, 1.1))
        second = [replace(syllable, pitch=_in_key(score, syllable.pitch, shift)) for syllable in _again(rng, melody)]
        take = levelled(_sing(rng, score.seconds, choir, second))
        track += decibels(rng.uniform(-12, -4)) * np.outer(pan(rng.uniform(-0.8, 0.8)), take)
    if rng.random() < 0.2:
        track += rng.uniform(0.1, 0.4) * chorus(lead, rng.uniform(0.3, 1.5), rng.uniform(0.0005, 0.003), 1.0)
    if rng.random() < 0.35:
        track = echo(track, score.step * rng.choice([2, 3, 4]), rng.uniform(0.1, 0.35), rng.uniform(0, 0.8))
    return track


def _again(rng: np.random.Generator, melody: Sequence[Syllable]) -> list[Syllable]:
    """Repeat a melody with small deviations in time and pitch, as in another take."""
    return [
        replace(syllable, start=max(0.0, syllable.start + rng.normal(0, 0.015)), pitch=syllable.pitch + rng.normal(0, 0.06))
        for syllable in melody
    ]


def _in_key(score: Score, pitch: float, degrees: int) -> float:
    """Transpose a pitch by `degrees` of the scale."""
    ladder = np.array([score.pitch(degree) for degree in range(63)])
    return float(ladder[np.argmin(np.abs(ladder - pitch)) + degrees])


def _sing(rng: np.random.Generator, seconds: float, singer: Singer, melody: Sequence[Syllable]) -> Sound:
    """Sing one take of a melody: mono [n]."""
    count = samples(seconds)
    frames = count // HOP + 2
    loud, breath, effort, formants = _mouth(rng, singer, melody, frames)
    pitch = _intonation(rng, singer, melody, frames)
    glottis = _glottis(rng, singer, glide(pitch, count), glide(effort, count))
    throat = glide(loud, count) * glottis + glide(breath, count) * noise(rng, count)
    sound = moving_filter(throat, formants, lambda shapes: _formant_filter(shapes, singer), HOP)
    level = np.sqrt(np.mean(sound**2) + 1e-12) / np.sqrt(np.mean(loud**2) + 1e-12)
    air = filtered(glide(loud, count) * noise(rng, count), lambda frequencies: high_pass(frequencies, 5000))
    sound += singer.air * level * air
    for syllable in melody:
        _add_consonant(rng, sound, singer, syllable, level)
    return sound


def _frame(seconds: float) -> int:
    """Return the number of a frame, at least 0."""
    return max(0, round(seconds * RATE / HOP))


def _mouth(
    rng: np.random.Generator, singer: Singer, melody: Sequence[Syllable], frames: int
) -> tuple[Sound, Sound, Sound, NDArray[np.float64]]:
    """Return four control curves: loudness of the vocal cords [L], breath [L], effort [L], and three formants in Hz [L, 3]."""
    loud, breath, effort = np.zeros(frames), np.zeros(frames), np.full(frames, 0.5)
    formants = np.tile(np.array(FORMANTS["uh"], dtype=float), (frames, 1))
    for syllable in melody:
        begin, end = _frame(syllable.start), _frame(syllable.start + syllable.seconds)
        turn = begin + int(0.6 * (end - begin))
        consonant = syllable.consonant
        before = max(0, begin - _frame(0.07))
        if syllable.first:
            gasp = max(0, before - _frame(0.3))
            breath[gasp:before] = 0.25 * singer.breath**0.5 * rng.uniform(0.3, 1)
        formants[before:turn] = FORMANTS[syllable.vowels[0]]
        formants[turn : end + 2] = FORMANTS[syllable.vowels[1]]
        if consonant in FORMANTS:  # voiced: the mouth changes its shape and the vocal cords continue
            formants[before:begin] = FORMANTS[consonant]
            loud[before:begin] = 0.15 if consonant in PLOSIVES else 0.45
        elif consonant:
            loud[before:begin] = 0.0
        strength = 0.5 + 0.5 * syllable.effort
        loud[begin:end] = strength * np.linspace(1, 0.75, max(1, end - begin))[: len(loud[begin:end])]
        effort[before:end] = syllable.effort
    moving = np.stack([_smooth(formants[:, number], 5) for number in range(3)], axis=1)
    return _smooth(loud, 3), _smooth(breath + singer.breath * loud, 3), _smooth(effort, 3), moving * singer.tract


def _intonation(rng: np.random.Generator, singer: Singer, melody: Sequence[Syllable], frames: int) -> Sound:
    """Return the MIDI pitch of each frame [L]: notes, portamento, vibrato and drift."""
    pitch: Sound = np.full(frames, melody[0].pitch if melody else 60.0)
    depth: Sound = np.zeros(frames)
    for syllable in melody:
        begin, end = max(0, _frame(syllable.start) - 4), _frame(syllable.start + syllable.seconds)
        pitch[begin:] = syllable.pitch
        time = np.arange(len(pitch[begin:end])) * HOP / RATE
        if singer.speaks:
            pitch[begin:end] += rng.uniform(0, 3) - rng.uniform(5, 15) * time
        elif syllable.first:
            pitch[begin:end] -= singer.scoop * np.exp(-time / 0.05)
        depth[begin:end] = np.clip((time - singer.vibrato_delay) / 0.25, 0, 1)
    pitch = _smooth(pitch, max(1, round(singer.portamento * RATE / HOP)))
    rate = singer.vibrato_rate * (1 + 0.06 * wander(rng, frames * HOP, 0.5)[::HOP][:frames])
    vibrato = sine(np.cumsum(rate) * HOP / RATE)
    drift = singer.drift * wander(rng, frames * HOP, 0.25)[::HOP][:frames]
    return pitch + singer.vibrato * _smooth(depth, 4) * vibrato + drift


def _glottis(rng: np.random.Generator, singer: Singer, pitch: Sound, effort: Sound) -> Sound:
    """Return the sound of the vocal cords [n]: slightly irregular harmonics, with a flatter spectrum at high effort."""
    tilts = singer.tilt + np.linspace(0.8, -0.25, 6)[:, None]

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        return low_pass(frequencies, 9000) / np.arange(1, len(frequencies) + 1) ** tilts

    count = len(pitch)
    jitter = 0.04 * wander(rng, count, 0.006)
    frequency = hertz(pitch + jitter)
    shimmer = 1 + 0.05 * wander(rng, count, 0.01)
    top = float(hertz(np.ceil(pitch.max())))
    return shimmer * Timbre(spectra, rng, 0.1).play(top, cycles(frequency, count), 5 * effort)


def _formant_filter(formants: NDArray[np.float64], singer: Singer) -> NDArray[np.complex128]:
    """Turn three formants per frame [L, 3] into complex responses of the mouth [L, F].

    The response is a product of resonances: the three formants and seven fixed ones above them. A resonance at f0 with the
    bandwidth b has the response f0^2 / (f0^2 - f^2 + i b f).
    """
    bins = int(TOP / NYQUIST * 2 * HOP)
    frequencies = np.arange(bins, dtype=np.float64) * (RATE / (4 * HOP))
    response = np.ones((len(formants), bins), np.complex128)
    for number in range(3):
        centre = formants[:, number : number + 1]
        width = singer.bandwidth * (50 + 0.04 * centre)
        response *= centre**2 / (centre**2 - frequencies**2 + 1j * width * frequencies)
    fixed: NDArray[np.complex128] = np.ones(bins, np.complex128)
    for centre in singer.tract * np.array([3500, 4500, 5600, 6700, 7800, 9000, 10200]):
        fixed *= centre**2 / (centre**2 - frequencies**2 + 1j * singer.bandwidth * 0.06 * centre * frequencies)
    fixed *= high_pass(frequencies, 80) * low_pass(frequencies, 0.85 * TOP, 6)
    return response * fixed


def _add_consonant(rng: np.random.Generator, sound: Sound, singer: Singer, syllable: Syllable, level: float) -> None:
    """Add the noise of a consonant to `sound`, in place, just before its vowel. `level` is the RMS of the voice."""
    if syllable.consonant not in FRICATIVES:
        return
    low, high, seconds, loudness = FRICATIVES[syllable.consonant]
    seconds *= rng.uniform(0.7, 1.3)
    count = samples(seconds)
    hiss = coloured_noise(rng, count, band(low * singer.tract, min(high * singer.tract, 16000), 4))
    if syllable.consonant in PLOSIVES:
        hiss *= np.linspace(1, 0, count) ** 2
    else:
        hiss *= np.sin(np.pi * np.arange(count) / count)
    add_at(sound, hiss, syllable.start - seconds, singer.sharpness * loudness * level)


def _smooth(curve: Sound, width: int) -> Sound:
    """Smooth a curve with a Hann window of 2 * width + 1 values."""
    window = np.hanning(2 * width + 3)[1:-1]
    padded = np.concatenate([np.full(width, curve[0]), curve, np.full(width, curve[-1])])
    return np.convolve(padded, window / window.sum(), mode="valid")
