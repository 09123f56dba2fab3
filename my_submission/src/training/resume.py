"""Exact resume: save the state of a training run, read it, and refuse it if the run has changed in the meantime.

    folder = RunFolder(Path("runs/A"), seed=0)
    save_state(folder, {"step": 500, ...})          # runs/A/state_seed0_step500.pt; the two newest are kept
    payload = newest_payload(folder)                # None if there is none
    state = read_payload(payload)

A file holds tensors, numbers and names in torch's format, followed by their SHA-256. torch itself notices a file that was cut
off, but not a wrong byte in the middle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import warnings
from typing import Any

import torch

from my_submission.src.audio.augment import Augmentation
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import some
from my_submission.src.config import Config, load_config
from my_submission.src.training.run_folder import FolderError, RunFolder

FORMAT = 2  # format 1 lacks the mask's tally
KEPT = 2  # saved states of a seed; older ones are deleted
FREE = {  # keys that may change when a run is resumed, because a step's results do not depend on them
    "training.activation_checkpointing",
    "training.datasets",  # the tracks in them are compared instead
    "training.num_steps",
}


class ResumeError(UserError):
    """The run cannot be resumed."""


def save_state(folder: RunFolder, state: dict[str, Any]) -> None:
    """Write a state atomically and delete all but the two newest states.

    Raises ResumeError if it cannot be written; the older states are then left untouched.
    """
    path = folder.state(state["step"])
    buffer = io.BytesIO()
    torch.save({**state, "format": FORMAT}, buffer)
    payload = buffer.getbuffer()
    try:
        with atomic_file(path) as partial, partial.open("wb") as file:
            file.write(payload)
            file.write(hashlib.sha256(payload).digest())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResumeError(f"{path}: cannot be written ({error.strerror}); the states saved before are untouched") from error
    for old in folder.states()[KEPT:]:
        old.unlink(missing_ok=True)


def newest_payload(folder: RunFolder) -> bytes | None:
    """Return the newest undamaged state as bytes, or None if no state was saved. Warn about the damaged ones.

    Raises ResumeError if all saved states are damaged.
    """
    files = folder.states()
    for path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ResumeError(f"{path}: cannot be read ({error.strerror})") from error
        payload, digest = content[:-32], content[-32:]
        if hashlib.sha256(payload).digest() == digest:
            return payload
        warnings.warn(f"{path}: is damaged (its checksum does not match); looking for the one before it", stacklevel=2)
    if files:
        raise ResumeError(f"{folder.path}: no saved state of seed {folder.seed} is whole; to start again: --restart")
    return None


def read_payload(payload: bytes) -> dict[str, Any]:
    """Return the state in a payload. Raises ResumeError if another version of this program wrote it."""
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # the checksum is right, so another version of torch or of this program wrote it
        raise ResumeError(f"the saved state cannot be read by torch {torch.__version__}; to start again: --restart") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ResumeError("the saved state is of another version of this program; to start again: --restart")
    return state


def recipe(config: Config, precision: str) -> dict[str, Any]:
    """Return all settings that a step's results depend on, flat: {"audio.n_fft": 8192, ...}."""
    tree = config.as_dict()
    flat = {f"{part}.{key}": value for part in ("audio", "model", "training") for key, value in tree[part].items()}
    # a schedule that ends at the last step depends on the number of steps
    free = FREE if config.training.lr_schedule == "constant" else FREE - {"training.num_steps"}
    off = {f"training.{field.name}": field.default for field in dataclasses.fields(Augmentation)}  # runs older than these keys
    kept = {key: value for key, value in flat.items() if key not in free and not (key in off and value == off[key])}
    return {**kept, "--precision": precision}


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the differences between two flat dictionaries in words: `training.lr was 0.001, is 0.01`."""
    return [f"{key} was {saved.get(key)}, is {now.get(key)}" for key in {**saved, **now} if saved.get(key) != now.get(key)]


def refuse_changes(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the saved run with the present one by their `recipe`, `tracks` and `dropped` stems.

    Raises ResumeError with every difference.
    """
    changes = differences(saved["recipe"], now["recipe"])
    if saved["tracks"] != now["tracks"]:
        gone, new = _gone_and_new(saved["tracks"], now["tracks"])
        found = [f"{word} {some(names)}" for word, names in (("without", gone), ("with the new", new)) if names]
        counts = f"{len(saved['tracks'])} tracks, is {len(now['tracks'])}"
        changes.append(f"the data was {counts}, {' and '.join(found) or 'in another order'}")
    elif saved["dropped"] != now["dropped"]:
        gone, new = _gone_and_new(saved["dropped"], now["dropped"])
        found = [f"{word} {some(names)}" for word, names in (("draws from", gone), ("leaves out", new)) if names]
        changes.append(f"with another --keep, or none, it now {' and '.join(found)}")
    if changes:
        raise ResumeError(
            f"the saved run was begun with something else: {'; '.join(changes)}.\n"
            "Put it back to go on, start again with --restart, or take another --model-path"
        )


def refuse_other_network(folder: RunFolder, config: Config) -> None:
    """Raise FolderError if the folder has a config.yaml that does not fit a checkpoint of `config`."""
    if not folder.config.exists():
        return
    found, expected = (_network(each) for each in (load_config(folder.config), config))
    if found != expected:
        listed = "; ".join(differences(found, expected))
        raise FolderError(f"{folder.config}: is of another network ({listed}); take another --model-path")


def _network(config: Config) -> dict[str, Any]:
    """Return the settings that a checkpoint must fit, flat."""
    tree = config.as_dict()
    flat = {f"{part}.{key}": value for part in ("audio", "model") for key, value in tree[part].items()}
    return {**flat, "training.instruments": list(config.source_order)}


def _gone_and_new(saved: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    return sorted(set(saved) - set(now)), sorted(set(now) - set(saved))
