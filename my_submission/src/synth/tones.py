"""The instruments of `other`: each function draws a patch and returns a function that plays a note on it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from my_submission.src.synth.filters import band, coloured_noise, low_pass
from my_submission.src.synth.waves import (
    RATE,
    Sound,
    Timbre,
    Voice,
    cycles,
    envelope,
    fall,
    hertz,
    log_uniform,
    samples,
    sine,
    times,
    wander,
)

ROWS = 12  # number of wave tables of a moving spectrum


def electric_piano(rng: np.random.Generator) -> Voice:
    """Draw an electric piano (frequency modulation): a bar that is brighter when hit harder, and a short, high ping."""
    depth, ping = rng.uniform(0.05, 0.3), rng.uniform(0, 0.12)
    ratio, high = rng.choice([1, 1, 2, 3]), rng.choice([7, 9, 11, 14])
    ring, fading, release = log_uniform(rng, 0.5, 2.5), log_uniform(rng, 0.1, 0.8), rng.uniform(0.05, 0.25)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, 0.003, ring, 0.05, release)
        count, frequency = len(shape), float(hertz(pitch))
        bend = depth * velocity * (0.3 + 0.7 * fall(count, fading)) * sine(cycles(ratio * frequency, count))
        if high * frequency < 0.4 * RATE:
            bend += 0.5 * ping * fall(count, 0.06) * sine(cycles(high * frequency, count))
        return velocity * shape * sine(cycles(frequency, count) + bend)

    return play


def organ(rng: np.random.Generator) -> Voice:
    """Draw a drawbar organ: sines at 1/2, 3/2, 1, 2, 3, 4, 5, 6 and 8 times the pitch, and a click from the key's contacts."""
    bars = rng.random(9) ** 2 * np.array([0.8, 0.6, 1, 0.8, 0.6, 0.6, 0.3, 0.3, 0.4])
    bars[2] += 0.3
    click, percussion = rng.uniform(0, 0.15), rng.choice([0.0, 0.6]) * rng.random()

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        amplitudes = np.zeros(max(16, len(frequencies)))
        amplitudes[[0, 2, 1, 3, 5, 7, 9, 11, 15]] = bars
        return amplitudes[: len(frequencies)]

    timbre = Timbre(spectra, rng, 1.0)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, 0.006, 1, 1, 0.04)
        count, frequency = len(shape), float(hertz(pitch - 12))
        sound = timbre.play(frequency, cycles(frequency, count))
        sound += percussion * fall(count, 0.15) * sine(cycles(6 * frequency, count))
        contact = min(count, 300)
        sound[:contact] += click * coloured_noise(rng, 300, band(800, 6000))[:contact]
        return 0.7 * shape * sound

    return play


def string(rng: np.random.Generator) -> Voice:
    """Draw a plucked or hammered string: guitar, harp, clavinet, harpsichord, piano.

    Harmonic k of a string plucked at `place` starts at |sin(pi k place)| / k^tilt; higher harmonics decay faster. Some patches
    have two slightly detuned strings, which beat.
    """
    place, tilt = rng.uniform(0.04, 0.5), rng.uniform(0.4, 1.4)
    ring, loss = log_uniform(rng, 0.3, 3), log_uniform(rng, 0.02, 0.8)
    dull, detune = log_uniform(rng, 1500, 12000), rng.choice([0, 0.03]) * rng.random()
    attack, damper = log_uniform(rng, 0.001, 0.006), rng.uniform(0.04, 0.4)
    row_times = np.linspace(0, 1, ROWS)[:, None] ** 2 * 3.0  # seconds

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        number = np.arange(1, len(frequencies) + 1)
        start = np.abs(np.sin(np.pi * number * place)) / number**tilt * low_pass(frequencies, dull)
        return start * np.exp(-row_times * (1 / ring + loss * (number - 1) ** 1.3))

    timbre = Timbre(spectra, rng, 0.1)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, attack, 9, 0.9, damper)
        count = len(shape)
        rows = (ROWS - 1) * np.sqrt(np.minimum(np.arange(count) / (3.0 * RATE), 1)) + (1 - velocity)
        sound = timbre.play(float(hertz(pitch)), cycles(hertz(pitch), count), rows)
        if detune:
            sound = sound + timbre.play(float(hertz(pitch)), cycles(hertz(pitch + detune), count, rng.random()), rows)
        return velocity * shape * sound

    return play


def mallet(rng: np.random.Generator) -> Voice:
    """Draw a struck bar: four modes, tuned as on a marimba (1 : 4 : 10), those of a uniform bar (1 : 2.76 : 5.4), or others."""
    modes = np.array([(1, 4, 10, 17), (1, 2.76, 5.4, 8.93), (1, 3, 5.9, 9.2), (1, 2, 3.01, 6.8)][rng.integers(4)])
    modes = modes * np.concatenate([[1], rng.uniform(0.98, 1.02, 3)])
    levels = np.concatenate([[1], rng.uniform(0.03, 0.5, 3)])
    ring, octave = log_uniform(rng, 0.12, 2.0), rng.choice([0, 12])

    def play(pitch: float, held: float, velocity: float) -> Sound:
        frequency = float(hertz(pitch + octave))
        count = samples(min(5 * ring, held + 2))
        sound = np.zeros(count)
        for number, (mode, level) in enumerate(zip(modes, levels, strict=True)):
            if mode * frequency < 16000:
                sound += level * velocity**number * sine(cycles(mode * frequency, count)) * fall(count, ring / mode**0.7)
        sound *= velocity * np.minimum(1, np.arange(count) / 60)
        return sound * np.linspace(1, 0, count) ** 0.5

    return play


def _subtractive(rng: np.random.Generator, attack: float, release: float) -> Voice:
    """Draw a subtractive synthesiser: detuned saws, squares or pulses through a resonant low-pass with an envelope."""
    detunes = rng.normal(0, rng.uniform(0.03, 0.16), rng.choice([1, 2, 3]))
    width, closed = rng.choice([0.5, rng.uniform(0.1, 0.4), 0.0]), log_uniform(rng, 250, 2500)
    peak, opening, closing = rng.uniform(0.7, 3), rng.uniform(-1, 4), log_uniform(rng, 0.08, 1.5)
    decay, sustain = log_uniform(rng, 0.1, 1.5), rng.uniform(0.2, 1)
    cutoffs = closed * np.exp2(np.linspace(-1, 4.5, ROWS))[:, None]

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        number = np.arange(1, len(frequencies) + 1)
        start = 1 / number if width == 0 else np.abs(np.sin(np.pi * number * width)) / number
        return start * low_pass(frequencies, cutoffs, 4, peak**0.5)

    timbre = Timbre(spectra, rng)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, attack, decay, sustain, release)
        count = len(shape)
        rows = 2 + 2 * opening * velocity * (fall(count, closing) if attack < 0.1 else np.minimum(times(count) / closing, 1))
        sound = np.zeros(count)
        for detune in detunes:
            sound += timbre.play(float(hertz(pitch)), cycles(hertz(pitch + detune), count, rng.random()), rows)
        return velocity * shape * sound / len(detunes) ** 0.5

    return play


def pad(rng: np.random.Generator) -> Voice:
    """Draw a synthesiser with a slow attack and release."""
    return _subtractive(rng, log_uniform(rng, 0.12, 0.7), log_uniform(rng, 0.2, 0.9))


def synth_pluck(rng: np.random.Generator) -> Voice:
    """Draw a synthesiser with a fast attack and release."""
    return _subtractive(rng, log_uniform(rng, 0.002, 0.02), log_uniform(rng, 0.03, 0.25))


def strings(rng: np.random.Generator) -> Voice:
    """Draw a section of bowed strings: one saw per player, with independent vibrato."""
    players, dull = rng.integers(2, 5), log_uniform(rng, 1500, 6000)
    attack, release = log_uniform(rng, 0.05, 0.3), rng.uniform(0.1, 0.5)
    rate, depth = rng.uniform(4.5, 6.5), rng.uniform(0.05, 0.25)

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        body = 1 + 0.5 * np.cos(2 * np.pi * np.log2(frequencies / 280) * 1.3)  # a rough model of a violin's resonances
        return body * low_pass(frequencies, dull) / np.arange(1, len(frequencies) + 1)

    timbre = Timbre(spectra, rng)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, attack, 9, 0.9, release)
        count = len(shape)
        sound = np.zeros(count)
        for _ in range(players):
            sway = depth * sine(cycles(rate * rng.uniform(0.9, 1.1), count, rng.random())) + rng.normal(0, 0.06)
            sound += timbre.play(float(hertz(pitch + 1)), cycles(hertz(pitch + sway), count, rng.random()))
        return velocity * shape * sound / players**0.5

    return play


def brass(rng: np.random.Generator) -> Voice:
    """Draw a brass instrument: louder notes are brighter, notes begin below their pitch, and vibrato sets in late."""
    tilt, bright, dull = rng.uniform(0.4, 1.2), log_uniform(rng, 1500, 7000), log_uniform(rng, 250, 700)
    attack, release = log_uniform(rng, 0.02, 0.12), rng.uniform(0.05, 0.2)
    scoop, depth, rate = rng.uniform(0, 1.2), rng.uniform(0, 0.35), rng.uniform(4.5, 6.5)
    decay, sustain, breath = log_uniform(rng, 0.1, 0.6), rng.uniform(0.4, 1), rng.uniform(0, 0.05)
    cutoffs = dull * (bright / dull) ** np.linspace(0, 1, ROWS, dtype=np.float64)[:, None]

    def spectra(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        return low_pass(frequencies, cutoffs, 3) / np.arange(1, len(frequencies) + 1) ** tilt

    timbre = Timbre(spectra, rng, 0.05)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, attack, decay, sustain, release)
        count = len(shape)
        late = np.clip(times(count) / 0.4 - 0.5, 0, 1)
        bend = depth * late * sine(cycles(rate, count)) - scoop * fall(count, 0.03) + 0.03 * wander(rng, count, 0.1)
        sound = timbre.play(float(hertz(pitch + 0.5)), cycles(hertz(pitch + bend), count), (ROWS - 1) * velocity * shape)
        return velocity * shape * (sound + breath * coloured_noise(rng, count, band(800, 5000)))

    return play


def flute(rng: np.random.Generator) -> Voice:
    """Draw a flute: few harmonics, breath noise in the tone, and vibrato of loudness as well as pitch."""
    levels = np.array([1, rng.uniform(0.05, 0.6), rng.uniform(0.02, 0.4), rng.uniform(0, 0.15), rng.uniform(0, 0.1)])
    breath, attack, release = rng.uniform(0.02, 0.2), log_uniform(rng, 0.02, 0.1), rng.uniform(0.05, 0.2)
    rate, depth = rng.uniform(4, 6), rng.uniform(0, 0.2)
    timbre = Timbre(lambda frequencies: np.pad(levels, (0, max(0, len(frequencies) - 5)))[: len(frequencies)], rng)

    def play(pitch: float, held: float, velocity: float) -> Sound:
        shape = envelope(held, attack, 9, 0.9, release)
        count, frequency = len(shape), float(hertz(pitch))
        sway = sine(cycles(rate, count, rng.random())) * np.minimum(times(count) / 0.5, 1)
        sound = timbre.play(float(hertz(pitch + 0.5)), cycles(hertz(pitch + depth * sway), count))
        sound += breath * coloured_noise(rng, count, band(frequency, min(4 * frequency, 15000), 3))
        return velocity * shape * (1 + 0.7 * depth * sway) * sound

    return play
