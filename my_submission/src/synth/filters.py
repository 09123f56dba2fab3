"""Filters and rooms, in the frequency domain: numpy has no recursive filters, and these run faster than a loop would.

A response is a function of frequency, or its values; real ones change no phase.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from my_submission.src.synth.waves import NYQUIST, RATE, Sound, fall, log_uniform, noise, samples

BATCH = 256  # frames of a moving filter at a time

Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # frequencies [F] in Hz -> gains [F]


def fast_length(count: int) -> int:
    """The next length that an FFT does quickly: 2^a with one factor of 1, 3, 5 or 9."""
    return min(factor << max(0, (-(-count // factor) - 1).bit_length()) for factor in (1, 3, 5, 9))


def low_pass(frequencies: NDArray[np.float64], cutoff: ArrayLike, order: float = 2, peak: float = 0.7) -> NDArray[np.float64]:
    """Gains of a resonant low-pass: 6 dB per octave and order; `peak` is its gain at the cutoff, for order 2."""
    ratio = (frequencies / cutoff) ** 2
    return ((1 - ratio) ** 2 + ratio / peak**2) ** (-order / 4)


def high_pass(frequencies: NDArray[np.float64], cutoff: ArrayLike, order: float = 2) -> NDArray[np.float64]:
    """Gains of a high-pass: 6 dB per octave and order."""
    ratio = (frequencies / cutoff) ** 2
    return (ratio / (1 + ratio)) ** (order / 2)


def bell(frequencies: NDArray[np.float64], centre: float, octaves: float, gain: float) -> NDArray[np.float64]:
    """Gains of an equaliser's bell: `gain` dB at the centre, half of it `octaves` away."""
    distance = np.log2(np.maximum(frequencies, 1.0) / centre) / octaves
    return 10 ** (gain / 20 / (1 + distance**2))


def filtered(sound: Sound, response: Response, tail: float = 0.05) -> Sound:
    """A sound [..., n] through a response; what rings on within `tail` seconds does not come round to the beginning."""
    count = sound.shape[-1]
    size = fast_length(count + samples(tail))
    spectrum = np.fft.rfft(sound, size)
    spectrum *= response(np.fft.rfftfreq(size, 1 / RATE))
    return np.fft.irfft(spectrum, size)[..., :count]


def coloured_noise(rng: np.random.Generator, count: int, response: Response) -> Sound:
    """Noise through a response, RMS 1."""
    sound = filtered(noise(rng, count), response)
    return sound / np.sqrt(np.mean(sound**2) + 1e-12)


def band(low: float, high: float, order: float = 2) -> Response:
    """A band-pass between two cutoffs, Hz."""
    return lambda frequencies: high_pass(frequencies, low, order) * low_pass(frequencies, high, order)


def draw_equaliser(rng: np.random.Generator, depth: float = 5.0) -> Response:
    """The colour of a microphone, a body or a taste: a tilt and three bells, up to `depth` dB each."""
    tilt = rng.uniform(-1, 1)  # dB per octave around 1 kHz
    bells = [(log_uniform(rng, 80, 12000), rng.uniform(0.3, 1.2), rng.uniform(-depth, depth)) for _ in range(3)]

    def response(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        gain = 10 ** (tilt / 20 * np.log2(np.clip(frequencies, 40, 16000) / 1000))
        for centre, octaves, peak in bells:
            gain = gain * bell(frequencies, centre, octaves, peak)
        return gain

    return response


def moving_filter(
    sound: Sound, shapes: NDArray[np.float64], respond: Callable[[NDArray[np.float64]], NDArray[np.complex128]], hop: int
) -> Sound:
    """A sound [n] through a filter that moves: shapes [L, ...], one per `hop` samples.

    `respond` makes of shapes [l, ...] the filter's responses [l, F], complex, the lowest F bins of an FFT of 4 hops; what is
    above is cut off. Frame by frame, each under a Hann window of 2 hops; the rest of the FFT's length lets the filter ring.
    """
    frames, size = len(shapes), 4 * hop
    padded = np.zeros((frames + 1) * hop)
    count = min(len(sound), frames * hop)
    padded[hop : hop + count] = sound[:count]
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)  # two of them, a hop apart, sum to 1
    cut = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]  # [L, window]: frame l is centred on l * hop
    out = np.zeros((frames + 3, hop))
    for first in range(0, frames, BATCH):
        responses = respond(shapes[first : first + BATCH])
        batch, bins = responses.shape
        spectra = np.fft.rfft(cut[first : first + batch] * window, size)
        spectra[:, :bins] *= responses
        spectra[:, bins:] = 0
        pieces = np.fft.irfft(spectra, size).reshape(batch, 4, hop)
        for quarter in range(4):
            out[first + quarter : first + quarter + batch] += pieces[:, quarter]
    return out.ravel()[hop : hop + len(sound)]


class Room:
    """A room's echo: a few early reflections, then noise that dies away, high frequencies first.

    Drawn per stem; `size` 0 (a booth) .. 1 (a church).
    """

    def __init__(self, rng: np.random.Generator, size: float) -> None:
        self.seconds = 0.12 * 20 ** (size * rng.uniform(0.8, 1.0))  # for 60 dB
        damping, dark = log_uniform(rng, 1500, 9000), rng.uniform(0.2, 0.6)
        count = samples(1.1 * self.seconds)
        delay = samples(rng.uniform(0.002, 0.01 + 0.04 * size))
        self.echo = np.zeros((2, count + delay))
        for channel in self.echo:
            tail = noise(rng, count)
            low = filtered(tail, lambda frequencies: low_pass(frequencies, damping))
            channel[delay:] = low * fall(count, self.seconds / 6.9) + (tail - low) * fall(count, dark * self.seconds / 6.9)
            for arrival in rng.integers(0, min(count, samples(0.02 + 0.06 * size)), 6):
                channel[arrival] += rng.normal(0, 4)
        self.echo *= np.linspace(1, 0, count + delay) ** 0.5 / np.sqrt(np.sum(self.echo**2) / 2)

    def play(self, sound: Sound, wet: float, colour: Response) -> Sound:
        """Stereo [2, n] through the equaliser `colour`, with `wet` times the echo of both channels' sum."""
        count = sound.shape[-1]
        size = fast_length(count + self.echo.shape[-1])
        spectrum = np.fft.rfft(sound, size)
        spectrum *= colour(np.fft.rfftfreq(size, 1 / RATE))
        spectrum += 0.7 * wet * spectrum.sum(axis=0) * np.fft.rfft(self.echo, size)
        return np.fft.irfft(spectrum, size)[:, :count]


def audible(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """What every stem goes through at last: nothing below hearing, nothing at the very top."""
    return high_pass(frequencies, 22, 4) * low_pass(frequencies, 0.9 * NYQUIST, 6)
