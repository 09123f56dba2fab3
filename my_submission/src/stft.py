"""The STFT pair: waveforms to complex-as-channels spectrograms, cropped to the lowest bins, and back.

Centred with reflection padding, unnormalised, one-sided, periodic Hann window of n_fft samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class STFT(nn.Module):
    """Both directions with one set of parameters, in float32 whatever the autocast around them.

    Real and imaginary parts become channels: left-real, left-imaginary, right-real, right-imaginary, ...
    """

    def __init__(self, n_fft: int, hop_length: int, dim_f: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.dim_f = n_fft, hop_length, dim_f
        # not persistent: the published state dicts hold parameters only
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """[B, C, T] -> [B, 2C, F, L], with L = T / hop_length + 1 and F = dim_f."""
        batch, channels, samples = waveform.shape
        with torch.autocast(waveform.device.type, enabled=False):
            spec = torch.stft(
                waveform.float().reshape(batch * channels, samples),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=True,
                pad_mode="reflect",
                return_complex=True,
            )  # [B*C, n_fft/2+1, L]
            parts = torch.view_as_real(spec[:, : self.dim_f]).movedim(-1, 1)  # [B*C, 2, F, L]
            return parts.reshape(batch, 2 * channels, self.dim_f, -1)

    def inverse(self, spec: Tensor) -> Tensor:
        """[..., 2C, F, L] -> [..., C, T], with T = hop_length * (L - 1); the cropped bins are zeros."""
        *lead, parts, bins, frames = spec.shape
        with torch.autocast(spec.device.type, enabled=False):
            pairs = spec.float().reshape(-1, 2, bins, frames)
            pairs = F.pad(pairs, (0, 0, 0, self.n_fft // 2 + 1 - bins))
            waveform = torch.istft(
                torch.complex(pairs[:, 0], pairs[:, 1]),
                self.n_fft,
                self.hop_length,
                window=self.window,
                center=True,
                length=self.hop_length * (frames - 1),
            )
            return waveform.reshape(*lead, parts // 2, -1)
