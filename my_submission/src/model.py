"""TFC-TDF U-Net, version 3: a mixture's complex spectrogram in, every source's out.

Kim, Lee, Jung: "Sound Demixing Challenge 2023 Music Demixing Track Technical Report: TFC-TDF-UNet v3" (arXiv 2306.09382).
The block is from Choi et al., "Investigating U-Nets with various intermediate blocks for spectrogram-based singing voice
separation" (ISMIR 2020); the subbands are from Liu et al., "Channel-wise Subband Input" (Interspeech 2020).

Module names are those of the published checkpoints, which load strictly. No convolution and no linear layer has a bias.
Inside the U-Net a tensor is [B, c, L, f]: c network channels, L frames, f frequency bins at that scale.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from my_submission.src.config import Config, ModelConfig
from my_submission.src.runtime.fused_norm import norm_activation
from my_submission.src.stft import STFT


class TFCTDFNet(nn.Module):
    """mixture [B, C, T] -> estimates [B, S, C, T], or [B, C, T] where the config has a `target_instrument`.

    T = hop_length * (L - 1), where L is a multiple of model.scale[0] ** model.num_scales; a ValueError otherwise.
    The sources stand in the order of `training.instruments`.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        audio, model = config.audio, config.model
        self.audio_channels = audio.num_channels
        self.num_subbands = model.num_subbands
        self.num_sources = len(config.sources)
        self.single_source = config.training.target_instrument is not None
        self.frame_multiple = model.scale[0] ** model.num_scales
        self.stft = STFT(audio.n_fft, audio.hop_length, audio.dim_f)

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

    def forward(self, mixture: Tensor) -> Tensor:
        """Waveform in, waveforms out; the shapes are in the class's docstring."""
        frames, rest = divmod(mixture.shape[-1], self.stft.hop_length)
        if mixture.ndim != 3 or mixture.shape[1] != self.audio_channels or rest or (frames + 1) % self.frame_multiple:
            raise ValueError(
                f"mixture has shape {list(mixture.shape)}, expected [B, {self.audio_channels}, {self.stft.hop_length} * "
                f"(L - 1)] with L a multiple of {self.frame_multiple}"
            )
        estimates = self.stft.inverse(self.separate_spec(self.stft(mixture)))  # [B, S, C, T]
        return estimates.squeeze(1) if self.single_source else estimates

    def separate_spec(self, spec: Tensor) -> Tensor:
        """The network between the STFT and its inverse: [B, 2C, F, L] -> [B, S, 2C, F, L]."""
        batch, parts, bins, frames = spec.shape
        mix = spec.reshape(batch, parts * self.num_subbands, bins // self.num_subbands, frames)  # [B, D, F/K, L]
        first = x = self.first_conv(mix)

        x = x.transpose(-1, -2)  # [B, c, L, F/K]: linear layers work along frequency
        skips = []
        for encoder in self.encoder_blocks:
            x, skip = encoder(x)
            skips.append(skip)
        x = self.bottleneck_block(x)
        for decoder in self.decoder_blocks:
            x = decoder(x, skips.pop())
        x = x.transpose(-1, -2)  # [B, c, F/K, L]

        x = x * first  # reduces artefacts, and keeps silence exactly silent
        x = self.final_conv(torch.cat([mix, x], dim=1))  # [B, S*D, F/K, L]
        return x.reshape(batch, self.num_sources, parts, bins, frames)


class TFCTDF(nn.Module):
    """Residual units of time-frequency convolutions (TFC) around a time-distributed fully-connected part (TDF)."""

    def __init__(self, model: ModelConfig, width_in: int, width: int, bins: int) -> None:
        super().__init__()
        widths = [width_in] + [width] * (model.num_blocks_per_scale - 1)
        self.blocks = nn.ModuleList(ResidualUnit(model, w, width, bins) for w in widths)

    def forward(self, x: Tensor) -> Tensor:
        """[B, width_in, L, f] -> [B, width, L, f]."""
        for block in self.blocks:
            x = block(x)
        return x


class ActivationCheckpointed(nn.Module):
    """A part of the network that training can compute again on the way back, instead of keeping all that is inside it."""

    recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """As `compute`."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self.compute(x)
        # nothing here is random, so there is no random state to keep
        return checkpoint(self.compute, x, use_reentrant=False, preserve_rng_state=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
        """What surrounds the first computation, and the second."""
        return contextlib.nullcontext(), self._on_copies_of_statistics()

    @contextlib.contextmanager
    def _on_copies_of_statistics(self) -> Iterator[None]:
        """BatchNorm must not count a batch twice: its running statistics are copies inside."""
        buffers = [(module, *item) for module in self.modules() for item in module.named_buffers(recurse=False)]
        try:
            for module, name, buffer in buffers:
                setattr(module, name, buffer.clone())
            yield
        finally:
            for module, name, buffer in buffers:
                setattr(module, name, buffer)


class ResidualUnit(ActivationCheckpointed):
    """TFC, TDF with a residual of its own, TFC; a 1x1 convolution around it all."""

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
        """[B, width_in, L, f] -> [B, width, L, f]."""
        shortcut = self.shortcut(x)
        x = self.tfc1(x)
        x = x + self.tdf(x)
        return self.tfc2(x) + shortcut


class EncoderBlock(nn.Module):
    """A TFC-TDF block, whose output is the skip, and the way down."""

    def __init__(self, model: ModelConfig, width: int, width_out: int, bins: int) -> None:
        super().__init__()
        self.tfc_tdf = TFCTDF(model, width, width, bins)
        self.downscale = Rescale(model, width, nn.Conv2d(width, width_out, model.scale, model.scale, bias=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, c, L, f] -> ([B, c + growth, L/scale, f/scale], skip [B, c, L, f])."""
        skip = self.tfc_tdf(x)
        return self.downscale(skip), skip


class DecoderBlock(nn.Module):
    """The way up, and a TFC-TDF block on it and the skip."""

    def __init__(self, model: ModelConfig, width: int, width_out: int, bins: int) -> None:
        super().__init__()
        self.upscale = Rescale(model, width, nn.ConvTranspose2d(width, width_out, model.scale, model.scale, bias=False))
        self.tfc_tdf = TFCTDF(model, 2 * width_out, width_out, bins)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """[B, c + growth, L/scale, f/scale] and skip [B, c, L, f] -> [B, c, L, f]."""
        return self.tfc_tdf(torch.cat([self.upscale(x), skip], dim=1))


class Rescale(ActivationCheckpointed):
    """Norm, activation and a convolution whose stride is its kernel."""

    def __init__(self, model: ModelConfig, width: int, conv: nn.Module) -> None:
        super().__init__()
        self.conv = _pre_activated(model, width, conv)

    def compute(self, x: Tensor) -> Tensor:
        """[B, c, L, f] at one scale -> [B, c', L', f'] at the next."""
        return self.conv(x)


class PreActivated(nn.Sequential):
    """Norm, activation and a layer; or several times these three."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Sequential, with norm and activation as one where that can be."""
        parts = iter(self)
        for normalise, activate, layer in zip(parts, parts, parts, strict=True):
            x = layer(norm_activation(normalise, activate, x))
        return x


def _pre_activated(model: ModelConfig, width: int, layer: nn.Module) -> PreActivated:
    return PreActivated(norm(model, width), activation(model), layer)


def norm(model: ModelConfig, channels: int) -> nn.Module:
    """The config's normalisation of `channels` network channels."""
    if model.norm_groups is not None:
        return nn.GroupNorm(model.norm_groups, channels)
    if model.norm == "BatchNorm":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels, affine=True)  # eps 1e-5, the instance's own statistics in evaluation too


def activation(model: ModelConfig) -> nn.Module:
    """The config's activation."""
    if model.elu_alpha is not None:
        return nn.ELU(model.elu_alpha)
    return nn.GELU() if model.act == "gelu" else nn.ReLU()
