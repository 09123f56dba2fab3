"""Fixtures of all tests: small models, short songs and processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.helpers.paths import GOLDEN, ROOT


@pytest.fixture
def small_model(tmp_path: Path) -> Path:
    """Return a copy of the golden ensemble: a folder with the config.yaml and three checkpoints of a small network."""
    return Path(shutil.copytree(GOLDEN / "separation_A", tmp_path / "small_model"))


@pytest.fixture
def make_song() -> Callable[..., Path]:
    """Return a function that writes noise to a file, in the format of its suffix; each seed gives other noise."""

    def make(
        path: Path, seconds: float = 0.3, channels: int = 2, rate: int = 44100, level: float = 0.1, seed: int = 0, **how: str
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
        soundfile.write(path, (level * noise).clip(-1, 1), rate, **how)
        return path

    return make


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs `python ARGUMENTS` in a new process, in the repository's root unless `cwd` is given."""

    def run(*arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
