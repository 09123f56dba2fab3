"""Memory does not grow with the song: the short version of benchmarks/memory.py."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.helpers.paths import ROOT


def test_peak_memory_is_that_of_a_short_song(run_python: Callable[..., object]) -> None:
    result = run_python(ROOT / "tests" / "benchmarks" / "memory.py", "--json", "--seconds", "60", "360")
    assert result.returncode == 0, result.stderr
    short, long = map(json.loads, result.stdout.splitlines())
    one_stem_mb = 300 * 44100 * 2 * 4 / 2**20  # of the difference in length, as float32: 101 MB, where peaks vary by 20
    assert long["peak_mb"] - short["peak_mb"] < one_stem_mb / 2
