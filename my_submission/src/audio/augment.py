"""Augmentation of training samples: changes to the sources, off by default, after which they still sum to the mixture.

    sources = augment(sources, config.training, 44100, rngs)      # [S, C, T]

What one source undergoes is drawn for it alone: equaliser, reverb, swapped channels, polarity. A change of speed and a lossy
codec concern all sources alike. `training.gain_db` and `training.same_song` are dataset.py's.

The codec follows MP3 and AAC: an MDCT, bands whose coefficients are rounded, and no treble. It codes the mixture. The ratio
of coded to original coefficient, 0 to 2, is then applied to every source. So the mixture is what a codec makes of it, the
sources sum to it exactly, and no source is asked for that the codec has removed from the mixture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from my_submission.src.common.plain_tree import require

Audio = NDArray[np.float32]  # [..., C, T]

HALF = 1024  # samples from one MDCT frame to the next, and coefficients of each
MARGIN = 1024  # samples at both ends of a chunk that are cut off after a change of speed, because the FFT is circular
BANDS = 4 * np.unique(np.exp2(np.linspace(0, 8, 33)[:-1]).astype(int) - 1)  # the first coefficient of each: 4 or more in a band


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The keys of the training section that say how samples are changed; all of them are off by default."""

    mixture_codec: float = 0.0  # probability that a sample goes through a lossy codec
    speed: tuple[float, float] | None = None  # range of the factor of a sample's tempo and pitch
    equaliser_db: float = 0.0  # the most that a random equaliser changes a source, dB per band
    reverb: float = 0.0  # probability that a source gets a random reverb
    channel_swap: float = 0.0  # probability that a source's channels are reversed
    polarity: float = 0.0  # probability that a source's sign is changed

    @property
    def augments(self) -> bool:
        """Whether `augment` changes anything."""
        return any((self.mixture_codec, self.equaliser_db, self.reverb, self.channel_swap, self.polarity))

    def check_augmentation(self) -> None:
        """Raise ConfigError for a value out of range."""
        for name in ("mixture_codec", "reverb", "channel_swap", "polarity"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"training.{name} is {value}, expected 0 up to 1")
        require(0 <= self.equaliser_db <= 24, f"training.equaliser_db is {self.equaliser_db}, expected 0 up to 24")
        require(
            self.speed is None or 0.5 <= self.speed[0] <= self.speed[1] <= 2,
            f"training.speed is {list(self.speed or ())}, expected null or two numbers from 0.5 to 2, the lower one first",
        )


def augment(sources: Audio, keys: Augmentation, sample_rate: int, rngs: Sequence[np.random.Generator]) -> Audio:
    """Return changed sources: [S, C, T] -> [S, C, T].

    Args:
        sources: [S, C, T].
        keys: a training section; `speed` is `draw_length`'s and `at_speed`'s.
        sample_rate: Hz.
        rngs: a generator for each source, and one for the sample.
    """
    changed = [_augment_source(source, keys, sample_rate, rng) for source, rng in zip(sources, rngs, strict=False)]
    stacked: Audio = np.stack(changed)
    return coded(stacked, sample_rate, rngs[-1]) if rngs[-1].random() < keys.mixture_codec else stacked


def _augment_source(source: Audio, keys: Augmentation, sample_rate: int, rng: np.random.Generator) -> Audio:
    """Return a changed source [C, T]."""
    chances = (float(keys.equaliser_db > 0), keys.reverb, keys.channel_swap, keys.polarity)
    equalises, reverberates, swaps, inverts = rng.random(4) < chances
    if equalises:
        source = equalised(source, keys.equaliser_db, sample_rate, rng)
    if reverberates:
        source = reverberated(source, sample_rate, rng)
    if swaps:
        source = source[::-1]
    return -source if inverts else source


def equalised(source: Audio, depth: float, sample_rate: int, rng: np.random.Generator) -> Audio:
    """Filter a source [..., T] with three random bands of up to `depth` dB each, without a change of phase."""
    frequencies = np.fft.rfftfreq(source.shape[-1], 1 / sample_rate)
    gains = np.zeros(len(frequencies))  # dB
    for _ in range(3):
        centre, octaves, gain = rng.uniform(6, 13.5), rng.uniform(0.4, 2), rng.uniform(-depth, depth)  # 64 to 11600 Hz
        gains += gain / (1 + ((np.log2(np.maximum(frequencies, 1)) - centre) / octaves) ** 2)
    spectrum = np.fft.rfft(source) * (10 ** (gains / 20)).astype(np.float32)
    return np.fft.irfft(spectrum, source.shape[-1]).astype(np.float32)


def reverberated(source: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
    """Add a random room to a source [C, T]: decaying noise of 0.15 to 1.5 s, other noise in each channel, -22 to -6 dB."""
    seconds, level = 0.15 * 10 ** rng.random(), 10 ** (rng.uniform(-22, -6) / 20)
    length = round(seconds * sample_rate)
    response = rng.standard_normal((len(source), length)) * np.exp(-6.9 * np.arange(length) / length)
    response[:, : round(rng.uniform(0, 0.03) * sample_rate)] = 0  # the pre-delay
    response *= level / np.sqrt(np.sum(response**2, axis=-1, keepdims=True) + 1e-12)
    size = -(-(source.shape[-1] + length) // 4096) * 4096
    answer = np.fft.irfft(np.fft.rfft(source.mean(axis=0), size) * np.fft.rfft(response, size), size)
    return source + answer[:, : source.shape[-1]].astype(np.float32)


def draw_length(num_samples: int, keys: Augmentation, rng: np.random.Generator) -> int:
    """Return how many samples of a file become a chunk of `num_samples` at the sample's speed."""
    if keys.speed is None:
        return num_samples
    return round((num_samples + 2 * MARGIN) * rng.uniform(*keys.speed) / 64) * 64  # a multiple, for a fast FFT


def at_speed(chunk: Audio, num_samples: int) -> Audio:
    """Resample a chunk [C, n] of `draw_length` samples to [C, num_samples], which changes its tempo and its pitch."""
    count, wanted = chunk.shape[-1], num_samples + 2 * MARGIN
    spectrum = np.fft.rfft(chunk)[:, : wanted // 2]  # without the bins from the Nyquist frequency on
    resampled = np.fft.irfft(spectrum, wanted) * (wanted / count)
    return resampled[:, MARGIN : MARGIN + num_samples].astype(np.float32)


def coded(sources: Audio, sample_rate: int, rng: np.random.Generator) -> Audio:
    """Let the sum of the sources pass through a lossy codec, and every source through the same gains: [S, C, T] -> same."""
    coefficients = mdct(sources)  # [S, C, L, HALF]
    mixture = coefficients.sum(axis=0)  # [C, L, HALF]
    snr = rng.uniform(12, 26) + np.linspace(3, rng.uniform(-12, -3), len(BANDS))  # of the rounding in each band, dB
    widths = np.diff([*BANDS, HALF])
    power = np.add.reduceat(mixture**2, BANDS, axis=-1) / widths
    step = np.repeat(np.sqrt(12 * power / 10 ** (snr / 10)), widths, axis=-1)
    rounded = step * np.rint(mixture / np.maximum(step, 1e-20))
    gains = np.where(np.abs(mixture) > 1e-12, rounded / np.where(mixture == 0, 1, mixture), 0).astype(np.float32)
    gains[..., round(rng.uniform(11000, 18000) / sample_rate * 2 * HALF) :] = 0
    return inverse_mdct(coefficients * gains, sources.shape[-1])


def _twiddles() -> tuple[NDArray[np.float32], NDArray[np.complex64], NDArray[np.complex64]]:
    """Return the sine window [2 * HALF], and the factors before and after the FFT of an MDCT."""
    time, number = np.arange(2 * HALF), np.arange(HALF)
    window = np.sin(np.pi * (time + 0.5) / (2 * HALF))
    before = np.exp(-0.5j * np.pi / HALF * time)
    after = np.exp(-1j * np.pi / HALF * (HALF + 1) / 2 * (number + 0.5))
    return window.astype(np.float32), before.astype(np.complex64), after.astype(np.complex64)


def mdct(audio: Audio) -> NDArray[np.float32]:
    """Return the modified discrete cosine transform of audio: [..., T] -> [..., L, HALF]."""
    window, before, after = _twiddles()
    padding = HALF + -audio.shape[-1] % HALF
    padded = np.pad(audio, [(0, 0)] * (audio.ndim - 1) + [(HALF, padding)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * HALF, axis=-1)[..., ::HALF, :]
    spectra = np.fft.fft(frames * (window * before))[..., :HALF]
    return (spectra * after).real.astype(np.float32)


def inverse_mdct(coefficients: NDArray[np.float32], num_samples: int) -> Audio:
    """Return the audio of MDCT coefficients: [..., L, HALF] -> [..., num_samples]."""
    window, before, after = _twiddles()
    frames = np.fft.ifft(coefficients * after.conj(), 2 * HALF) * before.conj()
    pieces = frames.real.astype(np.float32) * (4 * window)  # [..., L, 2 * HALF]; the factor undoes the means of two FFTs
    out = pieces[..., 1:, :HALF] + pieces[..., :-1, HALF:]
    return out.reshape(*out.shape[:-2], -1)[..., :num_samples]
