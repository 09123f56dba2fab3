"""The published procedure, transcribed without optimisations: the reference of speed.py.

All overlapping chunks are stacked on the device. Each seed processes them in batches, with its own STFT pair, and copies its
growing output for every chunk. The outputs of the seeds are averaged. The training step is the textbook's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from my_submission.src.config import Config
from my_submission.src.model import PreActivated, TFCTDFNet
from my_submission.src.runtime.device import autocast_to, tf32_matmul


class Network(nn.Module):
    """The network with torch.stft and torch.istft: mixture [B, C, T] -> estimates [B, S, C, T]."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.inner = TFCTDFNet(config)
        for module in self.inner.modules():
            if isinstance(module, PreActivated):  # norm and activation as two layers
                module.forward = partial(nn.Sequential.forward, module)
        self.audio = config.audio
        self.register_buffer("window", torch.hann_window(config.audio.n_fft, periodic=True))

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate a batch of chunks."""
        audio = self.audio
        batch, channels, samples = mixture.shape
        sizes = {"n_fft": audio.n_fft, "hop_length": audio.hop_length, "window": self.window, "center": True}
        with torch.autocast(mixture.device.type, enabled=False):
            spec = torch.stft(mixture.reshape(-1, samples), **sizes, return_complex=True)
            parts = torch.view_as_real(spec).permute(0, 3, 1, 2)[:, :, : audio.dim_f]
            parts = parts.reshape(batch, 2 * channels, audio.dim_f, -1)
        parts = self.inner.separate_spec(parts)  # [B, S, 2C, F, L]
        with torch.autocast(mixture.device.type, enabled=False):
            parts = parts.float().reshape(-1, 2, audio.dim_f, parts.shape[-1])
            parts = F.pad(parts, (0, 0, 0, audio.n_fft // 2 + 1 - audio.dim_f)).permute(0, 2, 3, 1)
            waveform = torch.istft(torch.view_as_complex(parts.contiguous()), **sizes, length=samples)
        return waveform.reshape(batch, -1, channels, samples)


def networks_like(networks: Sequence[TFCTDFNet], config: Config, device: torch.device) -> list[Network]:
    """Copy the weights of `networks` into networks of the published procedure."""
    copies = []
    for network in networks:
        copy = Network(config)
        copy.inner.load_state_dict(network.state_dict())
        copies.append(copy.to(device).eval().requires_grad_(False))
    return copies


@torch.no_grad()
def separate(networks: Sequence[Network], mixture: Tensor, config: Config, overlap: int, precision: str) -> Tensor:
    """Separate a mixture [C, n] into estimates [S, C, n] on the networks' device.

    Args:
        networks: one per seed.
        mixture: [C, n].
        config: the config of the networks.
        overlap: number of chunks that cover each sample.
        precision: fp16, bf16, tf32 or fp32.
    """
    chunk = config.inference_chunk_size
    hop = chunk // overlap
    samples, front = mixture.shape[-1], chunk - hop
    count = -(-(samples + front) // hop)
    padded = F.pad(mixture, (front, (count - 1) * hop + chunk - front - samples)).to(networks[0].window.device)
    chunks = torch.stack([padded[:, i * hop : i * hop + chunk] for i in range(count)])
    outputs = []
    for network in networks:
        output: Tensor | None = None
        for batch in chunks.split(config.inference.batch_size):
            with autocast_to(precision, batch.device):
                estimates = network(batch)
            for estimate in estimates:
                if output is None:
                    output = estimate
                    continue
                output = torch.cat([output, estimate.new_zeros(*estimate.shape[:-1], hop)], dim=-1)
                output[..., -chunk:] += estimate
        outputs.append(output[..., front : front + samples] / overlap)
    estimates = torch.stack(outputs).mean(dim=0)
    other = config.training.instruments.index("other")
    estimates[other] += (padded[:, front : front + samples] - estimates.sum(dim=0)) / 2
    return estimates


class Training:
    """The published training step."""

    def __init__(self, network: TFCTDFNet, config: Config, device: torch.device, precision: str) -> None:
        self.network, self.training, self.device, self.precision = Network(config), config.training, device, precision
        self.network.inner.load_state_dict(network.state_dict())
        self.network.to(device).train()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=config.training.lr)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self.averages = {name: value.detach().clone() for name, value in self.network.named_parameters()}

    def step(self, sources: Tensor) -> float:
        """Train on sources [B, S, C, T] for one step and return the loss."""
        sources = sources.to(self.device)
        self.optimizer.zero_grad()
        with autocast_to(self.precision, self.device):
            estimates = self.network(sources.sum(dim=1))
            errors = F.mse_loss(estimates.float(), sources, reduction="none").transpose(0, 1)  # [S, B, C, T]
            errors = errors.mean(dim=(2, 3)) if self.training.coarse_loss_clip else errors.flatten(1)
            threshold = torch.quantile(errors.detach(), self.training.q, dim=1, keepdim=True)
            loss = ((errors < threshold) * errors).mean()
        with tf32_matmul(self.precision, self.device):
            self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        for name, value in self.network.named_parameters():
            average = self.averages[name]
            average.mul_(self.training.ema_momentum).add_(value.detach(), alpha=1 - self.training.ema_momentum)
        return loss.item()
