"""The optimizers (Adam, as published, or Muon, which needs far fewer steps) and the learning rate of every step.

    optimizer = make_optimizer("muon", network.parameters(), lr=0.002)
    rate = learning_rate(config.training, step=0)

To add an optimizer, add it to OPTIMIZERS here and add its name to the check of training.optimizer in config.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

from my_submission.src.config import TrainingConfig
from my_submission.src.training.muon import Muon


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
