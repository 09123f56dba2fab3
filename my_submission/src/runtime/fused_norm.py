"""Norm and activation as one kernel on a GPU, where that is known to give what they give one after the other.

normed = norm_activation(norm, activation, x)

On CUDA, without gradients, and where Triton is installed (PyTorch brings it along on Linux), instance norm and GELU or ReLU
are one kernel (kernels.py). Before its first use on a device it has to agree with the two layers there. What it saves is
unmeasured.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings

import torch
from torch import Tensor, nn

ACTIVATIONS = {nn.GELU: "gelu", nn.ReLU: "relu"}
TOLERANCE = 1e-5  # of the largest value, in float32


def norm_activation(norm: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
    """activation(norm(x)), [B, c, L, f] -> the same."""
    if _can_be_fused(norm, activation, x) and kernel_matches_layers(x.device):
        return _fused(norm, activation, x)
    return activation(norm(x))


def _can_be_fused(norm: nn.Module, activation: nn.Module, x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()  # the compiler fuses by itself
        and _has_kernels(x.device)
        and isinstance(norm, nn.InstanceNorm2d)
        and type(activation) in ACTIVATIONS
        and not torch.is_grad_enabled()
    )


@functools.cache
def _has_kernels(device: torch.device) -> bool:
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def _fused(norm: nn.InstanceNorm2d, activation: nn.Module, x: Tensor) -> Tensor:
    from my_submission.src.runtime.triton_kernels import instance_norm_activation

    return instance_norm_activation(x, norm.weight, norm.bias, norm.eps, ACTIVATIONS[type(activation)])


@functools.cache
def kernel_matches_layers(device: torch.device) -> bool:
    """Whether the kernel gives on the device what the layers give. A warning where it does not."""
    generator = torch.Generator().manual_seed(0)
    x = (3 + torch.randn(2, 3, 40, 130, generator=generator)).to(device)  # more than a block, and not a whole number of them
    norm = nn.InstanceNorm2d(3, affine=True).to(device)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    try:
        for activation in (nn.GELU(), nn.ReLU()):
            expected = activation(norm(x))
            off = (_fused(norm, activation, x) - expected).abs().max() / expected.abs().max()
            if not off <= TOLERANCE:
                raise ArithmeticError(f"{activation}: off by {off:.1g} of the largest value")
    except Exception as error:  # whatever a compiler and a driver can come up with
        warnings.warn(f"{device}: norm and activation stay two kernels: {' '.join(str(error).split())[:200]}", stacklevel=2)
        return False
    return True
