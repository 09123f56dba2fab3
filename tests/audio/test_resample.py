"""Resampling block by block, and bringing audio to a length."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.audio.resample import ResampleError, fix_length, resample


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5000), st.sampled_from([8000, 22050, 44100, 48000, 96000]), st.lists(st.integers(1, 900), min_size=1))
def test_resampling_there_and_back_keeps_the_length(num_samples: int, rate: int, sizes: list[int]) -> None:
    pytest.importorskip("soxr")
    signal = np.random.default_rng(num_samples).standard_normal((2, num_samples)).astype(np.float32)
    cuts = np.cumsum(np.resize(sizes, num_samples))
    blocks = np.split(signal, cuts[cuts < num_samples], axis=1)
    back = resample(resample(blocks, rate, 44100), 44100, rate)
    assert sum(block.shape[1] for block in fix_length(num_samples, back)) == num_samples


def test_resampling_keeps_the_phase_of_a_tone() -> None:
    pytest.importorskip("soxr")
    time = np.arange(48000) / 48000
    tone = np.sin(2 * np.pi * 440 * time, dtype=np.float32)[None]
    resampled = np.concatenate(list(resample(np.array_split(tone, 7, axis=1), 48000, 44100)), axis=1)
    assert resampled.shape == (1, 44100)
    expected = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    assert np.abs(resampled[0] - expected)[200:-200].max() < 1e-3


def test_without_soxr_another_rate_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    blocks = [np.zeros((1, 8), np.float32)]
    assert list(resample(blocks, 44100, 44100)) == blocks
    with pytest.raises(ResampleError, match=r"is at 48000 Hz, expected 44100 Hz; .*pip install soxr"):
        list(resample(blocks, 48000, 44100))


def test_fix_length_cuts_or_pads() -> None:
    blocks = [np.ones((2, 3), np.float32), np.ones((2, 4), np.float32)]
    for num_samples in range(10):
        result = np.concatenate([np.zeros((2, 0)), *fix_length(num_samples, blocks)], axis=1)
        assert result.shape == (2, num_samples)
        assert result.sum() == 2 * min(num_samples, 7)
