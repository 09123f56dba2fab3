"""The networks of an ensemble on a device: chunks in, estimates out, whatever the device's memory and precision can hold.

ensemble = Ensemble(networks, torch.device("cuda"), "fp16", batch_size=4)
ensemble.estimate(chunks)           # [B, C, T] -> [B, S, C, T] on the device
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from my_submission.src.common.errors import UserError
from my_submission.src.model import TFCTDFNet
from my_submission.src.runtime.allocator import keep_freed_memory
from my_submission.src.runtime.compiling import Runner, compiled_runner, run_eagerly
from my_submission.src.runtime.device import HALF, autocast_to, is_out_of_memory


class SeparationError(UserError):
    """A song, or a setting, with which nothing can be separated."""


class Ensemble:
    """Networks of one config, whose mean is the estimate.

    Args:
        networks: in evaluation mode; they are moved to the device.
        precision: fp16, bf16, tf32 or fp32 for the networks, the STFT being float32 always.
        batch_size: chunks that go through a network together, fewer from where the device's memory is full.
        compile: compile the networks before their first chunk.
        name: of the ensemble, for messages.

    Raises CompilingError.
    """

    def __init__(
        self,
        networks: Sequence[TFCTDFNet],
        device: torch.device,
        precision: str,
        batch_size: int,
        compile: bool = False,
        name: str = "the ensemble",
    ) -> None:
        keep_freed_memory()  # of this process, for callers from Python too
        self.networks = [network.to(device) for network in networks]
        self.device, self.precision, self.batch_size, self.name = device, precision, batch_size, name
        self.batch_was_halved = False
        self.redone_chunks = 0  # chunks that overflowed in half precision and were done again in float32
        self.runner: Runner = compiled_runner(device) if compile else run_eagerly

    def member(self, index: int) -> Ensemble:
        """One of the networks by itself; it is shared, not copied."""
        member = copy.copy(self)
        member.networks = [self.networks[index]]
        return member

    def warm_up(self, chunk: Tensor) -> None:
        """Let one network separate a batch of a chunk [C, T]: what can go wrong with compiling goes wrong here."""
        first = self.member(0)
        first.estimate(chunk.expand(self.batch_size, *chunk.shape))
        self.batch_size, self.batch_was_halved = first.batch_size, first.batch_was_halved

    @torch.inference_mode()
    def estimate(self, chunks: Tensor) -> Tensor:
        """[B, C, T], on any device -> estimates [B, S, C, T] on the device.

        Raises SeparationError for an estimate that is not finite, and where the memory does not do for one chunk.
        """
        batch, channels, samples = chunks.shape
        estimates = torch.zeros(batch, self.networks[0].num_sources, channels, samples, device=self.device)
        # digital silence is estimated as exact zeros (the last product in the network sees to that): no need to run it
        audible = chunks.abs().amax(dim=(1, 2)).nonzero().flatten()
        while len(audible) > 0:
            now = audible[: self.batch_size]
            try:
                estimates[now] = self._estimate(chunks[now].to(self.device))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_batch(len(now))
                continue
            audible = audible[len(now) :]
        return estimates

    def _estimate(self, mixture: Tensor) -> Tensor:
        """[B, C, T] -> estimates [B, S, C, T]; what half precision cannot hold is done again without it."""
        estimates = self._estimate_mean(mixture, self.precision)
        if self.precision in HALF:
            overflowed = ~_is_finite(estimates)
            if overflowed.any():
                estimates[overflowed] = self._estimate_mean(mixture[overflowed], "fp32")
                self.redone_chunks += int(overflowed.sum())
        if not _is_finite(estimates).all():
            raise SeparationError(
                f"{self.name}: the networks gave NaN or infinite samples in float32; check the checkpoints, and that the "
                "audio lies within about +-1"
            )
        return estimates

    def _estimate_mean(self, mixture: Tensor, precision: str) -> Tensor:
        """[B, C, T] -> [B, S, C, T]: one STFT, the mean of the networks' spectrograms, one inverse STFT (it is linear)."""
        stft = self.networks[0].stft
        run = self.runner if precision == self.precision else run_eagerly  # repeated chunks are few
        spec = stft(mixture)  # [B, 2C, F, L]
        with autocast_to(precision, self.device):
            total = run(self.networks[0], spec, self.batch_size).float()  # [B, S, 2C, F, L]
            for network in self.networks[1:]:
                total += run(network, spec, self.batch_size)
        return stft.inverse(total / len(self.networks))

    def _halve_batch(self, batch: int) -> None:
        if batch == 1:
            raise SeparationError(
                f"{self.device}: out of memory with one chunk at a time; close other programs, take --device cpu, or a smaller "
                "inference.dim_t in config.yaml"
            )
        if not self.batch_was_halved:
            warnings.warn(f"{self.device}: out of memory with {batch} chunks at a time, going on with fewer", stacklevel=2)
        self.batch_was_halved = True
        self.batch_size = batch // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _is_finite(estimates: Tensor) -> Tensor:
    """[B, ...] -> [B]."""
    return torch.isfinite(estimates).flatten(1).all(dim=1)
