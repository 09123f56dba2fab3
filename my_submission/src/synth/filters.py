"""Filters and rooms, in the frequency domain: numpy has no recursive filters, and a Python loop would be slower.

A response is a function from frequencies to gains. Real gains leave the phase as it is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from my_submission.src.synth.waves import NYQUIST, RATE, Sound, fall, log_uniform, noise, samples

BATCH = 256  # frames that a moving filter processes at a time

Response = Callable[[NDArray[np.float64]], NDArray[np.float64]]  # frequencies [F] in Hz -> gains [F]
Cutoff = float | NDArray[np.float64]  # Hz; an array gives one response per row


def fast_length(count: int) -> int:
    """Return the next length, `count` or more, whose FFT is fast: a power of 2, times 1, 3, 5 or 9."""
    return min(factor << max(0, (-(-count // factor) - 1).bit_length()) for factor in (1, 3, 5, 9))


def bin_frequencies(size: int) -> NDArray[np.float64]:
    """Return the frequencies in Hz of the bins of a real FFT of `size` samples."""
    return np.fft.rfftfreq(size, 1 / RATE).astype(np.float64, copy=False)


def low_pass(frequencies: NDArray[np.float64], cutoff: Cutoff, order: float = 2, peak: float = 0.7) -> NDArray[np.float64]:
    """Return the gains of a resonant low-pass.

    Args:
        frequencies: Hz, [F].
        cutoff: Hz, one number, or [M, 1] for gains [M, F].
        order: slope in steps of 6 dB per octave (default 2).
        peak: gain at the cutoff for order 2; above 0.7 it resonates (default 0.7).
    """
    ratio: NDArray[np.float64] = (frequencies / cutoff) ** 2
    gains: NDArray[np.float64] = ((1 - ratio) ** 2 + ratio / peak**2) ** (-order / 4)
    return gains


def high_pass(frequencies: NDArray[np.float64], cutoff: Cutoff, order: float = 2) -> NDArray[np.float64]:
    """Return the gains of a high-pass with a slope of `order` times 6 dB per octave."""
    ratio: NDArray[np.float64] = (frequencies / cutoff) ** 2
    gains: NDArray[np.float64] = (ratio / (1 + ratio)) ** (order / 2)
    return gains


def peaking(frequencies: NDArray[np.float64], centre: float, octaves: float, gain: float) -> NDArray[np.float64]:
    """Return the gains of one band of an equaliser: `gain` dB at `centre` Hz, half as many dB `octaves` away from it."""
    distance = np.log2(np.maximum(frequencies, 1.0) / centre) / octaves
    gains: NDArray[np.float64] = 10 ** (gain / 20 / (1 + distance**2))
    return gains


def filtered(sound: Sound, response: Response, tail: float = 0.05) -> Sound:
    """Filter a sound [..., n].

    The FFT is circular: `tail` seconds of padding keep the filter's ringing from wrapping round to the beginning.
    """
    count = sound.shape[-1]
    size = fast_length(count + samples(tail))
    spectrum = np.fft.rfft(sound, size)
    spectrum *= response(bin_frequencies(size))
    return np.fft.irfft(spectrum, size)[..., :count]


def coloured_noise(rng: np.random.Generator, count: int, response: Response) -> Sound:
    """Return filtered noise [count] of RMS 1."""
    sound = filtered(noise(rng, count), response)
    return sound / np.sqrt(np.mean(sound**2) + 1e-12)


def band(low: float, high: float, order: float = 2) -> Response:
    """Return the response of a band-pass between two cutoffs in Hz."""
    return lambda frequencies: high_pass(frequencies, low, order) * low_pass(frequencies, high, order)


def draw_equaliser(rng: np.random.Generator, depth: float = 5.0) -> Response:
    """Draw the colour of a microphone or an instrument's body: a tilt and three peaking bands of up to `depth` dB each."""
    tilt = rng.uniform(-1, 1)  # dB per octave around 1 kHz
    bands = [(log_uniform(rng, 80, 12000), rng.uniform(0.3, 1.2), rng.uniform(-depth, depth)) for _ in range(3)]

    def response(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
        gains: NDArray[np.float64] = 10 ** (tilt / 20 * np.log2(np.clip(frequencies, 40, 16000) / 1000))
        for centre, octaves, gain in bands:
            gains = gains * peaking(frequencies, centre, octaves, gain)
        return gains

    return response


def moving_filter(
    sound: Sound, shapes: NDArray[np.float64], respond: Callable[[NDArray[np.float64]], NDArray[np.complex128]], hop: int
) -> Sound:
    """Filter a sound [n] with a filter that changes over time.

    Each frame has a Hann window of 2 hops and an FFT of 4 hops: the second half leaves room for the filter's ringing.

    Args:
        sound: [n].
        shapes: [L, ...], the filter's parameters, one row per `hop` samples.
        respond: turns rows [l, ...] of `shapes` into complex responses [l, F], for the lowest F bins of the FFT. Higher
            bins are set to 0.
        hop: samples from frame to frame.
    """
    frames, size = len(shapes), 4 * hop
    padded = np.zeros((frames + 1) * hop)
    count = min(len(sound), frames * hop)
    padded[hop : hop + count] = sound[:count]
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop) / hop)  # windows a hop apart sum to 1
    cut = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]  # [L, 2 * hop]: frame l is centred on l * hop
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
    """A random room: a few early reflections, then noise that decays, high frequencies first.

    `size` goes from 0 (a booth) to 1 (a church).
    """

    def __init__(self, rng: np.random.Generator, size: float) -> None:
        self.seconds = 0.12 * 20 ** (size * rng.uniform(0.8, 1.0))  # reverberation time: the decay by 60 dB
        damping, dark = log_uniform(rng, 1500, 9000), rng.uniform(0.2, 0.6)
        count = samples(1.1 * self.seconds)
        delay = samples(rng.uniform(0.002, 0.01 + 0.04 * size))
        self.impulse_response = np.zeros((2, count + delay))
        for channel in self.impulse_response:
            tail = noise(rng, count)
            low = filtered(tail, lambda frequencies: low_pass(frequencies, damping))
            channel[delay:] = low * fall(count, self.seconds / 6.9) + (tail - low) * fall(count, dark * self.seconds / 6.9)
            for arrival in rng.integers(0, min(count, samples(0.02 + 0.06 * size)), 6):
                channel[arrival] += rng.normal(0, 4)
        energy = np.sum(self.impulse_response**2)
        self.impulse_response *= np.linspace(1, 0, count + delay) ** 0.5 / np.sqrt(energy / 2)

    def play(self, sound: Sound, wet: float, colour: Response) -> Sound:
        """Equalise a stereo sound [2, n] with `colour` and add the room's response to the sum of its channels, times `wet`."""
        count = sound.shape[-1]
        size = fast_length(count + self.impulse_response.shape[-1])
        spectrum = np.fft.rfft(sound, size)
        spectrum *= colour(bin_frequencies(size))
        spectrum += 0.7 * wet * spectrum.sum(axis=0) * np.fft.rfft(self.impulse_response, size)
        return np.fft.irfft(spectrum, size)[:, :count]


def audible(frequencies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the gains of the band-pass at the end of every stem: no inaudible lows, nothing close to the Nyquist frequency."""
    return high_pass(frequencies, 22, 4) * low_pass(frequencies, 0.9 * NYQUIST, 6)
