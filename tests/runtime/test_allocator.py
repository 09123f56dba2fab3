"""Freed memory that stays with the process."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from my_submission.src.runtime.allocator import keep_freed_memory

BYTES = 100_000_000


@pytest.fixture
def restored() -> Iterator[None]:
    yield
    keep_freed_memory(False)


def faults() -> int:
    """Pages that the system had to find for four arrays, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.full(BYTES // 8, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator is meant")
def test_memory_is_fetched_once(restored: None) -> None:
    pages = 4 * BYTES / 2**21  # at least: of 2 MB, if not smaller ones
    keep_freed_memory(False)
    assert faults() > 0.9 * pages
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    faults()  # the first array's pages are new
    assert faults() < 0.1 * pages
    keep_freed_memory(False)
    assert faults() > 0.9 * pages


def test_elsewhere_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
