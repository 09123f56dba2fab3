"""SIGKILL at random moments of the commands that write folders; tests/benchmarks/kills.py repeats it as often as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.kill_subjects import SUBJECTS
from tests.helpers.kills import Killer


@pytest.mark.parametrize("command", sorted({*SUBJECTS} - {"clean"}))  # test_clean.py has its own kills
def test_a_killed_command_leaves_whole_results_and_the_next_run_clears_up(tmp_path: Path, command: str) -> None:
    report = Killer(SUBJECTS[command](tmp_path), seed=0).run(kills=3)
    assert report.by_time + report.by_operation >= 3
