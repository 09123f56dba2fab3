"""Norm and activation in one kernel: the kernel equals the two layers, and is used only if it does.

Without a GPU, Triton's interpreter runs the kernel on the CPU, in a new process (Triton reads TRITON_INTERPRET at import).
"""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Iterator
from subprocess import CompletedProcess

import pytest
import torch
from torch import Tensor, nn

from my_submission.src.runtime import fused_norm as fused
from my_submission.src.runtime.fused_norm import kernel_matches_layers, norm_activation

CPU = torch.device("cpu")

INTERPRETED = """
import torch
from torch import nn
from my_submission.src.runtime import fused_norm as fused

def compare(shape, dtype, activation, limit, mean=0.0):
    torch.manual_seed(0)
    norm = nn.InstanceNorm2d(shape[1], affine=True)
    nn.init.normal_(norm.weight); nn.init.normal_(norm.bias)
    x = (mean + torch.randn(shape)).to(dtype)
    if shape[2] > 8:
        x = x.transpose(2, 3)  # not contiguous, like the network's first tensor
    expected = activation(norm.double()(x.double()))
    found = fused._run_kernel(norm.float(), activation, x)
    assert found.dtype == dtype and found.shape == x.shape and found.is_contiguous()
    off = ((found.double() - expected).abs().max() / expected.abs().max()).item()
    assert off < limit, (shape, dtype, activation, off)

for activation in (nn.GELU(), nn.ReLU()):
    for shape in ((2, 3, 40, 130), (1, 2, 1, 2), (3, 1, 64, 64), (1, 5, 33, 125)):  # below, at and above a block
        compare(shape, torch.float32, activation, 2e-6)
    compare((2, 3, 40, 130), torch.float16, activation, 1e-3)
    compare((2, 3, 40, 130), torch.bfloat16, activation, 8e-3)
    compare((1, 2, 40, 130), torch.float32, activation, 1e-3, mean=1000.0)  # sums of squared values would lose it
assert fused.kernel_matches_layers(torch.device("cpu"))

from my_submission.src.config import load_config
from my_submission.src.model import TFCTDFNet
config = load_config("tests/golden/separation_A/config.yaml")
network = TFCTDFNet(config).eval()
spec = torch.randn(1, 2 * config.audio.num_channels, config.audio.dim_f, config.audio.dim_t)
with torch.inference_mode():
    layers = network.separate_spec(spec)
    fused._has_triton = lambda device: True
    whole = network.separate_spec(spec)
assert not torch.equal(layers, whole), "the kernel was not used"
assert ((layers - whole).norm() / layers.norm()).item() < 1e-5
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton (pip install triton)")
def test_the_kernel_is_equal_to_the_layers(run_python: Callable[..., CompletedProcess[str]]) -> None:
    result = run_python("-c", INTERPRETED, TRITON_INTERPRET="1")
    assert result.returncode == 0, result.stderr[-2000:]


ACTIVATIONS = (nn.GELU(), nn.ReLU(), nn.ELU(0.7))
NORMS = (nn.InstanceNorm2d(6, affine=True), nn.BatchNorm2d(6), nn.GroupNorm(2, 6))


@pytest.mark.parametrize("layout", ["contiguous", "transposed", "channels_last"])
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("norm", NORMS, ids=repr)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_on_a_cpu_the_results_and_gradients_are_those_of_the_layers(
    activation: nn.Module, norm: nn.Module, mean: float, layout: str
) -> None:
    torch.manual_seed(0)
    norm = copy.deepcopy(norm)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = mean + torch.randn(2, 6, 16, 24)
    x = x.transpose(2, 3) if layout == "transposed" else x
    x = (x.contiguous(memory_format=torch.channels_last) if layout == "channels_last" else x).requires_grad_()
    towards = torch.randn(x.shape)

    def run(norm: nn.Module, x: Tensor, layers: Callable[[nn.Module, Tensor], Tensor]) -> list[Tensor]:
        result = layers(norm, x)
        return [result.detach(), *torch.autograd.grad(result, [x, *norm.parameters()], towards.to(result.dtype))]

    exact = run(copy.deepcopy(norm).double(), x.detach().double().requires_grad_(), lambda norm, x: activation(norm(x)))
    plain = run(copy.deepcopy(norm), x, lambda norm, x: activation(norm(x)))
    for found, other, expected in zip(run(norm, x, lambda n, x: norm_activation(n, activation, x)), plain, exact, strict=True):
        largest = expected.abs().max()
        off, allowed = (found - expected).abs().max() / largest, (other - expected).abs().max() / largest
        assert off < 1e-6 + 3 * allowed  # as exact as the layers
    before = x.detach().clone()
    with torch.inference_mode():  # another path
        torch.testing.assert_close(norm_activation(norm, activation, x), activation(norm(x)), rtol=1e-5, atol=2e-5)
    assert torch.equal(x, before)


def test_on_a_cpu_half_precision_keeps_its_type() -> None:
    torch.manual_seed(0)
    x, norm = torch.randn(2, 6, 16, 24).bfloat16(), nn.InstanceNorm2d(6, affine=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = norm_activation(norm, nn.GELU(), x), nn.GELU()(norm(x))
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found, expected)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tensor]]:
    """Give the CPU a kernel that runs the two layers and counts its calls."""

    def layers(norm: nn.Module, activation: nn.Module, x: Tensor) -> Tensor:
        layers.used += 1
        return activation(norm(x)) + layers.off

    layers.used, layers.off = 0, 0.0
    monkeypatch.setattr(fused, "_has_triton", lambda device: True)
    monkeypatch.setattr(fused, "_run_kernel", layers)
    kernel_matches_layers.cache_clear()
    yield layers
    kernel_matches_layers.cache_clear()


def test_the_kernel_is_used_if_it_can_be(kernel: Callable[..., Tensor]) -> None:
    x, norm = torch.randn(2, 3, 4, 5), nn.InstanceNorm2d(3, affine=True)
    with torch.inference_mode():
        assert kernel_matches_layers(CPU)
        kernel.used = 0
        for activation in (nn.GELU(), nn.ReLU()):
            assert torch.equal(norm_activation(norm, activation, x), activation(norm(x)))
        assert kernel.used == 2
        others = ((norm, nn.ELU()), (nn.BatchNorm2d(3), nn.GELU()), (nn.GroupNorm(3, 3), nn.GELU()))
        for other, activation in others:
            torch.testing.assert_close(norm_activation(other, activation, x), activation(other(x)))
        torch.compile(norm_activation, backend="eager", fullgraph=True)(norm, nn.GELU(), x)
    norm_activation(norm, nn.GELU(), x)  # with gradients
    assert kernel.used == 2


def test_a_kernel_that_differs_is_not_used_and_warned_about(kernel: Callable[..., Tensor]) -> None:
    x, norm = torch.randn(2, 3, 4, 5), nn.InstanceNorm2d(3, affine=True)
    kernel.off = 0.1
    with torch.inference_mode():
        with pytest.warns(
            UserWarning, match=r"cpu: norm and activation stay two kernels: GELU.*: off by 0\.\d+ of the largest"
        ):
            estimate = norm_activation(norm, nn.GELU(), x)
        torch.testing.assert_close(estimate, nn.GELU()(norm(x)))
        kernel.off = float("nan")
        kernel_matches_layers.cache_clear()
        with pytest.warns(UserWarning, match="off by nan"):
            assert not kernel_matches_layers(CPU)


@pytest.mark.parametrize("triton", [None, object()])
def test_the_kernel_needs_cuda_and_triton(monkeypatch: pytest.MonkeyPatch, triton: object) -> None:
    fused._has_triton.cache_clear()
    monkeypatch.setattr(fused.importlib.util, "find_spec", lambda name: triton)
    found = [fused._has_triton(torch.device(name)) for name in ("cuda", "cpu", "mps")]
    fused._has_triton.cache_clear()
    assert found == [triton is not None, False, False]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_kernel_equals_the_layers_on_this_gpu() -> None:
    assert kernel_matches_layers(torch.device("cuda"))
