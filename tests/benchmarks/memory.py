"""Measure the peak memory and the time per second of audio for songs of several lengths; neither may depend on the length.

    python tests/benchmarks/memory.py                    # 2, 10 and 60 minutes; needs about 8 GB of disk
    python tests/benchmarks/memory.py --seconds 120 3600 --rounds 3      # medians, for a machine whose speed varies
    python tests/benchmarks/memory.py --procedure msst
    python tests/benchmarks/memory.py --models 2 --two-stems vocals      # the mean of two models; one stem and the rest

For each length, a new process separates a wav file into four 16-bit stems, with a small network of random weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import yaml

ROOT = Path(__file__).resolve().parents[2]
RATE = 44100
CONFIG = {
    "audio": {
        "chunk_size": 65024, "dim_f": 128, "dim_t": 128, "hop_length": 512, "min_mean_abs": 0.01, "n_fft": 1024,
        "num_channels": 2, "sample_rate": RATE,
    },
    "model": {
        "act": "relu", "bottleneck_factor": 4, "growth": 2, "norm": "InstanceNorm", "num_blocks_per_scale": 1,
        "num_channels": 2, "num_scales": 1, "num_subbands": 4, "scale": [2, 2],
    },
    "training": {
        "batch_size": 6, "coarse_loss_clip": True, "ema_momentum": 0.999, "grad_clip": None,
        "instruments": ["vocals", "drums", "bass", "other"], "lr": 0.0001, "num_steps": 1, "q": 0.4,
        "target_instrument": None,
    },
    "inference": {"batch_size": 2, "dim_t": 256, "num_overlap": 2},
}  # fmt: skip


def main() -> None:
    """Measure every length and print a table or JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=[120, 600, 3600], help="lengths (default: 120 600 3600)")
    parser.add_argument("--rounds", type=int, default=1, help="measurements of each length; medians are printed (default: 1)")
    procedures = ("published", "uvr", "msst")
    parser.add_argument("--procedure", default="published", choices=procedures, help="of the chunks (default: published)")
    parser.add_argument("--models", type=int, default=1, help="number of models, of which the mean is taken (default: 1)")
    parser.add_argument("--two-stems", default="", help="write this stem and the mixture without it (default: all stems)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per length instead of the table")
    parser.add_argument("--child", nargs=3, metavar=("SONG", "MODELS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        separate(*map(Path, options.child), options.two_stems)
        return
    how = (options.procedure, options.models, options.two_stems)
    rounds = [[measure(seconds, *how) for seconds in options.seconds] for _ in range(options.rounds)]
    rows = [{key: statistics.median(row[key] for row in rows) for key in rows[0]} for rows in zip(*rounds, strict=True)]
    if options.json:
        print("\n".join(map(json.dumps, rows)))
        return
    print(" audio, s   peak MB   above the first   time, s   s per s of audio")
    for row in rows:
        above = row["peak_mb"] - rows[0]["peak_mb"]
        pace = row["seconds_taken"] / row["seconds"]
        print(f"{row['seconds']:9.0f} {row['peak_mb']:9.1f} {above:+17.1f} {row['seconds_taken']:9.1f} {pace:18.4f}")


def measure(seconds: float, procedure: str, models: int, two_stems: str) -> dict[str, float]:
    """Measure the peak resident memory and the time of a song with that length, in a new process."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_song(folder / "song.wav", seconds)
        inference = {**CONFIG["inference"], "procedure": procedure}
        for number in range(models):
            (folder / "models" / str(number)).mkdir(parents=True)
            (folder / "models" / str(number) / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "inference": inference}))
        places = [str(folder / name) for name in ("song.wav", "models", "out")]
        command = [sys.executable, __file__, "--two-stems", two_stems, "--child", *places]
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {"seconds": seconds, **json.loads(output)}


def write_song(path: Path, seconds: float) -> None:
    """Write a wav file of noise, one second at a time."""
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        remaining = round(seconds * RATE)
        while remaining > 0:
            file.write(0.1 * rng.standard_normal((min(RATE, remaining), 2)))
            remaining -= RATE


def separate(song: Path, models: Path, out: Path, two_stems: str) -> None:
    """Separate a song in the new process and print its peak memory and its time, without loading and warming up."""
    sys.path.insert(0, str(ROOT))
    import torch

    from my_submission.src.audio.files import AudioArray, AudioFile
    from my_submission.src.audio.outputs import choose
    from my_submission.src.checkpoint import save_checkpoint
    from my_submission.src.config import load_config
    from my_submission.src.family.blend import open_models
    from my_submission.src.model import TFCTDFNet

    for number, model in enumerate(sorted(models.iterdir())):
        torch.manual_seed(number)
        save_checkpoint(TFCTDFNet(load_config(model / "config.yaml")).state_dict(), model / "step1_seed0.ckpt")
    separator = open_models([str(model) for model in sorted(models.iterdir())])
    outputs = choose(separator.outputs, two_stems=two_stems or None)
    separator.separate_array(AudioArray(np.full((20 * RATE, 2), 0.1), RATE))  # torch initialises itself in the first chunks
    started = time.perf_counter()
    separator.separate_to_folder(out, AudioFile(song), outputs=outputs)
    taken = time.perf_counter() - started
    print(json.dumps({"peak_mb": peak_mb(), "seconds_taken": taken}))


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB of 2**20 bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would include the parent's memory at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / 1024


if __name__ == "__main__":
    main()
