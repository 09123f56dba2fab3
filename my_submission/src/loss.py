"""The noise-robust loss: the squared error without its largest values, those at or above the q-quantile.

    masked_loss(estimate, target, q=0.4, coarse=True).backward()

After some training, a large error is more often a wrong label than a network's mistake. So the largest errors of every batch
are masked and teach nothing. The coarse mask drops whole items (an instrument filed under the wrong name). The fine mask drops
single samples (a little of the other instruments in every recording).

Under torch.distributed the quantile is that of the global batch. No rank sends its errors: the threshold is found by
selection on their bits, and only counts travel.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

_DIGITS = ((20, 11), (10, 10), (0, 10))  # (shift, bits): the 31 bits of a float32 of 0 or more, the highest first


def _of_items(squares: Tensor) -> Tensor:
    """Average over channels and samples: [B, S, C, T] -> [S, B]."""
    return squares.mean(dim=(2, 3)).T


def _of_samples(squares: Tensor) -> Tensor:
    """Keep every sample: [B, S, C, T] -> [S, B * C * T]."""
    return squares.transpose(0, 1).flatten(1)


# name -> function from squared differences [B, S, C, T] to the errors [S, N] that are masked one by one, N a multiple of B
MASKS: dict[str, Callable[[Tensor], Tensor]] = {"coarse": _of_items, "fine": _of_samples}


def masked_loss(estimate: Tensor, target: Tensor, q: float, coarse: bool) -> Tensor:
    """Sum the errors below their q-quantile, per source, and divide by the number of all errors: a scalar.

    Args:
        estimate: [B, S, C, T], or [B, C, T] for a single source.
        target: the true stems, of the same shape.
        q: quantile, above 0 and up to 1, with linear interpolation. An error at or above it contributes nothing. A smaller q
            masks more: take the share of the data that you trust.
        coarse: mask by item (the mean over channels and samples), which is for wrong labels; False masks by sample, for
            bleeding.

    Under torch.distributed, `estimate` and `target` are this rank's share of the batch; shares may differ in size. The
    *mean* of the ranks' results is the loss of the global batch, so gradients averaged over the ranks (DDP) are its gradient.

    An error that is not finite, on any rank, makes the loss NaN on every rank.
    """
    return masked_loss_and_kept(estimate, target, q, "coarse" if coarse else "fine")[0]


def masked_loss_and_kept(estimate: Tensor, target: Tensor, q: float, mask: str) -> tuple[Tensor, Tensor]:
    """Return `masked_loss` and the share of the errors that was kept of each item and source, [B, S], of this rank's items.

    `mask` is a name in MASKS. With the coarse mask each share is 0 or 1. If the loss is NaN, all shares are 0.
    """
    errors = squared_errors(estimate, target, mask)
    threshold, count = quantile(errors.detach(), q)
    keep = errors.detach() < threshold[:, None]  # [S, N]
    ranks = dist.get_world_size() if _distributed() else 1
    loss = torch.where(keep, errors, 0).sum() * (ranks / (count * len(errors)))
    items = keep.unflatten(1, (len(estimate), -1))  # [S, B, N / B]
    # A NaN threshold keeps nothing. Adding it makes the loss NaN; without it the loss would be 0.
    return loss + 0 * threshold.sum(), (items.sum(dim=2) / items.shape[2]).T


def squared_errors(estimate: Tensor, target: Tensor, mask: str) -> Tensor:
    """Return the errors that `mask` works on: [B, S, C, T] or [B, C, T], twice -> float32 [S, N].

    N is B for the coarse mask and B * C * T for the fine one. Raises ValueError for shapes that do not fit.
    """
    if estimate.shape != target.shape or estimate.ndim not in (3, 4):
        raise ValueError(
            f"estimate is {list(estimate.shape)} and target {list(target.shape)}, expected one shape of 3 or 4 axes"
        )
    squares = (estimate.float() - target.float()).square()
    return MASKS[mask](squares.unsqueeze(1) if squares.ndim == 3 else squares)


def kept_items(batch_size: int, q: float) -> int:
    """Return how many items of a batch the coarse mask keeps per source, if no two errors are equal."""
    return math.ceil(q * (batch_size - 1))


def quantile(values: Tensor, q: float) -> tuple[Tensor, int]:
    """Return the q-quantile of every row, and the length of the rows, over all ranks: [S, N] -> ([S], count).

    The result is torch.quantile's with linear interpolation, without its limit of 16.7 million values and without a sort.
    `values` are float32 and 0 or more. The quantile of a row that holds NaN or infinity is NaN.
    """
    if q == 1:  # the quantile is the largest value, found in one pass
        return _largest(values.amax(dim=1)), int(_sum_over_ranks(torch.tensor(values.shape[1], device=values.device)))
    # The bits of float32 numbers of 0 or more are ordered like the numbers. So the value of a given rank is found digit by
    # digit: count each next digit among the values that begin with the known digits, and take the one where the rank falls.
    bits = _bits(values)  # [S, N]
    prefix = torch.zeros(len(bits), dtype=torch.int64, device=bits.device)  # the digits known so far
    below = torch.zeros_like(prefix)  # number of values below all those that begin with these digits
    for place, (shift, width) in enumerate(_DIGITS):
        counts = _sum_over_ranks(
            torch.stack([_count_digits(row, known, shift, width) for row, known in zip(bits, prefix, strict=True)])
        )  # [S, 2 ** width]
        if place == 0:
            count = int(counts[0].sum())
            position = q * (count - 1)
            finite = counts[:, 0x7F8:].sum(dim=1) == 0  # an exponent of ones is infinity or NaN
        up_to = below[:, None] + counts.cumsum(dim=1)  # [S, 2 ** width]
        digit = (up_to <= int(position)).sum(dim=1)
        below = up_to.gather(1, digit[:, None])[:, 0] - counts.gather(1, digit[:, None])[:, 0]
        prefix = (prefix << width) | digit
    lower = prefix.to(torch.int32).view(torch.float32)

    # The value of the next rank: the same one if it occurs again, otherwise the smallest value above it.
    among_equals = up_to.gather(1, digit[:, None])[:, 0] > int(position) + 1
    above = torch.where(values > lower[:, None], values, math.inf).amin(dim=1)
    if _distributed():
        dist.all_reduce(above, dist.ReduceOp.MIN)
    upper = torch.where(among_equals | above.isinf(), lower, above)
    return torch.where(finite, lower.lerp(upper, position % 1), math.nan), count


def _largest(largest: Tensor) -> Tensor:
    """Return the largest value of every row over all ranks: [S], this rank's, NaN if it has one -> [S]."""
    bits = _bits(largest)  # a reduction of floats need not keep NaN
    if _distributed():
        dist.all_reduce(bits, dist.ReduceOp.MAX)
    return torch.where(bits < 0x7F800000, bits.view(torch.float32), math.nan)  # from there on: infinity and NaN


def _bits(values: Tensor) -> Tensor:
    """Return the bits of float32 values of 0 or more as int32, without the sign that a NaN may have."""
    return values.contiguous().view(torch.int32) & 0x7FFFFFFF


def _count_digits(bits: Tensor, known: Tensor, shift: int, width: int) -> Tensor:
    """Count each value of the digit at `shift` among the bits [N] that begin with the digits `known`: [2 ** width]."""
    size = 1 << width
    digit = (bits >> shift) & (size - 1)
    if shift + width < 31:  # at the first digit nothing is known yet, so all bits count
        digit = torch.where((bits >> (shift + width)) == known, digit, size)
    return torch.bincount(digit, minlength=size + 1)[:size]


def _sum_over_ranks(counts: Tensor) -> Tensor:
    if _distributed():
        dist.all_reduce(counts)
    return counts


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized()
