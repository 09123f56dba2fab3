"""Where networks run and in which precision: named by the user, or the best there is.

device = pick_device("auto")
precision = pick_precision("auto", device)      # fp16, bf16, tf32 or fp32
with autocast_to(precision, device):
    estimates = network(mixture)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from my_submission.src.common.errors import UserError

PRECISIONS = {"fp16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32, "fp32": torch.float32}
HALF = ("fp16", "bf16")


class DeviceError(UserError):
    """A device that is not there, or a precision that it does not have."""


def pick_device(name: str) -> torch.device:
    """The device of that name, or the best there is for `auto`. Raises DeviceError for one that is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    listed = ", ".join(kind for kind, available in there.items() if available)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"device is {name!r}, expected auto, cuda, cuda:N, mps or cpu") from error
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if not there.get(device.type, False) or (device.index or 0) >= count:
        raise DeviceError(f"device {name} is not available here; this machine has: {listed}")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """fp16, bf16, tf32 or fp32; for `auto` fp16 on CUDA and fp32 elsewhere. Raises DeviceError."""
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if name not in PRECISIONS:
        raise DeviceError(f"precision is {name!r}, expected auto, {', '.join(PRECISIONS)}")
    if name == "fp16" and device.type == "cpu":
        raise DeviceError("precision fp16 is for GPUs; on a CPU, expected fp32 or bf16")
    if name == "tf32" and device.type != "cuda":
        raise DeviceError(f"precision tf32 is for CUDA; on {device.type}, expected fp32 or bf16")
    return name


@contextlib.contextmanager
def autocast_to(precision: str, device: torch.device) -> Iterator[None]:
    """Inside, networks compute in that precision; what is computed from their results on the way back needs `tf32_matmul`."""
    with tf32_matmul(precision), torch.autocast(device.type, PRECISIONS[precision], enabled=precision in HALF):
        yield


@contextlib.contextmanager
def tf32_matmul(precision: str) -> Iterator[None]:
    """Inside, CUDA rounds the factors of float32 products to TF32's 10 bits where `precision` is tf32, and nowhere else.

    PyTorch by itself lets convolutions do so and matrix products not: fp32 would not be float32.
    """
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = precision == "tf32"
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch's says that the device's memory is full."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error)  # the latter is how MPS says it
