"""Channels-last inference: equal to the plain layout, chosen only where it is faster, and refused for unknown layers."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from my_submission.src.audio.files import AudioArray
from my_submission.src.checkpoint import load_network, read_state_dict
from my_submission.src.config import Config, load_config
from my_submission.src.model import build_network
from my_submission.src.runtime import device, layout
from my_submission.src.runtime.compiling import run_eagerly
from my_submission.src.runtime.device import autocast_to
from my_submission.src.runtime.layout import ExactGroupNorm, LayoutError, in_channels_last, run_prepared, runner_in_layout
from my_submission.src.runtime.network import SeparationNetwork
from my_submission.src.separator import Separator
from my_submission.src.stft import STFT
from tests.helpers.paths import GOLDEN

CPU = torch.device("cpu")
CASES = ["instance_gelu/weights.ckpt", "group_relu_target/weights.ckpt", "full_band_three_stems/weights.ckpt"]
CASES += [f"separation_A/{path.name}" for path in sorted((GOLDEN / "separation_A").glob("*.ckpt"))]


def decibels(found: Tensor, expected: Tensor) -> float:
    """The level of the expected tensor relative to the difference."""
    return float(20 * torch.log10(expected.double().norm() / (found.double() - expected.double()).norm().clamp(min=1e-30)))


def random_network(seed: int = 0, **model: object) -> SeparationNetwork:
    """A small network whose weights, norms and running statistics are all random."""
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    audio = dataclasses.replace(config.audio, dim_t=36, chunk_size=35 * config.audio.hop_length)  # of any scale here
    inference = dataclasses.replace(config.inference, dim_t=36)
    config = dataclasses.replace(config, audio=audio, inference=inference, model=dataclasses.replace(config.model, **model))
    torch.manual_seed(seed)
    network = build_network(config).eval()
    for module in network.modules():
        if isinstance(module, nn.InstanceNorm2d | nn.GroupNorm | nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.3)
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network


def spec_of(network: SeparationNetwork, batch: int = 1, frames: int = 32) -> Tensor:
    return torch.randn(batch, 2 * network.num_channels, network.stft.dim_f, frames)


def golden(case: str) -> tuple[Config, SeparationNetwork]:
    config = load_config((GOLDEN / case).with_name("config.yaml"))
    return config, load_network(config, read_state_dict(GOLDEN / case), case).eval()


@pytest.mark.parametrize("norm", ["InstanceNorm", "GroupNorm2", "BatchNorm"])
@pytest.mark.parametrize("act", ["relu", "gelu", "elu0.7"])
@pytest.mark.parametrize(
    ("frames", "sizes"),
    [
        (32, {}),
        (15, {"scale": (1, 2)}),
        (9, {"scale": (3, 2), "num_blocks_per_scale": 3}),
        (7, {"num_scales": 0, "growth": 0}),
        (12, {"num_subbands": 1, "bottleneck_factor": 4, "num_channels": 6, "growth": 2}),
    ],
)
@torch.no_grad()
def test_float32_is_as_exact_as_the_plain_layout(norm: str, act: str, frames: int, sizes: dict[str, object]) -> None:
    network = random_network(norm=norm, act=act, **sizes)
    for batch in (1, 3):
        spec = spec_of(network, batch, frames)
        before = spec.clone()
        found = run_prepared(in_channels_last(network, torch.float32), spec, torch.float32)
        plain, exact = network.separate_spec(spec), copy.deepcopy(network).double().separate_spec(spec.double())
        assert found.shape == plain.shape
        assert found.dtype == torch.float32
        assert decibels(found, exact) > min(110, decibels(plain, exact) - 6)
        assert decibels(found, plain) > 90  # planes of few values amplify the rounding
        assert torch.equal(spec, before)


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_the_golden_networks_agree_as_well(case: str) -> None:
    config, network = golden(case)
    torch.manual_seed(0)
    spec = network.stft(0.1 * torch.randn(8, 2, config.inference_chunk_size))  # of fewer, the rounding varies by 1 dB
    expected = network.separate_spec(spec)
    assert decibels(run_prepared(in_channels_last(network, torch.float32), spec, torch.float32), expected) > 100
    with autocast_to("bf16", CPU):
        by_autocast = network.separate_spec(spec)
        found = run_prepared(in_channels_last(network, torch.bfloat16), spec, torch.bfloat16)  # turns autocast off
    assert found.dtype == torch.bfloat16
    assert decibels(found, expected) > decibels(by_autocast, expected) - 1
    silence = torch.zeros_like(spec)
    assert not run_prepared(in_channels_last(network, torch.bfloat16), silence, torch.bfloat16).any()


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(6, affine=True), nn.GroupNorm(2, 6), nn.GroupNorm(1, 6)], ids=repr)
@pytest.mark.parametrize("mean", [0.0, 100.0, -1000.0])
@pytest.mark.parametrize("block", [1, 7 * 6, 1 << 18])
@torch.no_grad()
def test_the_statistics_are_as_exact_as_the_layers(
    norm: nn.InstanceNorm2d | nn.GroupNorm, mean: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "BLOCK", block)
    torch.manual_seed(0)
    norm = copy.deepcopy(norm)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = mean + torch.randn(2, 6, 13, 50).contiguous(memory_format=torch.channels_last)
    exact = copy.deepcopy(norm).double()(x.double())
    found = ExactGroupNorm(norm)(x)
    groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else 6
    plain = nn.functional.group_norm(x.contiguous(), groups, norm.weight, norm.bias)  # as in the plain layout
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert decibels(found, exact) > min(120, decibels(plain, exact) - 10)


def test_the_norm_of_one_value_is_refused_as_by_the_layer() -> None:
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        ExactGroupNorm(nn.InstanceNorm2d(3, affine=True))(torch.ones(1, 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_layer_keeps_the_layout_and_the_dtype(dtype: torch.dtype) -> None:
    prepared, seen = in_channels_last(random_network(), dtype), []
    leaves = [module for module in prepared.modules() if not module._modules and not isinstance(module, STFT)]

    def look(module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> None:
        seen.append(module)
        for tensor in (*inputs, result):
            assert tensor.is_contiguous(memory_format=torch.channels_last), module
            assert tensor.dtype == dtype, module

    for leaf in leaves:
        if not isinstance(leaf, nn.InstanceNorm2d):  # within ExactGroupNorm, which is no leaf
            leaf.register_forward_hook(look)
    run_prepared(prepared, spec_of(prepared), dtype)
    assert len(seen) > 50


def test_preparing_leaves_the_network_and_shares_float32_weights() -> None:
    network = random_network()
    before = {name: (value, value.data_ptr(), value.stride()) for name, value in network.state_dict().items()}
    copied = {name: value.clone() for name, value in network.state_dict().items()}
    storages = {value.data_ptr() for value in network.parameters()}
    single, half = in_channels_last(network, torch.float32), in_channels_last(network, torch.bfloat16)
    for name, value in network.state_dict().items():
        assert (value.data_ptr(), value.stride()) == before[name][1:]
        assert torch.equal(value, copied[name])
    assert network.memory_format is torch.contiguous_format
    assert all(value.requires_grad for value in network.parameters())
    assert {value.data_ptr() for value in tensors_of(single)} <= storages
    # of bf16, only the layers have copies, once; the norms' float32 parameters are shared
    copies = [value for value in tensors_of(half) if value.data_ptr() not in storages]
    assert {value.dtype for value in copies} == {torch.bfloat16}
    layers = [value for value in network.parameters() if value.ndim > 1]
    assert sum(value.numel() for value in copies) == sum(value.numel() for value in layers)
    assert all(value.ndim == 1 for value in tensors_of(half) if value.dtype == torch.float32)


def tensors_of(prepared: SeparationNetwork) -> list[Tensor]:
    """All weights of a prepared network, the STFT's window left out."""
    lefts = [module.weight for module in prepared.modules() if isinstance(module, layout.FromLeft)]
    return [*prepared.parameters(), *lefts]


# ---- the choice


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[tuple[int, ...]]]]:
    """Return a function that sets the seconds of the plain layout and of channels-last, on a CPU with AMX.

    It returns the shapes of the results of the trials that follow.
    """
    monkeypatch.setattr(layout, "CHOICES", {})
    monkeypatch.setattr(layout, "has_amx", lambda: True)

    def set_times(plain: float, channels_last: float) -> list[tuple[int, ...]]:
        shapes: list[tuple[int, ...]] = []

        def best_time(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
            result = work()
            shapes.append(tuple(result.shape))
            return result, (plain, channels_last)[(len(shapes) - 1) % 2]

        monkeypatch.setattr(layout, "_best_time", best_time)
        return shapes

    yield set_times


def layout_of(runner: layout.Runner, network: SeparationNetwork) -> str:
    """Run a network, and say which layout the result is of."""
    torch.manual_seed(0)
    spec = spec_of(network, batch=2, frames=64)
    with torch.inference_mode():
        found, plain = runner(network, spec, 2), network.separate_spec(spec)
        prepared = run_prepared(in_channels_last(network, torch.float32), spec, torch.float32)
    assert not torch.equal(plain, prepared)
    return "plain" if torch.equal(found, plain) else "channels-last" if torch.equal(found, prepared) else "neither"


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, "channels-last"), (0.94, "channels-last"), (0.97, "plain"), (2, "plain")]
)
def test_a_trial_on_a_short_spectrogram_chooses_once(
    trial: Callable[..., list[tuple[int, ...]]], seconds: float, expected: str
) -> None:
    shapes = trial(1.0, seconds)
    networks = [random_network(seed) for seed in range(3)]
    for _ in range(2):  # a second ensemble in the same process
        runner = runner_in_layout("auto", CPU, "fp32")
        assert [layout_of(runner, network) for network in networks] == 3 * [expected]
    assert shapes == 2 * [(1, 4, 4, 128, 32)]
    assert layout_of(runner_in_layout("auto", CPU, "fp32"), random_network(act="relu", num_channels=12)) == expected
    assert len(shapes) == 4  # of another size
    if expected == "plain":  # nothing is kept that does not run
        assert set(runner.prepared.values()) == {None}


def test_without_amx_there_is_no_trial(trial: Callable[..., list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = trial(1.0, 0.1)
    assert runner_in_layout("plain", CPU, "fp32") is run_eagerly
    assert runner_in_layout("auto", torch.device("cuda"), "fp16") is run_eagerly
    monkeypatch.setattr(layout, "has_amx", lambda: False)
    for precision in ("fp32", "bf16"):
        assert runner_in_layout("auto", CPU, precision) is run_eagerly
    assert Separator(GOLDEN / "separation_A", device="cpu").ensemble.runner is run_eagerly
    assert shapes == []


@pytest.mark.parametrize("says", [True, False, None])
def test_amx_is_what_torch_says(monkeypatch: pytest.MonkeyPatch, says: bool | None) -> None:
    if says is None:  # an older torch
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: says, raising=False)
    device.has_amx.cache_clear()
    found = device.has_amx()
    device.has_amx.cache_clear()
    assert found is bool(says)


def test_a_result_that_is_off_is_warned_about_and_not_taken(
    trial: Callable[..., list[tuple[int, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trial(1.0, 0.1)
    exact = layout.moments
    monkeypatch.setattr(layout, "moments", lambda x: (exact(x)[0], 1.1 * exact(x)[1]))
    runner = runner_in_layout("auto", CPU, "fp32")
    with pytest.warns(UserWarning, match=r"channels-last layout is off by 0\.\d+ here, so networks keep the plain one"):
        assert layout_of(runner, random_network()) == "plain"


def test_the_timer_takes_the_fastest_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(layout.time, "perf_counter", lambda: next(clock))
    calls: list[int] = []

    def work() -> Tensor:
        calls.append(1)
        return torch.tensor(len(calls))

    assert layout._best_time(work) == (torch.tensor(4), 2.0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_songs_sound_the_same_in_both_layouts(trial: Callable[..., list[tuple[int, ...]]], precision: str) -> None:
    trial(1.0, 0.1)
    song = AudioArray(0.1 * np.random.default_rng(0).standard_normal((2001, 2)), 44100)
    separator = Separator(GOLDEN / "separation_A", device="cpu", precision=precision)
    found = torch.from_numpy(separator.separate_array(song))
    separator.ensemble.runner = runner_in_layout("plain", CPU, precision)
    expected = torch.from_numpy(separator.separate_array(song))
    assert not torch.equal(found, expected)
    assert decibels(found, expected) > {"fp32": 100, "bf16": 30}[precision]
    assert separator.redone_chunks == 0


# ---- layers that are not known


class Gains(SeparationNetwork):
    """Another architecture, which has no memory format."""

    def __init__(self) -> None:
        super().__init__(STFT(256, 64, 128), num_channels=2, num_sources=4)
        self.gains = nn.Parameter(torch.ones(4, 1, 128, 1))

    def separate_spec(self, spec: Tensor) -> Tensor:
        return spec[:, None] * self.gains


class Formatted(Gains):
    """The same, which claims to have one."""

    memory_format = torch.contiguous_format


class OtherReLU(nn.ReLU):
    """A subclass can compute anything."""


def with_first(layer: nn.Module, **model: object) -> SeparationNetwork:
    """A network in which a layer stands for the first of its type, or the first ReLU."""
    network = random_network(act="relu", **model)
    kind = next(kind for kind in (nn.ReLU, nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.InstanceNorm2d) if isinstance(layer, kind))
    name = next(name for name, module in network.named_modules() if type(module) is kind)
    parent, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(parent), attribute, layer)
    return network


UNKNOWN: dict[str, Callable[[], SeparationNetwork]] = {
    "Gains does not keep": Gains,
    "Formatted is no layer": Formatted,
    "OtherReLU is no layer": lambda: with_first(OtherReLU()),
    "Linear.*bias=True.* cannot": lambda: with_first(nn.Linear(32, 16)),
    "Conv2d.*reflect.* cannot": lambda: with_first(nn.Conv2d(16, 8, 1, bias=False, padding_mode="reflect")),
    "BatchNorm2d.* a batch's own": lambda: with_first(nn.BatchNorm2d(8).train(), norm="BatchNorm"),
    "InstanceNorm2d.* cannot": lambda: with_first(nn.InstanceNorm2d(8)),
    "InstanceNorm2d.*track_running_stats=True.* cannot": lambda: with_first(
        nn.InstanceNorm2d(8, affine=True, track_running_stats=True).eval()
    ),
}


@pytest.mark.parametrize("message", UNKNOWN)
def test_unknown_layers_keep_the_plain_layout(trial: Callable[..., list[tuple[int, ...]]], message: str) -> None:
    shapes, network = trial(1.0, 0.1), UNKNOWN[message]()
    spec = spec_of(network)
    runner, forced = (runner_in_layout(name, CPU, "fp32") for name in ("auto", "channels-last"))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(runner(network, spec, 1), network.separate_spec(spec))
        assert shapes == []  # without a trial
        with pytest.raises(LayoutError, match=message):
            forced(network, spec, 1)


def test_other_layouts_devices_and_precisions_are_refused() -> None:
    with pytest.raises(LayoutError, match="layout is 'channels_last', expected auto, plain, channels-last"):
        runner_in_layout("channels_last", CPU, "fp32")
    for name, precision in (("cuda", "fp32"), ("cuda", "fp16"), ("mps", "bf16")):
        with pytest.raises(LayoutError, match=f"for fp32 and bf16 on a CPU, found {precision} on {name}"):
            runner_in_layout("channels-last", torch.device(name), precision)
