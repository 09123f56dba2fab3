"""Validation stops within one batch of chunks when it is asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from my_submission.src.config import load_config
from my_submission.src.ensemble import Ensemble
from my_submission.src.training.trainer import Trainer
from my_submission.src.training.validation import Validation
from tests.helpers.training import write_config, write_track


@pytest.fixture
def validation(tmp_path: Path) -> Validation:
    """Two songs of about 15 batches of chunks each."""
    for i in range(2):
        write_track(tmp_path / "valid" / f"track{i}", 30_000, seed=i)
    config = load_config(write_config(tmp_path / "config.yaml"))
    return Validation(tmp_path / "valid", config, device=torch.device("cpu"), precision="fp32")


def test_a_validation_ends_within_a_batch_of_being_asked(validation: Validation, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Trainer(validation.config, seed=0, device=torch.device("cpu"), precision="fp32").ema.state_dict()
    batches = 0  # that went through the network
    seen: list[int] = []  # `batches` at every call of stop
    estimate = Ensemble.estimate

    def count(self: Ensemble, chunks: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += 1
        return estimate(self, chunks)

    def stop_at_third_call() -> bool:
        seen.append(batches)
        return len(seen) == 3

    monkeypatch.setattr(Ensemble, "estimate", count)
    assert validation.scores(state, stop_at_third_call) is None
    assert len(seen) == 3
    assert seen[2] - seen[1] == 1  # stop is called after every batch
    assert batches == seen[2]  # nothing more was separated, neither of this song nor of the next
    scores = validation.scores(state)
    assert scores is not None
    assert list(scores) == list(validation.config.source_order)
    assert batches > seen[2] + 20
