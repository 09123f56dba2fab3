"""The state of a training run on the disk: everything that an interrupted run needs to go on as if nothing had happened.

    save_state("run", seed=0, state={"step": 500, ...})     # run/state_seed0_step500.pt; the two newest are kept
    payload = newest_payload("run", seed=0)                 # None where there is none
    state = read_payload(payload)

A file is torch's format, of tensors, numbers and names alone, followed by its SHA-256: torch itself notices a file that was
cut off, not one with a wrong byte in the middle.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import some
from my_submission.src.config import Config
from my_submission.src.training.mask_tally import table_path

FORMAT = 2  # 1 had no count of what the mask left out
KEPT = 2
FREE = {  # keys that may change from one command to the next: they do not change what a step computes
    "training.activation_checkpointing",
    "training.datasets",  # what counts are the tracks in them
    "training.num_steps",
}


class ResumeError(UserError):
    """A run that cannot go on."""


def state_files(folder: str | Path, seed: int) -> list[Path]:
    """The saved states of a seed, the newest first."""
    steps = {path: re.fullmatch(rf"state_seed{seed}_step(\d+)\.pt", path.name) for path in Path(folder).glob("state_seed*.pt")}
    return sorted((path for path, match in steps.items() if match), key=lambda path: int(steps[path][1]), reverse=True)


def save_state(folder: str | Path, seed: int, state: dict[str, Any]) -> Path:
    """Write a state, atomically, and delete all but the two newest. Raises ResumeError, with the older ones in place."""
    path = Path(folder) / f"state_seed{seed}_step{state['step']}.pt"
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
    for old in state_files(folder, seed)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def discard_states(folder: str | Path, seed: int) -> None:
    """Forget a seed's run, and what it said of the data."""
    for path in (*state_files(folder, seed), table_path(folder, seed)):
        path.unlink(missing_ok=True)


def discard_leftovers(folder: str | Path, seed: int) -> None:
    """Delete what a killed process of this seed left half-written."""
    for path in Path(folder).glob(".*.partial"):
        if re.search(rf"_seed{seed}[_.]", path.name):
            path.unlink(missing_ok=True)


def newest_payload(folder: str | Path, seed: int) -> bytes | None:
    """The newest state that is whole; a damaged one is reported and passed over. None where nothing was saved.

    Raises ResumeError where all that was saved is damaged.
    """
    files = state_files(folder, seed)
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
        raise ResumeError(f"{folder}: no saved state of seed {seed} is whole; to begin anew: --restart")
    return None


def read_payload(payload: bytes) -> dict[str, Any]:
    """The state in a payload. Raises ResumeError for one of another version of this program."""
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # the checksum is right, so it is what was written, by who knows which version
        raise ResumeError(f"the saved state cannot be read by torch {torch.__version__}; to begin anew: --restart") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ResumeError("the saved state is of another version of this program; to begin anew: --restart")
    return state


def recipe(config: Config, precision: str) -> dict[str, Any]:
    """All that decides what a step computes, flat: {"audio.n_fft": 8192, ...}."""
    tree = config.as_dict()
    flat = {f"{part}.{key}": value for part in ("audio", "model", "training") for key, value in tree[part].items()}
    # a schedule that ends at the last step depends on which that is
    free = FREE if config.training.lr_schedule == "constant" else FREE - {"training.num_steps"}
    return {**{key: value for key, value in flat.items() if key not in free}, "--precision": precision}


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two flat dictionaries, in words."""
    return [f"{key} was {saved.get(key)}, is {now.get(key)}" for key in {**saved, **now} if saved.get(key) != now.get(key)]


def refuse_changes(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare what two runs were begun with: `recipe`, `tracks`, `dropped` stems. Raises ResumeError with what is different."""
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
            "Put it back to go on, begin anew with --restart, or take another --model_path"
        )


def _gone_and_new(saved: list[str], now: list[str]) -> tuple[list[str], list[str]]:
    return sorted(set(saved) - set(now)), sorted(set(now) - set(saved))
