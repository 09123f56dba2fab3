"""The trainings of a cleaning, each in a process of its own, through the ordinary command.

training = Training("round 1, fold 2 of 4", config, data, Path("RUN/round_1/fold_1"), seed=0, steps=1000, keep=path)
status = train(training, ["--device", "cpu"])       # 0 when it is trained; 130 and 143 after a signal
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from my_submission.src.audit import AuditError
from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.text import shown
from my_submission.src.training import launch
from my_submission.src.training.run_folder import FolderError, RunFolder

COMMAND = Path(__file__).resolve().parents[1] / "train.py"
PATIENCE = 60.0  # seconds to wait for the training of a killed cleaning, which ends by itself after its step


@dataclass(frozen=True)
class Training:
    """A training of a cleaning."""

    name: str  # in messages
    config: Path  # the effective one
    data: Sequence[Path]  # folders of tracks
    folder: Path  # of the run
    seed: int
    steps: int
    keep: Path  # the table of the stems to train on

    @property
    def run(self) -> RunFolder:
        """The files of the run."""
        return RunFolder(self.folder, self.seed)

    @property
    def is_done(self) -> bool:
        """Whether the network is trained."""
        return self.run.checkpoint(self.steps).exists()

    @property
    def steps_left(self) -> int:
        """The number of steps that are not saved yet."""
        if self.is_done:
            return 0
        states = self.run.states()
        saved = re.search(r"_step(\d+)\.pt$", states[0].name) if states else None
        return max(0, self.steps - int(saved[1])) if saved else self.steps


def train(training: Training, options: Sequence[str]) -> int:
    """Train a network, or go on with it, or do nothing if it is trained. Return 0, or the status after a signal.

    Args:
        training: the network.
        options: of the training's command, which its results do not depend on.

    Raises AuditError if the training fails; its own message has been printed then.
    """
    settle(training.run)
    if training.is_done:
        return 0
    print(f"{training.name}: training seed {training.seed} in {shown(training.folder)}", flush=True)
    argv = ["--config", training.config, "--data-path", *training.data, "--model-path", training.folder]
    argv += ["--seed", training.seed, "--keep", training.keep, *options]
    status = run_command([str(word) for word in argv])
    if status in (0, 130, 143):
        return status
    raise AuditError(
        f"{training.name}: the training failed with status {status}; once its cause is removed, the same command goes on"
    )


def run_command(argv: Sequence[str]) -> int:
    """Run the training's command in a process that ends with this one; return its exit status."""
    return launch.launch(COMMAND, argv, 1)


def settle(run: RunFolder) -> None:
    """Wait for a training that outlives the cleaning that began it, and delete the hidden files of one that was killed.

    Raises AuditError if it does not end.
    """
    if not run.path.is_dir():
        return
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with run.claimed():
                clear_dead(run.path)
            return
        except FolderError as error:
            if time.monotonic() > deadline:
                raise AuditError(str(error)) from error
            time.sleep(0.2)


def delete_states(run: RunFolder) -> None:
    """Delete the saved states of a network that is trained, which take most of the space."""
    for path in run.states():
        with contextlib.suppress(OSError):
            path.unlink()
