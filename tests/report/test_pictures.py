"""Waveform and spectrogram pictures."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from my_submission.src.report.pictures import BANDS, COLUMNS, RANGE, SHADES, WAVEFORM_ROWS, Pictures, colour_map, height_of
from tests.helpers.page import decode

RATE = 44100


def drawn(audio: np.ndarray, rate: int = RATE, block: int = 65536, seconds: float | None = None) -> Pictures:
    """Return the pictures of audio [C, n]."""
    pictures = Pictures(rate, audio.shape[1] / rate if seconds is None else seconds)
    for start in range(0, audio.shape[1], block):
        pictures.add(audio[:, start : start + block].astype(np.float32))
    pictures.finish()
    return pictures


@pytest.mark.parametrize("hertz", [55, 440, 5000])
def test_a_tone_appears_at_its_frequency_and_time(hertz: float) -> None:
    seconds = np.arange(10 * RATE) / RATE
    tone = np.sin(2 * np.pi * hertz * seconds) * ((seconds >= 4) & (seconds < 6))
    pictures = drawn(np.stack([tone, tone]))
    assert pictures.peak == pytest.approx(1, abs=1e-3)
    assert pictures.top == pytest.approx(0, abs=1)  # dB: a full-scale sine
    image = decode(pictures.spectrogram(pictures.top))
    assert image.shape == (BANDS, COLUMNS)
    rows, columns = np.nonzero(image > 0.95 * (SHADES - 1))
    assert abs(rows.mean() - (1 - height_of(hertz)) * (BANDS - 1)) < 1.5
    assert (columns.min(), columns.max()) == (pytest.approx(400, abs=6), pytest.approx(599, abs=6))
    assert image[:, 410:590].max(axis=0).min() == SHADES - 1
    assert image[:, :390].max() == 0
    wave = decode(pictures.waveform(pictures.peak, (1, 2, 3)))
    assert wave.shape == (WAVEFORM_ROWS, COLUMNS)
    assert (wave[1:-1, 401:599] > 0).any(axis=1).all()
    assert (wave[: WAVEFORM_ROWS // 2 - 1, :399] == 0).all()


def test_a_quieter_lane_is_smaller_and_darker_on_a_shared_scale() -> None:
    noise = 0.2 * np.random.default_rng(0).standard_normal((2, 5 * RATE))
    loud, quiet = drawn(noise), drawn(noise / 10)
    assert loud.top - quiet.top == pytest.approx(20, abs=0.01)
    heights = [(decode(pictures.waveform(loud.peak, (1, 2, 3))) > 0).sum(axis=0).mean() for pictures in (loud, quiet)]
    assert heights[0] / heights[1] == pytest.approx(10, rel=0.2)
    bright, dark = (decode(pictures.spectrogram(loud.top)).astype(float) for pictures in (loud, quiet))
    np.testing.assert_allclose((bright - dark)[bright > 40], 20 / RANGE * (SHADES - 1), atol=1)
    silence = drawn(np.zeros((2, RATE)))
    assert decode(silence.spectrogram(silence.top)).max() == 0
    assert (decode(silence.waveform(silence.peak, (1, 2, 3))) > 0).any(axis=1).sum() <= 2  # a line


@pytest.mark.parametrize("samples", [1, 2, 255, 256, 5000, 200_001])
@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_pictures_do_not_depend_on_blocks(samples: int, rate: int) -> None:
    noise = 0.1 * np.random.default_rng(samples).standard_normal((2, samples))
    whole = drawn(noise, rate, samples)
    assert (whole.windows > 0).all()
    assert whole.position == samples
    columns = np.arange(samples) * whole.columns // samples
    np.testing.assert_array_equal(
        whole.high, [max(0, noise.astype(np.float32)[:, columns == c].max()) for c in range(whole.columns)]
    )
    for block in (997, 65536):
        other = drawn(noise, rate, block)
        np.testing.assert_array_equal(decode(other.waveform(0.5, (1, 2, 3))), decode(whole.waveform(0.5, (1, 2, 3))))
        difference = decode(other.spectrogram(0)).astype(int) - decode(whole.spectrogram(0))
        assert abs(difference).max() <= 1  # float32 sums


def test_a_lane_of_another_length_uses_the_time_axis_of_the_song() -> None:
    noise = 0.5 * np.random.default_rng(0).standard_normal((1, 4 * RATE))
    short, long = drawn(noise, seconds=8), drawn(noise, seconds=2)
    image = decode(short.waveform(short.peak, (1, 2, 3)))
    assert (image[10, : COLUMNS // 4].any(), image[10, COLUMNS // 2 + 1 :].any()) == (True, False)
    assert decode(short.spectrogram(short.top))[:, COLUMNS // 2 + 10 :].max() == 0
    assert (long.squares > 0).all()


def test_memory_does_not_grow_with_the_song() -> None:
    block = (0.1 * np.random.default_rng(0).standard_normal((2, 65536))).astype(np.float32)

    def peak(blocks: int) -> int:
        pictures = Pictures(RATE, blocks * block.shape[1] / RATE)
        tracemalloc.start()
        for _ in range(blocks):
            pictures.add(block)
        pictures.finish()
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60) < 1.2 * peak(12)
    assert peak(60) < 60e6  # bytes; the song alone is 31 MB, and without streaming its pictures need ten times as much


def test_colours_get_lighter_in_even_steps() -> None:
    red, green, blue = ((colour_map(SHADES) / 255) ** 2.2).T
    lightness = np.cbrt(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    steps = np.diff(lightness)
    assert steps.min() > 0
    assert lightness[-1] - lightness[0] > 0.7
    assert steps[8:].max() < 3 * steps[8:].min()
