"""Freed memory stays in the process."""

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
    """Return the number of page faults of four arrays, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        np.full(BYTES // 8, 1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux, where the C library may be glibc")
def test_memory_is_requested_once(restored: None) -> None:
    pages = 4 * BYTES / 2**21  # at least, because no page is larger than 2 MB
    keep_freed_memory(False)
    assert faults() > 0.9 * pages
    if not keep_freed_memory():
        pytest.skip("this C library is not glibc")
    faults()  # pages of the first array are new
    assert faults() < 0.1 * pages
    keep_freed_memory(False)
    assert faults() > 0.9 * pages


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
