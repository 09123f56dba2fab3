"""The noise-robust loss: the squared error, without what lies at or above its own q-quantile.

    masked_loss(estimate, target, q=0.4, coarse=True).backward()

What a network still gets badly wrong after some training is what the labels have wrong, more often than not; so the largest
errors of every batch teach nothing. The coarse mask drops whole items (an instrument filed under the wrong name), the fine
one single samples (a little of the other instruments in every recording).

Under torch.distributed the quantile is that of the global batch. No rank sends its errors: the threshold is found by
selection on their bits, and only counts travel.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

_DIGITS = ((20, 11), (10, 10), (0, 10))  # (shift, bits): the 31 bits of a float32 of 0 or more, the highest first


def masked_loss(estimate: Tensor, target: Tensor, q: float, coarse: bool) -> Tensor:
    """The sum of the errors below their q-quantile, per source, over the number of all errors: a scalar.

    Args:
        estimate: [B, S, C, T], or [B, C, T] for a single source.
        target: of the same shape.
        q: quantile, above 0 and up to 1, with linear interpolation; an error at or above it contributes nothing.
        coarse: one error per item (the mean over channels and samples) instead of one per sample.

    Under torch.distributed, estimate and target are this rank's share of the batch, as large as it may be, and the *mean*
    of what the ranks return is the loss of the global batch: gradients averaged over the ranks (DDP) are its gradient.

    An error that is not finite, on any rank, makes the loss NaN on every rank.
    """
    return masked_loss_and_kept(estimate, target, q, coarse)[0]


def masked_loss_and_kept(estimate: Tensor, target: Tensor, q: float, coarse: bool) -> tuple[Tensor, Tensor]:
    """As `masked_loss`, and the share that was kept of the errors of each item and source, [B, S]: of this rank's items.

    With the coarse mask it is 0 or 1. Of an item of a loss that is NaN, nothing is kept.
    """
    errors = squared_errors(estimate, target, coarse)
    threshold, count = quantile(errors.detach(), q)
    keep = errors.detach() < threshold[:, None]  # [S, N]
    ranks = dist.get_world_size() if _distributed() else 1
    loss = torch.where(keep, errors, 0).sum() * (ranks / (count * len(errors)))
    items = keep.unflatten(1, (len(estimate), -1))  # [S, B, N / B]
    # a NaN threshold keeps nothing, and must not look like a loss of nothing
    return loss + 0 * threshold.sum(), (items.sum(dim=2) / items.shape[2]).T


def squared_errors(estimate: Tensor, target: Tensor, coarse: bool) -> Tensor:
    """[B, S, C, T] or [B, C, T], twice -> float32 [S, N]: N is B for the coarse mask, B * C * T for the fine one."""
    if estimate.shape != target.shape or estimate.ndim not in (3, 4):
        raise ValueError(
            f"estimate is {list(estimate.shape)} and target {list(target.shape)}, expected one shape of 3 or 4 axes"
        )
    errors = (estimate.float() - target.float()).square()
    if errors.ndim == 3:
        errors = errors.unsqueeze(1)
    if coarse:
        return errors.mean(dim=(2, 3)).T
    return errors.transpose(0, 1).flatten(1)


def kept_items(batch_size: int, q: float) -> int:
    """How many items of a batch the coarse mask keeps, per source, where no two errors are equal."""
    return math.ceil(q * (batch_size - 1))


def quantile(values: Tensor, q: float) -> tuple[Tensor, int]:
    """The q-quantile of every row, and how long the rows are, over all ranks: ([S, N]) -> ([S], count).

    As torch.quantile with linear interpolation, without its limit of 16.7 million values and without a sort; for values of
    0 or more, float32, as they are here. NaN where a row holds anything that is not finite.
    """
    # The bits of a float32 of 0 or more are ordered as the float itself is. So the value of a given rank is found digit by
    # digit: count how often each next digit occurs behind the digits known so far, and go where the rank falls.
    bits = values.contiguous().view(torch.int32) & 0x7FFFFFFF  # [S, N]; a NaN's sign would make it negative
    if q == 1:  # no mask but of the very largest: it is found in one go
        return _largest(bits), int(_sum_over_ranks(torch.tensor(bits.shape[1], device=bits.device)))
    prefix = torch.zeros(len(bits), dtype=torch.int64, device=bits.device)  # the digits known so far
    below = torch.zeros_like(prefix)  # how many values lie below all those that begin with them
    position, finite = None, None
    for shift, width in _DIGITS:
        counts = _sum_over_ranks(
            torch.stack([_count_digits(row, known, shift, width) for row, known in zip(bits, prefix, strict=True)])
        )  # [S, 2 ** width]
        if position is None:
            count = int(counts[0].sum())
            position = q * (count - 1)
            finite = counts[:, 0x7F8:].sum(dim=1) == 0  # an exponent of ones is infinity or NaN
        up_to = below[:, None] + counts.cumsum(dim=1)  # [S, 2 ** width]
        digit = (up_to <= int(position)).sum(dim=1)
        below = up_to.gather(1, digit[:, None])[:, 0] - counts.gather(1, digit[:, None])[:, 0]
        prefix = (prefix << width) | digit
    lower = prefix.to(torch.int32).view(torch.float32)

    # the value of the next rank: the same one again, or the smallest of those above
    among_equals = up_to.gather(1, digit[:, None])[:, 0] > int(position) + 1
    above = torch.where(values > lower[:, None], values, math.inf).amin(dim=1)
    if _distributed():
        dist.all_reduce(above, dist.ReduceOp.MIN)
    upper = torch.where(among_equals | above.isinf(), lower, above)
    return torch.where(finite, lower.lerp(upper, position % 1), math.nan), count


def _largest(bits: Tensor) -> Tensor:
    """The largest float32 of every row of bits [S, N] over all ranks: [S]."""
    largest = bits.amax(dim=1)
    if _distributed():
        dist.all_reduce(largest, dist.ReduceOp.MAX)
    return torch.where(largest < 0x7F800000, largest.view(torch.float32), math.nan)  # from there on: infinity and NaN


def _count_digits(bits: Tensor, known: Tensor, shift: int, width: int) -> Tensor:
    """How often each value of the digit at `shift` occurs among those [N] that begin with `known`: [2 ** width]."""
    size = 1 << width
    digit = (bits >> shift) & (size - 1)
    if shift + width < 31:  # before the first digit nothing is known, and everything begins with it
        digit = torch.where((bits >> (shift + width)) == known, digit, size)
    return torch.bincount(digit, minlength=size + 1)[:size]


def _sum_over_ranks(counts: Tensor) -> Tensor:
    if _distributed():
        dist.all_reduce(counts)
    return counts


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
