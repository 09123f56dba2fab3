"""The networks of an ensemble on a device: chunks in, estimates out.

    ensemble = Ensemble(networks, torch.device("cuda"), "fp16", batch_size=4)
    ensemble.estimate(chunks)           # [B, C, T] -> [B, S, C, T] on the device

If the device's memory is full, the batch is halved. If half precision overflows, the chunk is repeated in float32.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from my_submission.src.common.errors import UserError
from my_submission.src.runtime.allocator import keep_freed_memory
from my_submission.src.runtime.compiling import Runner, compiled_runner, run_eagerly
from my_submission.src.runtime.device import HALF, autocast_to, is_out_of_memory
from my_submission.src.runtime.layout import runner_in_layout
from my_submission.src.runtime.network import SeparationNetwork


class SeparationError(UserError):
    """This audio or these settings cannot be separated."""


class Ensemble:
    """Networks of one config; the estimate is the mean of theirs.

    Args:
        networks: in evaluation mode; they are moved to the device.
        device: where they run.
        precision: fp16, bf16, tf32 or fp32, of the networks; the STFT is always float32.
        batch_size: chunks that go through a network together. It is halved when the device's memory is full.
        compile: compile the networks before their first chunk, which takes 1 to 2 minutes (default: no).
        name: of the ensemble, for messages.

    Raises CompilingError.
    """

    def __init__(
        self,
        networks: Sequence[SeparationNetwork],
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
        self.runner: Runner = compiled_runner(device) if compile else runner_in_layout("auto", device, precision)

    def warm_up(self, chunk: Tensor) -> None:
        """Separate a batch of copies of a chunk [C, T] with one network, so that compiling fails here if it fails."""
        self.estimate(chunk.expand(self.batch_size, *chunk.shape), only=0)
        self.redone_chunks = 0  # those of the warm-up are no audio

    @torch.inference_mode()
    def estimate(self, chunks: Tensor, only: int | None = None) -> Tensor:
        """Separate chunks [B, C, T], on any device -> estimates [B, S, C, T] on the ensemble's device.

        `only` is the index of the one network that takes part (default: all do, and their mean is the estimate).

        Raises SeparationError for an estimate that is not finite, and if the memory does not suffice for one chunk.
        """
        networks = self.networks if only is None else [self.networks[only]]
        batch, channels, samples = chunks.shape
        estimates = torch.zeros(batch, networks[0].num_sources, channels, samples, device=self.device)
        # networks separate digital silence into exact zeros, so they need not run on it
        audible = chunks.abs().amax(dim=(1, 2)).nonzero().flatten()
        while len(audible) > 0:
            now = audible[: self.batch_size]
            try:
                estimates[now] = self._estimate(chunks[now].to(self.device), networks)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve_batch(len(now))
                continue
            audible = audible[len(now) :]
        return estimates

    def _estimate(self, mixture: Tensor, networks: Sequence[SeparationNetwork]) -> Tensor:
        """Separate [B, C, T] -> [B, S, C, T]; chunks that overflow in half precision are repeated in float32."""
        estimates = self._estimate_mean(mixture, self.precision, networks)
        if self.precision in HALF:
            overflowed = ~_is_finite(estimates)
            if overflowed.any():
                estimates[overflowed] = self._estimate_mean(mixture[overflowed], "fp32", networks)
                self.redone_chunks += int(overflowed.sum())
        if not _is_finite(estimates).all():
            raise SeparationError(
                f"{self.name}: the networks gave NaN or infinite samples in float32; check the checkpoints, and that the "
                "audio lies within about +-1"
            )
        return estimates

    def _estimate_mean(self, mixture: Tensor, precision: str, networks: Sequence[SeparationNetwork]) -> Tensor:
        """Separate [B, C, T] -> [B, S, C, T]: one STFT, the networks' mean spectrogram, one inverse STFT (it is linear)."""
        stft = networks[0].stft
        run = self.runner if precision == self.precision else run_eagerly  # few chunks are repeated
        spec = stft(mixture)  # [B, 2C, F, L]
        with autocast_to(precision, self.device):
            total = run(networks[0], spec, self.batch_size).float()  # [B, S, 2C, F, L]
            for network in networks[1:]:
                total += run(network, spec, self.batch_size)
        return stft.inverse(total / len(networks))

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
    """Tell which items hold finite values only: [B, ...] -> [B]."""
    return torch.isfinite(estimates).flatten(1).all(dim=1)
