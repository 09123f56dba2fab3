"""Clean: rounds of cross-fitted audits, then the training of the model. `clean.py` has the command line and the files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from my_submission.src import report
from my_submission.src.audit import page
from my_submission.src.audit.begun import begin, refuse_changes
from my_submission.src.audit.changes import summary, write_changes
from my_submission.src.audit.crossfit import Found, Plan, Stopped, audit_round, write_keep
from my_submission.src.audit.marks import Marks, marks_of, read_marks, write_table
from my_submission.src.audit.planning import announce, make_plan, settings, write_plan
from my_submission.src.audit.printout import print_scores
from my_submission.src.audit.stem_score import COLUMNS, StemScore
from my_submission.src.audit.trainings import Training, train
from my_submission.src.common import stem_table
from my_submission.src.common.text import shown

FOLD_SEEDS = (0,)  # of the networks of a fold


def clean(options: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    table = options.out / "audit.csv"
    marks = read_marks(table)
    plan = make_plan(options, options.data, options.out, FOLD_SEEDS)
    marks = marks_of(list(plan.stems), marks, table)
    facts = _facts(plan, options)
    refuse_changes(options.out, facts, plan.tracks)
    print(f"{', '.join(shown(path) for path in options.data)} -> {shown(options.out)}")
    announce(plan, _trainings(plan, options), options.rounds, options)
    if options.dry_run:
        return 0
    with begin(options.out, facts, plan.tracks):
        write_plan(options.out, plan)
        try:
            return _clean(plan, options, marks)
        except Stopped as stop:
            return stop.status


def _facts(plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Return everything that the results depend on, and that must not change when the command is given again."""
    inference = {f"inference.{key}": value for key, value in plan.recipe.as_dict()["inference"].items() if key != "batch_size"}
    own = {"--rounds": options.rounds, "--seconds": options.seconds, "--overlap": options.overlap}
    return {**settings(plan, options), **inference, **own}


def _trainings(plan: Plan, options: argparse.Namespace) -> list[Training]:
    """Return all trainings in their order."""
    rounds = [plan.trainings(*_round(options.out, number)) for number in range(1, options.rounds + 1)]
    last = [] if options.until_audit else _last_trainings(plan, options)
    return [*(training for trainings in rounds for training in trainings), *last]


def _round(out: Path, number: int) -> tuple[Path, str]:
    """Return the folder and the name of a round."""
    return out / f"round_{number}", f"round {number}"


def _last_trainings(plan: Plan, options: argparse.Namespace) -> list[Training]:
    model, steps = options.out / "model", plan.recipe.training.num_steps
    return [Training("the model", plan.config, plan.data, model, seed, steps, model / "keep.csv") for seed in options.seeds]


def _clean(plan: Plan, options: argparse.Namespace, marks: Marks) -> int:
    """Run the rounds, write the tables and the page, and train the model. Raises Stopped after a signal."""
    rounds: list[Found] = []
    for number in range(1, options.rounds + 1):
        folder, name = _round(options.out, number)
        rounds.append(audit_round(folder, plan, rounds[-1].passed if rounds else None, name))
        stem_table.rewrite(folder / "audit.csv", COLUMNS, [stem.row() for stem in rounds[-1].scores])
        if all(rounds[-1].passed.values()) and number < options.rounds:
            print("all stems passed: another round would train the same networks again", flush=True)
            break
    last = rounds[-1]
    print_scores(last.scores, "silent throughout, no score", last.baselines)
    lines = summary(rounds)
    print("\n".join(lines), flush=True)
    write_changes(options.out / "changes.csv", rounds)
    table = options.out / "audit.csv"
    scores = write_table(table, last.scores, marks)
    _write_page(options, plan, last, scores, lines)
    if options.until_audit:
        print("mark suspects on the page and save the table there; then give the command without --until-audit")
        return 0
    kept = {stem.key: stem.keep == "yes" or (stem.keep != "no" and last.passed[stem.key]) for stem in scores}
    write_keep(options.out / "model" / "keep.csv", plan, kept, without=None)
    for training in _last_trainings(plan, options):
        status = train(training, plan.training)
        if status:
            raise Stopped(status)
    counted = f"{sum(kept.values())} of {len(kept)} stems"
    print(f"model: {shown(options.out / 'model')}, seeds {', '.join(map(str, options.seeds))}, trained on {counted}")
    return 0


def _write_page(
    options: argparse.Namespace, plan: Plan, last: Found, scores: Sequence[StemScore], lines: Sequence[str]
) -> None:
    """Write the page of the suspects, unless it is there and newer than the table. Raises ReportError."""
    path, table = options.out / "suspects.html", options.out / "audit.csv"
    if path.exists() and path.stat().st_mtime_ns >= table.stat().st_mtime_ns:
        return
    audited = page.Audited(
        data=plan.data,
        stems=plan.stems,
        scores=scores,
        baselines=last.baselines,
        table=table,
        facts={"the table": table, "config": options.config, "folds": plan.folds, "changes": "; ".join(lines)},
        failed={},
    )
    report.check_path(path, False, apart_from=plan.data)
    page.write_page(path, audited, options.suspects, last.separator_of, embed=False)
    print(f"suspects: {shown(path)}", flush=True)
