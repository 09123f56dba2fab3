"""Choose the device and the precision of networks: by name, or the best available.

device = pick_device("auto")
precision = pick_precision("auto", device)      # fp16, bf16, tf32 or fp32
with autocast_to(precision, device):
    estimates = network(mixture)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping

import torch

from my_submission.src.common.errors import UserError
from my_submission.src.common.precisions import PRECISIONS

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in PRECISIONS.items()}
HALF = ("fp16", "bf16")


class DeviceError(UserError):
    """A device is not available, or does not have the precision."""


def pick_device(name: str) -> torch.device:
    """Return the device of that name, or the best available one for `auto`. Raises DeviceError if it is not available."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kinds = [kind for kind, is_available in available.items() if is_available]
    if name == "auto":
        return torch.device(kinds[0])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device is {name!r}, expected auto, cuda, cuda:N, mps or cpu") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if device.type not in kinds or (device.index or 0) >= count:
        raise DeviceError(f"device {name} is not available here; this machine has: {', '.join(kinds)}")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Return fp16, bf16, tf32 or fp32; for `auto`, fp16 on CUDA and fp32 elsewhere.

    Raises DeviceError for an unknown name, and if the device does not have the precision.
    """
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise DeviceError(f"precision is {name!r}, expected auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("precision fp16 is for GPUs; on a CPU, expected fp32 or bf16")
    if name == "tf32" and device.type != "cuda":
        raise DeviceError(f"precision tf32 is for CUDA; on {device.type}, expected fp32 or bf16")
    return name


def precision_advice(precision: str, device: torch.device) -> str:
    """Return a sentence if another precision would be faster on this CPU, and how to get it; otherwise an empty text.

    `auto` does not take bf16 by itself: its estimates agree with those of fp32 to about 40 dB only.
    """
    if device.type == "cpu" and precision == "fp32" and has_native_bf16():
        return "this processor has bf16 products: --precision bf16 is faster, with rounding errors of about -40 dB"
    if device.type == "cpu" and precision == "bf16" and not has_native_bf16():
        return "this processor has no bf16 products and imitates them: --precision fp32 is several times faster"
    return ""


@functools.cache
def has_native_bf16() -> bool:
    """Return whether the CPU multiplies in bf16: AMX, AVX-512 BF16 or ARM's BF16; False if torch does not say."""
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # private: an older or later torch may lack them
    if any(bool(getattr(torch.cpu, name, bool)()) for name in probes):
        return True
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))


@functools.cache
def has_amx() -> bool:
    """Return whether the CPU multiplies tiles of bf16 matrices (Intel's AMX); False if torch does not say."""
    probe: Callable[[], object] = getattr(torch.cpu, "_is_amx_tile_supported", bool)  # private, as above
    return bool(probe())


@contextlib.contextmanager
def autocast_to(precision: str, device: torch.device) -> Iterator[None]:
    """Let networks compute in a precision inside the `with` block. Run the backward pass in `tf32_matmul` instead."""
    with tf32_matmul(precision, device), torch.autocast(device.type, DTYPES[precision], enabled=precision in HALF):
        yield


@contextlib.contextmanager
def tf32_matmul(precision: str, device: torch.device) -> Iterator[None]:
    """Inside the `with` block, allow TF32 for float32 products on CUDA if `precision` is tf32, and forbid it otherwise.

    TF32 rounds the factors to 10 bits. PyTorch allows it by default for convolutions but not for matrix products, so that
    fp32 would not be float32 everywhere. On other devices nothing is set: torch 2.9 warns about these settings.
    """
    if not _has_tf32(device):
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    previous = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = previous


def _has_tf32(device: torch.device) -> bool:
    """Whether the settings of TF32 have an effect on the device."""
    return device.type == "cuda"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)  # MPS raises a plain RuntimeError
