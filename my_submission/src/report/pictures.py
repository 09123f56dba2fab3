"""A waveform and a spectrogram of a song of any length, from blocks in passing: memory depends on neither.

    pictures = Pictures(sample_rate=44100, seconds=240.0)
    for block in source.blocks():              # [C, n]
        pictures.add(block)
    pictures.finish()
    pictures.waveform(peak=pictures.peak, colour=(69, 133, 199))     # PNG, as bytes
    pictures.spectrogram(top=pictures.top)

Lanes that are to be compared get one `peak` and one `top`: the larger of theirs.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

COLUMNS = 1000  # of a picture, fewer where there is little to show
WAVEFORM_ROWS = 72
BANDS = 96  # rows of a spectrogram, the lowest band at the bottom
LOWEST, HIGHEST = 32.0, 16000.0  # Hz; a logarithmic axis, or bass would be a line at the bottom
RANGE = 70.0  # dB from the brightest colour to the darkest
SHADES = 64  # as many as an eye tells apart; more would only make the files larger
WINDOW_SECONDS = 0.09  # tells neighbouring notes of a bass apart, and drums still have edges
QUIETEST_PEAK = 0.01  # what is below is drawn small, not blown up
QUIETEST_TOP = -50.0  # dB; the same for the colours, so that silence is as dark as they get


class Pictures:
    """What the two pictures of a lane need of its audio, of which `seconds` are shown."""

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
        self.hop = max(1, min(size // 2, self.samples // self.columns))  # misses nothing, and no column is left empty
        self.bands = _band_weights(size, sample_rate)
        self.power = np.zeros((BANDS, self.columns), np.float32)
        self.windows = np.zeros(self.columns, np.int64)  # in each column
        self.waiting = np.zeros((1, size // 2), np.float32)  # samples that windows to come reach back to
        self.centre = 0  # of the next window, samples

    def add(self, block: NDArray[np.float32]) -> None:
        """Go on with [C, n]."""
        self.channels = len(block)
        self._add_to_spectrogram(block)
        block = block[:, : max(0, self.samples - self.position)]
        if block.shape[1] == 0:
            return
        first, last = (self._column(self.position + offset) for offset in (0, block.shape[1] - 1))
        columns = np.arange(first, last + 1)
        starts = np.maximum(0, -(-columns * self.samples // self.columns) - self.position)
        self.low[columns] = np.minimum(self.low[columns], np.minimum.reduceat(block.min(axis=0), starts))
        self.high[columns] = np.maximum(self.high[columns], np.maximum.reduceat(block.max(axis=0), starts))
        self.squares[columns] += np.add.reduceat(np.square(block).mean(axis=0), starts)
        self.position += block.shape[1]

    def finish(self) -> None:
        """Say that nothing follows."""
        self._add_to_spectrogram(np.zeros((self.channels, len(self.window) // 2), np.float32))

    @property
    def peak(self) -> float:
        """The largest sample."""
        return float(max(self.high.max(), -self.low.min()))

    @property
    def top(self) -> float:
        """The strongest band, dB; a full-scale sine is at 0."""
        return float(self._decibels().max())

    def waveform(self, peak: float, colour: tuple[int, int, int]) -> bytes:
        """PNG: what the samples span in each column, pale, and their RMS, full; `peak` touches the edges."""
        peak = max(peak, QUIETEST_PEAK)
        middle = WAVEFORM_ROWS / 2
        rms = np.sqrt(self.squares * self.columns / self.samples)
        shade = 0.4 * _bars(middle - middle * self.high / peak, middle - middle * self.low / peak)
        shade += 0.6 * _bars(middle - middle * rms / peak, middle + middle * rms / peak)
        opacity = np.arange(SHADES) * 255 // (SHADES - 1)
        return png(np.round(shade * (SHADES - 1)), np.tile(colour, (SHADES, 1)), opacity)

    def spectrogram(self, top: float) -> bytes:
        """PNG: power of bands over time, `top` dB being the brightest."""
        level = (self._decibels() - max(top, QUIETEST_TOP)) / RANGE + 1
        return png(np.round(level[::-1].clip(0, 1) * (SHADES - 1)), colour_map(SHADES))

    def _add_to_spectrogram(self, block: NDArray[np.float32]) -> None:
        waiting = np.broadcast_to(self.waiting, (len(block), self.waiting.shape[1]))  # of one channel at the beginning
        audio = np.concatenate([waiting, block], axis=1)
        frames = (audio.shape[1] - len(self.window)) // self.hop + 1
        if frames > 0:
            views = np.lib.stride_tricks.sliding_window_view(audio, len(self.window), axis=1)[:, :: self.hop]
            spec = np.fft.rfft(views * self.window)  # [C, L, F]
            power = (spec.real**2 + spec.imag**2).mean(axis=0) @ self.bands  # [L, bands]
            columns = self._column(self.centre + self.hop * np.arange(frames))
            shown = columns < self.columns
            np.add.at(self.power.T, columns[shown], power[shown])
            np.add.at(self.windows, columns[shown], 1)
            self.centre += self.hop * frames
            audio = audio[:, self.hop * frames :]
        self.waiting = audio.copy()

    def _column(self, sample: int) -> int:
        return sample * self.columns // self.samples

    def _decibels(self) -> NDArray[np.float32]:
        """[bands, columns]"""
        return 10 * np.log10(self.power / np.maximum(1, self.windows) + 1e-12)


def _band_weights(size: int, sample_rate: int) -> NDArray[np.float32]:
    """[F, bands]: triangles in Hz around each band's middle, so wide that none falls between two bins.

    They add powers up, not average them: music falls off towards high frequencies, where bands are wide.
    """
    bins = np.arange(size // 2 + 1) * sample_rate / size
    middles = np.geomspace(LOWEST, HIGHEST, BANDS)
    widths = np.maximum(middles * (middles[1] / middles[0] - 1), sample_rate / size)
    return np.maximum(0, 1 - np.abs(bins[:, None] - middles) / widths).astype(np.float32)


def height_of(frequency: float) -> float:
    """How far up a frequency is in a spectrogram, as a fraction of its height."""
    return float(np.log(frequency / LOWEST) / np.log(HIGHEST / LOWEST))


def _bars(above: NDArray[np.floating], below: NDArray[np.floating]) -> NDArray[np.floating]:
    """[rows, columns]: how much of each pixel lies between two heights, counted in rows from the top; a row at least."""
    middle, half = (above + below) / 2, np.maximum(0.5, (below - above) / 2)
    rows = np.arange(WAVEFORM_ROWS)[:, None]
    return (np.minimum(rows + 1, middle + half) - np.maximum(rows, middle - half)).clip(0, 1)


def colour_map(shades: int) -> NDArray[np.uint8]:
    """[shades, 3], sRGB: from almost black over violet and orange to a pale yellow.

    A straight line in OKLab's lightness (B. Ottosson, 2020), which is what makes equal steps of level look equal, while the
    hue turns and the colours are strongest in the middle.
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
    """An image [rows, columns] of indices into `palette` [n, 3], with an opacity (0 to 255) for each of its colours."""
    rows, columns = pixels.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # each begins with its filter: 0, none
    lines[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)  # 8 bits, palette, not interlaced
    chunks = [_chunk(b"IHDR", header), _chunk(b"PLTE", palette.astype(np.uint8).tobytes())]
    if opacity is not None:
        chunks.append(_chunk(b"tRNS", opacity.astype(np.uint8).tobytes()))
    chunks += [_chunk(b"IDAT", zlib.compress(lines.tobytes())), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
