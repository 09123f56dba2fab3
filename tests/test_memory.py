"""Memory does not grow with the length of a song. benchmarks/memory.py is the long version."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.helpers.paths import ROOT

SEVERAL = ("--procedure", "msst", "--models", "2", "--two-stems", "bass")


@pytest.mark.parametrize(("options", "seconds"), [((), (60, 300)), (SEVERAL, (20, 170))])
def test_a_long_song_needs_no_more_memory_than_a_short_one(
    run_python: Callable[..., object], options: tuple[str, ...], seconds: tuple[int, int]
) -> None:
    result = run_python(ROOT / "tests" / "benchmarks" / "memory.py", "--json", "--seconds", *map(str, seconds), *options)
    assert result.returncode == 0, result.stderr
    short, long = map(json.loads, result.stdout.splitlines())
    one_stem_mb = (seconds[1] - seconds[0]) * 44100 * 2 * 4 / 2**20  # of the difference, in float32; peaks vary by 20 MB
    assert long["peak_mb"] - short["peak_mb"] < one_stem_mb / 2
