"""The loop around the training step: it reads data, saves states, writes log lines and validates.

run = Run(trainer, RunFolder(Path("runs/A"), seed=0), tracks=tracks, save_every=1000)
status = run.train()            # to the last step, or until SIGINT or SIGTERM
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from my_submission.src.audio.tracks import Track
from my_submission.src.checkpoint import CheckpointError, save_checkpoint
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown
from my_submission.src.dataset import RandomMixes, Sample, batches
from my_submission.src.training.mask_tally import MaskTally
from my_submission.src.training.progress import Progress
from my_submission.src.training.resume import ResumeError, recipe, refuse_changes, save_state
from my_submission.src.training.run_folder import RunFolder
from my_submission.src.training.signals import Interruption
from my_submission.src.training.trainer import StepResult, Trainer

if TYPE_CHECKING:
    from torch import Tensor

    from my_submission.src.training.validation import Validation


class Run:
    """One seed's training in a folder. Only rank 0 writes.

    Args:
        trainer: the network and everything else that a step changes.
        folder: where the results go; its seed decides the order of the data.
        tracks: the training data.
        workers: processes that read audio, for each rank (default: 0, this process reads). Take more if steps wait for data.
        validation: songs to separate and score during the training (default: None).
        save_every: steps between two saved states (default: 1000). A crash costs up to that many steps.
        log_every: steps between two log lines (default: 100).
        valid_every: steps between two validations (default: 5000). A validation takes time that the training waits for.
    """

    def __init__(
        self,
        trainer: Trainer,
        folder: RunFolder,
        *,
        tracks: Sequence[Track],
        workers: int = 0,
        validation: Validation | None = None,
        save_every: int = 1000,
        log_every: int = 100,
        valid_every: int = 5000,
    ) -> None:
        self.trainer, self.folder, self.tracks, self.workers = trainer, folder, tracks, workers
        self.validation = validation
        self.save_every, self.log_every, self.valid_every = save_every, log_every, valid_every
        self.config, self.world = trainer.config, trainer.world
        self.num_steps = self.config.training.num_steps
        self.tally = MaskTally(tracks, self.config)
        self.validated = 0  # the step of the last validation
        self.best: float | None = None  # mean SDR of the best validation, dB
        self.save_due = False

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a saved state. Raises ResumeError if its config or data differ, or if it is past the last step."""
        refuse_changes(state, self._begun_with())
        if state["step"] > self.num_steps:
            raise ResumeError(
                f"{self.folder.path}: seed {self.folder.seed} stands at step {state['step']} already, past the "
                f"{self.num_steps} asked for; ask for more, or start again with --restart"
            )
        self.trainer.load_state_dict(state)
        self.tally.load_state_dict(state["masked"])
        self.validated, self.best = state["validated"], state["best"]

    def train(self) -> int:
        """Train to the last step, write the checkpoint and return 0.

        After SIGINT or SIGTERM, save the state instead and return the exit status, 128 + the signal's number.
        """
        trainer, training = self.trainer, self.config.training
        steps = range(trainer.steps, self.num_steps)
        mixes = RandomMixes(self.tracks, self.config, self.folder.seed)
        data = batches(
            mixes,
            steps,
            training.batch_size,
            rank=self.world.rank,
            ranks=self.world.size,
            workers=self.workers,
            pin=trainer.device.type == "cuda",
        )
        with Interruption(quiet=not self.world.is_main) as interruption, self._progress() as progress, contextlib.closing(data):
            self._validate_if_due(interruption, progress)  # the validation during which the run was interrupted
            stop = self.world.any(interruption.requested)
            while trainer.steps < self.num_steps and not stop:
                batch = next(data)
                result = trainer.step(batch.sources)
                self._count(batch, result)
                if progress:
                    progress.step(result, trainer)
                self._validate_if_due(interruption, progress)
                stop = self.world.any(interruption.requested)
                self._save_if_due(now=stop or trainer.steps == self.num_steps)
            if self.world.is_main:
                self._finish()
            self.world.any(False)  # all ranks wait here until rank 0 has written
        if trainer.steps == self.num_steps:
            return 0
        return interruption.status or 143  # 143: another rank had the signal, most likely SIGTERM

    def _count(self, batch: Sample, result: StepResult) -> None:
        """Add the items of a step on all ranks to the tally."""
        if math.isfinite(result.loss):  # on all ranks or on none; without a loss the mask means nothing
            shares = self.world.gather((batch.tracks.tolist(), result.kept_items))
            for drawn, kept in shares:  # in the order of the batch, so that the sums are the same for any number of ranks
                self.tally.add(drawn, kept)

    def _finish(self) -> None:
        """Write the results after the last step; print how the run ended."""
        step, result = self.trainer.steps, self.folder.checkpoint(self.num_steps)
        if step == self.num_steps:
            save_checkpoint(self.trainer.ema.state_dict(), result)
            self.tally.write(self.folder.masked_table)
            print(f"finished: {shown(result)}", flush=True)
        else:
            print(f"stopped after step {step}, saved; the same command goes on from there", flush=True)

    def _progress(self) -> contextlib.AbstractContextManager[Progress | None]:
        """Return the progress display, None on all ranks but 0."""
        if not self.world.is_main:
            return contextlib.nullcontext()
        return Progress(self.folder, config=self.config, first_step=self.trainer.steps, every=self.log_every)

    def _save_if_due(self, now: bool) -> None:
        """Save the state every save_every steps, or `now`."""
        self.save_due = self.save_due or now or self.trainer.steps % self.save_every == 0
        # Weights without a finite loss may never recover, so they must not replace the states saved before.
        if self.save_due and (now or self.trainer.failures == 0):
            self.save_due = False
            if self.world.is_main:
                save_state(self.folder, self._state())
                self.tally.write(self.folder.masked_table)

    def _state(self) -> dict[str, Any]:
        return {
            **self.trainer.state_dict(),
            **self._begun_with(),
            "masked": self.tally.state_dict(),
            "validated": self.validated,
            "best": self.best,
        }

    def _begun_with(self) -> dict[str, Any]:
        """Return everything that must be the same when the run is resumed."""
        return {"recipe": recipe(self.config, self.trainer.precision), **self.data()}

    def data(self) -> dict[str, list[str]]:
        """Return the description by which a resumed run recognizes its data: the tracks in order, and the stems left out."""
        dropped = [shown(track.name, name) for track in self.tracks for name in sorted(track.dropped)]
        return {"tracks": [f"{track.name} ({track.num_samples} samples)" for track in self.tracks], "dropped": dropped}

    def _validate_if_due(self, interruption: Interruption, progress: Progress | None) -> None:
        """Validate every valid_every steps; keep the weights if their mean SDR is the best so far."""
        step = self.trainer.steps
        if self.validation is None or step == self.validated or step % self.valid_every:
            return
        average = self.trainer.ema.state_dict()
        try:
            scores = self.validation.scores(average, stop=lambda: interruption.requested)
        except UserError as error:
            self.validated = step
            if self.world.is_main:
                warnings.warn(f"step {step}: the validation is skipped ({error}); the training goes on", stacklevel=2)
            return
        if scores is None:  # interrupted: the resumed run validates this step first
            return
        self.validated = step
        mean = sum(scores.values()) / len(scores)
        is_best = self.best is None or mean > self.best
        if is_best:
            self.best = mean
            if self.world.is_main:
                self._save_best(average)
        if progress:
            progress.validation(step, scores, is_best)

    def _save_best(self, average: dict[str, Tensor]) -> None:
        """Save the weights of the best validation. A failure is not the end: the training needs its states alone."""
        try:
            save_checkpoint(average, self.folder.best)
        except CheckpointError as error:
            warnings.warn(f"step {self.trainer.steps}: {error}; the training goes on", stacklevel=2)
