"""The model of the evaluation's tests."""

from __future__ import annotations

import pytest

from my_submission import user_config
from tests.helpers.evaluation import PlainModel


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make the plain model user_config's; return the list to which it appends the sizes of its mixtures."""
    monkeypatch.delenv("AICROWD_DATASET_DIR", raising=False)
    monkeypatch.delenv("AICROWD_PUBLIC_SHARED_DIR", raising=False)
    monkeypatch.setattr(PlainModel, "sizes", [], raising=False)
    monkeypatch.setattr(user_config, "MySeparationModel", PlainModel)
    return PlainModel.sizes
