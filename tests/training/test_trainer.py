"""The training step: golden numbers, the mask, and failures that must not break a run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from my_submission.src.config import Config, load_config
from my_submission.src.loss import quantile, squared_errors
from my_submission.src.runtime import device
from my_submission.src.training.distributed import World
from my_submission.src.training.optimizer import learning_rate
from my_submission.src.training.trainer import PATIENCE, Trainer, TrainingError
from tests.helpers.paths import GOLDEN
from tests.helpers.training import INSTRUMENTS, tone, write_config

CPU = torch.device("cpu")


def trainer(config: Config, seed: int = 0, **training: Any) -> Trainer:
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, **training))
    return Trainer(config, seed=seed, device=CPU, precision="fp32")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return load_config(write_config(tmp_path / "config.yaml"))


def noise(config: Config, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(config.training.batch_size, 4, 2, config.audio.chunk_size, generator=generator)


@pytest.mark.parametrize("mask", ["coarse", "fine"])
def test_three_steps_agree_with_the_original_system(mask: str) -> None:
    golden = np.load(GOLDEN / f"training_{mask}" / "steps.npz")
    ours = trainer(
        load_config(GOLDEN / f"training_{mask}" / "config.yaml"),
        lr=float(golden["lr"]),
        q=float(golden["q"]),
        ema_momentum=float(golden["ema_momentum"]),
        coarse_loss_clip=bool(golden["coarse"]),
    )
    initial = {name.removeprefix("initial/"): torch.tensor(golden[name]) for name in golden if name.startswith("initial/")}
    ours.network.load_state_dict(initial)
    ours.ema.load_state_dict(initial)
    losses = [ours.step(torch.tensor(batch)).loss for batch in golden["batches"]]
    assert losses == pytest.approx(golden["losses"].tolist(), rel=1e-6)
    averages = ours.ema.state_dict()
    assert averages.keys() == initial.keys()
    for name, value in averages.items():
        assert np.abs(value.numpy() - golden[f"ema/{name}"]).max() <= 1e-5, name


def test_the_coarse_mask_drops_the_items_with_wrong_labels(config: Config) -> None:
    """A toy with a known answer: each instrument has its pitch, and one item of every batch has drums and bass swapped."""
    ours = trainer(config, lr=0.01, q=0.9)  # keeps 5 of 6
    rng = np.random.default_rng(0)
    found = []
    for step in range(80):
        samples = [[tone(name, config.audio.chunk_size, int(rng.integers(1000))).T for name in INSTRUMENTS] for _ in range(6)]
        batch = torch.tensor(np.array(samples), dtype=torch.float32)
        wrong = int(rng.integers(6))
        batch[wrong] = batch[wrong, [0, 2, 1, 3]]
        if step >= 70:
            with torch.no_grad():
                errors = squared_errors(ours.network(batch.sum(dim=1)), batch, mask="coarse")
            dropped = errors >= quantile(errors, 0.9)[0][:, None]  # [S, B]
            found += [dropped[source].nonzero().flatten().tolist() == [wrong] for source in (1, 2)]
        ours.step(batch)
    assert sum(found) >= 18, f"the item dropped was the wrong one in {sum(found)} of {len(found)} cases"


@pytest.mark.parametrize("norm", ["InstanceNorm", "BatchNorm"])
def test_activation_checkpointing_changes_no_result(config: Config, norm: str) -> None:
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, norm=norm))
    plain, frugal = trainer(config), trainer(config, activation_checkpointing=True)
    for seed in range(3):
        kept_bytes = []
        results = []
        for ours in (plain, frugal):
            kept_bytes.append(0)

            def count(tensor: torch.Tensor, kept_bytes: list[int] = kept_bytes) -> torch.Tensor:
                kept_bytes[-1] += tensor.nbytes
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                results.append(ours.step(noise(config, seed)))
        assert results[0] == results[1]
        assert kept_bytes[1] < 0.6 * kept_bytes[0]
    for name, value in plain.ema.state_dict().items():  # including BatchNorm's statistics
        assert torch.equal(value, frugal.ema.state_dict()[name]), name


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_clipped_at_their_true_size(config: Config, scaled: bool) -> None:
    """Adam's steps hardly depend on the size of a gradient, so the gradients that reach it are measured."""
    seen = []
    for clip in (None, 1e-4):
        ours = trainer(config, grad_clip=clip)
        ours.scaler = torch.amp.GradScaler("cpu", enabled=scaled)  # as in half precision on a GPU
        step = ours.optimizer.step

        def look(step: Any = step, ours: Trainer = ours) -> None:
            seen.append(math.sqrt(sum(parameter.grad.square().sum().item() for parameter in ours.network.parameters())))
            step()

        ours.optimizer.step = look
        seen.append(ours.step(noise(config)).gradient_norm)
    (reached, norm), (reached_clipped, norm_before) = seen[:2], seen[2:]
    assert reached == pytest.approx(norm, rel=1e-4)
    assert norm_before == pytest.approx(norm, rel=1e-4)  # the norm reported is the one before clipping
    assert norm > 2e-4
    assert reached_clipped == pytest.approx(1e-4, rel=0.02)


def test_a_single_instrument_can_be_the_target(config: Config) -> None:
    ours = trainer(config, target_instrument="bass")
    sources = noise(config)
    result = ours.step(sources)
    assert len(result.kept) == 1
    fresh = trainer(config, target_instrument="bass")
    errors = squared_errors(fresh.network(sources.sum(dim=1)), sources[:, 2], mask="coarse")
    kept = errors[errors < torch.quantile(errors, 0.4)]
    assert result.loss == pytest.approx(kept.sum().item() / 6, rel=1e-5)


def test_a_loss_that_is_not_finite_is_skipped_and_counted(config: Config) -> None:
    ours = trainer(config)
    ours.step(noise(config))
    before = {name: value.clone() for name, value in ours.network.state_dict().items()}
    bad = noise(config)
    bad[2, 1, 0, 5] = math.nan
    result = ours.step(bad)
    assert result.skipped
    assert math.isnan(result.loss)
    assert (ours.steps, ours.skipped) == (2, 1)
    assert all(torch.equal(value, before[name]) for name, value in ours.network.state_dict().items())
    assert not ours.step(noise(config)).skipped
    assert (ours.skipped, ours.failures) == (1, 0)


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(config: Config) -> None:
    ours = trainer(config)
    ours.network.final_conv[2].weight.register_hook(lambda gradient: gradient * math.inf)
    assert ours.step(noise(config)).skipped
    assert all(torch.isfinite(value).all() for value in ours.network.state_dict().values())


def test_the_scaler_recovers_from_an_overflow(config: Config) -> None:
    ours = trainer(config)
    ours.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # overflows until the scale is lower
    results = [ours.step(1000 * noise(config)) for _ in range(40)]
    assert results[0].skipped
    assert math.isfinite(results[0].loss)
    assert not results[-1].skipped
    assert ours.skipped == sum(result.skipped for result in results) > PATIENCE  # more than ten in a row, and no failure


def test_ten_failures_in_a_row_end_the_run_with_a_reason(config: Config) -> None:
    ours = trainer(config)
    bad = torch.full_like(noise(config), math.inf)
    for _ in range(PATIENCE - 1):
        ours.step(bad)
    with pytest.raises(TrainingError, match=r"step 10: no finite loss in 10 steps in a row; .* smaller training.lr"):
        ours.step(bad)


def test_the_rate_is_constant_by_default(config: Config) -> None:
    assert {learning_rate(config.training, step) for step in range(20)} == {config.training.lr}
    ours = trainer(config, lr_schedule="cosine", warmup_steps=4, num_steps=100, lr=0.01)
    rates = [learning_rate(ours.config.training, step) for step in range(100)]
    assert rates[:4] == sorted(rates[:4])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    np.testing.assert_allclose([rates[0], rates[50], rates[99]], [0.002, 0.005, 0], atol=1e-5)
    for step in range(3):
        ours.step(noise(config))
        assert ours.optimizer.param_groups[0]["lr"] == rates[step]


def test_different_seeds_begin_with_different_weights(config: Config) -> None:
    first, same, other = (trainer(config, seed).network.state_dict()["first_conv.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_config_that_cannot_be_trained_is_refused_at_the_start(config: Config) -> None:
    with pytest.raises(TrainingError, match=r"training.batch_size is 1, and of 1 the coarse mask .* keeps none: the loss"):
        trainer(config, batch_size=1)
    trainer(config, batch_size=1, coarse_loss_clip=False)
    with pytest.raises(TrainingError, match=r"training.batch_size is 6, but 7 processes run: .* Start 6 processes or fewer"):
        Trainer(config, seed=0, device=CPU, precision="fp32", world=World(rank=0, size=7))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, norm="BatchNorm"))
    with pytest.raises(TrainingError, match=r"model.norm is BatchNorm, which several processes share on CUDA only"):
        Trainer(config, seed=0, device=CPU, precision="fp32", world=World(rank=0, size=2))


def test_bf16_trains_on_a_cpu(config: Config) -> None:
    ours = Trainer(config, seed=0, device=CPU, precision="bf16")
    reference = trainer(config).step(noise(config))
    result = ours.step(noise(config))
    assert result.loss == pytest.approx(reference.loss, rel=0.01)
    assert result.loss != reference.loss
    assert all(value.dtype == torch.float32 for value in ours.ema.state_dict().values())


def test_tf32_applies_to_the_backward_pass_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_has_tf32", lambda _: True)  # the settings exist on a CPU too, without an effect
    seen: dict[str, list[bool]] = {}
    for precision in ("fp32", "tf32"):
        ours = Trainer(config, seed=0, device=CPU, precision=precision)
        weight = ours.network.first_conv.weight
        note = seen.setdefault(precision, [])
        ours.network.first_conv.register_forward_hook(lambda *_, note=note: note.append(torch.backends.cudnn.allow_tf32))
        weight.register_hook(lambda _, note=note: note.append(torch.backends.cudnn.allow_tf32))
        ours.step(noise(config))
    assert seen == {"fp32": [False, False], "tf32": [True, True]}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_half_precision_on_a_gpu_agrees_with_a_cpu(config: Config) -> None:
    ours = Trainer(config, seed=0, device=torch.device("cuda"), precision="fp16")
    reference = trainer(config)
    for seed in range(3):
        assert ours.step(noise(config, seed)).loss == pytest.approx(reference.step(noise(config, seed)).loss, rel=0.01)
    state = ours.state_dict()
    ours.load_state_dict(state)
    assert ours.scaler.get_scale() == state["scaler"]["scale"]
