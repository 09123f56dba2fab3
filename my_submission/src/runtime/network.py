"""The interface of every network: an STFT, a map of spectrograms, the inverse STFT.

    class MyNetwork(SeparationNetwork):
        def __init__(self, config): ...
        def separate_spec(self, spec): ...      # [B, 2C, F, L] -> [B, S, 2C, F, L]

Training, checkpoints, the ensemble and the compiler know networks by this class alone. model.py makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from my_submission.src.stft import STFT


class SeparationNetwork(nn.Module):
    """mixture [B, C, T] -> estimates [B, S, C, T], or [B, C, T] for a single target.

    A subclass defines `separate_spec`. Two properties are relied upon: the items of a batch do not influence each other in
    evaluation mode, and digital silence is separated into exact zeros.

    Args:
        stft: has no parameters of its own, so that state dicts hold the subclass's parameters only.
        num_channels: audio channels C.
        num_sources: S.
        single_target: leave the source axis out of `forward`'s result; S is 1 then.
        frame_multiple: the number of STFT frames L has to be a multiple of this (default: 1).
    """

    # The memory format of the tensors [B, c, L, f] in separate_spec. layout.py sets torch.channels_last in a copy of a network
    # whose class sets torch.contiguous_format: it says that separate_spec heeds the format, and that layout.LAYERS suffice.
    memory_format: torch.memory_format | None = None

    def __init__(
        self, stft: STFT, *, num_channels: int, num_sources: int, single_target: bool = False, frame_multiple: int = 1
    ) -> None:
        super().__init__()
        self.stft = stft
        self.num_channels, self.num_sources, self.single_target = num_channels, num_sources, single_target
        self.frame_multiple = frame_multiple

    def forward(self, mixture: Tensor) -> Tensor:
        """Separate waveforms; T = hop_length * (L - 1). Raises ValueError for another shape."""
        hops, rest = divmod(mixture.shape[-1], self.stft.hop_length)
        if mixture.ndim != 3 or mixture.shape[1] != self.num_channels or rest or (hops + 1) % self.frame_multiple:
            raise ValueError(
                f"mixture has shape {list(mixture.shape)}, expected [B, {self.num_channels}, {self.stft.hop_length} * "
                f"(L - 1)] with L a multiple of {self.frame_multiple}"
            )
        estimates = self.stft.inverse(self.separate_spec(self.stft(mixture)))  # [B, S, C, T]
        return estimates.squeeze(1) if self.single_target else estimates

    def separate_spec(self, spec: Tensor) -> Tensor:
        """Map spectrograms: [B, 2C, F, L] -> [B, S, 2C, F, L]."""
        raise NotImplementedError
