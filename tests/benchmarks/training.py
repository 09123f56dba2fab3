"""Measure the speed of the data loader, and the speed and peak memory of a training step.

    python tests/benchmarks/training.py             # GPU: published size; CPU: a small network
    python tests/benchmarks/training.py --tracks 100 --seconds 200

The loader is measured without training, from wav and flac files, with 0, 1 and 2 workers, in samples per second; a sample has
four chunks of 5.9 s, the published size. The step is measured without a loader, with and without activation checkpointing.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from my_submission.src.config import Config, load_config  # noqa: E402
from my_submission.src.dataset import RandomMixes, batches, open_tracks  # noqa: E402
from my_submission.src.training.trainer import Trainer  # noqa: E402

PUBLISHED = ROOT / "my_submission" / "ckpts" / "modelA" / "config.yaml"


def main() -> None:
    """Measure the loader, then the step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=12, help="number of tracks (default: 12)")
    parser.add_argument("--seconds", type=float, default=60, help="duration of each track in seconds (default: 60)")
    parser.add_argument("--steps", type=int, default=10, help="number of measured batches and steps (default: 10)")
    options = parser.parse_args()
    config = load_config(PUBLISHED)
    for suffix in ("wav", "flac"):
        with tempfile.TemporaryDirectory() as folder:
            write_tracks(Path(folder), suffix, options.tracks, options.seconds, config)
            measure_loader(Path(folder), suffix, options.steps, config)
    measure_step(options.steps, config)


def write_tracks(folder: Path, suffix: str, tracks: int, seconds: float, config: Config) -> None:
    """Write tracks of noise with weak high frequencies, which flac can compress."""
    rng = np.random.default_rng(0)
    num_samples = round(seconds * config.audio.sample_rate)
    for i in range(tracks):
        (folder / f"track{i}").mkdir()
        for name in config.training.instruments:
            noise = np.cumsum(rng.standard_normal((num_samples, 2)), axis=0)
            noise -= np.linspace(noise[0], noise[-1], num_samples)
            soundfile.write(
                folder / f"track{i}" / f"{name}.{suffix}", 0.5 * noise / np.abs(noise).max(), config.audio.sample_rate
            )


def measure_loader(folder: Path, suffix: str, steps: int, config: Config) -> None:
    """Measure how fast the loader makes batches; the files are in the system's cache."""
    begin = time.perf_counter()
    mixes = RandomMixes(open_tracks([folder], config), config, seed=0)
    print(f"{suffix}: {len(mixes.tracks)} tracks checked in {time.perf_counter() - begin:.2f} s")
    batch_size = config.training.batch_size
    for workers in (0, 1, 2):
        data = batches(mixes, range(steps + 1), batch_size, workers=workers)
        next(data)  # start the workers
        begin = time.perf_counter()
        count = sum(len(batch.sources) for batch in data)
        print(f"{suffix}, {workers} workers: {count / (time.perf_counter() - begin):6.1f} samples/s")


def measure_step(steps: int, config: Config) -> None:
    """Measure the step with and without activation checkpointing, in new processes so that their peaks are independent."""
    cuda = torch.cuda.is_available()
    if not cuda:
        config = small(config)
    device = torch.cuda.get_device_name() if cuda else "CPU, one thread"
    model, training = config.model, config.training
    print(
        f"step on {device}: {model.num_channels} channels, growth {model.growth}, {model.num_scales} scales, "
        f"batch {training.batch_size} of {config.audio.chunk_size} samples"
    )
    for frugal in (False, True):
        case = dataclasses.replace(config, training=dataclasses.replace(training, activation_checkpointing=frugal))
        process = multiprocessing.get_context("spawn").Process(target=run_steps, args=(case, steps, cuda))
        process.start()
        process.join()


def small(config: Config) -> Config:
    """Shrink the published config: a narrower and shallower network, on chunks with a quarter of the frames and bins."""
    model = dataclasses.replace(config.model, num_channels=16, growth=8, num_scales=3)
    audio = dataclasses.replace(config.audio, dim_f=1024, n_fft=2048, dim_t=64, chunk_size=config.audio.hop_length * 63)
    return dataclasses.replace(config, model=model, audio=audio)


def run_steps(config: Config, steps: int, cuda: bool) -> None:
    """Train on noise and print the speed and the peak memory: that of torch on a GPU, the growth of the process on a CPU."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1)  # on a shared CPU, several threads would mostly wait for each other
    trainer = Trainer(config, seed=0, device=device, precision="fp16" if cuda else "fp32")
    shape = (config.training.batch_size, len(config.training.instruments), config.audio.num_channels, config.audio.chunk_size)
    sources = 0.1 * torch.randn(shape)
    for _ in range(3):
        trainer.step(sources)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        trainer.step(sources)  # reads back its loss, so the GPU has finished
        seconds.append(time.perf_counter() - begin)
    speed = 1 / statistics.median(seconds)  # the median ignores steps during which other programs had the processor
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024  # Linux counts in KiB
    peak = torch.cuda.max_memory_allocated() if cuda else grown
    word = "with" if config.training.activation_checkpointing else "without"
    print(f"{word:>7} activation checkpointing: {speed:.2f} steps/s, {peak / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
