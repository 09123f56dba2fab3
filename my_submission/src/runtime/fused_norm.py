"""Run norm and activation as one kernel on a GPU, if the kernel gives the same result as the two layers.

normed = norm_activation(norm, activation, x)

The kernel (triton_kernels.py) is for instance norm with GELU or ReLU, on CUDA, without gradients. It needs Triton, which comes
with PyTorch on Linux. Before its first use on a device it is compared with the two layers. Its speedup has not been measured.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings

import torch
from torch import Tensor, nn

ACTIVATIONS = {nn.GELU: "gelu", nn.ReLU: "relu"}
TOLERANCE = 1e-5  # largest error, as a fraction of the largest value, in float32


def norm_activation(norm: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
    """Return activation(norm(x)): [B, c, L, f] -> [B, c, L, f]."""
    if isinstance(norm, nn.InstanceNorm2d) and _has_kernel(activation, x) and kernel_matches_layers(x.device):
        return _run_kernel(norm, activation, x)
    return activation(norm(x))


def _has_kernel(activation: nn.Module, x: Tensor) -> bool:
    """Whether the kernel can replace instance norm and this activation."""
    return (
        not torch.compiler.is_compiling()  # the compiler fuses the layers itself
        and _has_triton(x.device)
        and type(activation) in ACTIVATIONS
        and not torch.is_grad_enabled()
    )


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
