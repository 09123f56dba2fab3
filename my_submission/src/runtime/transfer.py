"""Copy blocks to a device and back while it computes.

for block in to_device(blocks, device):     # tensors on the device
    ...
for block in to_host(blocks, device):       # arrays; the device computes the next block meanwhile
    ...

On CUDA, copies run in a stream of their own. Other devices copy at once, and only if they need a copy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from my_submission.src.audio.files import Block


def to_device(blocks: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the tensors on the device. The copies do not wait for the device's computation."""
    if not _has_copy_stream(device):
        yield from (block.to(device) for block in blocks)
        return
    streams = torch.get_device_module(device)
    copy_stream = streams.Stream(device)
    for block in blocks:
        with streams.stream(copy_stream):
            on_device = _pinned_like(block).copy_(block).to(device, non_blocking=True)
        compute_stream = streams.current_stream(device)
        compute_stream.wait_stream(copy_stream)
        if on_device.is_cuda:
            on_device.record_stream(compute_stream)  # keeps the allocator from reusing this memory while it is still in use
        yield on_device


def to_host(blocks: Iterable[Tensor], device: torch.device) -> Iterator[Block]:
    """Copy each block to the host while the device computes the next. Yields arrays, with a delay of one block."""
    if not _has_copy_stream(device):
        yield from (block.cpu().numpy() for block in blocks)
        return
    streams = torch.get_device_module(device)
    copy_stream = streams.Stream(device)
    # (block, its copy, event after the copy); holding the block keeps its memory from being reused before it is copied
    previous: tuple[Tensor, Tensor, Any] | None = None
    for block in blocks:
        copy_stream.wait_stream(streams.current_stream(device))
        copied = streams.Event()
        with streams.stream(copy_stream):
            on_host = _pinned_like(block).copy_(block, non_blocking=True)
            copied.record(copy_stream)
        if previous is not None:
            yield _finish_copy(*previous[1:])
        previous = block, on_host, copied
    if previous is not None:
        yield _finish_copy(*previous[1:])


def _has_copy_stream(device: torch.device) -> bool:
    """Whether the device can copy and compute at the same time."""
    return device.type == "cuda"


def _pinned_like(tensor: Tensor) -> Tensor:
    """Return an empty tensor of the same shape in page-locked host memory; other memory cannot be copied asynchronously."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())


def _finish_copy(on_host: Tensor, copied: Any) -> Block:
    """Wait for a copy to the host, and return it as an array."""
    copied.synchronize()
    return on_host.numpy()
