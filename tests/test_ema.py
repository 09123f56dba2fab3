"""The moving average: its arithmetic, BatchNorm's statistics, and the swap, which is undone even after an error."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from my_submission.src.ema import EMA


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4))


def test_the_average_moves_by_its_momentum() -> None:
    model = network()
    ema = EMA(model, 0.9)
    before = ema.state_dict()["0.weight"].clone()
    with torch.no_grad():
        model[0].weight += 1
    ema.update()
    ema.update()
    expected = 0.9 * (0.9 * before + 0.1 * (before + 1)) + 0.1 * (before + 1)
    assert torch.allclose(ema.state_dict()["0.weight"], expected, atol=1e-6)
    assert torch.equal(model[0].weight, before + 1)  # the network itself does not change


def test_batch_norms_statistics_are_averaged_too() -> None:
    model = network().train()
    ema = EMA(model, 0.5)
    model(torch.randn(8, 2, 3, 3) + 5)
    ema.update()
    state = ema.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert torch.allclose(state["1.running_mean"], model[1].running_mean / 2)  # half of the way from 0
    assert state["1.num_batches_tracked"] == 1


def test_the_swap_is_undone_after_an_error() -> None:
    model = network()
    ema = EMA(model, 0.9)
    average = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.fill_(7)
    with pytest.raises(RuntimeError, match="inside"), ema.swapped():
        assert torch.equal(model[0].weight, average)
        raise RuntimeError("inside")
    assert (model[0].weight == 7).all()
    assert torch.equal(ema.state_dict()["0.weight"], average)


def test_a_state_loads_and_the_state_of_another_network_is_refused() -> None:
    model = network()
    ema, other = EMA(model, 0.9), EMA(model, 0.9)
    ema.averages["0.weight"] += 3
    other.load_state_dict(ema.state_dict())
    assert torch.equal(other.averages["0.weight"], ema.averages["0.weight"])
    assert other.averages["0.weight"] is not ema.averages["0.weight"]
    with pytest.raises(ValueError, match=r"not the averages of this network: .*'0.weight'"):
        other.load_state_dict({})
