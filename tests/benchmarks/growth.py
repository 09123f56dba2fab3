"""Measure how the cost of a separation grows with the song's length, the seeds and the overlap.

    python tests/benchmarks/growth.py                    # up to 60 minutes of audio; needs about 8 GB of disk
    python tests/benchmarks/growth.py --minutes 1 4 --seeds --overlaps --rounds 5 --json growth.json

Each row is one separation with the demo's network in a new process: a wav file of noise into four 16-bit stems. The time of
starting and of the first chunks is not counted. In each round every row is measured once; the table shows medians over
rounds. The columns of the table:

    s/s            wall-clock seconds per second of audio
    ratio          s/s relative to the first row
    ratio per run  the same per network run (chunks times seeds); the last chunk of a song costs as much as a full one, so a
                   short song costs more per second than a long one
    user, system   CPU time of all threads per second of audio; `system` can grow with the song on a virtual machine, whose
                   host has to provide each new page of the file cache
    host, device   peak memory of the process and of the GPU
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from measuring import machine, print_table, write_json  # noqa: E402
from memory import RATE, peak_mb, write_song  # noqa: E402

from my_submission.src.common import cli  # noqa: E402

Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """The settings of one separation."""

    minutes: float  # of audio
    seeds: int
    overlap: int


def main(argv: Sequence[str]) -> int:
    """Measure every job in every round, print the table and write JSON."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.child:
        print(json.dumps(separate(Job(**json.loads(options.child[0])), Path(options.child[1]), options)))
        return 0
    groups = {
        "audio": [Job(minutes, 1, 1) for minutes in options.minutes],
        "seeds": [Job(options.at, seeds, 1) for seeds in options.seeds],
        "overlap": [Job(options.at, 1, overlap) for overlap in options.overlaps],
    }
    jobs = list(dict.fromkeys(job for group in groups.values() for job in group))  # a job may be in several groups
    if not jobs:
        parser.error("nothing to measure: expected a number after --minutes, --seeds or --overlaps")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        for minutes in {job.minutes for job in jobs}:
            write_song(song_of(Path(folder), minutes), 60 * minutes)
        rounds = [{job: measure(job, Path(folder), options) for job in jobs} for _ in range(options.rounds)]
    rows = [row for name, group in groups.items() for row in compare(name, group, rounds)]
    facts = {key: getattr(options, key) for key in ("model", "precision", "rounds")}
    report(rows, rounds[0][jobs[0]]["machine"], facts)
    write_json(options.json, rounds[0][jobs[0]]["machine"], rows, **facts)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, count = parser.add_argument, cli.positive
    add("--minutes", type=float, nargs="*", default=[1, 4, 16, 60], help="lengths, at one seed, overlap 1 (default: 1 4 16 60)")
    add("--seeds", type=count, nargs="*", default=[1, 2, 3], help="numbers of seeds, at overlap 1 (default: 1 2 3)")
    add("--overlaps", type=count, nargs="*", default=[1, 2, 4, 8], help="overlaps, at one seed (default: 1 2 4 8)")
    add("--at", type=float, default=4, metavar="MINUTES", help="length of the song for --seeds and --overlaps (default: 4)")
    add("--model", default="demo", help="demo, A, B or the folder of an ensemble (default: demo)")
    add("--precision", default="fp32", choices=("fp16", "bf16", "fp32"), help="precision of the network (default: fp32)")
    add("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the best available)")
    add("--rounds", type=count, default=3, help="measurements of each row (default: 3)")
    add("--scratch", type=Path, help="folder for the songs and stems (default: the system's temporary folder)")
    add("--json", type=Path, help="file for all results (default: none)")
    add("--child", nargs=2, metavar=("JOB", "FOLDER"), help=argparse.SUPPRESS)
    return parser


def song_of(folder: Path, minutes: float) -> Path:
    """Return the path of the song with that length."""
    return folder / f"{minutes:g}_minutes.wav"


def measure(job: Job, folder: Path, options: argparse.Namespace) -> Result:
    """Run a job in a new process, after all earlier writes have reached the disk."""
    os.sync()
    how = ["--model", options.model, "--precision", options.precision, "--device", options.device]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, __file__, "--child", json.dumps(asdict(job)), scratch, *how]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)  # the process has printed the reason
    result = json.loads(done.stdout)
    print(f"{job}: {result['wall']:.2f} s", file=sys.stderr, flush=True)
    return result


def separate(job: Job, folder: Path, options: argparse.Namespace) -> Result:
    """Load the model, warm it up and measure a job, in the new process."""
    import torch

    from my_submission.src.audio.files import AudioArray, AudioFile
    from my_submission.src.separator import open_model

    seeds, how = range(job.seeds), {"device": options.device, "precision": options.precision}
    separator = open_model(options.model, seeds=seeds, overlap=job.overlap, **how)
    hop = separator.config.inference_chunk_size // job.overlap
    batch_and_one = (separator.ensemble.batch_size + 1) * hop  # samples, for one full batch of chunks and a smaller one
    separator.separate_array(AudioArray(np.full((batch_and_one, 2), 0.1), RATE))
    source = AudioFile(song_of(folder.parent, job.minutes))
    before, begin = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    separator.separate_to_folder(folder / "stems", source)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    cuda = separator.device.type == "cuda"
    return {
        "wall": wall,
        "user": after.ru_utime - before.ru_utime,
        "system": after.ru_stime - before.ru_stime,
        "chunks": -(-source.num_samples // hop) + job.overlap - 1,
        "host_mb": peak_mb(),
        "device_mb": torch.cuda.max_memory_allocated(separator.device) / (1 << 20) if cuda else 0.0,
        "machine": machine(separator.device),
    }


def compare(name: str, group: Sequence[Job], rounds: Sequence[dict[Job, Result]]) -> list[Result]:
    """Return the rows of a group: medians over rounds, and ratios to the group's first row."""

    def pace(result: Result, job: Job) -> float:
        return result["wall"] / job.minutes

    def price(result: Result, job: Job) -> float:
        return result["wall"] / (result["chunks"] * job.seeds)

    def ratio(measure: Any, job: Job) -> float:
        return statistics.median(measure(done[job], job) / measure(done[group[0]], group[0]) for done in rounds)

    rows = []
    for job in group:
        keys, seconds = ("wall", "user", "system", "host_mb", "device_mb"), 60 * job.minutes
        median = {key: statistics.median(done[job][key] for done in rounds) for key in keys}
        rows.append(
            {
                "group": name,
                **asdict(job),
                "chunks": rounds[0][job]["chunks"],
                "s_per_s": median["wall"] / seconds,
                "ratio": ratio(pace, job),
                "ratio_per_run": ratio(price, job),
                "user_s_per_s": median["user"] / seconds,
                "system_s_per_s": median["system"] / seconds,
                "host_mb": median["host_mb"],
                "device_mb": median["device_mb"],
                "seconds": [done[job]["wall"] for done in rounds],
            }
        )
    return rows


def report(rows: Sequence[Result], machine: str, facts: dict[str, Any]) -> None:
    """Print the machine, the settings and the table."""
    print(f"{machine}; " + ", ".join(f"{key} {value}" for key, value in facts.items()) + "; file to file")
    heads = ["audio", "seeds", "overlap", "chunks", "s/s", "ratio", "ratio per run", "user", "system", "host", "device"]
    cells = [
        [
            f"{row['minutes']:g} min",
            f"{row['seeds']}",
            f"{row['overlap']}",
            f"{row['chunks']}",
            f"{row['s_per_s']:.4f}",
            f"{row['ratio']:.3f} x",
            f"{row['ratio_per_run']:.3f} x",
            f"{row['user_s_per_s']:.4f}",
            f"{row['system_s_per_s']:.4f}",
            f"{row['host_mb']:.0f} MB",
            f"{row['device_mb']:.0f} MB" if row["device_mb"] else "",
        ]
        for row in rows
    ]
    print_table(heads, cells)


if __name__ == "__main__":
    sys.exit(cli.run(main))
