"""The processes of one training run, on torch.distributed.

    with join(use_cuda=True) as world:              # a world of one process, unless a launcher started several
        with world.fail_together():                 # an error on one rank ends all ranks, with one message
            ...
        world.mean(values)

Tensors are reduced by NCCL on CUDA and by gloo elsewhere. Small Python objects always go through gloo.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from my_submission.src.common.errors import UserError
from my_submission.src.training.launch import is_launched

TIMEOUT = timedelta(hours=2)  # longer than a validation; a lost process is noticed earlier, by its closed connection


class DistributedError(UserError):
    """The processes of a run cannot work together."""


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them. The default is a run of one process."""

    rank: int = 0  # of this process, among all
    size: int = 1  # number of processes
    local_rank: int = 0  # of this process, among those on its machine
    control: Any = None  # the gloo group for Python objects

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and prints: rank 0."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all ranks, on all ranks. With several ranks, `values` is overwritten."""
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all ranks, on all ranks. Meant for small objects."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.control)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set on any rank. The ranks wait for each other here."""
        return any(self.gather(flag))

    def broadcast(self, payload: bytes | None) -> bytes | None:
        """Return the payload of rank 0, on all ranks."""
        size = self.gather(None if payload is None else len(payload))[0]
        if size is None or self.size == 1:
            return payload
        if self.is_main and payload is not None:
            tensor = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        else:
            tensor = torch.empty(size, dtype=torch.uint8)
        dist.broadcast(tensor, 0, group=self.control)
        return tensor.numpy().tobytes()

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """End all ranks if one of them raises a UserError inside: rank 0 raises it, the others exit with status 2."""
        error: UserError | None = None
        try:
            yield
        except UserError as caught:
            error = caught
        messages = self.gather(None if error is None else str(error))
        if not any(messages):
            return
        if self.size > 1:
            dist.destroy_process_group()
        if not self.is_main:
            raise SystemExit(2)
        if error is not None:
            raise error
        raise DistributedError("\n".join(f"rank {rank}: {message}" for rank, message in enumerate(messages) if message))


@contextlib.contextmanager
def join(use_cuda: bool) -> Iterator[World]:
    """Connect to the other processes, if there are any, and disconnect at the end.

    Raises DistributedError if they cannot be found, or if one of them is lost later.
    """
    if not is_launched() or os.environ.get("WORLD_SIZE") == "1":
        yield World()
        return
    try:
        dist.init_process_group("nccl" if use_cuda else "gloo", timeout=TIMEOUT)
        control = dist.new_group(backend="gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise DistributedError(f"the other processes of this run cannot be found: {_first_sentence(error)}") from error
    world = World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")), control)
    try:
        yield world
    except RuntimeError as error:
        if not _is_lost_peer(error):
            raise
        raise DistributedError(
            f"rank {world.rank}: lost another process of this run ({_first_sentence(error)}); "
            "its own message stands above; the same command goes on from the last save"
        ) from error
    else:
        dist.destroy_process_group()
    finally:
        # After an error: gloo's threads must end before Python does. NCCL could wait for a lost process here.
        if dist.is_initialized() and not use_cuda:
            dist.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection closed"))


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")
