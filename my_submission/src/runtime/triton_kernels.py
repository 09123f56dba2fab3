"""A Triton kernel for instance norm and activation on a GPU. This module needs Triton; fused_norm.py checks for it.

Between its convolutions the network is bound by memory bandwidth. The two layers pass over their tensor five times or more, the
kernel passes over it three times.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096  # values of a plane that are in registers at the same time


@triton.jit
def _instance_norm_activation(x, weight, bias, y, channels, size, eps, GELU: tl.constexpr, BLOCK: tl.constexpr):  # noqa: N803
    """Normalize one plane [L, f]; there is one program for each item and channel."""
    plane = tl.program_id(0)
    first = plane.to(tl.int64) * size
    # mean and sum of squared deviations in one pass, block by block (Chan, Golub, LeVeque, 1979)
    count, mean, squares = 0.0, 0.0, 0.0
    for begin in range(0, size, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        inside = place < size
        values = tl.load(x + first + place, mask=inside, other=0.0).to(tl.float32)
        number = tl.minimum(size - begin, BLOCK).to(tl.float32)
        block_mean = tl.sum(values) / number
        deviations = tl.where(inside, values - block_mean, 0.0)
        off = block_mean - mean
        share = number / (count + number)
        squares += tl.sum(deviations * deviations) + off * off * count * share
        mean += off * share
        count += number
    channel = plane % channels
    scale = tl.load(weight + channel) / tl.sqrt(squares / size + eps)
    shift = tl.load(bias + channel) - mean * scale
    for begin in range(0, size, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        inside = place < size
        values = tl.load(x + first + place, mask=inside, other=0.0).to(tl.float32) * scale + shift
        if GELU:  # noqa: SIM108 - decided when the kernel is compiled
            values = 0.5 * values * (1 + tl.erf(values * 0.7071067811865476))
        else:
            values = tl.maximum(values, 0.0)
        tl.store(y + first + place, values.to(y.dtype.element_ty), mask=inside)


def instance_norm_activation(x: Tensor, weight: Tensor, bias: Tensor, eps: float, activation: str) -> Tensor:
    """Return the activation of the instance norm of x: [B, c, L, f] -> the same shape and dtype. Computes in float32.

    Args:
        x: [B, c, L, f], on a GPU.
        weight: [c], the norm's scale.
        bias: [c], the norm's shift.
        eps: added to the variance, so that constant planes do not divide by zero.
        activation: gelu or relu.
    """
    x = x.contiguous()
    batch, channels, *plane = x.shape
    y = torch.empty_like(x)
    size = plane[0] * plane[1]
    _instance_norm_activation[(batch * channels,)](x, weight, bias, y, channels, size, eps, activation == "gelu", BLOCK)
    return y
