"""The processes of one training run, on torch.distributed: who we are, and what we agree on.

    with join(use_cuda=True) as world:              # a world of one where nobody started more
        with world.fail_together():                     # what is wrong on one rank ends all, with one message
            ...
        world.mean(values)

The group for tensors is NCCL on CUDA and gloo elsewhere; the small things go through gloo always.
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

TIMEOUT = timedelta(hours=2)  # longer than a validation; a process that dies is noticed at once by other ways


class DistributedError(UserError):
    """Processes that cannot work together."""


@dataclass(frozen=True)
class World:
    """The processes of a run."""

    rank: int = 0  # of this process, among all
    size: int = 1  # how many there are
    local_rank: int = 0  # of this process, on this machine
    control: Any = None  # the gloo group

    @property
    def is_main(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all ranks, on all ranks."""
        if self.size > 1:
            dist.all_reduce(values)
        return values / self.size

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on all ranks: something small."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value, group=self.control)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank; the ranks wait for each other here."""
        return any(self.gather(flag))

    def broadcast(self, payload: bytes | None) -> bytes | None:
        """What rank 0 has, on all ranks."""
        size = self.gather(None if payload is None else len(payload))[0]
        if size is None or self.size == 1:
            return payload
        tensor = (
            torch.frombuffer(bytearray(payload), dtype=torch.uint8) if self.is_main else torch.empty(size, dtype=torch.uint8)
        )
        dist.broadcast(tensor, 0, group=self.control)
        return tensor.numpy().tobytes()

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """A UserError inside, on any rank, ends every rank: rank 0 says it, the others leave with the same status."""
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
    """Find the other processes, if there are any, and leave them at the end.

    Raises DistributedError where they cannot be found, and, from inside, for one that was lost.
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
            "what it said comes first, and the same command goes on from the last save"
        ) from error
    else:
        dist.destroy_process_group()
    finally:
        if dist.is_initialized() and not use_cuda:  # gloo's threads do not outlive Python quietly; NCCL might wait for the lost
            dist.destroy_process_group()


def _is_lost_peer(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or any(word in str(error) for word in ("gloo", "NCCL", "Connection closed"))


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n")[0].split(". ")[0].rstrip(".")
