"""Run the separate command in tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from my_submission.src import separate
from my_submission.src.common import cli
from tests.helpers.paths import GOLDEN

MODEL = GOLDEN / "separation_A"
STEMS = ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]

Song = Callable[..., Path]  # the fixture make_song


def listing(folder: Path) -> list[str]:
    """Return every file in a folder and below, including hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its exit status, output and errors."""
    status = cli.run(separate.main, [*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err
