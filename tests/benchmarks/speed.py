"""Compare the speed of separation and of the training step with the published procedure (published.py), in one process.

    python tests/benchmarks/speed.py                                 # GPU: published size; CPU: both sizes, briefly
    python tests/benchmarks/speed.py --size small --seconds 60 --rounds 5 --json speed.json
    python tests/benchmarks/speed.py --compile                       # compile this package's networks
    python tests/benchmarks/speed.py --layout channels-last          # their layout in memory (runtime/layout.py)

Both sides are measured in turn in each round. Weights and audio are random, which does not change the time. The columns of
the table:

    published, ours   median seconds per second of audio (s/s)
    faster            median of the ratio published / ours
    agreement         energy of the published estimates relative to that of the difference
    of matmul         speed of ours relative to large matrix products, which are measured in the same run
    memory            peak growth of the process on a CPU, peak memory of the device on a GPU
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import published  # noqa: E402
import torch  # noqa: E402
from measuring import agreement, machine, write_json  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from my_submission.src.audio.files import AudioArray  # noqa: E402
from my_submission.src.checkpoint import save_checkpoint  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.config import Config, load_config  # noqa: E402
from my_submission.src.model import TFCTDFNet  # noqa: E402
from my_submission.src.runtime.allocator import keep_freed_memory  # noqa: E402
from my_submission.src.runtime.device import DTYPES, pick_device, tf32_matmul  # noqa: E402
from my_submission.src.runtime.layout import LAYOUTS, runner_in_layout  # noqa: E402
from my_submission.src.separator import Separator  # noqa: E402
from my_submission.src.training.trainer import Trainer  # noqa: E402

FOLDERS = {"published": "modelA", "small": "demo"}
CONFIGS = {size: ROOT / "my_submission" / "ckpts" / folder / "config.yaml" for size, folder in FOLDERS.items()}


@dataclasses.dataclass
class Case:
    """One task and both ways to do it."""

    what: str
    size: str
    precision: str
    seconds: float  # of audio
    operations: float  # floating-point operations of the network
    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    agree: Callable[[Any, Any], float | None] = lambda *_: None


def main(argv: Sequence[str]) -> int:
    """Measure every case, print the table and write JSON."""
    options = parse(argv)
    device = pick_device(options.device)
    cuda = device.type == "cuda"
    sizes = options.size or (["published"] if cuda else ["small", "published"])
    precisions = options.precision or (["fp16", "bf16"] if cuda else ["fp32", "bf16"])
    rates = {precision: matmul_rate(device, precision) for precision in precisions}
    name = machine(device)
    print(f"{name}; " + ", ".join(f"{p} {rate / 1e12:.2f} TFLOP/s" for p, rate in rates.items()))
    rows = []
    for size in sizes:
        for precision in precisions:
            for case in cases(size, precision, device, options):
                rows.append(measure(case, device, options.rounds, rates[precision]))
                print_row(rows[-1], first=len(rows) == 1)
    write_json(options.json, name, rows, matmul=rates)
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, tasks = parser.add_argument, ("separation", "training")
    add("--size", nargs="+", choices=tuple(CONFIGS), help="sizes of the network (default: published on a GPU, both on a CPU)")
    add("--what", nargs="+", default=list(tasks), choices=tasks, help="tasks to measure (default: both)")
    add("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the best available)")
    add("--precision", nargs="+", help="precisions of the network (default: fp16 bf16 on a GPU, fp32 bf16 on a CPU)")
    add("--seconds", type=float, help="seconds of audio to separate (default: two chunks)")
    add("--seeds", type=int, default=3, help="number of seeds that separate (default: 3)")
    add("--overlap", type=int, default=2, help="chunks that cover each sample (default: 2)")
    add("--rounds", type=int, default=3, help="measurements of each case (default: 3)")
    add("--compile", action="store_true", help="compile this package's networks (default: no)")
    add("--layout", default="auto", choices=LAYOUTS, help="memory layout of this package's networks on a CPU (default: auto)")
    add("--json", type=Path, help="file for all results (default: none)")
    options = parser.parse_args(argv)
    if options.compile and options.layout != "auto":
        parser.error("--layout is for networks that are not compiled; leave out --compile or --layout")
    return options


def cases(size: str, precision: str, device: torch.device, options: argparse.Namespace) -> Iterator[Case]:
    """Yield the cases of one size and precision."""
    config = as_published(load_config(CONFIGS[size]))
    torch.manual_seed(0)
    if "separation" in options.what:
        with tempfile.TemporaryDirectory() as folder:
            yield separation(Path(folder), config, size, precision, device, options)
    if "training" in options.what:
        yield training(config, size, precision, device, options.compile)


def as_published(config: Config) -> Config:
    """Replace settings that published.py does not know by the published ones; keep the sizes."""
    training = dataclasses.replace(config.training, optimizer="adam")
    inference = dataclasses.replace(config.inference, residual_shares=None, window="rectangular")
    return dataclasses.replace(config, training=training, inference=inference)


def separation(
    folder: Path, config: Config, size: str, precision: str, device: torch.device, options: argparse.Namespace
) -> Case:
    """Set up the separation of noise by an ensemble with random weights."""
    how = {"precision": precision, "overlap": options.overlap, "compile": options.compile}
    separator = ensemble(folder, config, options.seeds, device=str(device), **how)
    if options.layout != "auto":
        separator.ensemble.runner = runner_in_layout(options.layout, device, precision)
    networks = published.networks_like(separator.ensemble.networks, config, device)
    samples = round((options.seconds or 2 * config.inference_chunk_size / config.audio.sample_rate) * config.audio.sample_rate)
    mixture = 0.1 * torch.randn(2, samples)
    source = AudioArray(mixture.T.numpy(), config.audio.sample_rate)
    chunks = -(-samples // (config.inference_chunk_size // options.overlap)) + options.overlap - 1
    return Case(
        f"separation, {options.seeds} seeds, overlap {options.overlap}",
        size,
        precision,
        samples / config.audio.sample_rate,
        operations(config, config.inference.dim_t) * chunks * options.seeds,
        ours=lambda: separator.separate_array(source),
        theirs=lambda: published.separate(networks, mixture, config, options.overlap, precision).cpu().numpy().swapaxes(1, 2),
        agree=agreement,
    )


def ensemble(folder: Path, config: Config, seeds: int, **options: Any) -> Separator:
    """Open an ensemble with random weights."""
    import yaml

    (folder / "config.yaml").write_text(yaml.safe_dump(config.as_dict()))
    for seed in range(seeds):
        save_checkpoint(TFCTDFNet(config).state_dict(), folder / f"step1_seed{seed}.ckpt")
    return Separator(folder, **options)


def training(config: Config, size: str, precision: str, device: torch.device, compile: bool = False) -> Case:
    """Set up training steps on one batch of noise."""
    if device.type == "cpu" and size == "published":  # a batch of 6 takes minutes and 60 GB
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, batch_size=2, q=1.0))
    trainer = Trainer(config, seed=0, device=device, precision=precision, compile=compile)
    other = published.Training(trainer.network, config, device, precision)
    batch = config.training.batch_size
    sources = 0.1 * torch.randn(batch, len(config.source_order), config.audio.num_channels, config.audio.chunk_size)
    return Case(
        f"training step, batch {batch}",
        size,
        precision,
        batch * config.audio.chunk_size / config.audio.sample_rate,
        3 * operations(config, config.audio.dim_t) * batch,
        ours=lambda: trainer.step(sources).loss,
        theirs=lambda: other.step(sources),
    )


def operations(config: Config, frames: int) -> float:
    """Count the floating-point operations of the network for one chunk of `frames` STFT frames, without the STFT pair."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        TFCTDFNet(config).separate_spec(torch.empty(1, 2 * config.audio.num_channels, config.audio.dim_f, frames))
    return counter.get_total_flops()


def measure(case: Case, device: torch.device, rounds: int, rate: float) -> dict[str, Any]:
    """Measure both ways in turn and return a row; the first time of each is not counted.

    Args:
        case: the task.
        device: its device.
        rounds: number of measurements of each way.
        rate: the device's rate of large matrix products, operations per second.
    """
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    peaks: dict[str, tuple[float, float]] = {}
    results: dict[str, Any] = {}
    for _ in range(rounds + 1):
        for whose, work in (("ours", case.ours), ("theirs", case.theirs)):
            keep_freed_memory(False)
            if whose == "ours":
                keep_freed_memory()
            with peak_memory(device) as peak:
                begin = time.perf_counter()
                results[whose] = work()
                taken = time.perf_counter() - begin
            peaks[whose] = peak()
            times[whose].append(taken)
    first, _ = (times[whose].pop(0) for whose in times)
    ours, theirs = (statistics.median(times[whose]) for whose in ("ours", "theirs"))
    return {
        "what": case.what,
        "size": case.size,
        "precision": case.precision,
        "audio_seconds": case.seconds,
        "published_s_per_s": theirs / case.seconds,
        "ours_s_per_s": ours / case.seconds,
        "ratio": statistics.median(b / a for a, b in zip(times["ours"], times["theirs"], strict=True)),
        "first_time_s": first,
        "agreement_db": case.agree(results["ours"], results["theirs"]),
        "share_of_matmul": case.operations / ours / rate,
        **{f"{whose}_host_gb": peaks[key][0] / 1e9 for whose, key in (("ours", "ours"), ("published", "theirs"))},
        **{f"{whose}_device_gb": peaks[key][1] / 1e9 for whose, key in (("ours", "ours"), ("published", "theirs"))},
    }


def print_row(row: dict[str, Any], first: bool) -> None:
    """Print a row of a Markdown table, after the head of the table if it is the first."""
    if first:
        print("\n| what | size | precision | published | ours | faster | agreement | of matmul | memory, published | ours |")
        print("|---|---|---|---|---|---|---|---|---|---|")
    agreement = "" if row["agreement_db"] is None else f"{row['agreement_db']:.0f} dB"
    memory = ("published_device_gb", "ours_device_gb") if row["ours_device_gb"] else ("published_host_gb", "ours_host_gb")
    print(
        f"| {row['what']} | {row['size']} | {row['precision']} | {row['published_s_per_s']:.3f} s/s | "
        f"{row['ours_s_per_s']:.3f} s/s | {row['ratio']:.2f} x | {agreement} | {100 * row['share_of_matmul']:.0f} % | "
        f"{row[memory[0]]:.2f} GB | {row[memory[1]]:.2f} GB |",
        flush=True,
    )


def matmul_rate(device: torch.device, precision: str) -> float:
    """Measure the floating-point operations per second in products of large square matrices."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(DTYPES[precision]) for _ in range(2))
    seconds = []
    for _ in range(7):
        synchronize(device)
        begin = time.perf_counter()
        with tf32_matmul(precision, device):
            a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return 2 * n**3 / min(seconds)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], tuple[float, float]]]:
    """Yield a function that, after the block, returns two numbers of bytes.

    They are the peak growth of host memory and the peak of device memory within the block.
    """
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak, VmHWM
    before = status("VmRSS")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    peak: list[tuple[float, float]] = []
    yield lambda: peak[0]
    synchronize(device)
    peak.append((status("VmHWM") - before, torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0))


def status(name: str) -> float:
    """Return an entry of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * float(line.split()[1])


if __name__ == "__main__":
    sys.exit(cli.run(main))
