"""The plan of a cross-fitted audit, from the options of a command; its settings, its files, and its cost in words."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from my_submission.src.audit import AuditError
from my_submission.src.audit.cost import Cost, time_step
from my_submission.src.audit.crossfit import Plan, divide
from my_submission.src.audit.fold_options import fold_seed
from my_submission.src.audit.folds import write_folds
from my_submission.src.audit.stems import find_distinct_tracks
from my_submission.src.audit.trainings import Training
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.text import shown
from my_submission.src.config import Config, load_config
from my_submission.src.training.resume import recipe

CONFIG, FOLDS = "training.yaml", "folds.csv"  # in the folder of the cleaning


def make_plan(options: argparse.Namespace, data: Sequence[Path], folder: Path, seeds: Sequence[int]) -> Plan:
    """Check the config and the data, and return the plan. Write nothing.

    Args:
        options: of the command.
        data: folders of tracks.
        folder: of the cleaning.
        seeds: of the networks of each fold.

    Raises AuditError, ConfigError, TrackError or AudioError.
    """
    from my_submission.src.dataset import open_tracks

    config = load_config(options.config, options.set)
    if len(config.source_order) < 2:
        only = config.source_order[0]
        raise AuditError(f"{options.config}: is of a network that separates {only} alone, expected one of several instruments")
    place = folder.resolve()
    for path in (path.resolve() for path in data):
        if place == path or path in place.parents or place in path.parents:
            raise AuditError(f"{folder}: is, holds or lies in {path}, expected a folder apart from the data")
    find_distinct_tracks(data)
    tracks = open_tracks(data, config, skip_bad_tracks=options.skip_bad_tracks)
    groups, fold_of = divide(tracks, options.folds, fold_seed(options))
    training = ["--device", options.device, "--precision", options.precision]
    training += ["--num-workers", min(4, os.cpu_count() or 1) if options.num_workers is None else options.num_workers]
    training += ["--save-every", options.save_every or 1000, *(["--skip-bad-tracks"] if options.skip_bad_tracks else [])]
    separation = {name: getattr(options, name) for name in ("overlap", "batch_size", "device", "precision")}
    separation |= {"overrides": options.set} if options.set else {}
    return Plan(
        config=folder / CONFIG,
        recipe=config,
        data=data,
        tracks=tracks,
        groups=groups,
        fold_of=fold_of,
        folds=options.folds,
        seeds=tuple(seeds),
        training=[str(word) for word in training],
        separation=separation,
        seconds=options.seconds,
    )


def settings(plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that the networks of the folds depend on, flat."""
    from my_submission.src.runtime.device import pick_device, pick_precision

    precision = pick_precision(options.precision, pick_device(options.device))
    numbers = {"training.num_steps": plan.recipe.training.num_steps, "--folds": plan.folds, "--fold-seed": fold_seed(options)}
    return {**recipe(plan.recipe, precision), **numbers, "seeds of a fold": list(plan.seeds)}


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the effective config and the table of the folds. Raises OSError or TableError."""
    text = yaml.safe_dump(_without_data(plan.recipe).as_dict(), sort_keys=False)
    with atomic_file(folder / CONFIG) as partial:
        partial.write_text(text, encoding="utf-8")
    write_folds(folder / FOLDS, plan.groups, plan.fold_of)


def _without_data(config: Config) -> Config:
    """Return the config without its folders of tracks, which the command line names."""
    return dataclasses.replace(config, training=dataclasses.replace(config.training, datasets=()))


def announce(plan: Plan, trainings: Sequence[Training], rounds: int, options: argparse.Namespace) -> None:
    """Print the data and the cost. Raises UserError if the networks cannot be trained as asked."""
    counts = [list(plan.fold_of.values()).count(fold) for fold in range(plan.folds)]
    print(f"{len(plan.tracks)} tracks, {len(plan.stems)} stems, {plan.audio_seconds / 3600:.2f} h of stems")
    for group in plan.groups:
        if len(group) > 1:
            print(f"the same audio, kept in one fold: {', '.join(map(shown, group))}")
    sizes = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])
    print(f"{plan.folds} folds of {sizes} tracks")
    overlap = options.overlap or plan.recipe.inference.num_overlap
    cost = Cost(trainings, plan.recipe, plan.audio_seconds, rounds, overlap)
    print(cost.steps(), flush=True)
    if cost.steps_left:
        print("timing a step ...", flush=True)
        print(*cost.time_and_disk(*time_step(plan.recipe, options.device, options.precision)), sep="\n", flush=True)
