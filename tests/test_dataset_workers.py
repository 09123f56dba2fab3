"""Errors of the processes that read training data keep their cause."""

from __future__ import annotations

from pathlib import Path

import pytest

from my_submission.src.config import load_config
from my_submission.src.dataset import RandomMixes, batches
from tests.helpers.paths import GOLDEN


class Broken(RandomMixes):
    def __getitem__(self, index: int) -> str:
        raise self.error


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [RuntimeError("a wrong shape"), MemoryError("no memory"), OSError(5, "Input/output error")])
def test_an_error_of_a_worker_is_not_taken_for_its_death(error: Exception, workers: int) -> None:
    config = load_config(Path(GOLDEN) / "separation_A" / "config.yaml")
    mixes = Broken([], config, seed=0)
    mixes.error = error
    with pytest.raises(type(error), match=str(error.args[-1])):
        next(batches(mixes, range(3), 2, workers=workers))
