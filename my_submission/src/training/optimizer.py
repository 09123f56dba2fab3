"""The optimizers (Adam, as published, or Muon, which needs far fewer steps) and the learning rate of every step.

    optimizer = make_optimizer("muon", network.parameters(), lr=0.002)
    rate = learning_rate(config.training, step=0)

To add an optimizer, add it to OPTIMIZERS here and add its name to the check of training.optimizer in config.py.

Muon is from Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). The step sizes are those of Liu
et al., "Muon is scalable for LLM training" (arXiv 2502.16982), so that Muon and Adam work with similar learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from my_submission.src.config import TrainingConfig
from my_submission.src.training import TrainingError


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon for every weight with two or more axes, as a matrix [first axis, all others]; Adam for the rest.

    Muon replaces the moving average of a kernel's gradients by the nearest matrix whose singular values are all one. The
    kernel then moves equally far in every direction, not only in the directions of large gradients.

    Raises TrainingError if torch has no Muon.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise TrainingError(
                f"training.optimizer: muon needs torch 2.9 or later, found torch {torch.__version__}; install it, or take adam"
            )
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        self.kernels = [parameter for parameter in parameters if parameter.ndim > 1]
        # views of the same memory: a change of the matrix changes the kernel
        self.matrices = [nn.Parameter(kernel.detach().view(len(kernel), -1)) for kernel in self.kernels]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        self.parts: list[torch.optim.Optimizer] = []
        if self.matrices:
            self.parts.append(torch.optim.Muon(self.matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
        if vectors:
            self.parts.append(torch.optim.Adam(vectors, lr=lr, fused=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Change the parameters by their gradients; return the loss of `closure`, which computes them first, if given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.reshape(matrix.shape)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            part.step()
        for matrix in self.matrices:
            matrix.grad = None  # otherwise zero_grad would not free the gradients' memory
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next steps depend on."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the result of `state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)


def _adam(parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=lr, fused=True)


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]] = {"adam": _adam, "muon": Muon}


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of that name, a key of OPTIMIZERS, for these parameters."""
    return OPTIMIZERS[name](parameters, lr)


def learning_rate(training: TrainingConfig, step: int) -> float:
    """Return the learning rate of a step; the first step is 0.

    The schedule is constant, as published, or a cosine that ends at 0. During the warm-up, if any, the rate rises linearly.
    """
    rate = training.lr
    if training.lr_schedule == "cosine":
        rate *= (1 + math.cos(math.pi * step / training.num_steps)) / 2
    return rate * min(1.0, (step + 1) / (training.warmup_steps + 1))
