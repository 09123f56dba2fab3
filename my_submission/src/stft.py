"""The STFT and its inverse: waveforms to spectrograms with real and imaginary parts as channels, and back.

    stft = STFT(n_fft=8192, hop_length=1024, dim_f=4096)
    spec = stft(waveform)               # [B, C, T] -> [B, 2C, F, L]
    waveform = stft.inverse(spec)       # [B, 2C, F, L] -> [B, C, T]

Frames are centred, with reflection padding; the transform is unnormalised and one-sided. The window is a periodic Hann window
of n_fft samples. Only the lowest `dim_f` frequency bins are kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class STFT(nn.Module):
    """Both directions, computed in float32 even under autocast.

    The channels of a spectrogram are left-real, left-imaginary, right-real, right-imaginary, ...

    Args:
        n_fft: length of a frame and of its FFT, samples.
        hop_length: distance between the starts of two frames, samples; at most half of n_fft, or the inverse does not exist.
        dim_f: frequency bins kept, the lowest ones; up to n_fft // 2 + 1.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop_length: int, dim_f: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.dim_f = n_fft, hop_length, dim_f
        # not persistent: the published state dicts hold parameters only
        self.register_buffer("window", torch.hann_window(n_fft, periodic=True), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform [B, C, T] -> [B, 2C, F, L], with L = T / hop_length + 1 and F = dim_f."""
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
        """Transform back [..., 2C, F, L] -> [..., C, T], with T = hop_length * (L - 1); the bins above `dim_f` are zeros."""
        *lead, parts, bins, frames = spec.shape
        waveform = _InverseSTFT.apply(spec.reshape(-1, 2, bins, frames), self.window, self.hop_length)
        return waveform.reshape(*lead, parts // 2, -1)


class _InverseSTFT(torch.autograd.Function):
    """Compute the same as torch.istft, with the adjoint as its gradient.

    Each direction takes one FFT and a third of torch.istft's passes over memory. Nothing here waits for the device, whereas
    torch.istft does when it looks for zeros in the envelope.
    """

    @staticmethod
    def forward(ctx: Any, spec: Tensor, window: Tensor, hop_length: int) -> Tensor:
        """Invert [N, 2, F, L] -> [N, T]."""
        n, _, bins, frames = spec.shape
        n_fft = len(window)
        ctx.save_for_backward(window)
        ctx.hop_length, ctx.bins, ctx.dtype = hop_length, bins, spec.dtype
        pairs = torch.empty(n, frames, n_fft // 2 + 1, 2, device=spec.device)
        pairs[:, :, :bins] = spec.permute(0, 3, 2, 1)
        pairs[:, :, bins:] = 0
        pieces = torch.fft.irfft(torch.view_as_complex(pairs), n=n_fft).mul_(window)  # [N, L, n_fft]
        return _overlap_frames(pieces, hop_length) / _envelope(window, hop_length, frames)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the spectrogram: [N, T] -> [N, 2, F, L]."""
        (window,) = ctx.saved_tensors
        n_fft, hop_length = len(window), ctx.hop_length
        frames = gradient.shape[-1] // hop_length + 1
        pieces = F.pad(gradient / _envelope(window, hop_length, frames), (n_fft // 2, n_fft // 2 + n_fft % 2))
        pieces = pieces.unfold(-1, n_fft, hop_length) * (window * (2 / n_fft))  # [N, L, n_fft]
        pairs = torch.view_as_real(torch.fft.rfft(pieces)[..., : ctx.bins])
        # A bin stands for a positive and a negative frequency. Exceptions: bin 0, and for an even n_fft the last bin.
        pairs[:, :, 0] /= 2
        pairs[:, :, n_fft // 2 if n_fft % 2 == 0 else ctx.bins :] /= 2
        return pairs.permute(0, 3, 2, 1).to(ctx.dtype).contiguous(), None, None


def _overlap_frames(pieces: Tensor, hop_length: int) -> Tensor:
    """Add up frames [N, L, n_fft] at distances of hop_length and cut off half a frame at both ends: [N, T]."""
    n, frames, n_fft = pieces.shape
    hops = -(-n_fft // hop_length)  # hops that one frame covers
    if n_fft % hop_length:  # otherwise F.pad would copy everything and add nothing
        pieces = F.pad(pieces, (0, hops * hop_length - n_fft))
    pieces = pieces.view(n, frames, hops, hop_length)
    total = pieces.new_zeros(n, frames + hops - 1, hop_length)
    for hop in range(hops):
        total[:, hop : hop + frames] += pieces[:, :, hop]
    return total.view(n, -1)[:, n_fft // 2 :][:, : hop_length * (frames - 1)]


def _envelope(window: Tensor, hop_length: int, frames: int) -> Tensor:
    """Return the sum of the squared windows at every sample: [T]."""
    return _overlap_frames(window.square().expand(1, frames, -1), hop_length)[0]
