"""The network: its numbers, its names, its refusals, and the seam for other architectures."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from my_submission.src.checkpoint import load_network, read_state_dict
from my_submission.src.config import Config, load_config
from my_submission.src.model import TFCTDFNet
from tests.helpers.paths import GOLDEN, ROOT


def golden_network(case: str) -> TFCTDFNet:
    path = GOLDEN / case / "weights.ckpt"
    return load_network(load_config(GOLDEN / case / "config.yaml"), read_state_dict(path), str(path))


def with_model(config: Config, **changes: object) -> Config:
    return dataclasses.replace(config, model=dataclasses.replace(config.model, **changes))


@pytest.mark.parametrize("case", ["instance_gelu", "group_relu_target", "full_band_three_stems"])
def test_forward_agrees_with_the_original(case: str) -> None:
    vectors = np.load(GOLDEN / case / "forward.npz")
    estimate = golden_network(case)(torch.from_numpy(vectors["mixture"])).numpy()
    assert estimate.shape == vectors["estimate"].shape
    rms = np.sqrt(np.mean(vectors["estimate"] ** 2))
    assert np.sqrt(np.mean((estimate - vectors["estimate"]) ** 2)) < 1e-5 * rms
    assert np.abs(estimate - vectors["estimate"]).max() < 1e-4 * rms


@pytest.mark.parametrize("model", ["modelA", "modelB"])
def test_the_published_sizes_have_the_published_names_and_shapes(model: str) -> None:
    expected = json.loads((GOLDEN / "state_dict_modelA_modelB.json").read_text())
    with torch.device("meta"):  # shapes only
        network = TFCTDFNet(load_config(ROOT / "my_submission" / "ckpts" / model / "config.yaml"))
    shapes = {name: list(value.shape) for name, value in network.state_dict().items()}
    assert shapes == expected
    assert len(shapes) == 319
    assert sum(value.numel() for value in network.parameters()) == 30_119_168


@pytest.mark.parametrize("changes", [{"norm": "BatchNorm"}, {"norm": "GroupNorm2"}, {"act": "elu0.7"}, {"act": "relu"}])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_silence_stays_exactly_silent_with_every_norm(changes: dict[str, str], channels: int) -> None:
    torch.manual_seed(0)
    config = with_model(load_config(GOLDEN / "instance_gelu" / "config.yaml"), **changes)
    config = dataclasses.replace(config, audio=dataclasses.replace(config.audio, num_channels=channels))
    network = TFCTDFNet(config).eval()
    for _, parameter in network.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # including the biases of the norms
    with torch.no_grad():
        assert network(torch.zeros(1, channels, 960)).abs().max() == 0
        assert network(torch.ones(1, channels, 960)).abs().max() > 0


def test_elu_uses_the_alpha_of_the_config() -> None:
    config = with_model(load_config(GOLDEN / "instance_gelu" / "config.yaml"), act="elu0.7")
    alphas = {module.alpha for module in TFCTDFNet(config).modules() if isinstance(module, torch.nn.ELU)}
    assert alphas == {0.7}


@pytest.mark.parametrize("shape", [(2, 960), (1, 1, 960), (1, 2, 961), (1, 2, 64 * 16)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[B, 2, 64 \* \(L - 1\)\] with L a multiple of 4"):
        golden_network("instance_gelu")(torch.zeros(shape))
