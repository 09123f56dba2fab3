"""The optimizers: a step of Muon on kernels and vectors, and exact resume of a run with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from my_submission.src.config import Config, ConfigError, load_config
from my_submission.src.training import TrainingError
from my_submission.src.training.muon import MatrixMuon, Muon, newton_schulz
from my_submission.src.training.optimizer import OPTIMIZERS, make_optimizer
from my_submission.src.training.trainer import Trainer
from tests.helpers.training import write_config


@pytest.fixture
def layers() -> nn.Sequential:
    """Every kind of parameter that the network has."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, bias=False),
        nn.InstanceNorm2d(6, affine=True),
        nn.Linear(8, 4, bias=False),
        nn.ConvTranspose2d(6, 3, 2, 2, bias=False),
    )


def step(layers: nn.Module, optimizer: torch.optim.Optimizer, seed: int = 0) -> None:
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    (layers(inputs) - 1).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def changes(layers: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    before = {name: value.detach().clone() for name, value in layers.named_parameters()}
    step(layers, optimizer)
    return {name: value.detach() - before[name] for name, value in layers.named_parameters()}


def test_muon_moves_a_kernel_equally_far_in_every_direction(layers: nn.Sequential) -> None:
    moved = changes(layers, Muon(layers.parameters(), lr=0.01))
    for name in ("0.weight", "2.weight", "3.weight"):
        matrix = moved[name].flatten(1)
        directions = torch.linalg.svdvals(matrix) / (0.01 * 0.2 * max(matrix.shape) ** 0.5)
        assert directions.min() > 0.5, name  # five Newton-Schulz steps bring them to about 1
        assert directions.max() < 1.5, name


def test_muon_moves_a_vector_as_adam_does(layers: nn.Sequential) -> None:
    moved = changes(layers, Muon(layers.parameters(), lr=0.01))
    for name in ("1.weight", "1.bias"):
        assert moved[name].abs().max() == pytest.approx(0.01, rel=1e-3), name  # the size of Adam's first step


def test_muon_uses_the_rate_of_its_parameter_group(layers: nn.Sequential) -> None:
    optimizer = Muon(layers.parameters(), lr=0.01)
    optimizer.param_groups[0]["lr"] = 0.0
    assert all(not value.any() for value in changes(layers, optimizer).values())
    optimizer.param_groups[0]["lr"] = 0.01
    assert all(value.any() for value in changes(layers, optimizer).values())
    assert all(parameter.grad is None for parameter in [*layers.parameters(), *optimizer.matrices])


def test_a_parameter_without_a_gradient_does_not_change(layers: nn.Sequential) -> None:
    layers[0].weight.requires_grad_(False)
    moved = changes(layers, Muon(layers.parameters(), lr=0.01))
    assert not moved["0.weight"].any()
    assert moved["2.weight"].any()


def polynomial(matrix: torch.Tensor) -> torch.Tensor:
    """Take five Newton-Schulz steps on one matrix, with the singular value decomposition in float64."""
    u, values, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / values.norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return u * values @ v


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8), (8, 100), (100, 8), (1, 9), (9, 1)])
@pytest.mark.parametrize("smallest", [1.0, 1e-4, 0.0])
def test_the_steps_on_many_matrices_are_those_on_singular_values(shape: tuple[int, int], smallest: float) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    u, values, v = torch.linalg.svd(matrices, full_matrices=False)
    shrunk = values * torch.linspace(1, smallest, values.shape[1])
    matrices = (u * shrunk[:, None] @ v).float()
    moves = newton_schulz(matrices, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    for matrix, move in zip(matrices, moves, strict=True):
        expected = polynomial(matrix)
        assert (move - expected).norm() < 1e-3 * expected.norm()
    assert not newton_schulz(torch.zeros(2, *shape), (3.4445, -4.7750, 2.0315), 5, 1e-7).any()


def test_on_a_cpu_muon_takes_the_steps_of_torch_without_the_rounding_to_bfloat16() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(6, width)) for width in (36, 36, 6, 2)]
    theirs = [nn.Parameter(matrix.detach().clone()) for matrix in ours]
    options: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.0, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = MatrixMuon(ours, **options), torch.optim.Muon(theirs, **options)
    before = [matrix.detach().clone() for matrix in ours]
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn_like(mine)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, start in zip(ours, theirs, before, strict=True):
        assert (mine - other).norm() < 0.03 * (other - start).norm()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    optimizers[0].load_state_dict(optimizers[1].state_dict())  # states of earlier versions, and of other devices


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_with_muon_resumes_exactly(tmp_path: Path, precision: str) -> None:
    config = load_config(write_config(tmp_path / "config.yaml", optimizer="muon", batch_size=2))
    noise = torch.randn(5, 2, 4, 2, config.audio.chunk_size, generator=torch.Generator().manual_seed(0))
    batches = list(0.1 * noise)

    def trainer(config: Config, **options: Any) -> Trainer:
        return Trainer(config, seed=0, device=torch.device("cpu"), precision=precision, **options)

    whole = trainer(config)
    assert isinstance(whole.optimizer, Muon)
    losses = [whole.step(batch).loss for batch in batches]
    first, rest = trainer(config), trainer(config)
    begun = [first.step(batch).loss for batch in batches[:2]]
    torch.save(first.state_dict(), tmp_path / "state.pt")
    rest.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert begun + [rest.step(batch).loss for batch in batches[2:]] == losses
    for name, value in rest.network.state_dict().items():
        assert torch.equal(value, whole.network.state_dict()[name]), name

    adam = trainer(dataclasses.replace(config, training=dataclasses.replace(config.training, optimizer="adam")))
    assert [adam.step(batch).loss for batch in batches][:2] != losses[:2]


def test_adam_is_the_default(tmp_path: Path, layers: nn.Sequential) -> None:
    assert load_config(write_config(tmp_path / "config.yaml")).training.optimizer == "adam"
    assert type(make_optimizer("adam", layers.parameters(), 0.1)) is torch.optim.Adam
    with pytest.raises(ConfigError, match=r"training.optimizer is 'sgd', expected adam or muon"):
        load_config(write_config(tmp_path / "sgd.yaml", optimizer="sgd"))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_config_accepts_every_optimizer_of_the_table(tmp_path: Path, layers: nn.Sequential, name: str) -> None:
    assert load_config(write_config(tmp_path / "config.yaml", optimizer=name)).training.optimizer == name
    assert any(value.any() for value in changes(layers, make_optimizer(name, layers.parameters(), 0.1)).values())


def test_muon_computes_the_gradients_by_a_closure(layers: nn.Sequential) -> None:
    inputs = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    optimizer = Muon(layers.parameters(), lr=0.01)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (layers(inputs) - 1).square().mean()
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert losses[2] < losses[0]


def test_muon_needs_a_torch_that_has_it(layers: nn.Sequential, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(TrainingError, match=r"training\.optimizer: muon needs torch 2\.9 or later, found torch \d"):
        make_optimizer("muon", layers.parameters(), lr=0.002)
    make_optimizer("adam", layers.parameters(), lr=0.002)
