"""Choose the memory layout in which a CPU runs a network: plain, or channels-last where that is faster.

    run = runner_in_layout("auto", device, precision)   # plain, channels-last, or auto: the faster one of both
    run(network, spec, batch_size)                      # [B, 2C, F, L] -> [B, S, 2C, F, L]

A prepared network has the structure of its network, keeps every tensor [B, c, L, f] in memory as [B, L, f, c], and holds its
weights in the precision's dtype, so that no call converts them. It shares float32 weights with the network. Its layers:

    linear layers   a product from the left, W @ [B, L, f, c], without a transposition
    norms           exact statistics, and one scale-and-shift that keeps the order in memory
    activations     in place

On a CPU with AMX tiles, `auto` times both layouts on the beginning of the first spectrogram, and compares their results. The
choice holds for all networks of these shapes in the process. Another machine, or another process, can choose differently: the
estimates then differ by the rounding of the precision. All other processors run the plain layout, without a trial. So does a
network with layers that this file does not know.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Hashable
from typing import Any, cast

import torch
from torch import Tensor, nn

from my_submission.src.common.errors import UserError
from my_submission.src.runtime.compiling import Runner, run_eagerly
from my_submission.src.runtime.device import DTYPES, has_amx
from my_submission.src.runtime.network import SeparationNetwork
from my_submission.src.stft import STFT

LAYOUTS = ("auto", "plain", "channels-last")
TRIAL_FRAMES = 32  # STFT frames of the trial, rounded up to the network's multiple
TRIAL_RUNS = 3  # of each layout; the fastest counts
FASTER = 0.95  # channels-last is taken if it needs at most this share of the plain layout's time
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.1}  # root mean square of the difference, relative to the plain result's
BLOCK = 1 << 18  # values whose statistics are computed together: they fit into a core's cache


class LayoutError(UserError):
    """A network cannot run in the layout asked for."""


def runner_in_layout(layout: str, device: torch.device, precision: str) -> Runner:
    """Return a runner of networks in evaluation mode that keeps their prepared forms.

    A network's weights are read at its first call and must not change afterwards.

    Args:
        layout: plain, channels-last, or auto to choose by a trial.
        device: where the networks are; channels-last is for CPUs.
        precision: fp32 or bf16 for channels-last.

    Raises LayoutError; the runner raises it for a network that cannot be prepared, unless `layout` is auto.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"layout is {layout!r}, expected {', '.join(LAYOUTS)}")
    can_prepare = device.type == "cpu" and DTYPES[precision] in TOLERANCE
    if layout == "channels-last" and not can_prepare:
        raise LayoutError(f"layout channels-last is for fp32 and bf16 on a CPU, found {precision} on {device.type}")
    if layout == "plain" or not can_prepare or (layout == "auto" and not has_amx()):
        return run_eagerly
    return _PreparingRunner(DTYPES[precision], by_trial=layout == "auto")


class _PreparingRunner:
    """Prepare each network at its first call, and run it from then on."""

    def __init__(self, dtype: torch.dtype, by_trial: bool) -> None:
        self.dtype, self.by_trial = dtype, by_trial
        self.prepared: dict[SeparationNetwork, SeparationNetwork | None] = {}  # None: the plain network runs

    def __call__(self, network: SeparationNetwork, spec: Tensor, batch_size: int) -> Tensor:
        if network not in self.prepared:
            self.prepared[network] = self._choose(network, spec) if self.by_trial else in_channels_last(network, self.dtype)
        prepared = self.prepared[network]
        return run_eagerly(network, spec, batch_size) if prepared is None else run_prepared(prepared, spec, self.dtype)

    def _choose(self, network: SeparationNetwork, spec: Tensor) -> SeparationNetwork | None:
        """Return the prepared network if it is faster, otherwise None. Only the first network of a kind is timed."""
        kind = _kind(network, self.dtype)
        if CHOICES.get(kind) is False:
            return None
        try:
            prepared = in_channels_last(network, self.dtype)
        except LayoutError:
            CHOICES[kind] = False
            return None
        if kind not in CHOICES:
            CHOICES[kind] = _is_faster(network, prepared, spec, self.dtype)
        return prepared if CHOICES[kind] else None


CHOICES: dict[Hashable, bool] = {}  # the choices of this process: kind of network -> whether channels-last runs it


def _kind(network: SeparationNetwork, dtype: torch.dtype) -> Hashable:
    """Return what networks have in common that take the same time."""
    return type(network), dtype, tuple((name, tuple(value.shape)) for name, value in network.state_dict().items())


def _is_faster(network: SeparationNetwork, prepared: SeparationNetwork, spec: Tensor, dtype: torch.dtype) -> bool:
    """Time both layouts on the beginning of a spectrogram [B, 2C, F, L]; warn if their results differ by more than rounding."""
    frames = -(-TRIAL_FRAMES // network.frame_multiple) * network.frame_multiple
    spec = spec[:1, ..., :frames]
    expected, plain = _best_time(lambda: network.separate_spec(spec))
    torch.clear_autocast_cache()  # the plain network's weights in bf16
    found, channels_last = _best_time(lambda: run_prepared(prepared, spec, dtype))
    off = float((found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30))
    if not off <= TOLERANCE[dtype]:
        warnings.warn(f"the channels-last layout is off by {off:.1g} here, so networks keep the plain one", stacklevel=2)
        return False
    return channels_last <= FASTER * plain


def _best_time(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return the result of `work` and its shortest time in seconds; a first run is not counted."""
    result, times = work(), []
    for _ in range(TRIAL_RUNS):
        begin = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begin)
    return result, min(times)


def run_prepared(prepared: SeparationNetwork, spec: Tensor, dtype: torch.dtype) -> Tensor:
    """Run a prepared network without gradients: [B, 2C, F, L] -> [B, S, 2C, F, L] in `dtype`."""
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        return prepared.separate_spec(spec.to(dtype))


def in_channels_last(network: SeparationNetwork, dtype: torch.dtype) -> SeparationNetwork:
    """Return the network prepared for channels-last inference in `dtype`; the network itself is left as it is.

    Raises LayoutError for a network that does not keep `memory_format`, and for layers that are not in LAYERS.
    """
    if network.memory_format is None:
        raise LayoutError(f"{type(network).__name__} does not keep a memory format, so it cannot run channels-last")
    with torch.inference_mode(False), torch.no_grad():
        prepared = cast(SeparationNetwork, _prepare(network, dtype))
    prepared.memory_format = torch.channels_last
    return prepared


def _prepare(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a layer in its channels-last form, or a copy of a container of such layers."""
    if type(module) in LAYERS:
        return LAYERS[type(module)](module, dtype)
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    if own or not (module._modules or isinstance(module, nn.ModuleList)):
        raise LayoutError(f"{type(module).__name__} is no layer that can run channels-last")
    container = copy.copy(module)
    container._modules = {name: _prepare(child, dtype) for name, child in module.named_children()}
    return container


def _linear(layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    """Return the product from the left of a layer without a bias."""
    if getattr(layer, "bias", None) is not None:
        raise LayoutError(f"{layer} cannot run channels-last")
    return FromLeft(layer, dtype)


class FromLeft(nn.Module):
    """A linear layer without a bias, along f of channels-last tensors."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight: Tensor = linear.weight.detach().to(dtype)  # with a gradient, matmul would copy its other factor

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, c, L, f] -> [B, c, L, f']."""
        return (self.weight @ x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ExactGroupNorm(nn.Module):
    """Group norm, and instance norm as group norm with one group per channel, of channels-last tensors.

    torch's own kernel for channels-last computes the variance as a difference of squares, which loses 70 dB if the mean is 100
    times the deviation. It is used for bf16 only, whose rounding of the input loses more.
    """

    def __init__(self, layer: nn.GroupNorm | nn.InstanceNorm2d) -> None:
        super().__init__()
        if layer.weight is None or getattr(layer, "track_running_stats", False):
            raise LayoutError(f"{layer} cannot run channels-last")
        self.layer = layer
        self.groups = layer.num_groups if isinstance(layer, nn.GroupNorm) else layer.num_features

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, c, L, f] -> [B, c, L, f]."""
        batch, channels, frames, bins = x.shape
        weight, bias, eps = self.layer.weight, self.layer.bias, self.layer.eps
        if frames * bins == 1:  # of one value, instance norm raises an error
            return cast(Tensor, self.layer(x))
        if x.dtype != torch.float32:
            return torch.native_group_norm(x, weight, bias, batch, channels, frames * bins, self.groups, eps)[0]
        x = x.permute(0, 2, 3, 1)  # [B, L, f, c], contiguous
        mean, variance = (torch.stack(of_items) for of_items in zip(*map(moments, x), strict=True))  # [B, c]
        mean, variance = pooled(mean, variance, self.groups)
        scale = weight * (variance + eps).rsqrt()
        shift = bias - mean * scale
        return torch.addcmul(shift.float()[:, None, None], x, scale.float()[:, None, None]).permute(0, 3, 1, 2)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each channel of [L, f, c], in float64: two times [c].

    Each block's deviations from its own mean are squared, and the blocks are merged (Chan, Golub, LeVeque: "Updating formulae
    and a pairwise algorithm for computing sample variances", 1979). torch.var_mean takes ten times as long along these axes.
    """
    rows = x.reshape(-1, x.shape[-1])  # [L*f, c]
    blocks = rows.split(max(1, BLOCK // x.shape[-1]))
    sizes = torch.tensor([len(block) for block in blocks], dtype=torch.float64)[:, None] / len(rows)
    means = [block.mean(dim=0) for block in blocks]
    squares = [(block - mean).square_().mean(dim=0) for block, mean in zip(blocks, means, strict=True)]
    of_blocks, within = torch.stack(means).double(), torch.stack(squares).double()  # [blocks, c]
    mean = (sizes * of_blocks).sum(dim=0)
    return mean, (sizes * (within + (of_blocks - mean).square())).sum(dim=0)


def pooled(mean: Tensor, variance: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Replace each channel's mean and variance [B, c] by those of its group of channels."""
    if groups == mean.shape[1]:
        return mean, variance
    size = mean.shape[1] // groups
    mean, variance = mean.unflatten(1, (groups, size)), variance.unflatten(1, (groups, size))
    of_groups = mean.mean(dim=2, keepdim=True)
    variance = (variance + (mean - of_groups).square()).mean(dim=2, keepdim=True)
    return of_groups.expand(-1, -1, size).flatten(1), variance.expand(-1, -1, size).flatten(1)


class GELUInPlace(nn.Module):
    """GELU that replaces its input."""

    def __init__(self, approximate: str) -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """Map any shape to the same."""
        return cast(Tensor, torch.ops.aten.gelu_(x, approximate=self.approximate))


def _convolution(layer: nn.Conv2d | nn.ConvTranspose2d, dtype: torch.dtype) -> nn.Module:
    """Return the convolution with its weights in `dtype`. It keeps the memory format of its input."""
    if layer.padding_mode != "zeros":
        raise LayoutError(f"{layer} cannot run channels-last")
    converted = copy.copy(layer)
    converted._parameters = {
        name: None if value is None else _frozen(value, dtype) for name, value in layer._parameters.items()
    }
    return converted


def _frozen(value: Tensor, dtype: torch.dtype) -> nn.Parameter:
    """Return a parameter in `dtype`: float32 shares the memory, another dtype is channels-last as well."""
    value = value.detach()
    if value.dtype != dtype and value.ndim == 4:
        value = value.to(dtype, memory_format=torch.channels_last)
    return nn.Parameter(value.to(dtype), requires_grad=False)


def _batch_norm(layer: nn.BatchNorm2d, dtype: torch.dtype) -> nn.Module:
    """Return the layer, which keeps the memory format by itself, with its float32 parameters."""
    if layer.training or not layer.track_running_stats:
        raise LayoutError(f"{layer} cannot run channels-last with a batch's own statistics")
    return layer


# type of a layer -> its channels-last form, made from the layer and the dtype; a subclass is another type
LAYERS: dict[type, Callable[[Any, torch.dtype], nn.Module]] = {
    nn.Conv2d: _convolution,
    nn.ConvTranspose2d: _convolution,
    nn.Linear: _linear,
    nn.InstanceNorm2d: lambda layer, dtype: ExactGroupNorm(layer),
    nn.GroupNorm: lambda layer, dtype: ExactGroupNorm(layer),
    nn.BatchNorm2d: _batch_norm,
    nn.GELU: lambda layer, dtype: GELUInPlace(layer.approximate),
    nn.ReLU: lambda layer, dtype: nn.ReLU(inplace=True),
    nn.ELU: lambda layer, dtype: nn.ELU(layer.alpha, inplace=True),
    STFT: lambda layer, dtype: layer,
}
