"""Errors of the processes that read training data keep their cause."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from my_submission.src.config import load_config
from my_submission.src.dataset import RandomMixes, batches
from tests.helpers.paths import GOLDEN

CONFIG = load_config(Path(GOLDEN) / "separation_A" / "config.yaml")


class Broken(RandomMixes):
    def __getitem__(self, index: int) -> str:
        raise self.error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError("a wrong shape"), MemoryError("no memory"), OSError(5, "Input/output error")])
def test_an_error_of_a_worker_is_not_taken_for_its_death(error: Exception, workers: int) -> None:
    mixes = Broken([], CONFIG, seed=0)
    mixes.error = error
    with pytest.raises(type(error), match=str(error.args[-1])):
        next(batches(mixes, range(3), 2, workers=workers))


def test_an_error_of_a_worker_ends_the_process(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
from tests.test_dataset_workers import Broken, CONFIG, batches
mixes = Broken([], CONFIG, seed=0)
mixes.error = MemoryError("no memory")
next(batches(mixes, range(3), 2, workers=2))
"""
    result = run_python("-c", program)  # within its time limit
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("MemoryError: no memory")
