"""Oscillators, envelopes and noise: the building blocks of all instruments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Sound = NDArray[np.float64]  # [n] mono or [2, n] stereo
Voice = Callable[[float, float, float], Sound]  # (pitch, seconds held, velocity 0..1) -> the note with its release

RATE = 44100  # Hz
NYQUIST = RATE / 2
TABLE_SIZE = 4096  # samples of the one period in a wave table
CYCLE = 1 << 44  # units of the phase counter in one period


def samples(seconds: float) -> int:
    """Return the number of samples in `seconds`, at least 1."""
    return max(1, round(seconds * RATE))


def times(count: int) -> Sound:
    """Return the time of each sample in seconds: [count]."""
    return np.arange(count) / RATE


def hertz(pitch: ArrayLike) -> NDArray[np.float64]:
    """Convert MIDI pitches, which may be fractions, to Hz."""
    return 440.0 * np.exp2((np.asarray(pitch, dtype=float) - 69) / 12)


def decibels(value: float) -> float:
    """Convert decibels to an amplitude factor."""
    return float(10 ** (value / 20))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform, for frequencies and durations."""
    return float(low * (high / low) ** rng.random())


def cycles(frequency: ArrayLike, count: int, start: float = 0.0) -> Sound:
    """Return the phase of an oscillator in periods: [count], 0 <= phase < 1.

    The phase is counted in integers, because sums of floats would accumulate each machine's rounding errors.

    Args:
        frequency: Hz, one number or a curve [count].
        count: number of samples.
        start: phase of the first sample, in periods (default 0).
    """
    step = np.rint(np.asarray(frequency) * (CYCLE / RATE)).astype(np.int64)
    count_up = step * np.arange(count) if step.ndim == 0 else np.cumsum(step) - step[0]
    return ((count_up + round(start * CYCLE)) & (CYCLE - 1)) / CYCLE


def tables(spectra: NDArray[np.float64], phases: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """Turn amplitudes [M, K] of harmonics 1..K into wave tables [M, TABLE_SIZE + 2].

    The last two samples of a table repeat the first two, for interpolation. `phases` [K] are in periods; None makes every
    harmonic a sine.
    """
    spectrum = np.zeros((len(spectra), TABLE_SIZE // 2 + 1), complex)
    turn = -1j if phases is None else -1j * np.exp(2j * np.pi * phases)
    spectrum[:, 1 : spectra.shape[1] + 1] = spectra * turn
    waves = np.fft.irfft(spectrum, axis=1) * (TABLE_SIZE / 2)
    return np.concatenate([waves, waves[:, :2]], axis=1)


def look_up(bank: NDArray[np.float64], phase: Sound, row: Sound | None = None) -> Sound:
    """Read wave tables [M, TABLE_SIZE + 2] at `phase` [n], 0..1, and at the fractional row `row` [n]; interpolate linearly.

    Without `row`, only the first table is read.
    """
    position = phase * TABLE_SIZE
    index = position.astype(np.int64)
    fraction = position - index
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
    """Return the sine of a phase in periods, which may be negative or above 1."""
    return look_up(_SINE, phase - np.floor(phase))


class Timbre:
    """A harmonic sound whose spectrum moves: a note glides between wave tables, which are made once per pitch.

    Args:
        spectra: takes the frequencies [K] of a note's harmonics in Hz and returns their amplitudes [M, K], for M times, M
            loudnesses or M positions of a filter. It only sees harmonics below the Nyquist frequency, so nothing aliases.
        rng: draws the phases of the harmonics.
        spread: range of those phases in periods (default 0: all sines).
    """

    def __init__(
        self, spectra: Callable[[NDArray[np.float64]], NDArray[np.float64]], rng: np.random.Generator, spread: float = 0.0
    ) -> None:
        self.spectra = spectra
        self.phases = spread * rng.random(TABLE_SIZE // 4)  # shared by all rows: between rows, other phases would cancel
        self.banks: dict[int, NDArray[np.float64]] = {}

    def play(self, frequency: float, phase: Sound, row: Sound | None = None) -> Sound:
        """Return the wave at `phase` [n] and `row` [n].

        `frequency` is the highest frequency of the note in Hz; the wave table holds no harmonic that would alias there.
        """
        key = round(frequency * 100)
        if key not in self.banks:
            count = int(np.clip(0.9 * NYQUIST / frequency, 1, TABLE_SIZE // 8))
            harmonics = frequency * np.arange(1, count + 1, dtype=np.float64)
            self.banks[key] = tables(np.atleast_2d(self.spectra(harmonics)), self.phases[:count])
        return look_up(self.banks[key], phase, row)


def glide(values: ArrayLike, count: int) -> Sound:
    """Interpolate linearly between equally spaced values of a control curve: [count]."""
    values = np.asarray(values, dtype=float)
    length = -(-count // (len(values) - 1))
    lines = values[:-1, None] + np.diff(values)[:, None] * (np.arange(length) / length)
    return lines.ravel()[:count]


def fall(count: int, seconds: float) -> Sound:
    """Return an exponential decay [count] from 1, to 1/e after `seconds`."""
    return np.exp(np.arange(count) * (-1 / (seconds * RATE)))


def envelope(held: float, attack: float, decay: float, sustain: float, release: float) -> Sound:
    """Return an ADSR envelope that lasts held + release seconds.

    Args:
        held: seconds from the start of the note to its release.
        attack: seconds of the rise from 0 to 1.
        decay: time constant in seconds of the fall from 1 to `sustain`.
        sustain: level while the note is held, 0..1.
        release: seconds of the fall to 0.
    """
    count, end = samples(held + release), samples(release)
    curve = sustain + (1 - sustain) * fall(count, decay)
    rise = min(samples(attack), count)
    ramp = np.arange(rise) / rise
    curve[:rise] *= ramp * ramp * (3 - 2 * ramp)
    curve[-end:] *= np.linspace(1, 0, end) ** 3
    return curve


def noise(rng: np.random.Generator, count: int) -> Sound:
    """Return white noise [count] of RMS 1."""
    return rng.standard_normal(count)


def wander(rng: np.random.Generator, count: int, seconds: float) -> Sound:
    """Draw a slow random curve [count] of RMS about 1, like the drift of a voice; it turns every `seconds`."""
    return glide(rng.standard_normal(max(2, int(count / (seconds * RATE)) + 2)), count)


def add_at(track: Sound, sound: Sound, start: float, gain: ArrayLike = 1.0) -> None:
    """Add `sound` to `track`, in place, and cut off the part of it that lies before the track's beginning or past its end.

    Args:
        track: [n] or [2, n].
        sound: [m], or [2, m] for a stereo track.
        start: seconds from the track's beginning; may be negative.
        gain: one factor, or one per channel [2] (default 1).
    """
    begin = round(start * RATE)
    sound = sound[..., max(0, -begin) :]
    begin = max(0, begin)
    length = min(sound.shape[-1], track.shape[-1] - begin)
    if length > 0:
        gain = np.asarray(gain, dtype=float)
        track[..., begin : begin + length] += (gain[:, None] if gain.ndim else gain) * sound[..., :length]


def pan(position: float) -> NDArray[np.float64]:
    """Return the gains [2] of left and right for a position from -1 (left) to 1 (right), at constant power."""
    angle = (position + 1) * np.pi / 4
    return np.array([np.cos(angle), np.sin(angle)])
