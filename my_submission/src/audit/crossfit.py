"""A cross-fitted audit: every stem is judged by networks that have never heard its track.

    plan = Plan(config=path, data=[folder], tracks=tracks, folds=4, ...)
    found = audit_round(Path("RUN/round_1"), plan, passed=None, name="round 1")
    found.scores, found.separator_of(stem)

fold_0, fold_1, ... hold a network each, trained without the tracks of that fold (keep.csv), and the measurements of these
tracks (audit.jsonl). All of them continue where they were interrupted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from my_submission.src.audio.tracks import Track
from my_submission.src.audit import AuditError
from my_submission.src.audit.baseline import Baseline
from my_submission.src.audit.folds import assign
from my_submission.src.audit.measuring import measure_all
from my_submission.src.audit.same_audio import find_same
from my_submission.src.audit.scoring import score
from my_submission.src.audit.stem_score import StemScore
from my_submission.src.audit.stems import Stem
from my_submission.src.audit.trainings import Training, delete_states, train
from my_submission.src.audit.values import Measurement
from my_submission.src.common import stem_table
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import some
from my_submission.src.config import Config

if TYPE_CHECKING:
    from my_submission.src.family.blend import Blend
    from my_submission.src.separator import Separator

KEEP = ("track", "instrument", "score", "keep")  # columns of the table that a training gets

Key = tuple[str, str]  # track and instrument


class Stopped(Exception):  # noqa: N818
    """A training was interrupted by a signal; `status` is the exit status that says so."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True)
class Plan:
    """The networks of a cross-fitted audit, and how they separate."""

    config: Path  # the effective config, in a file
    recipe: Config  # the same
    data: Sequence[Path]  # folders of tracks
    tracks: Sequence[Track]  # with their stems opened
    groups: Sequence[Sequence[str]]  # names of tracks of the same audio
    fold_of: Mapping[str, int]  # track -> fold
    folds: int
    seeds: Sequence[int]  # of the networks of each fold
    training: Sequence[str]  # options of the training's command
    separation: Mapping[str, Any]  # options of a Separator
    seconds: float  # length of a window

    @property
    def instruments(self) -> tuple[str, ...]:
        """The names of the stems."""
        return self.recipe.training.instruments

    @property
    def stems(self) -> dict[Key, Stem]:
        """The stems by track and instrument."""
        return {(t.name, name): Stem(t.name, name, file.path) for t in self.tracks for name, file in t.stems.items()}

    @property
    def audio_seconds(self) -> float:
        """The duration of all stems together."""
        return sum(file.seconds for track in self.tracks for file in track.stems.values())

    def trainings(self, folder: Path, name: str) -> list[Training]:
        """Return the trainings of a round in its folder."""
        return [
            Training(
                f"{name}, fold {fold + 1} of {self.folds}",
                self.config,
                self.data,
                fold_folder(folder, fold),
                seed,
                self.recipe.training.num_steps,
                fold_folder(folder, fold) / "keep.csv",
            )
            for fold in range(self.folds)
            for seed in self.seeds
        ]


def divide(tracks: Sequence[Track], folds: int, seed: int) -> tuple[list[list[str]], dict[str, int]]:
    """Return the tracks in groups of the same audio, and the fold of each track. Raises AuditError or AudioError."""
    groups = find_same(tracks)
    return groups, assign(groups, folds, seed)


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the folder of a fold's networks, which have not heard the tracks of that fold."""
    return folder / f"fold_{fold}"


@dataclass(frozen=True)
class Found:
    """The results of a cross-fitted audit."""

    scores: list[StemScore]  # the worst first
    baselines: dict[str, Baseline]
    measurements: list[Measurement]
    separator_of: Callable[[str], Separator | Blend]  # track -> the networks that have not heard it
    settings: dict[str, Any]  # flat: everything that the measurements depend on

    @property
    def passed(self) -> dict[Key, bool]:
        """Whether each stem reaches the recommended cut."""
        return {stem.key: stem.score is not None and not stem.is_below for stem in self.scores}


def audit_round(folder: Path, plan: Plan, passed: Mapping[Key, bool] | None, name: str) -> Found:
    """Train the networks of all folds, and let each judge the tracks of its fold.

    Args:
        folder: of the round.
        plan: the networks.
        passed: the stems to train on, by the round before (default: all).
        name: of the round, in messages.

    Raises AuditError, or Stopped after a signal.
    """
    _refuse_too_little(plan, passed, name)
    for fold in range(plan.folds):
        write_keep(fold_folder(folder, fold) / "keep.csv", plan, passed, without=fold)
    for training in plan.trainings(folder, name):
        status = train(training, plan.training)
        if status:
            raise Stopped(status)
        delete_states(training.run)

    @functools.lru_cache(maxsize=1)  # a fold's networks; those of another fold replace them
    def open_fold(fold: int) -> Separator | Blend:
        from my_submission.src.family.blend import open_models

        return open_models([str(fold_folder(folder, fold))], **plan.separation)

    measurements: list[Measurement] = []
    failed: dict[str, str] = {}
    everything: dict[str, Any] = {}
    for fold in range(plan.folds):
        separator = open_fold(fold)
        stems = [stem for stem in plan.stems.values() if plan.fold_of[stem.track] == fold]
        print(
            f"{name}, fold {fold + 1} of {plan.folds}: {len(stems)} stems, judged by a network that has not heard them",
            flush=True,
        )
        settings = separator.settings() | {"seconds of a window": plan.seconds}
        everything |= {f"fold {fold}: {key}": value for key, value in settings.items()}
        with Journal(fold_folder(folder, fold) / "audit.jsonl", settings) as journal:
            measurements += measure_all(separator, stems, journal, plan.seconds, failed, fold)
    if failed:
        first, reason = next(iter(failed.items()))
        raise AuditError(f"{len(failed)} stems cannot be judged ({some(list(failed))}); {first}: {reason}")
    order = {key: place for place, key in enumerate(plan.stems)}
    measurements.sort(key=lambda measurement: order[measurement.stem.key])
    scores, baselines = score(measurements, list(plan.recipe.source_order))
    return Found(scores, baselines, measurements, lambda track: open_fold(plan.fold_of[track]), everything)


def _refuse_too_little(plan: Plan, passed: Mapping[Key, bool] | None, name: str) -> None:
    """Refuse a round in which a network would get no stem of an instrument."""
    for fold in range(plan.folds):
        for instrument in plan.instruments:
            if not any(
                plan.fold_of[track.name] != fold and (passed is None or passed[track.name, instrument]) for track in plan.tracks
            ):
                raise AuditError(
                    f"{name}, fold {fold + 1} of {plan.folds}: no stem of {instrument} passed outside the fold, and it "
                    "could not be learned; train longer, take fewer rounds or folds, or more tracks"
                )


def write_keep(path: Path, plan: Plan, passed: Mapping[Key, bool] | None, without: int | None) -> None:
    """Write the table of the stems that a training gets: those that passed, without the tracks of a fold.

    Raises AuditError if the folder cannot be written to, or holds networks that were trained on other stems.
    """
    rows = [
        {
            "track": track.name,
            "instrument": name,
            "score": None,
            "keep": "yes" if plan.fold_of[track.name] != without and (passed is None or passed[track.name, name]) else "no",
        }
        for track in plan.tracks
        for name in plan.instruments
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AuditError(f"{path.parent}: cannot be made ({error.strerror})") from error
    networks = sorted(file.name for pattern in ("state_*.pt", "*.ckpt") for file in path.parent.glob(pattern))
    if networks and _stems_kept(path) != {(row["track"], row["instrument"]): row["keep"] for row in rows}:
        raise AuditError(
            f"{path.parent}: its networks ({some(networks)}) were trained on other stems than those that pass now, by scores "
            "and marks; delete the folder to train them again, or take the marks back"
        )
    stem_table.rewrite(path, KEEP, rows)


def _stems_kept(path: Path) -> dict[Key, str]:
    """Return the verdicts in the table of a training; none if it is missing. Raises TableError."""
    rows = stem_table.read(path, KEEP) if path.exists() else []
    return {(row["track"], row["instrument"]): row["keep"] for row in rows}
