"""What changes the weights: Adam, as published, or Muon, which needs far fewer steps.

optimizer = make_optimizer("muon", network.parameters(), lr=0.002)

Muon is from Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), here with the step sizes of Liu et
al., "Muon is scalable for LLM training" (arXiv 2502.16982), so that a rate means to it about what it means to Adam.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from my_submission.src.training import TrainingError


def make_optimizer(name: str, parameters: Iterable[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """The optimizer of that name, adam or muon."""
    if name == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise TrainingError(
                f"training.optimizer: muon needs torch 2.9 or later, found torch {torch.__version__}; install it, or take adam"
            )
        return Muon(parameters, lr)
    return torch.optim.Adam(parameters, lr=lr, fused=True)


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon for every weight with two axes or more, as a matrix [first axis, all others]; Adam for the rest.

    The gradients' moving average is replaced by the nearest matrix whose singular values are all one: every direction that a
    kernel can move in moves alike, not only those in which gradients are large.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        parameters = list(parameters)
        super().__init__(parameters, {"lr": lr})
        self.kernels = [parameter for parameter in parameters if parameter.ndim > 1]
        # the same memory in another shape: what changes one changes the other
        self.matrices = [nn.Parameter(kernel.detach().view(len(kernel), -1)) for kernel in self.kernels]
        vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
        self.parts: list[torch.optim.Optimizer] = []
        if self.matrices:
            self.parts.append(torch.optim.Muon(self.matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
        if vectors:
            self.parts.append(torch.optim.Adam(vectors, lr=lr, fused=True))

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step, from the parameters' gradients."""
        for kernel, matrix in zip(self.kernels, self.matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.reshape(matrix.shape)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.param_groups[0]["lr"]
            part.step()
        for matrix in self.matrices:
            matrix.grad = None  # or zero_grad would not give the memory back

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
