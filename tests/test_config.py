"""Configurations: the published ones load, every mistake is refused by name, and overrides replace keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from my_submission.src.config import ConfigError, load_config
from tests.helpers.paths import GOLDEN, ROOT

CKPTS = ROOT / "my_submission" / "ckpts"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a golden config with some keys changed: changed({"audio.dim_f": 5})."""

    def write(changes: dict[str, Any], drop: str | None = None) -> Path:
        tree = yaml.safe_load((GOLDEN / "instance_gelu" / "config.yaml").read_text())
        for dotted, value in changes.items():
            section, key = dotted.split(".")
            tree[section][key] = value
        if drop:
            section, key = drop.split(".")
            del tree[section][key]
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


@pytest.mark.parametrize("path", [*CKPTS.glob("*/config.yaml"), *GOLDEN.glob("*/config.yaml")], ids=lambda p: p.parent.name)
def test_every_shipped_config_loads(path: Path) -> None:
    assert load_config(path).source_order


def test_published_configs_have_the_published_values() -> None:
    a, b = load_config(CKPTS / "modelA" / "config.yaml"), load_config(CKPTS / "modelB" / "config.yaml")
    assert (a.audio, a.model, a.inference) == (b.audio, b.model, b.inference)
    assert (a.inference_chunk_size, a.inference.num_overlap, a.inference.batch_size) == (1_047_552, 8, 2)
    assert a.source_order == ("vocals", "drums", "bass", "other")
    assert (a.training.num_steps, a.training.q, a.training.coarse_loss_clip, a.training.datasets) == (100_000, 0.4, True, ())
    assert (b.training.num_steps, b.training.q, b.training.coarse_loss_clip) == (150_000, 0.93, False)
    assert b.training.datasets == ("../data/moises/bleeding",)


def test_a_config_written_as_yaml_loads_as_the_same_config(changed: Callable[..., Path], tmp_path: Path) -> None:
    config = load_config(changed({"training.datasets": ["a", "b"], "training.grad_clip": 1}))
    again = tmp_path / "again.yaml"
    again.write_text(yaml.safe_dump(config.as_dict()))
    assert load_config(again) == config


def test_a_number_that_yaml_reads_as_a_string_is_a_number(changed: Callable[..., Path]) -> None:
    path = changed({})
    path.write_text(path.read_text().replace("lr: 0.0001", "lr: 1e-4"))
    assert load_config(path).training.lr == 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio.dim_ff": 1}, "audio.dim_ff is not a key of this file; did you mean audio.dim_f?"),
        ({"audio.dim_f": "many"}, "audio.dim_f is 'many', expected a whole number"),
        ({"audio.dim_f": 64.5}, "audio.dim_f is 64.5, expected a whole number"),
        ({"audio.dim_f": True}, "audio.dim_f is True, expected a whole number"),
        ({"audio.dim_f": None}, "audio.dim_f is empty, expected a whole number"),
        ({"audio.dim_f": 0}, "audio.dim_f is 0, expected a number above 0"),
        ({"audio.dim_f": 256}, "audio.dim_f is 256, but audio.n_fft = 256 has only 129 frequency bins"),
        ({"audio.dim_f": 126}, "audio.dim_f is 126, not a multiple of model.num_subbands = 4"),
        ({"audio.dim_f": 120}, "audio.dim_f / model.num_subbands is 30, not a multiple of model.scale"),
        ({"audio.n_fft": 255}, "audio.n_fft is 255, expected an even number"),
        ({"audio.hop_length": 200, "audio.chunk_size": 3000}, "audio.hop_length is 200, but the STFT can be inverted"),
        ({"audio.chunk_size": 961}, "audio.chunk_size is 961, expected audio.hop_length * (audio.dim_t - 1) = 960"),
        ({"audio.dim_t": 18, "audio.chunk_size": 1088}, "audio.dim_t is 18, not a multiple of model.scale"),
        ({"inference.dim_t": 30}, "inference.dim_t is 30, not a multiple of model.scale"),
        (
            {"inference.residual_shares": [0.5, 0.6, 0, 0]},
            "inference.residual_shares is [0.5, 0.6, 0.0, 0.0], expected numbers",
        ),
        ({"inference.residual_shares": [0.5, -0.1, 0, 0]}, "expected numbers of 0 or more that sum to 1 at most"),
        ({"inference.residual_shares": [0.5, 0.5]}, "expected a number for each of vocals, drums, bass, other"),
        ({"inference.dim_t": 0}, "inference.dim_t is 0, expected a number above 0"),
        ({"audio.n_fft": 4096}, "is too short for audio.n_fft = 4096"),
        ({"inference.num_overlap": 2000}, "inference.num_overlap is 2000, but a chunk has only 1984 samples"),
        ({"model.act": "swish"}, "model.act is 'swish', expected gelu, relu or elu with its alpha (elu0.7)"),
        ({"model.act": "elu"}, "model.act is 'elu', expected"),
        ({"model.norm": "LayerNorm"}, "model.norm is 'LayerNorm', expected InstanceNorm, BatchNorm or GroupNorm"),
        ({"model.norm": "GroupNorm3"}, "a scale has 8 channels"),
        ({"model.scale": [2]}, "model.scale is [2], expected 2 numbers"),
        ({"model.scale": [2, 0]}, "model.scale is [2, 0], expected numbers above 0"),
        ({"model.bottleneck_factor": 16}, "the deepest scale has only 8 frequency bins"),
        ({"inference.window": "triangle"}, "inference.window is 'triangle', expected rectangular or hann"),
        ({"model.type": 3}, "model.type is 3, expected a name"),
        ({"model.typ": "x"}, "model.typ is not a key of this file; did you mean model.type?"),
        ({"training.loss_mask": "soft"}, "training.loss_mask is 'soft', expected coarse or fine"),
        (
            {"training.coarse_loss_clip": True, "training.loss_mask": "fine"},
            "training.loss_mask is fine, but training.coarse_loss_clip is true, which means coarse; leave one of the two out",
        ),
        ({"training.coarse_loss_clip": None}, "missing: training.coarse_loss_clip (true or false), or training.loss_mask"),
        ({"training.q": 1.5}, "training.q is 1.5, expected above 0 and up to 1"),
        ({"training.lr": float("nan")}, "training.lr is nan, expected a number"),
        ({"training.ema_momentum": 1}, "training.ema_momentum is 1.0, expected 0 up to below 1"),
        ({"training.grad_clip": 0}, "training.grad_clip is 0.0, expected null or a number above 0"),
        ({"training.lr_schedule": "linear"}, "training.lr_schedule is 'linear', expected constant or cosine"),
        ({"training.warmup_steps": 20}, "training.warmup_steps is 20, expected 0 up to below training.num_steps = 20"),
        ({"training.gain_db": [3, -3]}, "training.gain_db is [3.0, -3.0], expected null or two numbers, the lower one first"),
        ({"training.same_song": 2}, "training.same_song is 2.0, expected 0 up to 1"),
        ({"training.mixture_codec": 1.5}, "training.mixture_codec is 1.5, expected 0 up to 1"),
        ({"training.polarity": -1}, "training.polarity is -1.0, expected 0 up to 1"),
        ({"training.equaliser_db": -3}, "training.equaliser_db is -3.0, expected 0 up to 24"),
        (
            {"training.speed": [1.1, 0.9]},
            "training.speed is [1.1, 0.9], expected null or two numbers from 0.5 to 2, the lower one",
        ),
        ({"training.speed": 1.1}, "training.speed is 1.1, expected a list"),
        ({"training.instruments": []}, "training.instruments is empty"),
        ({"training.instruments": "vocals"}, "training.instruments is 'vocals', expected a list"),
        ({"training.instruments": ["a", "a"]}, "training.instruments names one twice"),
        ({"training.instruments": ["../../etc"]}, "training.instruments holds '../../etc', expected letters"),
        ({"training.target_instrument": "flute"}, "training.target_instrument is 'flute', expected null or one of"),
    ],
)
def test_impossible_values_are_refused_by_name(changed: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    path = changed(changes)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_either_key_chooses_the_mask(changed: Callable[..., Path]) -> None:
    for clip, name in ((True, "coarse"), (False, "fine")):
        assert load_config(changed({"training.coarse_loss_clip": clip})).training.mask == name
        assert load_config(changed({"training.coarse_loss_clip": clip, "training.loss_mask": name})).training.mask == name
        named = load_config(changed({"training.loss_mask": name}, drop="training.coarse_loss_clip"))
        assert named.training.mask == name
        assert named.as_dict()["training"]["loss_mask"] == name
        assert "coarse_loss_clip" not in named.as_dict()["training"]


def test_a_published_config_is_written_with_the_published_keys_and_ours() -> None:
    config = load_config(CKPTS / "modelA" / "config.yaml")
    tree = yaml.safe_load((CKPTS / "modelA" / "config.yaml").read_text())
    written = config.as_dict()
    assert list(written) == ["audio", "model", "training", "inference"]
    assert written["audio"] == tree["audio"]
    assert written["model"] == tree["model"]
    assert "loss_mask" not in written["training"]
    assert {"batch_size", "coarse_loss_clip", "gain_db", "mixture_codec"} <= set(written["training"])


def test_overrides_replace_keys_before_the_check(changed: Callable[..., Path]) -> None:
    path = changed({"training.lr": "wrong"})
    overrides = [
        "training.lr=4e-4",
        "training.lr = 0.0005",
        "model.scale=[2, 2]",
        "training.grad_clip=",
        "inference.window=hann",
    ]
    config = load_config(path, overrides)
    assert (config.training.lr, config.model.scale) == (0.0005, (2, 2))
    assert (config.training.grad_clip, config.inference.window) == (None, "hann")
    assert path.read_text() == changed({"training.lr": "wrong"}).read_text()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.lr", "'training.lr' is no override, expected section.key=value, such as training.lr=0.0004"),
        ("=3", "'=3' is no override"),
        ("training=3", "training is a section, expected training.key=value; its keys are mixture_codec, speed,"),
        ("trainig.lr=1", "trainig.lr is not a key; did you mean training.lr?"),
        ("training.qq=1", "training.qq is not a key; did you mean training.q?"),
        ("lr=1", "lr is not a key; did you mean training.lr?"),
        ("num_channels=1", "num_channels is not a key; did you mean audio.num_channels or model.num_channels?"),
        ("audio.lr=1", "audio.lr is not a key; did you mean training.lr?"),
        ("training.lr.max=1", "training.lr.max is not a key; did you mean training.lr?"),
        ("nothing=1", "nothing is not a key; the sections are audio, model, training, inference"),
        ("training.lr=[", "the value of training.lr is '[', which is not valid YAML"),
        ("training.lr=fast", "training.lr is 'fast', expected a number"),
        ("audio.dim_f=126", "audio.dim_f is 126, not a multiple of model.num_subbands = 4"),
    ],
)
def test_wrong_overrides_are_refused_by_name(changed: Callable[..., Path], override: str, message: str) -> None:
    path = changed({})
    with pytest.raises(ConfigError) as caught:
        load_config(path, [override])
    assert str(caught.value).startswith(f"{path} with {override}: {message}")


def test_files_that_are_not_a_config_are_refused(changed: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing: training\.lr"):
        load_config(changed({}, drop="training.lr"))
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_config(tmp_path / "nowhere.yaml")
    for text, message in [("", "the file is empty"), ("a: [", "not valid YAML"), ("- 1", "expected a section of keys")]:
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "config.yaml")


def test_yaml_cannot_run_code(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"audio: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'owned'}]")
    with pytest.raises(ConfigError):
        load_config(path)
    assert not (tmp_path / "owned").exists()
