"""Say what trainings and separations cost before they begin: steps, hours, disk.

cost = Cost(trainings, config, audio_seconds=7200.0, rounds=2, overlap=2)
print("\\n".join(cost.lines(*time_step(config, "auto", "auto"))))
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from my_submission.src.audit.trainings import Training
from my_submission.src.config import Config

TIMED = 3  # steps, after the first one
ENOUGH = 10.0  # seconds of timing
BYTES_KEPT, BYTES_RUNNING = 4, 32  # of disk per parameter: a checkpoint; two states of a network in training
PASSES = 3  # a training step costs about as much as three passes through the network


@dataclass(frozen=True)
class Cost:
    """The work that is left."""

    trainings: Sequence[Training]
    config: Config
    audio_seconds: float  # of all stems together
    rounds: int  # times that all stems are separated
    overlap: int  # of the separations

    @property
    def steps_left(self) -> int:
        """The number of steps that are not saved yet, over all trainings."""
        return sum(training.steps_left for training in self.trainings)

    def steps(self) -> str:
        """Return the number of trainings and steps in words."""
        todo = sum(training.steps_left > 0 for training in self.trainings)
        return (
            f"{todo} of {len(self.trainings)} trainings are to do: {self.steps_left:,} of "
            f"{sum(training.steps for training in self.trainings):,} steps of {self.config.training.batch_size} chunks"
        )

    def time_and_disk(self, seconds_per_step: float, device: str, parameters: int) -> list[str]:
        """Return time and space in words.

        Args:
            seconds_per_step: measured.
            device: device and precision, in words.
            parameters: of a network.
        """
        train = self.steps_left * seconds_per_step
        separate = self.rounds * self.audio_seconds * self._seconds_per_second(seconds_per_step)
        size = parameters * (len(self.trainings) * BYTES_KEPT + BYTES_RUNNING)
        return [
            f"a step takes {seconds_per_step:.2g} s here ({device}): about {duration(train)} of training, and up to "
            f"{duration(separate)} to separate all stems {'once' if self.rounds == 1 else f'{self.rounds} times'}",
            f"disk: up to {size / 1e9:.2g} GB",
        ]

    def _seconds_per_second(self, seconds_per_step: float) -> float:
        """Return the time to separate a second of audio."""
        audio = self.config.audio
        in_step = self.config.training.batch_size * audio.chunk_size / audio.sample_rate
        return self.overlap * seconds_per_step / PASSES / in_step


def time_step(config: Config, device: str, precision: str) -> tuple[float, str, int]:
    """Train on noise for a few steps; return the seconds of a step, device and precision in words, and the parameters.

    Raises TrainingError, or DeviceError.
    """
    import torch

    from my_submission.src.runtime.device import pick_device, pick_precision
    from my_submission.src.training.trainer import Trainer

    where = pick_device(device)
    how = pick_precision(precision, where)
    trainer = Trainer(config, seed=0, device=where, precision=how)
    shape = (config.training.batch_size, len(config.training.instruments), config.audio.num_channels, config.audio.chunk_size)
    sources = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    seconds = [_timed(trainer, sources)]
    while len(seconds) <= TIMED and sum(seconds) < ENOUGH:
        seconds.append(_timed(trainer, sources))
    parameters = sum(parameter.numel() for parameter in trainer.network.parameters())
    del trainer
    if where.type == "cuda":  # the trainings are other processes
        torch.cuda.empty_cache()
    return min(seconds), f"{where.type} in {how}", parameters


def _timed(trainer: object, sources: object) -> float:
    begun = time.perf_counter()
    trainer.step(sources)  # type: ignore[attr-defined]
    return time.perf_counter() - begun


def duration(seconds: float) -> str:
    """Return a duration in words, with two digits or so: `40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}" if seconds / size < 10 else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
