"""The exponential moving average of a network's weights; checkpoints hold it.

ema = EMA(network, momentum=0.999)
ema.update()                # after every step of the optimizer
with ema.swapped():         # the network computes with the averages here
    ...
save_checkpoint(ema.state_dict(), path)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class EMA:
    """Average every entry of a network's state dict: average = momentum * average + (1 - momentum) * value.

    The original averaged the parameters alone. Here BatchNorm's running statistics are averaged too, because a checkpoint
    without them does not separate. Integers, such as BatchNorm's count of batches, are copied.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self.averages = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the network's present values."""
        state = self.model.state_dict()
        floating = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.averages[name] for name in floating], [state[name] for name in floating], 1 - self.momentum)
        for name in state.keys() - set(floating):
            self.averages[name].copy_(state[name])

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Put the averages into the network inside the `with` block, and its own values back at its end, even on an error."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages, under the names of the network's state dict."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over averages that `state_dict` returned. Raises ValueError if the names are not the network's."""
        if state.keys() != self.averages.keys():
            raise ValueError(f"not the averages of this network: {sorted(state.keys() ^ self.averages.keys())[:3]} ...")
        for name, value in state.items():
            self.averages[name].copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.model.state_dict().items():
            present = value.clone()
            value.copy_(self.averages[name])
            self.averages[name].copy_(present)
