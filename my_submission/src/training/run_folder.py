"""The folder of a training run: RunFolder knows the name of every file in it.

    folder = RunFolder(Path("runs/A"), seed=0)
    folder.checkpoint(100000)                       # runs/A/step100000_seed0.ckpt
    folder.prepare(config, heading="# a comment\\n")

The seeds of one network share a folder and its config.yaml, so the folder is also a model that separates songs.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from my_submission.src.common.atomic import atomic_file, clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.locks import lock_file
from my_submission.src.config import Config


class FolderError(UserError):
    """The folder belongs to another model or cannot be written to."""


@dataclass(frozen=True)
class RunFolder:
    """One seed's files in the folder of a training run."""

    path: Path
    seed: int

    @property
    def config(self) -> Path:
        """The config that all seeds share."""
        return self.path / "config.yaml"

    @property
    def seed_config(self) -> Path:
        """The effective config of this seed's last start."""
        return self.path / f"train_seed{self.seed}.yaml"

    @property
    def log(self) -> Path:
        """One JSON object per line: means over some steps, or a validation."""
        return self.path / f"train_seed{self.seed}.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's files."""
        return self.path / "tensorboard" / f"seed{self.seed}"

    @property
    def masked_table(self) -> Path:
        """The table of the shares that the loss's mask left out, per stem."""
        return self.path / f"masked_seed{self.seed}.csv"

    @property
    def best(self) -> Path:
        """The averaged weights with the best validation."""
        return self.path / f"best_seed{self.seed}.ckpt"

    def checkpoint(self, steps: int) -> Path:
        """Return the path of the result after that many steps; the name follows the published ones."""
        return self.path / f"step{steps}_seed{self.seed}.ckpt"

    def state(self, step: int) -> Path:
        """Return the path of the state that is saved after that step."""
        return self.path / f"state_seed{self.seed}_step{step}.pt"

    def states(self) -> list[Path]:
        """Return the saved states that exist, the newest first."""
        steps = {}
        for path in self.path.glob("state_seed*.pt"):
            match = re.fullmatch(rf"state_seed{self.seed}_step(\d+)\.pt", path.name)
            if match:
                steps[path] = int(match[1])
        return sorted(steps, key=lambda path: steps[path], reverse=True)

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other processes from training this seed in this folder during the block.

        Raises FolderError if another process is training it, or if the folder cannot be written to.
        """
        made = [path for path in (self.path, *self.path.parents) if not path.exists()]
        path = self.path / f".seed{self.seed}.lock"
        try:
            lock = lock_file(path)
        except BlockingIOError as error:
            advice = "wait until it has ended, or take another --seed or --model-path"
            raise FolderError(f"{self.path}: another process is training seed {self.seed} there; {advice}") from error
        except OSError as error:
            raise FolderError(f"{self.path}: cannot be written to ({error.strerror})") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if lock:
                lock.release()
            for folder in made:
                with contextlib.suppress(OSError):  # not empty: the training has begun
                    folder.rmdir()

    def prepare(self, config: Config, heading: str, restart: bool = False) -> None:
        """Make the folder and write the effective config below `heading`, which consists of comment lines.

        The seed's config is always written, config.yaml only if there is none: an existing one belongs to the user. `restart`
        also deletes the seed's saved states.

        Raises FolderError if the folder cannot be written to.
        """
        text = heading + yaml.safe_dump(config.as_dict(), sort_keys=False)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            clear_dead(self.path)
            if restart:
                self.delete_states()
            for path in (self.seed_config, self.config):
                if path == self.config and path.exists():
                    continue
                with atomic_file(path) as partial:
                    partial.write_text(text, encoding="utf-8")
        except OSError as error:
            raise FolderError(f"{self.path}: cannot be written to ({error.strerror})") from error

    def delete_states(self) -> None:
        """Delete the seed's saved states and its table of masked shares."""
        for path in (*self.states(), self.masked_table):
            path.unlink(missing_ok=True)
