"""Copies to a device and back, beside its computations instead of between them.

for block in to_device(blocks, device):          # tensors on the device
    ...
for piece in to_host(pieces, device):        # arrays, each while the device works on the next
    ...

Where host and device share their memory, a copy is made where one is needed, at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from my_submission.src.audio.files import Block


def to_device(blocks: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
    """The same tensors on the device; each copy waits for nothing that the device computes."""
    if not _copies_beside(device):
        yield from (block.to(device) for block in blocks)
        return
    streams = torch.get_device_module(device)
    own = streams.Stream(device)
    for block in blocks:
        with streams.stream(own):
            there = _pinned_like(block).copy_(block).to(device, non_blocking=True)
        now = streams.current_stream(device)
        now.wait_stream(own)
        if there.is_cuda:
            there.record_stream(now)  # its memory is not given to the next block before what is computed from it is done
        yield there


def to_host(pieces: Iterable[Tensor], device: torch.device) -> Iterator[Block]:
    """The same tensors as arrays, one behind: a piece is waited for when the next one's computation has begun."""
    if not _copies_beside(device):
        yield from (piece.cpu().numpy() for piece in pieces)
        return
    streams = torch.get_device_module(device)
    own = streams.Stream(device)
    before: tuple[Tensor, Tensor, Any] | None = None  # with its source, whose memory would be used anew before it is copied
    for piece in pieces:
        own.wait_stream(streams.current_stream(device))
        done = streams.Event()
        with streams.stream(own):
            here = _pinned_like(piece).copy_(piece, non_blocking=True)
            done.record(own)
        if before is not None:
            yield _arrived(*before[1:])
        before = piece, here, done
    if before is not None:
        yield _arrived(*before[1:])


def _copies_beside(device: torch.device) -> bool:
    return device.type == "cuda"


def _pinned_like(tensor: Tensor) -> Tensor:
    """Host memory of a tensor's size, page-locked: only to and from such memory does a copy run by itself."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=torch.cuda.is_available())


def _arrived(here: Tensor, done: Any) -> Block:
    """What was copied, once it is."""
    done.synchronize()
    return here.numpy()
