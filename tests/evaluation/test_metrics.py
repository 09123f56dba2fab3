"""The challenge's score."""

from __future__ import annotations

import math

import numpy as np
import pytest

from my_submission.src.common.errors import UserError
from my_submission.src.evaluation.metrics import global_sdr


def noise(seed: int, samples: int = 1000, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal((samples, 2))).astype(np.float32)


def test_scores_match_values_computed_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)  # energy 2
    assert global_sdr(reference, reference / 2) == pytest.approx(10 * math.log10(2 / 0.5), abs=1e-5)
    assert global_sdr(reference, -reference) == pytest.approx(10 * math.log10(2 / 8), abs=1e-5)
    assert global_sdr(reference, 0 * reference) == pytest.approx(0, abs=1e-6)


def test_all_samples_of_all_channels_count_together() -> None:
    reference = np.stack([np.full(10, 0.9), np.full(10, 0.1)], axis=1)
    estimate = np.stack([np.full(10, 0.8), np.zeros(10)], axis=1)  # one channel is 19 dB, the other 0 dB
    assert global_sdr(reference, estimate) == pytest.approx(10 * math.log10((10 * 0.82 + 1e-7) / (20 * 0.01 + 1e-7)), abs=1e-4)


def test_silent_stems_are_no_special_case() -> None:
    silence, loud = np.zeros((500, 2), np.float32), noise(0, 500)
    energy = float((loud.astype(np.float64) ** 2).sum())
    assert global_sdr(silence, silence) == 0
    assert global_sdr(silence, loud) == pytest.approx(10 * math.log10(1e-7 / energy), abs=1e-4)
    assert global_sdr(loud, loud) == pytest.approx(10 * math.log10(energy / 1e-7), abs=1e-4)


def test_dtype_and_memory_layout_do_not_change_the_score() -> None:
    reference, estimate = noise(0, 300_000), noise(1, 300_000, 0.05)
    score = global_sdr(reference, estimate)
    assert isinstance(score, float)
    assert global_sdr(reference.astype(np.float64), estimate.astype(np.float64)) == score
    assert global_sdr(np.asfortranarray(reference), np.asfortranarray(estimate)) == pytest.approx(score, abs=1e-9)


def test_different_shapes_are_refused() -> None:
    with pytest.raises(UserError, match=r"the estimate has shape \[999, 2\], expected the reference's \[1000, 2\]"):
        global_sdr(noise(0), noise(1, 999))
    with pytest.raises(UserError, match=r"shape \[1000\], expected the reference's \[1000, 2\]"):  # would be broadcast
        global_sdr(noise(0), noise(1)[:, 0])
