"""The folder of a training run: one model, whose config.yaml does for all of its seeds.

refuse_other_network(folder / "config.yaml", config)                # before anything else is done
prepare(folder, seed=0, config=config, heading="# what it is\\n")     # write down what is run
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config, load_config
from my_submission.src.training import resume


class FolderError(UserError):
    """A folder that is another model's, or that cannot be written to."""


def refuse_other_network(path: Path, config: Config) -> None:
    """Raise FolderError where the config.yaml at `path` is there and would not do for a checkpoint of `config`."""
    if not path.exists():
        return
    there, ours = (_network(each) for each in (load_config(path), config))
    if there != ours:
        listed = "; ".join(resume.differences(there, ours))
        raise FolderError(f"{path}: is of another network ({listed}); take another --model_path")


def prepare(folder: Path, seed: int, config: Config, heading: str, restart: bool = False) -> None:
    """Make the folder, write the effective config into train_seed{seed}.yaml below a heading of comment lines.

    config.yaml is written only where there is none: one that is there is its owner's. `restart` discards the seed's saved
    states. Raises FolderError.
    """
    text = heading + yaml.safe_dump(config.as_dict(), sort_keys=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        resume.discard_leftovers(folder, seed)
        if restart:
            resume.discard_states(folder, seed)
        for name in (f"train_seed{seed}.yaml", "config.yaml"):
            path = folder / name
            if name == "config.yaml" and path.exists():
                continue
            with atomic_file(path) as partial:
                partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written to ({error.strerror})") from error


def _network(config: Config) -> dict[str, Any]:
    """What a checkpoint has to fit."""
    tree = config.as_dict()
    names = {"training.instruments": list(config.source_order)}
    return {**{f"{part}.{key}": value for part in ("audio", "model") for key, value in tree[part].items()}, **names}
