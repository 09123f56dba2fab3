"""Compare the speed of this checkout with that of another one: the networks and the training step, in turn, in two processes.

    git worktree add ../before HEAD~1
    OMP_NUM_THREADS=1 python tests/benchmarks/pairs.py ../before
    OMP_NUM_THREADS=1 python tests/benchmarks/pairs.py ../before --size published --precision fp32 --what training --rounds 3
    OMP_NUM_THREADS=1 python tests/benchmarks/pairs.py . --what network --layouts plain channels-last

One process per checkout repeats the same work on the same numbers, and the two take turns, so that a busy machine slows down
both. A ratio is the median over the pairs. Times are those of the processor, not of the clock: with one thread, other programs
then count for little.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from measuring import agreement

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"published": "modelA", "small": "demo"}
TASKS = ("network", "training")


def main(argv: Sequence[str]) -> int:
    """Measure every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="root of the other checkout, such as a git worktree")
    parser.add_argument("--size", nargs="+", default=["small"], choices=tuple(FOLDERS), help="sizes (default: small)")
    parser.add_argument("--precision", nargs="+", default=["fp32"], help="fp32, bf16 (default: fp32)")
    parser.add_argument("--what", nargs="+", default=list(TASKS), choices=TASKS, help="tasks (default: both)")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each case; a first one is not counted (default: 7)")
    parser.add_argument(
        "--layouts",
        nargs=2,
        default=["auto", "auto"],
        metavar=("OTHER", "THIS"),
        help="memory layouts of the networks: plain, channels-last or auto (default: auto auto)",
    )
    # of a process: root, size, precision, task, layout
    parser.add_argument("--work", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.work:
        return work(*options.work)
    print("| what | size | precision | other | this | ratio | agreement | peak memory, other | this |")
    print("|---|---|---|---|---|---|---|---|---|")
    for size in options.size:
        for precision in options.precision:
            for task in options.what:
                print(row(options.other.resolve(), size, precision, task, options.layouts, options.rounds), flush=True)
    return 0


def row(other: Path, size: str, precision: str, task: str, layouts: Sequence[str], rounds: int) -> str:
    """Measure one case and return its row.

    Args:
        other: root of the other checkout.
        size, precision, task: of the case.
        layouts: memory layouts of the networks, of the other checkout and of this one.
        rounds: number of pairs.
    """
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(other), "--work", str(root), size, precision, task, layout],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for root, layout in zip((other, ROOT), layouts, strict=True)
    ]
    pairs: list[list[dict[str, Any]]] = []
    for _ in range(rounds + 1):
        pair = []
        for process in processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            pair.append(json.loads(process.stdout.readline()))
        pairs.append(pair)
    for process in processes:
        process.communicate()
    last, pairs = pairs[-1], pairs[1:]
    times = [statistics.median(pair[i]["seconds"] for pair in pairs) for i in (0, 1)]
    ratio = statistics.median(theirs["seconds"] / ours["seconds"] for theirs, ours in pairs)
    agree = agreement(last[1]["numbers"], last[0]["numbers"])
    memory = " | ".join(f"{result['gigabytes']:.2f} GB" for result in last)
    return (
        f"| {task} | {size} | {precision} | {times[0]:.3f} s | {times[1]:.3f} s | {ratio:.2f} x | {agree:.0f} dB | {memory} |"
    )


def work(root: str, size: str, precision: str, task: str, layout: str) -> int:
    """Do the work of one checkout, once for each line of the standard input, and print its time and its numbers."""
    sys.path.insert(0, root)
    run = network(Path(root), size, precision, layout) if task == "network" else training(Path(root), size, precision)
    for _ in sys.stdin:
        begin = time.process_time()
        numbers = run()
        taken = time.process_time() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print(json.dumps({"seconds": taken, "numbers": numbers, "gigabytes": peak}), flush=True)
    return 0


def network(root: Path, size: str, precision: str, layout: str) -> Callable[[], list[float]]:
    """Return a function that separates a batch: with the demo, or with one network of random weights. It returns samples."""
    import torch

    from my_submission.src.config import load_config
    from my_submission.src.ensemble import Ensemble
    from my_submission.src.model import build_network
    from my_submission.src.separator import Separator

    folder = root / "my_submission" / "ckpts" / FOLDERS[size]
    torch.manual_seed(0)
    if size == "small":
        ensemble = Separator(folder, device="cpu", precision=precision).ensemble
        config = load_config(folder / "config.yaml")
        batch, samples = config.inference.batch_size, config.inference_chunk_size
    else:
        config = load_config(folder / "config.yaml")
        ensemble = Ensemble([build_network(config).eval()], torch.device("cpu"), precision, batch_size=1)
        batch, samples = 1, config.audio.chunk_size  # a quarter of a chunk
    if layout != "auto":  # a checkout without layouts has auto only
        from my_submission.src.runtime.layout import runner_in_layout

        ensemble.runner = runner_in_layout(layout, torch.device("cpu"), precision)
    mixture = 0.1 * torch.randn(batch, config.audio.num_channels, samples)

    def separate() -> list[float]:
        return cast(list[float], ensemble.estimate(mixture).flatten()[::997].tolist())

    return separate


def training(root: Path, size: str, precision: str) -> Callable[[], list[float]]:
    """Return a function that takes a training step and returns its loss."""
    import torch

    from my_submission.src.config import load_config
    from my_submission.src.training.trainer import Trainer

    config = load_config(root / "my_submission" / "ckpts" / FOLDERS[size] / "config.yaml")
    if size == "published":  # of a batch of 6, one item
        training = dataclasses.replace(config.training, batch_size=1, q=1.0, coarse_loss_clip=False)
        config = dataclasses.replace(config, training=training)
    trainer = Trainer(config, seed=0, device=torch.device("cpu"), precision=precision)
    batch = config.training.batch_size
    sources = 0.1 * torch.randn(batch, len(config.source_order), config.audio.num_channels, config.audio.chunk_size)
    return lambda: [trainer.step(sources).loss]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(sys.argv[1:]))
