"""A waveform and a spectrogram of a song of any length, drawn block by block in constant memory.

    pictures = Pictures(sample_rate=44100, seconds=240.0)
    for block in stream.blocks():              # [C, n]
        pictures.add(block)
    pictures.finish()
    pictures.waveform(peak=pictures.peak, colour=(69, 133, 199))     # PNG, as bytes
    pictures.spectrogram(top=pictures.top)

Lanes to be compared share one `peak` and one `top`: the largest of theirs.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

COLUMNS = 1000  # of a picture; a very short song has fewer
WAVEFORM_ROWS = 72
BANDS = 96  # rows of a spectrogram, the lowest band at the bottom
LOWEST, HIGHEST = 32.0, 16000.0  # Hz; on a linear axis, bass would be a line at the bottom
RANGE = 70.0  # dB from the brightest colour to the darkest
SHADES = 64  # about as many as the eye distinguishes; more only make the files larger
WINDOW_SECONDS = 0.09  # long enough to separate neighbouring notes of a bass, short enough for sharp drums
QUIETEST_PEAK = 0.01  # a quieter song is drawn small instead of being magnified
QUIETEST_TOP = -50.0  # dB; the same for the colours, so that silence gets the darkest one


class Pictures:
    """The two pictures of a lane, which show `seconds` of its audio."""

    def __init__(self, sample_rate: int, seconds: float) -> None:
        self.samples = max(1, round(seconds * sample_rate))
        self.columns = min(COLUMNS, self.samples // 256 + 1)
        self.position = 0  # samples added
        self.low = np.zeros(self.columns, np.float32)
        self.high = np.zeros(self.columns, np.float32)
        self.squares = np.zeros(self.columns)
        self.channels = 1

        size = 1 << max(4, round(np.log2(WINDOW_SECONDS * sample_rate)))
        self.window = np.hanning(size + 1)[:-1].astype(np.float32)
        self.window *= 2 / self.window.sum()  # a full-scale sine is at 0 dB
        self.hop = max(1, min(size // 2, self.samples // self.columns))  # every sample is in a window, and every column has one
        self.bands = _band_weights(size, sample_rate)
        self.power = np.zeros((BANDS, self.columns), np.float32)
        self.windows = np.zeros(self.columns, np.int64)  # number of windows in each column
        self.waiting = np.zeros((1, size // 2), np.float32)  # the last samples, which the next windows need
        self.centre = 0  # of the next window, in samples

    def add(self, block: NDArray[np.float32]) -> None:
        """Add the next block [C, n]."""
        self.channels = len(block)
        self._add_to_spectrogram(block)
        block = block[:, : max(0, self.samples - self.position)]
        if block.shape[1] == 0:
            return
        first, last = self._columns_of(self.position + np.array([0, block.shape[1] - 1]))
        columns = np.arange(first, last + 1)
        starts = np.maximum(0, -(-columns * self.samples // self.columns) - self.position)
        self.low[columns] = np.minimum(self.low[columns], np.minimum.reduceat(block.min(axis=0), starts))
        self.high[columns] = np.maximum(self.high[columns], np.maximum.reduceat(block.max(axis=0), starts))
        self.squares[columns] += np.add.reduceat(np.square(block).mean(axis=0), starts)
        self.position += block.shape[1]

    def finish(self) -> None:
        """Complete the pictures after the last block."""
        self._add_to_spectrogram(np.zeros((self.channels, len(self.window) // 2), np.float32))

    @property
    def peak(self) -> float:
        """The largest absolute sample."""
        return float(max(self.high.max(), -self.low.min()))

    @property
    def top(self) -> float:
        """The strongest band, dB; a full-scale sine is at 0."""
        return float(self._decibels().max())

    def waveform(self, peak: float, colour: tuple[int, int, int]) -> bytes:
        """Return a PNG: pale from the smallest to the largest sample of each column, opaque for their RMS.

        `peak` is the sample value at the edges, `colour` is (red, green, blue), 0 to 255.
        """
        peak = max(peak, QUIETEST_PEAK)
        middle = WAVEFORM_ROWS / 2
        rms = np.sqrt(self.squares * self.columns / self.samples)
        shade = 0.4 * _bars(middle - middle * self.high / peak, middle - middle * self.low / peak)
        shade += 0.6 * _bars(middle - middle * rms / peak, middle + middle * rms / peak)
        opacity = np.arange(SHADES) * 255 // (SHADES - 1)
        return png(np.round(shade * (SHADES - 1)), np.tile(colour, (SHADES, 1)), opacity)

    def spectrogram(self, top: float) -> bytes:
        """Return a PNG: the power of the bands over time; `top`, in dB, gets the brightest colour."""
        level = (self._decibels() - max(top, QUIETEST_TOP)) / RANGE + 1
        return png(np.round(level[::-1].clip(0, 1) * (SHADES - 1)), colour_map(SHADES))

    def _add_to_spectrogram(self, block: NDArray[np.float32]) -> None:
        # At the beginning `waiting` has one channel.
        waiting = np.broadcast_to(self.waiting, (len(block), self.waiting.shape[1]))
        audio = np.concatenate([waiting, block], axis=1)
        frames = (audio.shape[1] - len(self.window)) // self.hop + 1
        if frames > 0:
            views = np.lib.stride_tricks.sliding_window_view(audio, len(self.window), axis=1)[:, :: self.hop]
            spec = np.fft.rfft(views * self.window)  # [C, L, F]
            power = (spec.real**2 + spec.imag**2).mean(axis=0) @ self.bands  # [L, bands]
            columns = self._columns_of(self.centre + self.hop * np.arange(frames))
            shown = columns < self.columns
            np.add.at(self.power.T, columns[shown], power[shown])
            np.add.at(self.windows, columns[shown], 1)
            self.centre += self.hop * frames
            audio = audio[:, self.hop * frames :]
        self.waiting = audio.copy()

    def _columns_of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        return samples * self.columns // self.samples

    def _decibels(self) -> NDArray[np.float32]:
        """Return the level of each band in each column, dB: [bands, columns]."""
        return 10 * np.log10(self.power / np.maximum(1, self.windows) + 1e-12)


def _band_weights(size: int, sample_rate: int) -> NDArray[np.float32]:
    """Return [F, bands]: triangles around the bands' centres, wide enough that each contains a bin.

    A band sums the powers of its bins; it does not average them. High bands contain many bins, which makes up for the power
    that music lacks at high frequencies.
    """
    bins = np.arange(size // 2 + 1) * sample_rate / size
    middles = np.geomspace(LOWEST, HIGHEST, BANDS)
    widths = np.maximum(middles * (middles[1] / middles[0] - 1), sample_rate / size)
    return np.maximum(0, 1 - np.abs(bins[:, None] - middles) / widths).astype(np.float32)


def height_of(frequency: float) -> float:
    """Return the position of a frequency (Hz) in a spectrogram, as a fraction of the height from the bottom."""
    return float(np.log(frequency / LOWEST) / np.log(HIGHEST / LOWEST))


def _bars(above: NDArray[np.floating], below: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the coverage [rows, columns] of each pixel by bars between two heights, which are rows from the top.

    Every bar is at least one row high.
    """
    middle, half = (above + below) / 2, np.maximum(0.5, (below - above) / 2)
    rows = np.arange(WAVEFORM_ROWS)[:, None]
    return (np.minimum(rows + 1, middle + half) - np.maximum(rows, middle - half)).clip(0, 1)


def colour_map(shades: int) -> NDArray[np.uint8]:
    """Return sRGB colours [shades, 3], 0 to 255: from almost black through violet and orange to a pale yellow.

    OKLab's lightness (B. Ottosson, 2020) grows linearly, so equal steps of level look equal. The hue turns, and the colours
    are strongest in the middle.
    """
    step = np.linspace(0, 1, shades)
    lightness, chroma, hue = 0.14 + 0.82 * step, 0.04 + 0.13 * np.sin(np.pi * step), np.radians(280 + 175 * step)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=1,
    ).clip(0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * encoded).astype(np.uint8)


def png(pixels: NDArray, palette: NDArray, opacity: NDArray | None = None) -> bytes:
    """Return a PNG of an image [rows, columns] of indices into `palette` [n, 3]; opacity [n] is 0 to 255 (default: opaque)."""
    rows, columns = pixels.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # each begins with its filter type: 0 for none
    lines[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)  # 8 bits, palette, not interlaced
    chunks = [_chunk(b"IHDR", header), _chunk(b"PLTE", palette.astype(np.uint8).tobytes())]
    if opacity is not None:
        chunks.append(_chunk(b"tRNS", opacity.astype(np.uint8).tobytes()))
    chunks += [_chunk(b"IDAT", zlib.compress(lines.tobytes())), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
