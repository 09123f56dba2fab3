"""The training step, and everything that it changes: network, moving average, optimizer, gradient scaler, counters.

trainer = Trainer(config, seed=0, device=torch.device("cuda"), precision="fp16")
for sources in batches(...):            # [B, S, C, T]
    result = trainer.step(sources)      # loss, shares kept, gradient norm
save_checkpoint(trainer.ema.state_dict(), path)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from my_submission.src.config import Config
from my_submission.src.ema import EMA
from my_submission.src.loss import kept_items, masked_loss_and_kept
from my_submission.src.model import build_network
from my_submission.src.runtime import compiling
from my_submission.src.runtime.allocator import keep_freed_memory
from my_submission.src.runtime.device import autocast_to, tf32_matmul
from my_submission.src.training import TrainingError
from my_submission.src.training.distributed import World
from my_submission.src.training.optimizer import learning_rate, make_optimizer

PATIENCE = 10  # after this many steps in a row without a finite loss, the run ends with an error


@dataclass(frozen=True)
class StepResult:
    """The numbers of a step. All but `kept_items` are of the global batch."""

    loss: float
    kept: list[float]  # share of the errors that the mask kept, per source
    gradient_norm: float  # before clipping; NaN if no gradient was computed
    skipped: bool  # the weights were not changed
    kept_items: list[list[float]]  # share of the errors that the mask kept, per item of this rank and source, [b][S]


class Trainer:
    """One network's training. As published: masked loss, Adam, a constant rate and a moving average of the weights.

    Args:
        config: the sizes of the network and the recipe.
        seed: of the initial weights.
        device: where to train.
        precision: fp16, bf16, tf32 or fp32. fp16 comes with a gradient scaler; half precision is faster on GPUs.
        world: the processes of the run (default: this one alone). They share the batch of the config.
        weights: a state dict of this network to start from (default: random weights).
        compile: compile the network at the first step (default: False). That takes minutes and makes the steps faster; their
            results differ only by rounding.

    Raises TrainingError if the config cannot be trained, CompilingError if something that compiling needs is missing.
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
        keep_freed_memory()  # here and not in the command, so that Python callers have it too
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
            # Only the part between the STFT and its inverse is compiled. The compiled function hides the method of this
            # instance, so that `forward` calls it; a wrapping module would rename the parameters, and so the checkpoints.
            separate_spec = cast(Callable[[Tensor], Tensor], self.network.separate_spec)
            vars(self.network)["separate_spec"] = compiling.compiled(separate_spec)
        self.ddp_network: nn.Module = self.network
        if self.world.size > 1:
            self.ddp_network = DistributedDataParallel(
                self.network,
                device_ids=None if device.type == "cpu" else [device],
                gradient_as_bucket_view=True,  # avoids a copy of all gradients
            )
        target = training.target_instrument
        self.target = None if target is None else training.instruments.index(target)
        self.steps = 0  # steps done, including the skipped ones
        self.skipped = 0  # steps that did not change the weights
        self.failures = 0  # failed steps in a row: no finite loss, or an overflow that the scaler cannot fix

    def step(self, sources: Tensor) -> StepResult:
        """Train on this rank's share [b, S, C, T] of a batch. Raises TrainingError after PATIENCE failures in a row."""
        training = self.config.training
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(training, self.steps)
        sources = sources.to(self.device, non_blocking=True)
        mixture = sources.sum(dim=1)  # [b, C, T]
        target = sources if self.target is None else sources[:, self.target]
        with autocast_to(self.precision, self.device):
            estimate = self.ddp_network(mixture)  # the shape of target
        loss, kept = masked_loss_and_kept(estimate, target, training.q, training.mask)  # a scalar, [b, S]
        value, shares, items = self._fetch_loss_and_shares(loss, kept)

        norm, finite = math.nan, math.isfinite(value)  # the same on every rank: a NaN on one rank is a NaN on all
        if finite:
            with tf32_matmul(self.precision, self.device):
                self.scaler.scale(loss).backward()
            # The original clipped the gradients while they were still scaled, to about 1/65536 of the config's norm.
            self.scaler.unscale_(self.optimizer)
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), training.grad_clip or math.inf).item()
            if math.isfinite(norm):
                self.scaler.step(self.optimizer)
            # Half precision overflows now and then. The scaler then lowers its scale, so this is no failure while it can.
            finite = math.isfinite(norm) or (self.scaler.is_enabled() and self.scaler.get_scale() > 1)
            self.scaler.update()
            self.optimizer.zero_grad()
            self.ema.update()  # includes BatchNorm's statistics, which the original left out of its checkpoints

        self.steps += 1
        self.skipped += not math.isfinite(norm)
        self.failures = 0 if finite else self.failures + 1
        if self.failures == PATIENCE:
            raise TrainingError(
                f"step {self.steps}: no finite loss in {PATIENCE} steps in a row; the training has diverged, or "
                f"{self.precision} cannot hold it. Start again (--restart) with a smaller training.lr, a training.grad_clip "
                "or --precision fp32"
            )
        return StepResult(value, shares, norm, not math.isfinite(norm), items)

    def _fetch_loss_and_shares(self, loss: Tensor, kept: Tensor) -> tuple[float, list[float], list[list[float]]]:
        """Reduce the loss and the shares kept [b, S] over the ranks, and copy them to the host.

        All numbers go through one tensor, because the host waits for the GPU at every copy.

        Returns the global batch's loss, its shares kept per source [S], and this rank's shares kept per item and source [b][S].
        """
        # the mean of these over the ranks is the mean over the global batch
        shares = kept.sum(dim=0) * (self.world.size / self.config.training.batch_size)  # [S]
        means = self.world.mean(torch.cat([loss.detach()[None], shares]))  # [1 + S]
        numbers = torch.cat([means, kept.flatten()]).cpu()  # [1 + S + b * S]
        mean_shares, *items = numbers[1:].view(-1, kept.shape[1]).tolist()
        return numbers[0].item(), mean_shares, items

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on."""
        cuda = self.device.type == "cuda"
        return {
            "step": self.steps,
            "skipped": self.skipped,
            "failures": self.failures,
            "network": self.network.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            # no step is random today; with dropout, steps would be
            "random": torch.get_rng_state(),
            "cuda_random": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        self.steps, self.skipped, self.failures = state["step"], state["skipped"], state["failures"]
        self.network.load_state_dict(state["network"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["cuda_random"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], self.device)


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
