"""The files of a model: a config and checkpoints, in a folder of ours or of another program, or named one by one.

files = find_model("runs/A")                                   # config.yaml and step100000_seed0.ckpt, ...
files = find_model("MDX23C-8KFFT-InstVoc_HQ.ckpt")             # the config lies next to it
files = find_model("results", config="config_vocals_mdx23c.yaml")
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from my_submission.src.checkpoint import SUFFIXES, CheckpointError, find_checkpoints
from my_submission.src.common.plain_tree import ConfigError
from my_submission.src.common.text import some

EPOCH = re.compile(r"(^|_)(ep|epoch)[_-]?\d+|^(last|best)_", re.IGNORECASE)  # in the name of one of a training's checkpoints
NOT_CHECKPOINTS = re.compile(r"state_seed\d+_step\d+\.pt|optimizer.*|scheduler.*")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model."""

    config: Path
    checkpoints: dict[int, Path]  # by seed


def find_model(path: str | Path, *, config: str | Path | None = None, seeds: Sequence[int] | None = None) -> ModelFiles:
    """Find the config and the checkpoints of a model.

    Args:
        path: a folder, or a checkpoint.
        config: the config's file (default: the one next to the checkpoints; config.yaml if there are several).
        seeds: the members of an ensemble (default: all).

    Raises CheckpointError or ConfigError, saying which file to name, where there are none or too many.
    """
    path = Path(path)
    found = find_config(path, config)
    if path.is_file():
        _refuse_seeds(seeds, path)
        return ModelFiles(found, {0: path})
    return ModelFiles(found, _checkpoints(path, seeds))


def find_config(path: str | Path, config: str | Path | None = None) -> Path:
    """Return the config of a model; the arguments and errors are those of `find_model`."""
    if config:
        return Path(config)
    path = Path(path)
    return _config_of(path) if path.is_file() else _only_config(path)


def _config_of(checkpoint: Path) -> Path:
    """Return the config next to a checkpoint: one of its own name, or the only one."""
    names = (f"{checkpoint.name}.yaml", f"{checkpoint.stem}.yaml", f"config_{checkpoint.stem}.yaml")
    for name in names:
        if checkpoint.with_name(name).is_file():
            return checkpoint.with_name(name)
    return _only_config(checkpoint.parent)


def _only_config(folder: Path) -> Path:
    found = _files(folder, (".yaml", ".yml"))
    ours = folder / "config.yaml"
    if ours in found or not found:  # if there is none, reading it says so
        return ours
    if len(found) > 1:
        names = some([path.name for path in found])
        raise ConfigError(f"{folder}: holds several configs ({names}); name the right one with --config")
    return found[0]


def _checkpoints(folder: Path, seeds: Sequence[int] | None) -> dict[int, Path]:
    """Return a folder's ensemble, or its only network."""
    found = [path for path in _files(folder, SUFFIXES) if not NOT_CHECKPOINTS.fullmatch(path.name)]
    if (folder / "ckpt").is_file():  # some archives hold a file of this name
        found.append(folder / "ckpt")
    epochs = [path for path in found if EPOCH.search(path.name)]
    if any(re.search(r"seed\d+", path.stem) for path in found) or not (epochs or len(found) == 1):
        return find_checkpoints(folder, seeds)  # an ensemble of ours, or none
    _refuse_seeds(seeds, folder)
    if len(found) == 1:
        return {0: found[0]}
    last = [path for path in found if path.name.lower().startswith("last")]
    names = some([path.name for path in found])
    if len(last) != 1:
        raise CheckpointError(f"{folder}: holds {len(found)} checkpoints of one training ({names}); name one: --model FILE")
    warnings.warn(f"{folder}: holds {len(found)} checkpoints of one training; {last[0].name} is used alone", stacklevel=4)
    return {0: last[0]}


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return the files of a folder with these suffixes, hidden ones left out."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error.strerror}), expected a folder or a checkpoint") from error
    return [path for path in paths if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith(".")]


def _refuse_seeds(seeds: Sequence[int] | None, path: Path) -> None:
    if seeds not in (None, [0], (0,)):
        raise CheckpointError(f"{path}: is one network, so there are no seeds {', '.join(map(str, seeds or ()))} to choose")
