"""Models of other programs: the answers of MSST itself, the forms of checkpoints and folders, and refusals in one line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from my_submission.__main__ import main
from my_submission.src import separator
from my_submission.src.audio.files import AudioArray
from my_submission.src.checkpoint import CheckpointError, read_state_dict
from my_submission.src.common import cli
from my_submission.src.common.plain_tree import ConfigError
from my_submission.src.config import load_config
from my_submission.src.family.foreign_config import load_any_config
from my_submission.src.separator import Separator, open_model
from tests.helpers.paths import GOLDEN

FAMILY = GOLDEN / "family"
CASES = ("two_stems", "single_target", "other_chunk")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a folder as MSST leaves it: one config, one checkpoint of a whole training."""
    return Path(shutil.copytree(FAMILY / "two_stems", tmp_path / "two_stems"))


def checkpoint_of(folder: Path) -> Path:
    return next(folder.glob("*.ckpt"))


def change(path: Path, **sections: dict[str, Any]) -> None:
    """Change keys of a config; None takes one away."""
    tree = yaml.safe_load(path.read_text().replace("!!python/tuple", ""))
    for name, keys in sections.items():
        tree.setdefault(name, {}).update(keys)
        tree[name] = {key: value for key, value in tree[name].items() if value is not None}
    path.write_text(yaml.safe_dump(tree))


def answer(model: Separator, samples: int = 3000) -> np.ndarray:
    mixture = np.load(FAMILY / "two_stems" / "separation.npz")[f"mixture_{samples}"]
    return model.separate_array(AudioArray(mixture.T, 44100))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_answer_is_that_of_msst(case: str, batch_size: int) -> None:
    model = open_model(str(FAMILY / case), device="cpu", batch_size=batch_size)
    golden = np.load(FAMILY / case / "separation.npz")
    lengths = [name.removeprefix("mixture_") for name in golden.files if name.startswith("mixture_")]
    assert lengths
    for length in lengths:
        stems = model.separate_array(AudioArray(golden[f"mixture_{length}"].T, 44100))
        for name, stem in zip(model.source_order, stems, strict=True):
            expected = golden[f"{name}_{length}"].T
            np.testing.assert_allclose(stem, expected, rtol=0, atol=1e-5 * np.sqrt(np.square(expected).mean()))


def test_a_checkpoint_is_a_model_with_the_config_next_to_it(folder: Path, tmp_path: Path) -> None:
    expected = answer(Separator(folder, device="cpu"))
    path = checkpoint_of(folder)
    np.testing.assert_array_equal(answer(open_model(str(path), device="cpu")), expected)
    (folder / "other.yaml").write_text("x: 1")
    with pytest.raises(
        ConfigError, match=r"holds several configs \(config_two_stems_mdx23c.yaml, other.yaml\); name .* --config"
    ):
        open_model(str(path), device="cpu")
    config = folder / "config_two_stems_mdx23c.yaml"
    np.testing.assert_array_equal(answer(open_model(str(path), device="cpu", config=config)), expected)
    config.rename(f"{path}.yaml")
    np.testing.assert_array_equal(answer(open_model(str(path), device="cpu")), expected)
    away = path.rename(tmp_path / "alone.ckpt")
    with pytest.raises(ConfigError, match=r"config.yaml: cannot be read"):
        open_model(str(away), device="cpu")


@pytest.mark.parametrize("suffix", ["pth", "th", "pt", "chpt", "bin", "CKPT", ""])
def test_checkpoints_have_many_suffixes(folder: Path, suffix: str) -> None:
    expected = answer(Separator(folder, device="cpu"))
    checkpoint_of(folder).rename(folder / (f"model.{suffix}" if suffix else "ckpt"))
    np.testing.assert_array_equal(answer(Separator(folder, device="cpu")), expected)


FORMS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "plain": lambda state: state,
    "state": lambda state: {"state": state},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"step": torch.ones(1)}},
    "module.": lambda state: {f"module.{key}": value for key, value in state.items()},
    "_orig_mod.": lambda state: {"state_dict": {f"module._orig_mod.{key}": value for key, value in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
    "buffer": lambda state: {**state, "stft.window": torch.hann_window(512)},
    "buffer and prefix": lambda state: {
        **{f"module.{key}": value for key, value in state.items()},
        "stft.window": torch.ones(9),
    },
    "numpy": lambda state: {"model_state_dict": state, "best_metric": np.float64(1.5), "all_losses": [np.float32(2)]},
    "half": lambda state: {key: value.half().float().to(torch.float64) for key, value in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_checkpoints_have_many_forms(folder: Path, form: str) -> None:
    path = checkpoint_of(folder)
    state = read_state_dict(path)
    torch.save(FORMS[form](state), path)
    expected = answer(Separator(FAMILY / "two_stems", device="cpu"))
    atol = 0.02 * np.abs(expected).max() if form == "half" else 0
    np.testing.assert_allclose(answer(Separator(folder, device="cpu")), expected, rtol=0, atol=atol)


class Stranger:
    """Something that no checkpoint should name."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_state_dict": {"a": torch.ones(1)}, "args": Stranger()}, "no plain state dict of tensors"),
        ({"epoch": 3}, "holds something else than a plain state dict"),
        ({"generator": {"a": torch.ones(1)}}, "a state dict is there under 'generator'"),
        ({"first_conv.weight": torch.ones(8, 2, 1, 1).to_sparse()}, "is stored as sparse_coo"),
        ({"mask_estimators.0.weight": torch.ones(3)}, "it looks like BS-RoFormer or Mel-Band RoFormer, another network"),
    ],
)
def test_other_checkpoints_are_refused_in_one_line(folder: Path, content: dict[str, Any], message: str) -> None:
    torch.save(content, checkpoint_of(folder))
    with pytest.raises(CheckpointError) as refusal:
        Separator(folder, device="cpu")
    assert "\n" not in str(refusal.value)
    assert message in str(refusal.value)


def test_another_network_of_the_family_is_named(folder: Path) -> None:
    shutil.copy(checkpoint_of(FAMILY / "other_chunk"), checkpoint_of(folder))
    with pytest.raises(CheckpointError, match=r"a TFC-TDF network of model.num_channels 8, model.num_scales 2 and 5 stems"):
        Separator(folder, device="cpu")


def test_epochs_of_one_training_are_no_ensemble(folder: Path) -> None:
    path = checkpoint_of(folder)
    shutil.copy(path, folder / "two_stems_ep_1.ckpt")
    with pytest.raises(
        CheckpointError, match=r"holds 2 checkpoints of one training \(two_stems_ep_1.ckpt, two_stems_ep_3.ckpt\)"
    ):
        Separator(folder, device="cpu")
    path.rename(folder / "last_mdx23c.ckpt")
    with pytest.warns(UserWarning, match=r"holds 2 checkpoints of one training; last_mdx23c.ckpt is used alone"):
        model = Separator(folder, device="cpu")
    assert [path.name for path in model.checkpoints.values()] == ["last_mdx23c.ckpt"]


def test_only_keys_that_separation_needs_are_read(folder: Path) -> None:
    path = next(folder.glob("*.yaml"))
    expected = answer(Separator(folder, device="cpu"))
    change(
        path, training={"q": None, "lr": "fast", "optimizer": "prodigy", "new": [1]}, model={"name": "x"}, similarity={"a": 1}
    )
    np.testing.assert_array_equal(answer(Separator(folder, device="cpu")), expected)
    change(path, audio={"n_fft": None})
    with pytest.raises(ConfigError, match=r"config_two_stems_mdx23c.yaml: missing: audio.n_fft"):
        Separator(folder, device="cpu")
    change(path, audio={"n_fft": 512, "chunk_size": 4000})
    with pytest.raises(ConfigError, match=r"audio.chunk_size is 4000, not a multiple of audio.hop_length = 128"):
        Separator(folder, device="cpu")


def test_a_config_of_ours_stays_strict(tmp_path: Path) -> None:
    text = (GOLDEN / "separation_A" / "config.yaml").read_text()
    for old, new, message in (("lr:", "lrr:", "did you mean training.lr"), ("dim_f:", "dim_ff:", "audio.dim_ff")):
        (tmp_path / "config.yaml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError, match=message):
            load_any_config(tmp_path / "config.yaml")


def test_a_config_runs_no_code(tmp_path: Path) -> None:
    text = next((FAMILY / "two_stems").glob("*.yaml")).read_text()
    (tmp_path / "a.yaml").write_text(text.replace("!!python/tuple", "!!python/object/apply:os.getcwd"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_any_config(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "a.yaml")  # training reads its own kind only


def test_the_procedure_can_be_chosen(folder: Path) -> None:
    assert Separator(folder, device="cpu").config.inference.procedure == "msst"
    uvr = Separator(folder, device="cpu", overrides=["inference.procedure=uvr"])
    published = Separator(folder, device="cpu", overrides=["inference.procedure=published"])
    ours, other = answer(uvr), answer(Separator(folder, device="cpu"))
    assert not np.array_equal(ours, other)
    assert published.residual_shares == [0.0, 0.5]
    assert uvr.residual_shares == [0.0, 0.0]
    np.testing.assert_array_equal(answer(published)[0], ours[0])
    with pytest.raises(ConfigError, match=r"inference\.procedure is 'vr', expected published or uvr or msst"):
        Separator(folder, overrides=["inference.procedure=vr"])


def test_a_normalised_song_is_separated_at_its_own_level(folder: Path) -> None:
    change(next(folder.glob("*.yaml")), inference={"normalize": True})
    model = Separator(folder, device="cpu")
    mixture = np.load(FAMILY / "two_stems" / "separation.npz")["mixture_10000"].T
    quiet, loud = (model.separate_array(AudioArray(level * mixture + 0.01 * level, 44100)) for level in (0.01, 0.5))
    np.testing.assert_allclose(50 * quiet, loud, atol=1e-4 * np.abs(loud).max())
    plain = Separator(FAMILY / "two_stems", device="cpu")
    mono = mixture.mean(axis=1)
    level, scale = mono.mean(), mono.std()
    expected = plain.separate_array(AudioArray((mixture - level) / scale, 44100)) * scale + level
    np.testing.assert_allclose(model.separate_array(AudioArray(mixture, 44100)), expected, atol=1e-5 * np.abs(expected).max())


def test_the_command_line_takes_a_checkpoint_its_config_and_a_procedure(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_song: Callable[..., Path]
) -> None:
    config = next(folder.glob("*.yaml")).rename(tmp_path / "away.yaml")
    command = ["separate", str(make_song(tmp_path / "song.wav")), "--model", str(checkpoint_of(folder)), "--device", "cpu"]
    out = ["--out", str(tmp_path / "out"), "--subtype", "FLOAT"]
    assert cli.run(main, [*command, *out]) == 2
    assert "config.yaml: cannot be read" in capsys.readouterr().err
    assert cli.run(main, [*command, *out, "--config", str(config)]) == 0
    first = soundfile.read(tmp_path / "out" / "song" / "vocals.wav")[0]
    assert cli.run(main, [*command, *out, "--config", str(config), "--procedure", "uvr", "--overwrite"]) == 0
    assert not np.array_equal(soundfile.read(tmp_path / "out" / "song" / "vocals.wav")[0], first)


def test_inspect_says_what_a_model_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, ["inspect", str(FAMILY / "single_target"), "--device", "cpu"]) == 0
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    values = {name: value.strip() for name, value in lines.items()}
    assert values["stems"] == "similarity (of similarity, difference)"
    assert values["parameters"] == "36,848 in each of 1 networks"
    assert values["procedure"] == "msst"
    assert values["chunk"] == "3968 samples, 0.09 s at 44100 Hz, 2 channels"
    assert values["licence"].startswith("unknown")


def test_without_a_model_and_checkpoints_the_demo_separates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, make_song: Callable[..., Path]
) -> None:
    monkeypatch.setattr(separator.ModelA, "default_folder", tmp_path)
    song = make_song(tmp_path / "song.wav")
    assert cli.run(main, ["separate", str(song), "--out", str(tmp_path / "out"), "--fast", "--device", "cpu"]) == 0
    assert "no published checkpoints are installed: the small demo that comes along separates" in capsys.readouterr().out
    assert cli.run(main, ["separate", str(song), "--out", str(tmp_path / "out"), "--model", "A"]) == 2
    assert separator.default_model() == "demo"
    for name in separator.ModelA.default_checkpoints:
        (tmp_path / name).touch()
    assert separator.default_model() == "A"
