"""Checkpoints: find them in a folder, verify, load strictly, save atomically.

A checkpoint is a plain state dict, name -> tensor, saved by torch; a folder of them and a config.yaml is a model.
Nothing is unpickled but tensors.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config
from my_submission.src.model import TFCTDFNet

FOLDER = Path(__file__).resolve().parents[1] / "ckpts"
DOWNLOAD = "https://drive.google.com/file/d/1fy3aIAYnDg8WJ35hMsBhVJFLbIbLo8Gv/view?usp=share_link"
INSTALL = "python -m my_submission install mdx_AB.zip"

PUBLISHED_BYTES = 120_586_444
PUBLISHED = {  # path in the archive and below ckpts/ -> SHA-256, from the authors' git-LFS records
    "modelA/step100000_seed0.ckpt": "ec3ab4a8327d6db696d9ae51c5a38573186461182007d0dd9a09ad662a5ef1ae",
    "modelA/step100000_seed1.ckpt": "38f49b66698b17ddc857eacf4ad246d48fa7c43bdb68d9e22967639426fee826",
    "modelA/step100000_seed2.ckpt": "350ce6e2555afd076fc41510a291a3137003794b7a1930179198c8b2c806310c",
    "modelB/step150000_seed0.ckpt": "ed1f577bfa6ed4e6146a675f763d2c8d773ab6f42cee75564d2f8d609ea979d3",
    "modelB/step150000_seed1.ckpt": "063723f682d46d42cfd5e6e0ca2e450de6847338d0bd6ae6407b8e6f75efd1f1",
    "modelB/step150000_seed2.ckpt": "eab8d4c9ce119ed3f0c8458e47c88648e51b9ba463ed546fcdd225b158d346c3",
}


class CheckpointError(UserError):
    """A checkpoint, or a folder of them, that cannot be used."""


def published_checkpoints(model: str) -> list[str]:
    """File names of a published model's checkpoints, seed 0 first: `published_checkpoints("modelA")`."""
    return sorted(path.partition("/")[2] for path in PUBLISHED if path.startswith(f"{model}/"))


def find_checkpoints(folder: str | Path, seeds: Sequence[int] | None = None) -> dict[int, Path]:
    """The checkpoints of a folder by seed, the lowest first: all of them, or the seeds asked for.

    The seed is read from the name, as in `step100000_seed0.ckpt`; of several steps of one seed, the last counts. Where no
    name tells a seed, the files are numbered in alphabetical order.

    Raises CheckpointError for a folder without checkpoints, or without one of the seeds.
    """
    folder = Path(folder)
    found: dict[int, tuple[int, Path]] = {}
    paths = sorted(path for path in folder.glob("*.ckpt") if not path.name.startswith("."))
    for path in paths:
        seed, step = re.search(r"seed(\d+)", path.stem), re.search(r"step(\d+)", path.stem)
        if seed:
            candidate = (int(step[1]) if step else -1, path)
            found[int(seed[1])] = max(found.get(int(seed[1]), candidate), candidate)
    by_seed = {seed: path for seed, (_, path) in sorted(found.items())} or dict(enumerate(paths))
    if not by_seed:
        raise CheckpointError(f"{folder}: holds no checkpoints, expected a config.yaml and files like step100000_seed0.ckpt")
    if seeds is None:
        return by_seed
    missing = sorted(set(seeds) - set(by_seed))
    if missing:
        raise CheckpointError(f"{folder}: has no checkpoint of seed {_listed(missing)}; there are {_listed(by_seed)}")
    return {seed: by_seed[seed] for seed in sorted(set(seeds))}


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return sha256_of(file)


def sha256_of(file: BinaryIO) -> str:
    """SHA-256 of what is left to read of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def read_state_dict(file: str | Path | BinaryIO, name: str | None = None) -> dict[str, Tensor]:
    """A state dict on the CPU, tensors and nothing else. `name` stands in messages for a file that has no path.

    Raises CheckpointError for anything that is not one, among it pickled code, of which none is run.
    """
    name = name or str(file)
    if isinstance(file, (str, Path)):
        _refuse_stand_in(Path(file))
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file from a stranger: the parser may trip over it in any way
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise CheckpointError(f"{name}: is damaged, or no plain state dict of tensors ({reason}); fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{name}: holds something else than a plain state dict, expected name -> tensor")
    return state


def _refuse_stand_in(path: Path) -> None:
    """Refuse what often lies where a checkpoint should: nothing, a git-lfs pointer, a web page."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, expected a checkpoint")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a git-lfs pointer, not the checkpoint itself; run: git lfs pull")
    if head.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path}: is a web page, not a checkpoint; the download did not reach the file")


def load_network(config: Config, state: dict[str, Tensor], name: str) -> TFCTDFNet:
    """The network of a config with a state dict in it, strictly, in evaluation mode, in float32 on the CPU.

    Raises CheckpointError, naming `name`, for parameters that are missing, unknown, of another shape or not finite.
    """
    network = TFCTDFNet(config)
    expected = network.state_dict()
    wrong = [f"{key} is missing" for key in expected if key not in state]
    wrong += [f"{key} is unknown to the config" for key in state if key not in expected]
    wrong += [
        f"{key} is {list(state[key].shape)}, expected {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    wrong += [f"{key} is not finite" for key, value in state.items() if not torch.isfinite(value).all()]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{name}: does not fit its config.yaml: {'; '.join(wrong[:3])}{more}")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def save_checkpoint(state: dict[str, Tensor], path: str | Path) -> None:
    """Write a state dict, on the CPU and atomically: the file is there whole, or as it was before."""
    path = Path(path)
    with atomic_file(path) as partial, partial.open("wb") as file:
        torch.save({key: value.detach().cpu() for key, value in state.items()}, file)
        file.flush()
        os.fsync(file.fileno())


def _listed(seeds: Sequence[int] | dict[int, Path]) -> str:
    return ", ".join(map(str, seeds))
