"""The progress of a training run: a bar on the terminal, JSON lines in a log, and TensorBoard if it is installed.

    with Progress(RunFolder(Path("runs/A"), seed=0), config=config, first_step=0, every=100) as progress:
        progress.step(result, trainer)

The means in a log line are over the steps since the line before.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config
from my_submission.src.training.run_folder import RunFolder
from my_submission.src.training.trainer import StepResult, Trainer


class ProgressError(UserError):
    """The log cannot be written."""


class Progress:
    """The bar and the log of a run.

    Args:
        folder: where the log is, and TensorBoard's files.
        config: names the sources; its sizes give the seconds of audio per step.
        first_step: number of steps done before. Later lines in the log come from a killed run and are deleted.
        every: steps between two log lines.
    """

    def __init__(self, folder: RunFolder, *, config: Config, first_step: int, every: int) -> None:
        self.config, self.every = config, every
        self.path = folder.log
        self.instruments = list(config.source_order)
        self.batch_seconds = config.training.batch_size * config.audio.chunk_size / config.audio.sample_rate
        _drop_lines_after(self.path, first_step)
        self.board = _tensorboard(folder.tensorboard, first_step)
        # disable=None: no bar if the output is not a terminal, such as a batch system's log; `step` prints lines instead
        self.bar = tqdm(
            total=config.training.num_steps,
            initial=first_step,
            desc=f"seed {folder.seed}",
            unit="step",
            smoothing=0.1,
            disable=None,
        )
        self._start_interval()

    def step(self, result: StepResult, trainer: Trainer) -> None:
        """Record a step; write a log line if one is due."""
        self.results.append(result)
        self.bar.update()
        means = self._means()
        rate = means["steps_per_second"] * self.batch_seconds
        kept = " ".join(f"{name[:1]}{share:.2f}" for name, share in means["kept"].items())
        self.bar.set_postfix_str(f"loss {_shown(result.loss)}, kept {kept}, {rate:.1f} s of audio/s", refresh=False)
        if trainer.steps % self.every == 0 or trainer.steps == self.config.training.num_steps:
            gpu = trainer.device.type == "cuda"
            line = {
                "step": trainer.steps,
                **means,
                "audio_seconds_per_second": rate,
                "lr": trainer.optimizer.param_groups[0]["lr"],
                "skipped": trainer.skipped,
                "gpu_memory_gb": torch.cuda.max_memory_allocated(trainer.device) / 1e9 if gpu else None,
            }
            self._write(line)
            if self.bar.disable:
                print(f"step {trainer.steps}: loss {_shown(means['loss'])}, kept {kept}, {rate:.1f} s of audio/s", flush=True)
            self._start_interval()

    def validation(self, step: int, scores: dict[str, float], best: bool) -> None:
        """Record a validation: `scores` are the global SDR per source, dB; `best` marks the best validation so far."""
        mean = sum(scores.values()) / len(scores)
        self._write({"step": step, "sdr": scores, "mean_sdr": mean, "best": best})
        figures = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
        tqdm.write(f"step {step}: SDR {mean:.2f} dB ({figures}){', the best so far' if best else ''}")
        self._start_interval()  # the validation's time must not count as the training's

    def _start_interval(self) -> None:
        """Start the steps of the next log line."""
        self.results: list[StepResult] = []
        self.since = time.monotonic()

    def _means(self) -> dict[str, Any]:
        """Return the means over the steps since the last log line."""
        kept = zip(*(result.kept for result in self.results), strict=True)
        return {
            "loss": _mean(result.loss for result in self.results),
            "kept": {name: _mean(shares) for name, shares in zip(self.instruments, kept, strict=True)},
            "gradient_norm": _mean(result.gradient_norm for result in self.results),
            "steps_per_second": len(self.results) / max(time.monotonic() - self.since, 1e-9),
        }

    def _write(self, line: dict[str, Any]) -> None:
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise ProgressError(f"{self.path}: cannot be written ({error.strerror})") from error
        if self.board is not None:
            for name, value in _flat(line):
                self.board.add_scalar(name, value, line["step"])

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()


def _drop_lines_after(path: Path, step: int) -> None:
    """Delete the log lines of steps after `step`, and a line that a killed run did not finish."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            if json.loads(line)["step"] <= step > 0:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with atomic_file(path) as partial:
        partial.write_text("".join(kept), encoding="utf-8")


def _tensorboard(folder: Path, first_step: int) -> Any:
    """Return a writer for TensorBoard, or None if that package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=first_step)


def _flat(line: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the numbers of a log line with flat names, such as kept/vocals."""
    numbers = []
    for name, value in line.items():
        items = value.items() if isinstance(value, dict) else [("", value)]
        numbers += [(f"{name}/{key}".rstrip("/"), item) for key, item in items if item is not None and name != "step"]
    return numbers


def _mean(values: Any) -> float | None:
    """Return the mean of the finite values, or None if there are none: JSON has no NaN."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _shown(loss: float | None) -> str:
    return "not finite" if loss is None or not math.isfinite(loss) else f"{loss:.3g}"
