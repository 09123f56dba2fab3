"""Muon: kernels move equally far in every direction, which takes far fewer steps than Adam.

    optimizer = Muon(network.parameters(), lr=0.002)

Muon is from Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). The step sizes are those of Liu
et al., "Muon is scalable for LLM training" (arXiv 2502.16982), so that Muon and Adam work with similar learning rates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from my_submission.src.training import TrainingError

if TYPE_CHECKING:
    from torch.optim import Muon as TorchMuon
else:
    TorchMuon = getattr(torch.optim, "Muon", torch.optim.Optimizer)  # an older torch can import this module, for Adam


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
            kind = MatrixMuon if self.matrices[0].device.type == "cpu" else torch.optim.Muon
            self.parts.append(kind(self.matrices, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"))
        if vectors:
            self.parts.append(torch.optim.Adam(vectors, lr=lr, fused=True))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Change the parameters by their gradients; return the loss of `closure`, which computes them first, if given."""
        loss = _loss_of(closure)
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


class MatrixMuon(TorchMuon):
    """torch.optim.Muon for a CPU: the same step and state, in float32 instead of bfloat16, and for many matrices at a time.

    Few processors multiply in bfloat16; on the others, those products took more than a third of the demo's training step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Change the matrices by their gradients; return the loss of `closure`, if given."""
        loss = _loss_of(closure)
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                averages = self._averages(matrices, group["momentum"])
                moves = newton_schulz(averages, group["ns_coefficients"], group["ns_steps"], group["eps"])
                # makes the updates as large as Adam's (Liu et al., section 2.2)
                rate = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_add_(matrices, list(moves), alpha=-rate)
        return loss

    def _averages(self, matrices: list[Tensor], momentum: float) -> Tensor:
        """Add the gradients to their moving averages; return the averages, one step ahead (Nesterov): [n, rows, columns]."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        averages = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        return torch.stack(gradients).lerp_(torch.stack(averages), momentum)


def _loss_of(closure: Callable[[], float] | None) -> float | None:
    """Return the loss that a step's closure computes, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def newton_schulz(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Bring the singular values of matrices [n, rows, columns] near 1: between about 0.7 and 1.2.

    One step is X -> (a + b G + c G^2) X with G = X X^T. If X is long, the steps are taken on G, which is small, and their
    product is applied to X once. This is the same polynomial with fewer operations.

    Args:
        matrices: each is divided by its norm first, so that no singular value is above 1.
        coefficients: (a, b, c).
        steps: number of steps.
        eps: smallest norm to divide by.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return newton_schulz(matrices.mT, coefficients, steps, eps).mT
    a, b, c = coefficients
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    if matrices.shape[2] <= 2 * matrices.shape[1]:
        for _ in range(steps):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return x
    gram = x @ x.mT
    product: Tensor | None = None
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if step < steps - 1:
            gram = factor @ (gram @ factor)
    return x if product is None else product @ x
