"""TFC-TDF U-Net, version 3: the mixture's complex spectrogram in, one spectrogram per source out. And the seam for others:

    network = build_network(config)     # of the architecture that `model.type` names

Kim, Lee, Jung: "Sound Demixing Challenge 2023 Music Demixing Track Technical Report: TFC-TDF-UNet v3" (arXiv 2306.09382).
The block is from Choi et al., "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
separation" (ISMIR 2020); the subbands are from Liu et al., "Channel-wise Subband Input" (Interspeech 2020).

Module names are those of the published checkpoints, which load strictly. No convolution and no linear layer has a bias.
Inside the U-Net a tensor is [B, c, L, f]: c network channels, L frames, f frequency bins at that scale.

A further architecture takes a file with a subclass of SeparationNetwork, listed before this one in README's Architecture, and a
line of NETWORKS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from my_submission.src.common.plain_tree import require
from my_submission.src.config import Config
from my_submission.src.model_config import TFC_TDF, ModelConfig
from my_submission.src.runtime.fused_norm import norm_activation
from my_submission.src.runtime.network import SeparationNetwork
from my_submission.src.stft import STFT


class TFCTDFNet(SeparationNetwork):
    """mixture [B, C, T] -> estimates [B, S, C, T], or [B, C, T] if the config has a `target_instrument`.

    T = hop_length * (L - 1), where L is a multiple of model.scale[0] ** model.num_scales; a ValueError otherwise.
    The sources are in the order of `training.instruments`.
    """

    memory_format = torch.contiguous_format

    def __init__(self, config: Config) -> None:
        audio, model = config.audio, config.model
        if not isinstance(model, ModelConfig):
            raise TypeError(f"model.type is {model.type!r}, expected {TFC_TDF}")
        super().__init__(
            STFT(audio.n_fft, audio.hop_length, audio.dim_f),
            num_channels=audio.num_channels,
            num_sources=len(config.source_order),
            single_target=config.training.target_instrument is not None,
            frame_multiple=model.scale[0] ** model.num_scales,
        )
        self.num_subbands = model.num_subbands

        bands = 2 * audio.num_channels * model.num_subbands  # D of the paper's figure
        widths = model.channels
        bins = [audio.dim_f // model.num_subbands // model.scale[1] ** i for i in range(model.num_scales + 1)]

        self.first_conv = nn.Conv2d(bands, widths[0], 1, bias=False)
        self.encoder_blocks = nn.ModuleList(
            EncoderBlock(model, widths[i], widths[i + 1], bins[i]) for i in range(model.num_scales)
        )
        self.bottleneck_block = TFCTDF(model, widths[-1], widths[-1], bins[-1])
        self.decoder_blocks = nn.ModuleList(
            DecoderBlock(model, widths[i + 1], widths[i], bins[i]) for i in reversed(range(model.num_scales))
        )
        self.final_conv = nn.Sequential(
            nn.Conv2d(bands + widths[0], widths[0], 1, bias=False),
            activation(model),
            nn.Conv2d(widths[0], self.num_sources * bands, 1, bias=False),
        )
        for module in self.modules():
            if isinstance(module, ActivationCheckpointed):
                module.recompute = config.training.activation_checkpointing

    def separate_spec(self, spec: Tensor) -> Tensor:
        """Map spectrograms: [B, 2C, F, L] -> [B, S, 2C, F, L]."""
        batch, parts, bins, frames = spec.shape
        mix = spec.reshape(batch, parts * self.num_subbands, bins // self.num_subbands, frames)  # [B, D, F/K, L]
        if self.memory_format is torch.channels_last:  # so that all tensors are [B, L, f, c] in memory
            mix = mix.transpose(-1, -2).contiguous(memory_format=torch.channels_last)
            x = self._separate_subbands(mix, bins_last=True)  # [B, S*D, L, F/K]
            # back in two copies, this one within each frame: a single copy takes four times as long
            x = x.transpose(1, 2).contiguous().permute(0, 2, 3, 1)  # [B, S*D, F/K, L]
        else:
            x = self._separate_subbands(mix)
        return x.reshape(batch, self.num_sources, parts, bins, frames)

    def _separate_subbands(self, mix: Tensor, bins_last: bool = False) -> Tensor:
        """Map subbands: [B, D, F/K, L] -> [B, S*D, F/K, L], or both with their last two axes exchanged if `bins_last`."""
        first = self.first_conv(mix)
        x = self._u_net(first) if bins_last else self._u_net(first.transpose(-1, -2)).transpose(-1, -2)
        x = x * first  # reduces artefacts, and keeps silence exactly silent
        return cast(Tensor, self.final_conv(torch.cat([mix, x], dim=1)))

    def _u_net(self, x: Tensor) -> Tensor:
        """Map [B, c, L, F/K] -> the same: linear layers work along frequency."""
        skips = []
        for encoder in self.encoder_blocks:
            x, skip = encoder(x)
            skips.append(skip)
        x = self.bottleneck_block(x)
        for decoder in self.decoder_blocks:
            x = decoder(x, skips.pop())
        return x


class TFCTDF(nn.Module):
    """Residual units of time-frequency convolutions (TFC) around a time-distributed fully-connected part (TDF)."""

    def __init__(self, model: ModelConfig, width_in: int, width: int, bins: int) -> None:
        super().__init__()
        widths = [width_in] + [width] * (model.num_blocks_per_scale - 1)
        self.blocks = nn.ModuleList(ResidualUnit(model, w, width, bins) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, width_in, L, f] -> [B, width, L, f]."""
        for block in self.blocks:
            x = block(x)
        return x


class ActivationCheckpointed(nn.Module):
    """A part of the network whose activations training can discard and recompute (torch.utils.checkpoint).

    A subclass defines `compute`.
    """

    recompute = False  # set by the network

    def forward(self, x: Tensor) -> Tensor:
        """Run `compute`, recomputing its activations in the backward pass if `recompute` is set."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self.compute(x)
        # nothing here is random, so there is no random state to keep
        return checkpoint(self.compute, x, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts)

    def compute(self, x: Tensor) -> Tensor:
        """Compute the part itself."""
        raise NotImplementedError

    def _contexts(self) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        """Return the contexts of the first computation and of the second."""
        return contextlib.nullcontext(), self._on_copies_of_statistics()

    @contextlib.contextmanager
    def _on_copies_of_statistics(self) -> Iterator[None]:
        """Replace BatchNorm's running statistics by copies, so that recomputing does not count a batch twice."""
        buffers = [(module, *item) for module in self.modules() for item in module.named_buffers(recurse=False)]
        try:
            for module, name, buffer in buffers:
                setattr(module, name, buffer.clone())
            yield
        finally:
            for module, name, buffer in buffers:
                setattr(module, name, buffer)


class ResidualUnit(ActivationCheckpointed):
    """TFC, TDF with its own residual connection, TFC; a 1x1 convolution bypasses all three."""

    def __init__(self, model: ModelConfig, width_in: int, width: int, bins: int) -> None:
        super().__init__()
        narrow = bins // model.bottleneck_factor
        self.tfc1 = _pre_activated(model, width_in, nn.Conv2d(width_in, width, 3, padding=1, bias=False))
        self.tdf = PreActivated(
            *_pre_activated(model, width, nn.Linear(bins, narrow, bias=False)),
            *_pre_activated(model, width, nn.Linear(narrow, bins, bias=False)),
        )
        self.tfc2 = _pre_activated(model, width, nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.shortcut = nn.Conv2d(width_in, width, 1, bias=False)

    def compute(self, x: Tensor) -> Tensor:
        """Map [B, width_in, L, f] -> [B, width, L, f]."""
        shortcut = self.shortcut(x)
        x = self.tfc1(x)
        x = self.tdf(x).add_(x)  # in place: no backward pass needs the result of a layer
        return self.tfc2(x).add_(shortcut)


class EncoderBlock(nn.Module):
    """A TFC-TDF block, whose output is also the skip connection, and the down-sampling."""

    def __init__(self, model: ModelConfig, width: int, width_out: int, bins: int) -> None:
        super().__init__()
        self.tfc_tdf = TFCTDF(model, width, width, bins)
        self.downscale = Rescale(model, width, nn.Conv2d(width, width_out, model.scale, model.scale, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, c, L, f] -> ([B, c + growth, L/scale, f/scale], skip [B, c, L, f])."""
        skip = self.tfc_tdf(x)
        return self.downscale(skip), skip


class DecoderBlock(nn.Module):
    """The up-sampling, and a TFC-TDF block on its result and the skip connection."""

    def __init__(self, model: ModelConfig, width: int, width_out: int, bins: int) -> None:
        super().__init__()
        self.upscale = Rescale(model, width, nn.ConvTranspose2d(width, width_out, model.scale, model.scale, bias=False))
        self.tfc_tdf = TFCTDF(model, 2 * width_out, width_out, bins)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map [B, c + growth, L/scale, f/scale] and skip [B, c, L, f] -> [B, c, L, f]."""
        return self.tfc_tdf(torch.cat([self.upscale(x), skip], dim=1))


class Rescale(ActivationCheckpointed):
    """Norm, activation and a convolution whose stride is its kernel."""

    def __init__(self, model: ModelConfig, width: int, conv: nn.Module) -> None:
        super().__init__()
        self.conv = _pre_activated(model, width, conv)

    def compute(self, x: Tensor) -> Tensor:
        """Map [B, c, L, f] at one scale -> [B, c', L', f'] at the next."""
        return self.conv(x)


class PreActivated(nn.Sequential):
    """Norm, activation and a layer, once or several times."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the modules in order, norm and activation as one kernel if possible."""
        parts = iter(self)
        for normalise, activate, layer in zip(parts, parts, parts, strict=True):
            x = layer(norm_activation(normalise, activate, x))
        return x


def _pre_activated(model: ModelConfig, width: int, layer: nn.Module) -> PreActivated:
    return PreActivated(norm(model, width), activation(model), layer)


def norm(model: ModelConfig, channels: int) -> nn.Module:
    """Make the config's normalisation of `channels` network channels."""
    if model.norm_groups is not None:
        return nn.GroupNorm(model.norm_groups, channels)
    if model.norm == "BatchNorm":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=True)  # eps 1e-5, the instance's own statistics in evaluation too


def activation(model: ModelConfig) -> nn.Module:
    """Make the config's activation."""
    if model.elu_alpha is not None:
        return nn.ELU(model.elu_alpha)
    return nn.GELU() if model.act == "gelu" else nn.ReLU()


# model.type -> the network's class, called with the Config. A class checks its own section: OtherModelConfig.read.
NETWORKS: dict[str, Callable[[Config], SeparationNetwork]] = {TFC_TDF: TFCTDFNet}


def build_network(config: Config) -> SeparationNetwork:
    """Make the network of a config, with random weights. This is the only place that makes networks.

    Raises ConfigError for a `model.type` that does not exist, and for a model section that its architecture refuses.
    """
    name = config.model.type
    require(name in NETWORKS, f"model.type is {name!r}, expected {' or '.join(NETWORKS)}")
    return NETWORKS[name](config)
