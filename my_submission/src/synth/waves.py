"""Oscillators, envelopes and noise: what every instrument is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sound = NDArray[np.float64]  # [n] mono or [2, n] stereo
Voice = Callable[[float, float, float], Sound]  # (pitch, seconds held, velocity 0..1) -> the note, with what rings on

RATE = 44100  # Hz
NYQUIST = RATE / 2
SIZE = 4096  # samples of one period in a wave table
CYCLE = 1 << 44  # a period in units of the phase counter


def samples(seconds: float) -> int:
    """Seconds as samples, 1 or more."""
    return max(1, round(seconds * RATE))


def times(count: int) -> Sound:
    """The time of each sample, seconds."""
    return np.arange(count) / RATE


def hertz(pitch: ArrayLike) -> NDArray[np.float64]:
    """MIDI pitch, fractions of a semitone included, as a frequency."""
    return 440.0 * np.exp2((np.asarray(pitch, dtype=float) - 69) / 12)


def decibels(value: float) -> float:
    """Decibels as a factor."""
    return float(10 ** (value / 20))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between two bounds, all ratios equally likely: frequencies, durations."""
    return float(low * (high / low) ** rng.random())


def cycles(frequency: ArrayLike, count: int, start: float = 0.0) -> Sound:
    """The phase of an oscillator, 0 <= phase < 1; `frequency` in Hz is one number or [count].

    Counted in integers: sums of floats would carry each machine's last bits on and on.
    """
    step = np.rint(np.asarray(frequency) * (CYCLE / RATE)).astype(np.int64)
    count_up = step * np.arange(count) if step.ndim == 0 else np.cumsum(step) - step[0]
    return ((count_up + round(start * CYCLE)) & (CYCLE - 1)) / CYCLE


def tables(spectra: NDArray[np.float64], phases: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Amplitudes [M, K] of harmonics 1..K -> wave tables [M, SIZE + 2], whose last two samples are the first again.

    `phases` [K] are in cycles, 0 where None: sines.
    """
    spectrum = np.zeros((len(spectra), SIZE // 2 + 1), complex)
    turn = -1j if phases is None else -1j * np.exp(2j * np.pi * phases)
    spectrum[:, 1 : spectra.shape[1] + 1] = spectra * turn
    waves = np.fft.irfft(spectrum, axis=1) * (SIZE / 2)
    return np.concatenate([waves, waves[:, :2]], axis=1)


def look_up(bank: NDArray[np.float64], phase: Sound, row: Sound | None = None) -> Sound:
    """Read wave tables [M, SIZE + 2] at `phase`, 0..1, with straight lines between samples, and between rows at `row`."""
    place = phase * SIZE
    index = place.astype(np.int64)
    fraction = place - index
    if row is None:
        wave = bank[0]
        below = wave[index]
        return below + fraction * (wave[index + 1] - below)
    row = np.clip(row, 0, len(bank) - 1.001)
    lower = row.astype(np.int64)
    flat, width = bank.ravel(), bank.shape[1]
    index += lower * width
    below, above = flat[index], flat[index + width]
    below += fraction * (flat[index + 1] - below)
    above += fraction * (flat[index + width + 1] - above)
    return below + (row - lower) * (above - below)


_SINE = tables(np.ones((1, 1)))


def sine(phase: Sound) -> Sound:
    """sin of a phase in cycles; any phase, positive or not."""
    return look_up(_SINE, phase - np.floor(phase))


class Timbre:
    """A harmonic sound whose spectrum moves: wave tables between which a note wanders, made once per pitch.

    `spectra` takes the frequencies [K] of a note's harmonics and gives their amplitudes [M, K]: for M times, M loudnesses or
    M positions of a filter. Only harmonics below the Nyquist frequency are asked for, so that nothing aliases.
    """

    def __init__(
        self, spectra: Callable[[NDArray[np.float64]], NDArray[np.float64]], rng: np.random.Generator, spread: float = 0.0
    ) -> None:
        self.spectra = spectra
        self.phases = spread * rng.random(SIZE // 4)  # one set for all rows, or they would cancel on the way
        self.banks: dict[int, NDArray[np.float64]] = {}

    def play(self, frequency: float, phase: Sound, row: Sound | None = None) -> Sound:
        """The wave at `phase`; `frequency` is the highest that occurs in it."""
        key = round(frequency * 100)
        if key not in self.banks:
            count = int(np.clip(0.9 * NYQUIST / frequency, 1, SIZE // 8))
            harmonics = frequency * np.arange(1, count + 1)
            self.banks[key] = tables(np.atleast_2d(self.spectra(harmonics)), self.phases[:count])
        return look_up(self.banks[key], phase, row)


def glide(values: ArrayLike, count: int) -> Sound:
    """A control curve: values at equal distances, as `count` samples on straight lines between them."""
    values = np.asarray(values, dtype=float)
    length = -(-count // (len(values) - 1))
    lines = values[:-1, None] + np.diff(values)[:, None] * (np.arange(length) / length)
    return lines.ravel()[:count]


def fall(count: int, seconds: float) -> Sound:
    """Exponential decay from 1, to 1/e after `seconds`."""
    return np.exp(np.arange(count) * (-1 / (seconds * RATE)))


def envelope(held: float, attack: float, decay: float, sustain: float, release: float) -> Sound:
    """Rise for `attack` seconds, fall with time constant `decay` to `sustain` (0..1), after `held` to 0 within `release`."""
    count, end = samples(held + release), samples(release)
    curve = sustain + (1 - sustain) * fall(count, decay)
    rise = min(samples(attack), count)
    ramp = np.arange(rise) / rise
    curve[:rise] *= ramp * ramp * (3 - 2 * ramp)
    curve[-end:] *= np.linspace(1, 0, end) ** 3
    return curve


def noise(rng: np.random.Generator, count: int) -> Sound:
    """White noise, RMS 1."""
    return rng.standard_normal(count)


def wander(rng: np.random.Generator, count: int, seconds: float) -> Sound:
    """A slow random curve, RMS about 1, that turns every `seconds`: what hands and throats do."""
    return glide(rng.standard_normal(max(2, int(count / (seconds * RATE)) + 2)), count)


def add_at(track: Sound, sound: Sound, start: float, gain: ArrayLike = 1.0) -> None:
    """Add a sound into a track, [n] or [2, n], at `start` seconds; what hangs over either end is cut off.

    `gain` is one number or one per channel [2].
    """
    begin = round(start * RATE)
    sound = sound[..., max(0, -begin) :]
    begin = max(0, begin)
    length = min(sound.shape[-1], track.shape[-1] - begin)
    if length > 0:
        gain = np.asarray(gain, dtype=float)
        track[..., begin : begin + length] += (gain[:, None] if gain.ndim else gain) * sound[..., :length]


def pan(position: float) -> NDArray[np.float64]:
    """Gains [2] of left and right, of constant power; position -1 (left) .. 1 (right)."""
    angle = (position + 1) * np.pi / 4
    return np.array([np.cos(angle), np.sin(angle)])
