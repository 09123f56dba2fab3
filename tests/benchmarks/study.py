"""Measure how much the masks and the audit help when training on wrong data, on synthetic songs with known faults.

    python tests/benchmarks/study.py --folder study                  # two hours on two cores
    python tests/benchmarks/study.py --folder study --scale large --device cuda

Three seeds are trained under each condition: clean songs; label noise without a mask, with the coarse mask, and without the
stems that an audit suspects (by networks that were trained on the noise, cross-fitted, or cross-fitted in two rounds); bleeding
without a mask and with each mask. All are scored on clean songs that were not used for
training. The quantile of each mask is chosen on further songs. An interrupted command can be repeated. The results are
table.md, figure.svg and results.json in the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import study_report
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from my_submission.src.common import cli, stem_table  # noqa: E402
from my_submission.src.training.run_folder import RunFolder  # noqa: E402

SEEDS = (0, 1, 2)
NOISE_RATE, BLEEDING_LEVEL = 0.3, (-20, -10)  # share of the stems; range in dB
WINDOWS = {"noise": 2, "some_bleeding": 10}  # seconds; a wrong instrument shows where it plays alone, bleeding everywhere
COARSE_Q, FINE_Q = (0.4, 0.6, 0.8, 0.9), (0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Scale:
    """The size of the study. Seeds of songs start at 0 for training, 500,000 for choosing q and 1,100,000 for scoring."""

    songs: int  # for training
    seconds: float  # duration of each song
    choosing: int  # songs for choosing q
    scoring: int  # songs for scoring
    steps: int  # of each training
    config: dict[str, dict[str, Any]]


CONFIG: dict[str, dict[str, Any]] = {
    "audio": {
        "sample_rate": 44100, "num_channels": 2, "n_fft": 4096, "hop_length": 2048, "dim_f": 1024, "dim_t": 32,
        "chunk_size": 2048 * 31, "min_mean_abs": 0.001,
    },
    "model": {
        "num_channels": 32, "growth": 16, "num_scales": 3, "scale": [2, 2], "num_blocks_per_scale": 1,
        "bottleneck_factor": 4, "num_subbands": 16, "norm": "InstanceNorm", "act": "relu",
    },
    "training": {
        "instruments": ["vocals", "drums", "bass", "other"], "target_instrument": None, "batch_size": 6, "num_steps": 1,
        "lr": 0.002, "lr_schedule": "cosine", "warmup_steps": 50, "ema_momentum": 0.99, "grad_clip": None,
        "coarse_loss_clip": False, "q": 1.0,
    },
    "inference": {"dim_t": 128, "num_overlap": 2, "batch_size": 1},
}  # fmt: skip
SCALES = {
    "tiny": Scale(4, 4, 1, 1, 4, CONFIG),  # checks that the study runs
    "small": Scale(160, 20, 6, 16, 1600, CONFIG),
    "large": Scale(
        600, 30, 10, 30, 20000, CONFIG | {"model": CONFIG["model"] | {"num_channels": 64, "growth": 32, "num_subbands": 8}}
    ),
}


@dataclass(frozen=True)
class Condition:
    """The data and the method of a training."""

    name: str
    data: str  # clean, noise or bleeding
    mask: str = "plain"  # plain (no mask), coarse or fine
    keep: str = ""  # the table of an audit, in the folder of the study: train only on stems that pass in it

    def grid(self) -> tuple[float, ...]:
        """Return the quantiles to choose from."""
        return {"plain": (1.0,), "coarse": COARSE_Q, "fine": FINE_Q}[self.mask]


CONDITIONS = (
    Condition("clean", "clean"),
    Condition("noise, plain", "noise"),
    Condition("noise, coarse mask", "noise", "coarse"),
    Condition("noise, audited", "noise", keep="audit_noise.csv"),
    Condition("noise, cross-fitted", "noise", keep="clean/round_1/audit.csv"),
    Condition("noise, two rounds", "noise", keep="clean/audit.csv"),
    Condition("bleeding, plain", "bleeding"),
    Condition("bleeding, fine mask", "bleeding", "fine"),
    Condition("bleeding, coarse mask", "bleeding", "coarse"),
)


def main(argv: Sequence[str]) -> int:
    """Run the steps that are missing and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = ROOT / "runs" / "study"
    parser.add_argument("--folder", type=Path, default=folder, help="folder of the whole study (default: %(default)s)")
    parser.add_argument("--scale", choices=tuple(SCALES), default="small", help="size of the study (default: small)")
    parser.add_argument("--device", default="cpu", help="cuda, cuda:N, mps or cpu (default: cpu)")
    parser.add_argument("--precision", default="bf16", help="fp16, bf16, tf32 or fp32 (default: bf16)")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at the same time (default: 2)")
    parser.add_argument("--score", nargs=4, metavar=("RUN", "SEED", "SONGS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.score:
        run, seed, songs, out = options.score
        score(Path(run), int(seed), Path(songs), Path(out), options.device, options.precision)
        return 0
    study = Study(options.folder.resolve(), SCALES[options.scale], options.device, options.precision, options.jobs)
    study.make_data()
    unaudited = [condition for condition in CONDITIONS if not condition.keep]
    study.train([(condition, q, SEEDS[0]) for condition in unaudited for q in condition.grid()])
    chosen = {condition: study.choose_q(condition) for condition in unaudited}
    study.train([(condition, q, seed) for condition, (q, _) in chosen.items() for seed in SEEDS])
    masked = next(condition for condition in CONDITIONS if (condition.data, condition.mask) == ("noise", "coarse"))
    fine = next(condition for condition in CONDITIONS if condition.mask == "fine")
    models = {"noise": study.run_folder(masked, chosen[masked][0]), "some_bleeding": study.run_folder(fine, chosen[fine][0])}
    list(study.pool.map(study.audit, *zip(*models.items(), strict=True)))
    study.clean(study.config_of(masked, chosen[masked][0]))
    audited = [condition for condition in CONDITIONS if condition.keep]
    chosen |= {condition: (1.0, {}) for condition in audited}
    study.train([(condition, 1.0, seed) for condition in audited for seed in SEEDS])
    scores = {
        condition.name: [study.scores(study.run_folder(condition, q), seed, "scoring") for seed in SEEDS]
        for condition, (q, _) in ((condition, chosen[condition]) for condition in CONDITIONS)
    }
    curves = {condition.name: curve for condition, (_, curve) in chosen.items() if len(curve) > 1}
    study_report.write(options.folder, scores, curves, study.audits(), study.facts())
    return 0


class Study:
    """The folder of a study and the commands of the package that fill it."""

    def __init__(self, folder: Path, scale: Scale, device: str, precision: str, jobs: int) -> None:
        self.folder, self.scale, self.device, self.precision = folder, scale, device, precision
        self.pool = ThreadPoolExecutor(jobs)
        self.environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}

    def run(self, *arguments: object) -> None:
        """Run a Python command; its output is appended to a log."""
        words = [str(word) for word in arguments]
        with (self.folder / "log").open("a") as log:
            log.write(f"$ {' '.join(words)}\n")
            log.flush()
            done = subprocess.run([sys.executable, *words], cwd=ROOT, env=self.environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            raise SystemExit(f"failed with status {done.returncode}: {' '.join(words)}; see {self.folder / 'log'}")

    def command(self, *arguments: object) -> None:
        """Run `python -m my_submission ...`."""
        self.run("-m", "my_submission", *arguments)

    def make_data(self) -> None:
        """Make clean and corrupted songs. Half the stems of `some_bleeding` are clean, so that an audit has a contrast."""
        self.folder.mkdir(parents=True, exist_ok=True)
        print("songs ...", flush=True)
        sets = {"clean": (self.scale.songs, 0), "choosing": (self.scale.choosing, 500_000)}
        sets["scoring"] = (self.scale.scoring, 1_100_000)
        for name, (count, seed) in sets.items():
            self.command("synth", self.folder / name, "--songs", count, "--seconds", self.scale.seconds, "--seed", seed)
        level = ("--level", *BLEEDING_LEVEL)
        self.corrupt("labelnoise", "noise", "--rate", NOISE_RATE)
        self.corrupt("bleeding", "bleeding", "--rate", 1, *level)
        self.corrupt("bleeding", "some_bleeding", "--rate", 0.5, *level)

    def corrupt(self, kind: str, out: str, *arguments: object) -> None:
        """Corrupt the clean songs, unless that has been done."""
        if not (self.folder / out / "truth.csv").exists():
            self.command("corrupt", kind, self.folder / "clean", self.folder / out, "--seed", 0, *arguments)

    def run_folder(self, condition: Condition, q: float) -> Path:
        """Return the folder of the networks of a condition."""
        how = condition.name.partition(", ")[2].replace(" ", "-") if condition.keep else condition.mask
        return self.folder / "runs" / f"{condition.data}-{how}-q{q:g}"

    def config_of(self, condition: Condition, q: float) -> Path:
        """Return the config that the networks of a condition are trained with."""
        return self.folder / f"{self.run_folder(condition, q).name}.yaml"

    def clean(self, config: Path) -> None:
        """Audit the label noise in two cross-fitted rounds."""
        if (self.folder / "clean" / "audit.csv").exists():
            return
        print("cross-fitted audits of noise ...", flush=True)
        how = ["--device", self.device, "--precision", self.precision, "--num-workers", 0, "--save-every", 400, "--overlap", 1]
        folds = ["--folds", min(4, self.scale.songs), "--rounds", 2, "--until-audit"]
        self.command("clean", self.folder / "noise", "--config", config, "--out", self.folder / "clean", *folds, *how)

    def choose_q(self, condition: Condition) -> tuple[float, dict[float, float]]:
        """Return the quantile with which seed 0 scores best, and its score in dB with each quantile."""
        grid = condition.grid()
        if len(grid) == 1:
            return grid[0], {}
        curve = {}
        for q in grid:
            songs = self.scores(self.run_folder(condition, q), SEEDS[0], "choosing")
            curve[q] = study_report.song_mean(songs)
        best = max(curve, key=curve.__getitem__)
        print(f"{condition.name}: q {best:g} of {', '.join(f'{q:g}: {db:.2f} dB' for q, db in curve.items())}", flush=True)
        return best, curve

    def train(self, runs: Sequence[tuple[Condition, float, int]]) -> None:
        """Train and score the networks that are missing, several at the same time."""
        list(self.pool.map(lambda run: self.train_one(*run), runs))

    def train_one(self, condition: Condition, q: float, seed: int) -> None:
        """Train and score one network."""
        folder, steps = self.run_folder(condition, q), self.scale.steps
        folder.mkdir(parents=True, exist_ok=True)
        if not RunFolder(folder, seed).checkpoint(steps).exists():
            recipe = {"q": q, "coarse_loss_clip": condition.mask == "coarse", "num_steps": steps}
            recipe["warmup_steps"] = min(steps // 4, self.scale.config["training"]["warmup_steps"])
            config = self.scale.config | {"training": self.scale.config["training"] | recipe}
            path = self.config_of(condition, q)
            path.write_text(yaml.safe_dump(config))
            options = ["--device", self.device, "--precision", self.precision, "--num_workers", 0, "--save_every", 400]
            if condition.keep:
                options += ["--keep", self.folder / condition.keep]
            data = ["--data_path", self.folder / condition.data, "--model_path", folder, "--seed", seed]
            self.command("train", "-c", path, *data, *options)
        for songs in ("choosing", "scoring"):
            out = folder / f"{songs}_seed{seed}.json"
            if not out.exists():
                how = ["--device", self.device, "--precision", self.precision]
                self.run(__file__, *how, "--score", folder, seed, self.folder / songs, out)
        mean = study_report.song_mean(self.scores(folder, seed, "scoring"))
        print(f"{condition.name}, q {q:g}, seed {seed}: {mean:.2f} dB", flush=True)

    def scores(self, folder: Path, seed: int, songs: str) -> dict[str, dict[str, float]]:
        """Read the scores of a network: song -> instrument -> dB."""
        return json.loads((folder / f"{songs}_seed{seed}.json").read_text())

    def audit(self, data: str, model: Path) -> None:
        """Audit a set with an ensemble that was trained on such data; audit label noise also with the masks of the training."""
        if not (self.folder / f"audit_{data}.csv").exists():
            print(f"audit of {data} ...", flush=True)
            options = ("--seconds", WINDOWS[data], "--overlap", 1, "--device", self.device, "--precision", self.precision)
            partial = self.folder / f"running_{data}.csv"
            self.command("audit", "--data_path", self.folder / data, "--model", model, "--out", partial, *options)
            partial.rename(self.folder / f"audit_{data}.csv")
        if data == "noise":
            tables = [RunFolder(model, seed).masked_table for seed in SEEDS]
            self.command("audit", "--from-training", *tables, "--out", self.folder / "audit_from_training.csv")

    def audits(self) -> dict[str, list[dict[str, str]]]:
        """Return, for each audit, the rows of truth.csv with the score of the audit."""
        pairs = {"noise": "noise", "from_training": "noise", "some_bleeding": "some_bleeding"}
        tables = {audit: (data, self.folder / f"audit_{audit}.csv") for audit, data in pairs.items()}
        tables["cross-fitted"] = ("noise", self.folder / "clean" / "round_1" / "audit.csv")
        tables["two rounds"] = ("noise", self.folder / "clean" / "audit.csv")
        return {audit: _joined(self.folder / data / "truth.csv", table) for audit, (data, table) in tables.items()}

    def facts(self) -> dict[str, Any]:
        """Return the settings of the study."""
        scale = self.scale
        return {
            "songs": f"{scale.songs} of {scale.seconds:g} s", "steps": scale.steps, "batch": CONFIG["training"]["batch_size"],
            "scored on": f"{scale.scoring} songs", "q chosen on": f"{scale.choosing} songs", "precision": self.precision,
            "device": self.device, "config": scale.config,
        }  # fmt: skip


def _joined(truth: Path, audit: Path) -> list[dict[str, str]]:
    """Join the truth about each stem with its score."""
    scores = {(row["track"], row["instrument"]): row["score"] for row in stem_table.read(audit, ("score",))}
    rows = stem_table.read(truth, ("wrong", "kind", "level_db"))
    return [row | {"score": scores.get((row["track"], row["instrument"]), "")} for row in rows]


def score(run: Path, seed: int, songs: Path, out: Path, device: str, precision: str) -> None:
    """Score one network on clean songs and write JSON: song -> instrument -> global SDR in dB.

    Args:
        run: folder of the networks.
        seed: the network.
        songs: folder of the songs.
        out: the JSON file.
        device: as for `Separator`.
        precision: as for `Separator`.
    """
    from my_submission.src import audio
    from my_submission.src.audio.tracks import track_folders
    from my_submission.src.common.atomic import atomic_file
    from my_submission.src.evaluation.metrics import global_sdr
    from my_submission.src.separator import Separator

    separator = Separator(run, seeds=[seed], device=device, precision=precision)
    scores = {}
    for folder in track_folders(songs):
        stems = separator.separate_array(audio.AudioFile(folder / "mixture.wav"))
        truth = {name: audio.read(folder / f"{name}.wav")[0] for name in separator.source_order}
        scores[folder.name] = {
            name: float(global_sdr(truth[name], stem)) for name, stem in zip(separator.source_order, stems, strict=True)
        }
    with atomic_file(out) as partial:
        partial.write_text(json.dumps(scores))


if __name__ == "__main__":
    sys.exit(cli.run(main))
