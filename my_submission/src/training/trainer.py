"""A network in training: all that a step changes, and the step.

trainer = Trainer(config, seed=0, device=torch.device("cuda"), precision="fp16")
for sources in batches(...):            # [B, S, C, T]
    result = trainer.step(sources)      # loss, share kept, gradient norm
save_checkpoint(trainer.ema.state_dict(), path)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from my_submission.src.config import Config, TrainingConfig
from my_submission.src.ema import EMA
from my_submission.src.loss import kept_items, masked_loss_and_kept
from my_submission.src.model import build_network
from my_submission.src.runtime import compiling
from my_submission.src.runtime.allocator import keep_freed_memory
from my_submission.src.runtime.device import autocast_to, tf32_matmul
from my_submission.src.training import TrainingError
from my_submission.src.training.distributed import World
from my_submission.src.training.optimizer import make_optimizer

PATIENCE = 10  # steps in a row without a finite loss, after which a run is given up


@dataclass(frozen=True)
class StepResult:
    """What a step showed, of the global batch."""

    loss: float
    kept: list[float]  # share of the errors that the mask kept, per source
    gradient_norm: float  # before clipping; NaN where there was no gradient
    skipped: bool  # the weights were left as they were
    kept_items: list[list[float]]  # the same of each item of this rank's share, [b][S]


class Trainer:
    """The published training, unless the config asks for more: masked loss, Adam, a constant rate, an average of the weights.

    Args:
        config: decides everything that the step computes.
        seed: of the initial weights.
        device, precision: fp16, bf16, tf32 or fp32; fp16 comes with a gradient scaler.
        world: the other processes, if any; the batch of the config is divided among them.
        weights: a state dict of this network to begin with, instead of random ones.
        compile: whether the first step compiles the network, which takes minutes. Steps are what they are without it, but for
            rounding.

    Raises TrainingError for a config that cannot be trained so, CompilingError where something is missing for compiling.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        device: torch.device,
        precision: str,
        world: World | None = None,
        weights: dict[str, Tensor] | None = None,
        compile: bool = False,
    ) -> None:
        self.config, self.device, self.precision, self.world = config, device, precision, world or World()
        _refuse_impossible(config, device, self.world.size)
        if compile:
            _refuse_to_compile(config, device, self.world.size)
        keep_freed_memory()  # of this process, for callers from Python too
        training = config.training
        torch.manual_seed(seed)
        self.network: nn.Module = build_network(config)
        if weights is not None:
            self.network.load_state_dict(weights)
        if self.world.size > 1:
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.network.to(device).train()
        self.ema = EMA(self.network, training.ema_momentum)
        self.optimizer = make_optimizer(training.optimizer, self.network.parameters(), training.lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        if compile:
            self.network.separate_spec = compiling.compiled(self.network.separate_spec)
        self.ddp_network: nn.Module = self.network
        if self.world.size > 1:
            self.ddp_network = DistributedDataParallel(
                self.network,
                device_ids=None if device.type == "cpu" else [device],
                gradient_as_bucket_view=True,  # saves a copy of all gradients
            )
        target = training.target_instrument
        self.target = None if target is None else training.instruments.index(target)
        self.steps = 0  # done, the skipped ones among them
        self.skipped = 0  # steps that left the weights as they were
        self.failures = 0  # of those, how many in a row up to now had no finite loss

    def step(self, sources: Tensor) -> StepResult:
        """One step of the optimiser on this rank's share [b, S, C, T] of a batch."""
        training = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.steps)
        sources = sources.to(self.device, non_blocking=True)
        mixture = sources.sum(dim=1)  # [b, C, T]
        target = sources if self.target is None else sources[:, self.target]
        with autocast_to(self.precision, self.device):
            estimate = self.ddp_network(mixture)  # the shape of target
        loss, kept = masked_loss_and_kept(estimate, target, training.q, training.mask)  # a scalar, [b, S]
        shares = kept.sum(dim=0) * (self.world.size / training.batch_size)  # [S]; the mean over the ranks is the batch's
        means = self.world.mean(torch.cat([loss.detach()[None], shares]))
        results = torch.cat([means, kept.flatten()]).cpu()  # at once: a GPU is waited for here
        value, (shares, *items) = results[0].item(), results[1:].view(-1, kept.shape[1]).tolist()

        norm, finite = math.nan, math.isfinite(value)  # the same on every rank: a NaN anywhere is a NaN everywhere
        if finite:
            with tf32_matmul(self.precision, self.device):
                self.scaler.scale(loss).backward()
            # The original clipped gradients that were still scaled: to some 65536th of what the config said.
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), training.grad_clip or math.inf).item()
            if math.isfinite(norm):
                self.scaler.step(self.optimizer)
            # Half precision overflows now and then; then the scaler goes on with a smaller scale, as long as it has one.
            finite = math.isfinite(norm) or (self.scaler.is_enabled() and self.scaler.get_scale() > 1)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.ema.update()  # BatchNorm's statistics with it, which the original left out of its checkpoints

        self.steps += 1
        self.skipped += not math.isfinite(norm)
        self.failures = 0 if finite else self.failures + 1
        if self.failures == PATIENCE:
            raise TrainingError(
                f"step {self.steps}: no finite loss in {PATIENCE} steps in a row; the training has diverged, or "
                f"{self.precision} cannot hold it. Begin anew (--restart) with a smaller training.lr, a training.grad_clip "
                "or --precision fp32"
            )
        return StepResult(value, shares, norm, not math.isfinite(norm), items)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        cuda = self.device.type == "cuda"
        return {
            "step": self.steps,
            "skipped": self.skipped,
            "failures": self.failures,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            # nothing in a step is random today; a network with dropout would be
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps, self.skipped, self.failures = state["step"], state["skipped"], state["failures"]
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], self.device)


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of a step, the first being 0: constant as published, or a cosine; below it, where asked for, a warm-up."""
    rate = training.lr
    if training.lr_schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / training.num_steps)) / 2
    return rate * min(1.0, (step + 1) / (training.warmup_steps + 1))


def _refuse_impossible(config: Config, device: torch.device, ranks: int) -> None:
    training = config.training
    batch = training.batch_size
    if training.mask == "coarse" and kept_items(batch, training.q) == 0:
        raise TrainingError(
            f"training.batch_size is {batch}, and of {batch} the coarse mask (training.coarse_loss_clip) keeps none: the loss "
            "would be zero and nothing would be learned. Take a batch of 2 or more (published: 6)"
        )
    if batch < ranks:
        raise TrainingError(
            f"training.batch_size is {batch}, but {ranks} processes run: the batch is the global one, and each takes its share "
            f"of it. Start {batch} processes or fewer"
        )
    if ranks > 1 and getattr(config.model, "norm", None) == "BatchNorm" and device.type != "cuda":
        raise TrainingError("model.norm is BatchNorm, which several processes share on CUDA only; start one process")


def _refuse_to_compile(config: Config, device: torch.device, ranks: int) -> None:
    if ranks > 1:
        raise TrainingError(f"--compile is for one process, but {ranks} run; start one, or leave --compile out")
    if config.training.activation_checkpointing:
        raise TrainingError(
            "--compile cannot compute activations again (training.activation_checkpointing): leave one of the two out"
        )
    compiling.require(device)
