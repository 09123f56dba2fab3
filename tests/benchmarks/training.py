"""How fast training is, and how much memory a step takes.

    python tests/benchmarks/training.py             # a GPU at the published size; a CPU at a small one
    python tests/benchmarks/training.py --tracks 100 --seconds 200

The loader alone: samples a second (a sample is four chunks of 5.9 s, the published size) with 0, 1 and 2 workers, from wav and
from flac. The step alone: steps a second and peak memory, with and without activation checkpointing.
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
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=60, help="of each track")
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    config = load_config(PUBLISHED)
    for suffix in ("wav", "flac"):
        with tempfile.TemporaryDirectory() as folder:
            write_tracks(Path(folder), suffix, options.tracks, options.seconds, config)
            measure_loader(Path(folder), suffix, options.steps, config)
    measure_step(options.steps, config)


def write_tracks(folder: Path, suffix: str, tracks: int, seconds: float, config: Config) -> None:
    """Noise that falls off towards high frequencies, so that flac has something to do."""
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
    """Batches as fast as they come, without anybody who trains on them; the files are in the system's cache."""
    begin = time.perf_counter()
    mixes = RandomMixes(open_tracks([folder], config), config, seed=0)
    print(f"{suffix}: {len(mixes.tracks)} tracks checked in {time.perf_counter() - begin:.2f} s")
    batch_size = config.training.batch_size
    for workers in (0, 1, 2):
        data = batches(mixes, range(steps + 1), batch_size, workers=workers)
        next(data)  # the workers have started
        begin = time.perf_counter()
        count = sum(len(batch.sources) for batch in data)
        print(f"{suffix}, {workers} workers: {count / (time.perf_counter() - begin):6.1f} samples/s")


def measure_step(steps: int, config: Config) -> None:
    """Each case in a process of its own, so that peaks are its own too."""
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
    """A network like the published one, narrower and shallower, on chunks a quarter as long with a quarter of the bins."""
    model = dataclasses.replace(config.model, num_channels=16, growth=8, num_scales=3)
    audio = dataclasses.replace(config.audio, dim_f=1024, n_fft=2048, dim_t=64, chunk_size=config.audio.hop_length * 63)
    return dataclasses.replace(config, model=model, audio=audio)


def run_steps(config: Config, steps: int, cuda: bool) -> None:
    """Steps on noise. The peak is torch's on a GPU; on a CPU it is what the process grew by."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    device = torch.device("cuda" if cuda else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.set_num_threads(1)  # on a CPU that others use too, more threads wait for each other most of the time
    trainer = Trainer(config, seed=0, device=device, precision="fp16" if cuda else "fp32")
    shape = (config.training.batch_size, len(config.training.instruments), config.audio.num_channels, config.audio.chunk_size)
    sources = 0.1 * torch.randn(shape)
    for _ in range(3):
        trainer.step(sources)
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        trainer.step(sources)  # reads its loss back, so the GPU has done its work
        seconds.append(time.perf_counter() - begin)
    speed = 1 / statistics.median(seconds)  # other programs may have taken the processor in between
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024  # Linux counts in KiB
    peak = torch.cuda.max_memory_allocated() if cuda else grown
    word = "with" if config.training.activation_checkpointing else "without"
    print(f"{word:>7} activation checkpointing: {speed:.2f} steps/s, {peak / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
