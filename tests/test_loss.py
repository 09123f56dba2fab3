"""The loss and its masks: golden numbers, agreement with torch.quantile, and errors that are not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.loss import MASKS, kept_items, masked_loss, masked_loss_and_kept, quantile, squared_errors
from tests.helpers.paths import GOLDEN


@pytest.mark.parametrize("mask", ["coarse", "fine"])
@pytest.mark.parametrize("q", [0.4, 0.93])
def test_loss_and_gradient_equal_the_originals(q: float, mask: str) -> None:
    golden = np.load(GOLDEN / "loss.npz")
    estimate = torch.tensor(golden["estimate"], requires_grad=True)
    loss = masked_loss(estimate, torch.tensor(golden["target"]), q, coarse=mask == "coarse")
    loss.backward()
    assert loss.item() == pytest.approx(golden[f"loss_q{q}_{mask}"], rel=1e-6)
    gradient = golden[f"grad_q{q}_{mask}"]
    assert np.abs(estimate.grad.numpy() - gradient).max() <= 1e-6 * np.abs(gradient).max()
    assert ((estimate.grad.numpy() == 0) == (gradient == 0)).all()  # the same values are masked


@settings(max_examples=200, deadline=None)
@given(
    # few different values, so that there are ties; and the limits of float32: the smallest denormal, the largest number
    values=st.lists(
        st.sampled_from([0.0, 1e-45, 1e-38, 0.1, 0.25, 1.0, 1.0000001, 3e38]) | st.floats(0, 2.0**99, width=32),
        min_size=1,
        max_size=40,
    ),
    q=st.sampled_from([0.001, 0.25, 0.4, 0.5, 0.93, 1.0]) | st.floats(0.01, 1),
)
def test_the_quantile_equals_that_of_torch(values: list[float], q: float) -> None:
    rows = torch.tensor([values, values[::-1]])
    ours, count = quantile(rows, q)
    assert count == len(values)
    theirs = torch.quantile(rows.double(), q, dim=1)
    assert torch.allclose(ours.double(), theirs, rtol=1e-6, atol=1e-44)
    ordered = np.sort(values).astype(np.float32)
    position = q * (len(values) - 1)
    if position == int(position):  # no interpolation: the value itself, to the bit
        assert ours.tolist() == [float(ordered[int(position)])] * 2


def test_the_quantile_has_no_size_limit() -> None:
    size = 17_000_000  # torch.quantile stops at 16,777,216
    values = torch.arange(size, dtype=torch.float32).flip(0)[None]  # whole numbers up to 2 ** 24, then even ones
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(values, 0.5)
    threshold, count = quantile(values, 0.25)
    assert count == size
    assert threshold.item() == pytest.approx(0.25 * (size - 1), rel=1e-7)


def test_the_coarse_mask_keeps_the_items_below_the_quantile() -> None:
    target = torch.zeros(6, 1, 2, 5)
    estimate = torch.tensor([3.0, 1.0, 6.0, 2.0, 5.0, 4.0])[:, None, None, None].expand(6, 1, 2, 5)
    loss, kept = masked_loss_and_kept(estimate, target, 0.4, "coarse")  # sorted: 1 4 | 9 16 25 36
    assert loss.item() == pytest.approx((1 + 4) / 6)
    assert kept.tolist() == [[0], [1], [0], [1], [0], [0]]  # [B, S]
    assert kept_items(6, 0.4) == 2


def test_every_source_has_its_own_quantile() -> None:
    estimate = (
        torch.rand(4, 3, 2, 50, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100, 10000])[:, None, None]
    )
    _, kept = masked_loss_and_kept(estimate, torch.zeros_like(estimate), 0.9, "fine")
    assert kept.shape == (4, 3)
    assert kept.mean(dim=0).tolist() == pytest.approx([0.9] * 3, abs=0.01)


def test_the_fine_mask_reports_the_share_kept_of_each_item() -> None:
    errors = torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]])
    estimate = torch.stack([errors, errors.flip(0)], dim=1).sqrt()[:, :, None]  # [3, 2, 1, 4]
    _, kept = masked_loss_and_kept(estimate, torch.zeros_like(estimate), 0.5, "fine")  # below 6.5
    assert kept.tolist() == [[1, 0], [0.5, 0.5], [0, 1]]


def test_a_single_source_needs_no_source_axis() -> None:
    estimate, target = torch.rand(4, 2, 30), torch.rand(4, 2, 30)
    with_axis = masked_loss(estimate[:, None], target[:, None], 0.5, coarse=False)
    assert masked_loss(estimate, target, 0.5, coarse=False) == with_axis


def test_a_further_mask_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MASKS, "by_channel", lambda squares: squares.mean(dim=3).transpose(0, 1).flatten(1))
    estimate = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(2, 1, 2, 1).expand(2, 1, 2, 5)
    loss, kept = masked_loss_and_kept(estimate, torch.zeros_like(estimate), 0.9, "by_channel")  # 1 4 9 | 16
    assert loss.item() == pytest.approx((1 + 4 + 9) / 4)
    assert kept.tolist() == [[1], [0.5]]


def test_equal_errors_are_all_masked() -> None:
    loss, kept = masked_loss_and_kept(torch.ones(6, 1, 1, 4), torch.zeros(6, 1, 1, 4), 0.9, "coarse")
    assert (loss.item(), kept.sum().item()) == (0, 0)  # strictly below the quantile, or not at all


@pytest.mark.parametrize("bad", [math.nan, -math.nan, math.inf])
@pytest.mark.parametrize("coarse", [True, False])
def test_an_error_that_is_not_finite_makes_the_loss_nan(bad: float, coarse: bool) -> None:
    estimate = torch.rand(6, 2, 2, 10)
    estimate[3, 1, 0, 4] = bad
    assert masked_loss(estimate, torch.zeros_like(estimate), 0.4, coarse).isnan()


def test_half_precision_is_squared_in_float32() -> None:
    estimate = torch.full((2, 1, 1, 2), 300.0, dtype=torch.float16)  # 90000 exceeds the range of float16
    errors = squared_errors(estimate, torch.zeros_like(estimate), "fine")
    assert errors.dtype == torch.float32
    assert errors.max() == 90000


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"estimate is \[2, 2, 9\] and target \[2, 1, 9\]"):
        masked_loss(torch.zeros(2, 2, 9), torch.zeros(2, 1, 9), 0.4, coarse=True)


@pytest.mark.parametrize(("batch_size", "q", "kept"), [(6, 0.4, 2), (1, 0.4, 0), (1, 1.0, 0), (2, 0.4, 1), (6, 1.0, 5)])
def test_kept_items_predicts_the_coarse_mask(batch_size: int, q: float, kept: int) -> None:
    assert kept_items(batch_size, q) == kept
    errors = torch.arange(1.0, batch_size + 1)[:, None, None, None]
    share = masked_loss_and_kept(errors, torch.zeros_like(errors), q, "coarse")[1]
    assert share.sum().item() == kept
