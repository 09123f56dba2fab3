"""Damaged files of every kind are read or refused with a UserError, and no length is wrong. benchmarks/fuzz.py tries more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.fuzz import KINDS, try_damaged

COUNT = 40  # damaged files of each kind


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    whole = kind.make(tmp_path)
    (tmp_path / kind.name).write_bytes(whole)
    kind.read(tmp_path / kind.name)
    outcomes = Counter(try_damaged(kind, whole, seed, tmp_path) for seed in range(COUNT))
    assert set(outcomes) != {"read"}, outcomes  # some are refused
