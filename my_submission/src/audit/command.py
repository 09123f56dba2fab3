"""Find stems of a dataset that are not what their names say: score every stem, list the worst, and show them on a page.

    python -m my_submission audit --data_path DIR --model DIR --out audit.csv --report page.html
    python -m my_submission audit --data-path DIR --folds 4 --config config.yaml --model-path runs/folds --out audit.csv
    python -m my_submission audit --from-training runs/A/masked_seed0.csv runs/A/masked_seed1.csv --out audit.csv

DIR holds a folder for each track, with a wav or flac for each instrument. The model separates each stem by itself. If less of
a bass comes back as bass than is normal for the basses of this data, the stem holds something else. The model may have been
trained on the same data, because training does not learn errors that only few stems have. --from-training scores stems
by how often trainings masked them instead; it needs neither audio nor a model.

audit.csv has a row for each stem, the worst first:

    score               higher is better; stems below 0 are best left out
    self_sdr            how well the stem comes back as itself, dB
    margin_db           level of the stem's own output above the loudest other output
    from_s, to_s        where the stem is worst
    contains            another instrument that it seems to contain
    keep                yes or no where a person marked the stem; overrides the score

--bleeding levels.csv also estimates the level of every other instrument in each stem, in dB: 0 if it is as loud there as in its
own stem; empty if none is found.

On the page of --report the worst stems can be heard and marked, and the table can be saved with the marks. Then train with
train.py --keep audit.csv.

The same command continues an interrupted audit and measures no stem twice; audit.jsonl, next to the table, holds the
measurements. Marks in an existing table are kept. Exit status: 0; 1 if a stem failed; 2 for a mistake in the command line or
the data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from my_submission.src import report
from my_submission.src.audit import AuditError, fold_options, from_training, page
from my_submission.src.audit.bleeding_table import refuse_other_table, write_bleeding
from my_submission.src.audit.marks import Marks, marks_of, read_marks, write_table
from my_submission.src.audit.measuring import measure_all
from my_submission.src.audit.printout import print_scores
from my_submission.src.audit.scoring import score
from my_submission.src.audit.stems import find_distinct_tracks, find_stems
from my_submission.src.common import cli
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import escaped, shown

BY_TABLES = {
    "data_path": "data-path",
    "models": "model",
    "weights": "weights",
    "report": "report",
    "folds": "folds",
    "bleeding": "bleeding",
}


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if a stem failed."""
    options = _parse(argv)
    for option, path in (("--out", options.out), ("--bleeding", options.bleeding)):
        if path and (path.suffix.lower() != ".csv" or path.is_dir() or not path.absolute().parent.is_dir()):
            raise AuditError(f"{option} {path}: expected the name of a .csv file in a folder that exists")
    if options.bleeding and options.bleeding.absolute() == options.out.absolute():
        raise AuditError(f"--bleeding {options.bleeding}: is the table of --out, too; name another file")
    if options.bleeding:
        refuse_other_table(options.bleeding)
    marks = read_marks(options.out)
    if options.from_training:
        scores = from_training.score_tables(options.from_training)
        marks = marks_of([stem.key for stem in scores], marks, options.out)
        print_scores(scores, "never drawn, no score")
        write_table(options.out, scores, marks)
        return 0
    if options.folds:
        from my_submission.src.audit.cross_audit import audit_folds

        return audit_folds(options, marks)
    return _audit(options, marks)


def _audit(options: argparse.Namespace, marks: Marks) -> int:
    """Audit with a model."""
    tracks = find_distinct_tracks(options.data_path)
    if options.report:
        report.check_path(options.report, options.embed, apart_from=options.data_path)

    from my_submission.src.family.blend import open_models

    cli.announce_compiling(options)
    separator = open_models(options.models, options.weights, **cli.ensemble_options(options))
    if len(separator.source_order) < 2:
        only = separator.source_order[0]
        raise AuditError(f"{', '.join(options.models)}: separates {only} alone, expected a model of several instruments")
    stems, failed = find_stems(tracks, separator.source_order)
    marks = marks_of([stem.key for stem in stems], marks, options.out)
    if separator.note:
        print(f"note: {separator.note}", flush=True)
    counted = f"{len(tracks)} {'track' if len(tracks) == 1 else 'tracks'}"
    print(f"{len(stems)} stems of {counted} -> {shown(options.out)}", flush=True)
    settings = separator.settings() | {"seconds of a window": options.seconds}
    with Journal(options.out.with_suffix(".jsonl"), settings) as journal:
        measurements = measure_all(separator, stems, journal, options.seconds, failed)
    scores, baselines = score(measurements, separator.source_order)
    print_scores(scores, "silent throughout, no score", baselines)
    scores = write_table(options.out, scores, marks)
    if options.bleeding:
        failed |= write_bleeding(options.bleeding, stems, separator.source_order, lambda track: separator, separator.settings())
    if options.report:
        audited = page.Audited(
            data=options.data_path,
            stems={stem.key: stem for stem in stems},
            scores=scores,
            baselines=baselines,
            table=options.out,
            facts={"the table": options.out, **settings},
            failed=failed,
        )
        page.write_page(options.report, audited, options.suspects, lambda track: separator, options.embed)
        print(f"report: {shown(options.report)}")
    sys.stdout.flush()
    for name, reason in failed.items():
        print(f"failed: {name}: {escaped(reason)}", file=sys.stderr)
    return 1 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission audit", description=__doc__)
    add = parser.add_argument
    add(
        "--data-path",
        "--data_path",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="folders of tracks to audit, the same that train.py takes",
    )
    cli.add_model_options(parser, "separate with", "")
    add("--from-training", nargs="+", type=Path, metavar="FILE", help="masked_seed*.csv of trainings to score by, instead")
    folds = "train K networks with --config, each without one K-th of the tracks, which it then judges; see below"
    add("--folds", type=cli.positive, metavar="K", help=folds)
    add("--model-path", type=Path, metavar="DIR", help="folder for the networks of --folds; made if it is missing")
    fold_options.add_options(parser)
    add("--out", type=Path, default=Path("audit.csv"), metavar="FILE", help="table to write (default: audit.csv)")
    add("--seconds", type=cli.positive, default=2, metavar="N", help="length of a window in seconds (default: 2)")
    levels = "also estimate how loud each instrument is in the stems of the others, and write this table"
    add("--bleeding", type=Path, metavar="FILE", help=levels)
    report.add_options(parser)
    add("--suspects", type=cli.positive, default=20, metavar="N", help="number of stems on the page (default: 20)")
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    if options.from_training:
        for option, name in BY_TABLES.items():
            if getattr(options, option):
                parser.error(f"--from-training goes by tables alone; leave --{name} out")
    elif options.folds:
        _check_folds(parser, options)
    elif not (options.data_path and options.models):
        parser.error("name the data with --data-path and a model with --model, or tables of trainings with --from-training")
    if not options.folds:
        for name in ("model_path", *fold_options.NAMES):
            if getattr(options, name) is not None and getattr(options, name) is not False:
                parser.error(f"--{name.replace('_', '-')} is for the trainings of --folds; leave it out, or add --folds")
    return options


def _check_folds(parser: cli.Parser, options: argparse.Namespace) -> None:
    """Refuse a command line that lacks an option for --folds, or has one for a given model."""
    if not (options.data_path and options.config and options.model_path):
        parser.error("--folds trains networks: name the data with --data-path, --config, and their folder with --model-path")
    for option, name in {"models": "model", "weights": "weights", "procedure": "procedure", "fast": "fast"}.items():
        if getattr(options, option):
            parser.error(f"--{name} is for a model that is trained already; leave it out, or leave out --folds")
    if options.compile == "yes":
        parser.error("--compile is for a model that is trained already; leave it out, or leave out --folds")
