"""Measure how long several songs take with `separate --jobs 1` and with more jobs, on the same cores.

    python tests/benchmarks/jobs.py                               # 4 songs of 60 s with the demo, --jobs 1 and 2
    python tests/benchmarks/jobs.py --jobs 1 2 4 8 --rounds 3     # medians, for a machine with more cores

Each round runs every number of jobs once, so that other programs disturb all of them alike. The times are those of the whole
command, with the start of its processes and the loading of the model. Each process has its share of the cores as threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.measuring import command, machine, print_table  # noqa: E402
from tests.benchmarks.memory import write_song  # noqa: E402


def main() -> None:
    """Measure every number of jobs in each round, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2], help="numbers of jobs (default: 1 2)")
    parser.add_argument("--songs", type=int, default=4, help="number of songs (default: 4)")
    parser.add_argument("--seconds", type=float, default=60, help="duration of each song (default: 60)")
    parser.add_argument("--model", default="demo", help="model to separate with (default: demo)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements; medians are printed (default: 1)")
    options = parser.parse_args()
    times: dict[int, list[tuple[float, float]]] = {jobs: [] for jobs in options.jobs}
    with tempfile.TemporaryDirectory() as scratch:
        songs = Path(scratch) / "songs"
        songs.mkdir()
        for number in range(options.songs):
            write_song(songs / f"{number}.wav", options.seconds)
        for place in range(options.rounds):
            for jobs, measured in times.items():
                measured.append(measure(songs, jobs, options.model, Path(scratch) / f"out{place}_{jobs}"))
    import torch

    print(f"{command()}\n{machine(torch.device('cpu'))}")
    walls = {jobs: statistics.median(wall for wall, _ in measured) for jobs, measured in times.items()}
    processors = {jobs: statistics.median(used for _, used in measured) for jobs, measured in times.items()}
    print_table(
        ["--jobs", "threads of each", "seconds", "CPU seconds", "times as fast"],
        [
            [
                str(jobs),
                str(max(1, torch.get_num_threads() // jobs)),
                f"{walls[jobs]:.1f}",
                f"{processors[jobs]:.1f}",
                f"{walls[options.jobs[0]] / walls[jobs]:.2f}",
            ]
            for jobs in times
        ],
    )


def measure(songs: Path, jobs: int, model: str, out: Path) -> tuple[float, float]:
    """Separate the songs in a new process; return the seconds that passed, and the seconds of all its processors."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    words = ["-m", "my_submission", "separate", str(songs), "--model", model, "--device", "cpu"]
    before, started = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, *words, "--jobs", str(jobs), "--out", str(out)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - started, used


if __name__ == "__main__":
    main()
