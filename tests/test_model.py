"""The network: its numbers, its names, its refusals, and the seam for other architectures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from my_submission.src.audio.files import AudioArray
from my_submission.src.checkpoint import load_network, read_state_dict, save_checkpoint
from my_submission.src.common.plain_tree import ConfigError
from my_submission.src.config import Config, load_config
from my_submission.src.model import NETWORKS, TFCTDFNet, build_network
from my_submission.src.model_config import OtherModelConfig
from my_submission.src.runtime.network import SeparationNetwork
from my_submission.src.separator import Separator
from my_submission.src.stft import STFT
from my_submission.src.training.trainer import Trainer
from tests.helpers.paths import GOLDEN, ROOT


def golden_network(case: str) -> SeparationNetwork:
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


@dataclasses.dataclass(frozen=True)
class GainsConfig:
    """The model section of the architecture below."""

    initial: float


class Gains(SeparationNetwork):
    """Another architecture: a gain for each source and frequency bin."""

    def __init__(self, config: Config) -> None:
        audio, sources = config.audio, len(config.source_order)
        super().__init__(STFT(audio.n_fft, audio.hop_length, audio.dim_f), num_channels=audio.num_channels, num_sources=sources)
        assert isinstance(config.model, OtherModelConfig)
        initial = config.model.read(GainsConfig).initial
        self.gains = torch.nn.Parameter(torch.full((sources, 1, audio.dim_f, 1), initial))

    def separate_spec(self, spec: Tensor) -> Tensor:
        return spec[:, None] * self.gains


@pytest.fixture
def other_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Register the other architecture and write a config.yaml for it."""
    monkeypatch.setitem(NETWORKS, "gains", Gains)
    tree = yaml.safe_load((GOLDEN / "separation_A" / "config.yaml").read_text())
    tree["model"] = {"type": "gains", "initial": 0.25}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "config.yaml"


def test_another_architecture_trains_loads_and_separates(other_config: Path) -> None:
    config = load_config(other_config)
    assert config.as_dict()["model"] == {"type": "gains", "initial": 0.25}
    trainer = Trainer(config, seed=0, device=torch.device("cpu"), precision="fp32")
    sources = 0.1 * torch.randn(config.training.batch_size, 4, 2, config.audio.chunk_size)
    assert trainer.step(sources).loss > 0
    save_checkpoint(build_network(config).state_dict(), other_config.with_name("step1_seed0.ckpt"))
    mixture = 0.1 * np.random.default_rng(0).standard_normal((4000, 2)).astype(np.float32)
    stems = Separator(other_config.parent, device="cpu").separate_array(AudioArray(mixture, 44100))
    assert stems.shape == (4, 4000, 2)
    np.testing.assert_array_equal(stems[0], stems[1])


def test_an_architecture_checks_its_own_section(other_config: Path) -> None:
    assert load_config(other_config, ["model.initial=0.5"]).model.read(GainsConfig) == GainsConfig(0.5)
    for override, message in (
        ("model.initia=1", "model.initia is not a key of this file; did you mean model.initial?"),
        ("model.initial=loud", "model.initial is 'loud', expected a number"),
        ("model.type=gain", "model.type is 'gain', expected tfc_tdf_v3 or gains"),
    ):
        with pytest.raises(ConfigError) as caught:
            build_network(load_config(other_config, [override]))
        assert str(caught.value) == message
    with pytest.raises(TypeError, match=r"model\.type is 'gains', expected tfc_tdf_v3"):
        TFCTDFNet(load_config(other_config))


def test_tfc_tdf_is_the_default_type() -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    assert load_config(GOLDEN / "instance_gelu" / "config.yaml", ["model.type=tfc_tdf_v3"]) == config
    assert type(build_network(config)) is TFCTDFNet
