"""Configs of other programs: of Music-Source-Separation-Training (MSST), Ultimate Vocal Remover (UVR) and the authors.

    config = load_any_config("config_vocals_mdx23c.yaml")

These files hold keys of other training programs, and lack some of ours. Only the keys that separation needs are read here; a
mistake in them is refused as in a file of ours. A file is of another program if it holds one of its keys, or a value that ours
never has (FOREIGN). Everything else is checked strictly by config.py, so that a typo in our own file is found.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from my_submission.src.common.plain_tree import ConfigError, require
from my_submission.src.config import Config, config_from_tree, read_text, with_name
from my_submission.src.model_config import ModelConfig

MSST = ("other_fix", "use_amp", "gradient_accumulation_steps")  # keys of `training` that only MSST's files have
AUDIO = ("dim_f", "hop_length", "n_fft", "num_channels", "sample_rate")
MODEL = tuple(field.name for field in dataclasses.fields(ModelConfig) if field.name != "type")
SECTIONS = ("audio", "model", "training", "inference")
OUR_TRAINING = ("q", "coarse_loss_clip", "ema_momentum", "num_steps")  # our files have them all
NOT_TRAINED = {  # stands for the training section, of which separation reads the instruments alone
    "batch_size": 1,
    "coarse_loss_clip": False,
    "ema_momentum": 0.999,
    "grad_clip": None,
    "lr": 1e-4,
    "num_steps": 1,
    "q": 1.0,
}


class _Loader(yaml.SafeLoader):
    """A safe loader that reads Python's tuples as lists, and no other tag."""

    def construct_tuple(self, node: yaml.SequenceNode) -> list[Any]:
        """Return the items."""
        return self.construct_sequence(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _Loader.construct_tuple)


def load_any_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config of ours or of another program, to separate with it; the arguments are those of `load_config`.

    Raises ConfigError, naming the file and the key.
    """
    text = read_text(path)
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    with with_name(path, overrides):
        if is_foreign(tree):
            tree = translate(tree)
        return config_from_tree(tree, overrides)


def is_foreign(tree: object) -> bool:
    """Return whether the tree of a config is of another program."""
    if not isinstance(tree, dict) or not all(isinstance(tree.get(name), dict) for name in SECTIONS):
        return False
    training, audio = tree["training"], tree["audio"]
    return (
        training.get("grad_clip", 0) == 0
        or any(key in training for key in (*MSST, "num_epochs", "augmentation", "patience"))
        or any(name not in SECTIONS and isinstance(section, dict) for name, section in tree.items())
        or all(key not in training for key in OUR_TRAINING)
        or "stereo_prob" in audio
        or any(key in tree["inference"] for key in ("instruments", "extension", "normalize", "chunk_size"))
    )


def translate(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree of our config that separates as the other program does. Raises ConfigError for keys that are missing."""
    audio, training, inference = tree["audio"], tree["training"], dict(tree["inference"])
    procedure = procedure_of(tree)
    needed = {"audio": (*AUDIO, "chunk_size"), "model": MODEL, "training": ("instruments",), "inference": ("num_overlap",)}
    for name, keys in needed.items():
        missing = [f"{name}.{key}" for key in keys if key not in tree[name]]
        require(not missing, f"missing: {', '.join(missing)}")
    hop, chunk = audio["hop_length"], inference.get("chunk_size", audio["chunk_size"])
    frames = _frames(hop, chunk, "inference.chunk_size" if "chunk_size" in inference else "audio.chunk_size")
    return {
        "audio": {
            **{key: audio[key] for key in AUDIO},
            "chunk_size": audio["chunk_size"],
            "dim_t": _frames(hop, audio["chunk_size"], "audio.chunk_size"),
            "min_mean_abs": 0.0,
        },
        "model": {key: tree["model"][key] for key in MODEL},
        "training": {
            **NOT_TRAINED,
            "instruments": training["instruments"],
            "target_instrument": training.get("target_instrument"),
        },
        "inference": {
            "batch_size": inference.get("batch_size", 1),
            "dim_t": frames if procedure == "msst" else inference.get("dim_t", frames),
            "num_overlap": inference["num_overlap"],
            "procedure": procedure,
            "normalize": inference.get("normalize", False),
        },
    }


def _frames(hop: object, chunk: object, name: str) -> int:
    """Return the STFT frames of a chunk."""
    for key, value in (("audio.hop_length", hop), (name, chunk)):
        require(isinstance(value, int) and value > 0, f"{key} is {value!r}, expected a whole number above 0")
    assert isinstance(hop, int)
    assert isinstance(chunk, int)
    require(chunk % hop == 0, f"{name} is {chunk}, not a multiple of audio.hop_length = {hop}")
    return chunk // hop + 1


def procedure_of(tree: Mapping[str, Any]) -> str:
    """Return the procedure of the program that a config is of: msst, uvr, or published for the authors' own."""
    training = tree["training"]
    if any(key in training for key in MSST) or "chunk_size" in tree["inference"]:
        return "msst"
    capitals = any(re.match(r"[A-Z]", str(name)) for name in training.get("instruments") or ())
    return "uvr" if capitals or "num_epochs" in training or "augmentation" in training else "published"
