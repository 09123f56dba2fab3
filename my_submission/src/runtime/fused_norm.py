"""Run norm and activation by the fastest kernels that give the same result as the two layers.

normed = norm_activation(norm, activation, x)

On a CPU, instance norm runs as group norm with one group per channel. Both compute the same, but the kernel of group norm takes
a sixth to a quarter of the time (RESULTS.md).

On CUDA, one kernel (triton_kernels.py) runs instance norm with GELU or ReLU, without gradients. It needs Triton, which comes
with PyTorch on Linux. Before its first use on a device it is compared with the two layers. Its speedup has not been measured.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS = {nn.GELU: "gelu", nn.ReLU: "relu"}
IN_PLACE: dict[type, Callable[[Tensor], Tensor]] = {nn.GELU: torch.ops.aten.gelu_, nn.ReLU: torch.relu_}
TOLERANCE = 1e-5  # largest error, as a fraction of the largest value, in float32


def norm_activation(norm: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
    """Return activation(norm(x)): [B, c, L, f] -> [B, c, L, f]."""
    if not isinstance(norm, nn.InstanceNorm2d) or torch.compiler.is_compiling():  # the compiler fuses the layers itself
        return cast(Tensor, activation(norm(x)))
    if _has_kernel(activation, x) and kernel_matches_layers(x.device):
        return _run_kernel(norm, activation, x)
    if x.device.type != "cpu" or x[0, 0].numel() == 1:  # of one value the layer raises an error
        return cast(Tensor, activation(norm(x)))
    # A channels-last tensor is copied: for it, the kernel computes the variance as a difference of squares, which loses 70 dB
    # if the mean is 100 times the deviation.
    x = x.contiguous()
    if not torch.is_grad_enabled():
        x = _group_norm(x, norm.weight, norm.bias, norm.eps)[0]
        in_place = IN_PLACE.get(type(activation))
        return cast(Tensor, in_place(x) if in_place else activation(x))
    if type(activation) not in ACTIVATIONS:
        return cast(Tensor, activation(_NormActivation.apply(x, norm.weight, norm.bias, norm.eps, "")))
    return cast(Tensor, _NormActivation.apply(x, norm.weight, norm.bias, norm.eps, ACTIVATIONS[type(activation)]))


class _NormActivation(torch.autograd.Function):
    """Instance norm and activation on a CPU: `activation` is relu, gelu or empty.

    ReLU runs in place. The input of GELU is computed again in the backward pass instead of kept: a sixth more time for norm and
    activation, a third less memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, activation: str) -> Tensor:
        """Map [B, c, L, f] -> [B, c, L, f]; weight and bias are [c]."""
        y, mean, deviation = _group_norm(x, weight, bias, eps)
        if activation == "relu":
            y.relu_()
        ctx.save_for_backward(x, weight, bias, mean, deviation, *([y] if activation == "relu" else []))
        ctx.eps, ctx.activation = eps, activation
        return F.gelu(y) if activation == "gelu" else y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """Return the gradients of x, weight and bias."""
        x, weight, bias, mean, deviation, *result = ctx.saved_tensors
        batch, channels, *plane = x.shape
        if ctx.activation == "relu":
            gradient = torch.ops.aten.threshold_backward(gradient, result[0], 0)
        elif ctx.activation == "gelu":
            gradient = torch.ops.aten.gelu_backward(gradient, _group_norm(x, weight, bias, ctx.eps)[0])
        # the planes as channels of one item: the kernel of batch norm adds up in float64, that of group norm does not
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.reshape(1, -1, *plane),
            x.view(1, -1, *plane),
            weight.repeat(batch),
            None,
            None,
            mean.flatten(),
            deviation.flatten(),
            True,
            ctx.eps,
            [True, True, True],
        )
        return of_x.view_as(x), of_weight.view(batch, channels).sum(dim=0), of_bias.view(batch, channels).sum(dim=0), None, None


def _group_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the instance norm of x, and the mean and 1 / deviation of each plane: [B, c, L, f] -> the same, [B, c], [B, c]."""
    batch, channels, *plane = x.shape
    return torch.native_group_norm(x, weight, bias, batch, channels, plane[0] * plane[1], channels, eps)


def _has_kernel(activation: nn.Module, x: Tensor) -> bool:
    """Whether the kernel can replace instance norm and this activation."""
    return _has_triton(x.device) and type(activation) in ACTIVATIONS and not torch.is_grad_enabled()


@functools.cache
def _has_triton(device: torch.device) -> bool:
    """Whether the device can run Triton's kernels."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _run_kernel(norm: nn.InstanceNorm2d, activation: nn.Module, x: Tensor) -> Tensor:
    from my_submission.src.runtime.triton_kernels import instance_norm_activation

    return instance_norm_activation(x, norm.weight, norm.bias, norm.eps, ACTIVATIONS[type(activation)])


@functools.cache
def kernel_matches_layers(device: torch.device) -> bool:
    """Whether the kernel's results on the device equal those of the layers within TOLERANCE. Warns if they do not."""
    generator = torch.Generator().manual_seed(0)
    # a plane is more than one block, but not a whole number of blocks
    x = (3 + torch.randn(2, 3, 40, 130, generator=generator)).to(device)
    norm = nn.InstanceNorm2d(3, affine=True).to(device)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    try:
        for activation in (nn.GELU(), nn.ReLU()):
            expected = activation(norm(x))
            off = (_run_kernel(norm, activation, x) - expected).abs().max() / expected.abs().max()
            if not off <= TOLERANCE:
                raise ArithmeticError(f"{activation}: off by {off:.1g} of the largest value")
    except Exception as error:  # compilers and drivers raise many types
        warnings.warn(f"{device}: norm and activation stay two kernels: {' '.join(str(error).split())[:200]}", stacklevel=2)
        return False
    return True
