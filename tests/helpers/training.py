"""Helpers for the tests of training: generated tracks, a small config, and the command in its own process."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from tests.helpers.paths import GOLDEN

RATE = 44100
INSTRUMENTS = ("vocals", "drums", "bass", "other")
FREQUENCY = {"vocals": 880, "drums": 5500, "bass": 110, "other": 2200}  # Hz; a network can tell them apart


def tone(instrument: str, samples: int, seed: int = 0) -> np.ndarray:
    """Return a detuned tone with tremolo [n, 2]."""
    rng = np.random.default_rng([seed, *instrument.encode()])
    time = np.arange(samples) / RATE
    phase = 2 * np.pi * (FREQUENCY[instrument] * rng.uniform(0.9, 1.1) * time + rng.uniform(0, 1, 2)[:, None])
    return (0.2 * np.sin(phase) * (0.6 + 0.4 * np.sin(2 * np.pi * 30 * time))).T


def write_track(folder: Path, samples: int = 6000, seed: int = 0, suffix: str = "wav") -> Path:
    """Write a track with four stems and return its folder."""
    folder.mkdir(parents=True)
    for name in INSTRUMENTS:
        soundfile.write(folder / f"{name}.{suffix}", tone(name, samples, seed), RATE)
    return folder


def write_tracks(folder: Path, count: int = 3) -> Path:
    """Write a data set of tracks of different lengths; the last one is flac."""
    for i in range(count):
        write_track(folder / f"track{i}", 5000 + 700 * i, i, "flac" if i == count - 1 else "wav")
    return folder


def write_config(path: Path, **changes: Any) -> Path:
    """Write the config.yaml of a network with 12,000 parameters; `changes` are keys of any section."""
    tree = yaml.safe_load((GOLDEN / "training_coarse" / "config.yaml").read_text())
    tree["training"].update(num_steps=20, lr=0.001, ema_momentum=0.9)
    for key, value in changes.items():
        section = next((part for part in ("training", "audio", "model", "inference") if key in tree[part]), "training")
        tree[section][key] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(tree))
    return path


def fork_server() -> multiprocessing.context.ForkServerContext:
    """Return a context whose processes start with torch imported already, and can be killed.

    They import from PYTHONPATH, which must be set before the first of them starts.
    """
    context = multiprocessing.get_context("forkserver")
    # torch._dynamo: the optimizer imports it in its first step
    context.set_forkserver_preload(
        ["tests.helpers.training", "my_submission.src.training.loop", "my_submission.src.train", "torch._dynamo"]
    )
    return context


def run_command(argv: list[str], log: Path, environment: dict[str, str] | None = None, slow_write: Path | None = None) -> None:
    """Run the training command as the target of a process, with its output in `log`.

    With `slow_write`, every write of a state creates that file and then takes half a second longer.
    """
    import torch

    from my_submission.src import train
    from my_submission.src.common import cli
    from my_submission.src.training import resume

    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # for the workers: another fork server would import torch again
    os.environ.update(environment or {})
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if slow_write:
        sync = resume.os.fsync

        def slow_sync(descriptor: int) -> None:
            slow_write.touch()
            time.sleep(0.5)
            sync(descriptor)

        resume.os.fsync = slow_sync
    sys.exit(cli.run(train.main, argv))
