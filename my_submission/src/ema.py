"""An exponential moving average of a network: what a checkpoint holds.

ema = EMA(network, momentum=0.999)
...                         # after every step of the optimiser
ema.update()
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
    """average = momentum * average + (1 - momentum) * now, of everything in the network's state dict.

    Where the original averaged the parameters alone, BatchNorm's running statistics are here too: a checkpoint without
    them does not separate. Whole numbers, such as BatchNorm's count of batches, are copied.
    """

    def __init__(self, model: nn.Module, momentum: float) -> None:
        self.model, self.momentum = model, momentum
        self.averages = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the network as it is now."""
        state = self.model.state_dict()
        floating = [name for name, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.averages[name] for name in floating], [state[name] for name in floating], 1 - self.momentum)
        for name in state.keys() - set(floating):
            self.averages[name].copy_(state[name])

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The network holds the averages inside, and what it held before afterwards, whatever happens in between."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, under the network's names."""
        return dict(self.averages)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over averages that `state_dict` gave; a ValueError where the names are not the network's."""
        if state.keys() != self.averages.keys():
            raise ValueError(f"not the averages of this network: {sorted(state.keys() ^ self.averages.keys())[:3]} ...")
        for name, value in state.items():
            self.averages[name].copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self.model.state_dict().items():
            now = value.clone()
            value.copy_(self.averages[name])
            self.averages[name].copy_(now)
