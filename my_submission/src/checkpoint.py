"""Checkpoints: find them in a folder, verify them, load them strictly, save them atomically.

    paths = find_checkpoints("my_submission/ckpts/demo")                        # {seed: path}
    network = load_network(config, read_state_dict(paths[0]), str(paths[0]))
    save_checkpoint(network.state_dict(), "step1_seed0.ckpt")

A checkpoint is a plain state dict, name -> tensor, saved by torch. A folder of checkpoints and a config.yaml is a model.
Only tensors are unpickled.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config
from my_submission.src.model import build_network
from my_submission.src.network import SeparationNetwork

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)  # types of weights that are accepted
INTEGERS = (torch.int64, torch.int32)  # types of counters, such as a batch norm's
FOLDER = Path(__file__).resolve().parents[1] / "ckpts"


class CheckpointError(UserError):
    """A checkpoint, or a folder of them, that cannot be used."""


def find_checkpoints(folder: str | Path, seeds: Sequence[int] | None = None) -> dict[int, Path]:
    """Return the checkpoints of a folder by seed, the lowest seed first: all of them, or the seeds asked for.

    The seed is read from the name, as in `step100000_seed0.ckpt`; of several steps of one seed, the last counts. If no name
    contains a seed, the files are numbered in alphabetical order.

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
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return sha256_of(file)


def sha256_of(file: IO[bytes]) -> str:
    """Return the SHA-256 of the rest of an open file, in hexadecimal."""
    digest = hashlib.sha256()
    while piece := file.read(1 << 20):
        digest.update(piece)
    return digest.hexdigest()


def read_state_dict(file: str | Path | IO[bytes], name: str | None = None) -> dict[str, Tensor]:
    """Read a state dict of tensors to the CPU. `name` stands in messages for a file that has no path.

    Raises CheckpointError for any other content. Pickled code is refused and never run.
    """
    name = name or str(file)
    if isinstance(file, (str, Path)):
        _refuse_stand_in(Path(file))
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # the file is untrusted, and torch.load can fail on it in any way
        reason = str(error).strip().split("\n")[0].split(". ")[0] or type(error).__name__
        raise CheckpointError(f"{name}: is damaged, or no plain state dict of tensors ({reason}); fetch it again") from error
    if not _is_state_dict(state):
        within = [key for key, value in state.items() if _is_state_dict(value)] if isinstance(state, dict) else []
        advice = f", which it holds under {', '.join(map(repr, within))}; save that alone" if within else ""
        raise CheckpointError(f"{name}: holds something else than a plain state dict, expected name -> tensor{advice}")
    return state


def _is_state_dict(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and isinstance(value[key], Tensor) for key in value)


def _refuse_stand_in(path: Path) -> None:
    """Refuse a missing file, and files often found in place of a checkpoint: a git-lfs pointer, a web page."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, expected a checkpoint")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}), expected a checkpoint") from error
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: is a git-lfs pointer, not the checkpoint itself; run: git lfs pull")
    if head.lstrip().startswith(b"<"):
        raise CheckpointError(f"{path}: is a web page, not a checkpoint; the download did not reach the file")


def load_network(config: Config, state: dict[str, Tensor], name: str) -> SeparationNetwork:
    """Load a state dict strictly into the network of a config; the network is in evaluation mode, float32, on the CPU.

    Weights of other floating-point types are converted.

    Raises CheckpointError, naming `name`, for parameters that are missing, unknown, of another shape or not finite, and for
    tensors that are not plain: sparse, quantized, integer and so on.
    """
    network = build_network(config)
    expected = network.state_dict()
    _refuse_prefix(state, expected, name)
    _refuse_unusual(state, expected, name)
    wrong = [f"{key} is missing" for key in expected if key not in state]
    wrong += [f"{key} is unknown to the config" for key in state if key not in expected]
    wrong += [
        f"{key} is {list(state[key].shape)}, expected {list(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    if not wrong:  # shapes come first: a small file can hold a tensor that is too large to look at
        wrong = [f"{key} is not finite" for key, value in expected.items() if not _is_finite_as(state[key], value.dtype)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(f"{name}: does not fit its config.yaml: {'; '.join(wrong[:3])}{more}")
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def _refuse_prefix(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    """Refuse a state dict whose names are the expected ones behind a common prefix."""
    first = next(iter(expected))
    prefix = next((key.removesuffix(first) for key in state if key.endswith(f".{first}")), "")
    if prefix and all(key.startswith(prefix) for key in state):
        origins = {"module.": "DataParallel", "_orig_mod.": "torch.compile"}
        wrapper = " and ".join(origin for part, origin in origins.items() if part in prefix)
        adds = f", as {wrapper} adds it" if wrapper else ""
        raise CheckpointError(
            f"{name}: all its names begin with {prefix!r}{adds}, expected {first!r} and so on; save the state dict of the "
            "network inside, or take the prefix off"
        )


def _refuse_unusual(state: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    """Refuse tensors that are not plain: torch would fail on them, or convert them to other numbers."""
    for key, value in state.items():
        kind = _unusual_kind(value, is_weight=key not in expected or expected[key].is_floating_point())
        if kind:
            raise CheckpointError(f"{name}: {key} is {kind}, expected an ordinary tensor of floating-point numbers")


def _unusual_kind(value: Tensor, is_weight: bool) -> str:
    """Say what keeps a tensor from being used, or return "". Counters, which are no weights, may be integers."""
    is_accepted = value.dtype in FLOATS or (not is_weight and value.dtype in INTEGERS)
    kinds = (
        (value.is_meta, "a meta tensor, which holds no numbers"),
        (value.is_quantized, f"quantized ({_name_of(value.dtype)})"),
        (value.is_nested, "a nested tensor"),
        (value.layout != torch.strided, f"stored as {_name_of(value.layout)}"),
        (type(value) not in (Tensor, torch.nn.Parameter), f"of the class {type(value).__name__}"),
        (not is_accepted, _name_of(value.dtype)),
    )
    return next((kind for applies, kind in kinds if applies), "")


def _name_of(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")


def _is_finite_as(value: Tensor, dtype: torch.dtype) -> bool:
    """Return whether all numbers are finite after the conversion, which may overflow."""
    return bool(torch.isfinite(value.to(dtype)).all())


def save_checkpoint(state: dict[str, Tensor], path: str | Path) -> None:
    """Write a state dict from the CPU, atomically: on an error the file stays as it was.

    Raises CheckpointError if the file cannot be written.
    """
    path = Path(path)
    tensors = {key: value.detach().cpu() for key, value in state.items()}
    try:
        with atomic_file(path) as partial, partial.open("wb") as file:
            torch.save(tensors, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's writer, when the disk is full
        reason = getattr(error, "strerror", None) or str(error).split("\n")[0]
        raise CheckpointError(f"{path}: cannot be written ({reason}); is the disk full?") from error


def _listed(seeds: Sequence[int] | dict[int, Path]) -> str:
    return ", ".join(map(str, seeds))
