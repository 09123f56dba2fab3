"""Fixtures of the tests of training: a data set, and the training command in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from my_submission.src import train
from my_submission.src.common import cli
from tests.helpers.training import write_tracks


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tracks(tmp_path / "data")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command in this process; returns its status and its output."""

    def run(*options: object) -> tuple[int, str]:
        try:
            status = cli.run(train.main, [str(word) for word in options])
        except SystemExit as refusal:  # the parser's
            status = refusal.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run
