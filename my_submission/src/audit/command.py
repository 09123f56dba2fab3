"""Find stems of a dataset that are not what their names say: score every stem, list the worst, and show them on a page.

    python -m my_submission audit --data_path DIR --model DIR --out audit.csv --report page.html
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

On the page of --report the worst stems can be heard and marked, and the table can be saved with the marks. Then train with
train.py --keep audit.csv.

The same command continues an interrupted audit and measures no stem twice; audit.jsonl, next to the table, holds the
measurements. Marks in an existing table are kept. Exit status: 0; 1 if a stem failed; 2 for a mistake in the command line or
the data.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio.files import AudioFile
from my_submission.src.audit import AuditError, from_training, page
from my_submission.src.audit.scoring import Baseline, Measurement, score
from my_submission.src.audit.stem_score import COLUMNS, StemScore, count_below
from my_submission.src.audit.stems import Stem, find_distinct_tracks, find_stems
from my_submission.src.audit.windows import measure
from my_submission.src.common import cli, stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import escaped, shown, some
from my_submission.src.training import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator

PRINTED = 10  # stems

Key = tuple[str, str]  # track and instrument of a stem
Marks = dict[Key, str]  # stem -> yes or no


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if a stem failed."""
    options = _parse(argv)
    if options.out.suffix.lower() != ".csv" or options.out.is_dir() or not options.out.absolute().parent.is_dir():
        raise AuditError(f"--out {options.out}: expected the name of a .csv file in a folder that exists")
    marks = _read_marks(options.out)
    if options.from_training:
        scores = from_training.score_tables(options.from_training)
        marks = _marks_of([stem.key for stem in scores], marks, options.out)
        _print_scores(scores, "never drawn, no score")
        _write_table(options.out, scores, marks)
        return 0
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
    marks = _marks_of([stem.key for stem in stems], marks, options.out)
    if separator.note:
        print(f"note: {separator.note}", flush=True)
    counted = f"{len(tracks)} {'track' if len(tracks) == 1 else 'tracks'}"
    print(f"{len(stems)} stems of {counted} -> {shown(options.out)}", flush=True)
    settings = separator.settings() | {"seconds of a window": options.seconds}
    with Journal(options.out.with_suffix(".jsonl"), settings) as journal:
        measurements = measure_all(separator, stems, journal, options.seconds, failed)
    scores, baselines = score(measurements, separator.source_order)
    _print_scores(scores, "silent throughout, no score", baselines)
    scores = _write_table(options.out, scores, marks)
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
        page.write_page(options.report, audited, options.suspects, separator, options.embed)
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
    add("--out", type=Path, default=Path("audit.csv"), metavar="FILE", help="table to write (default: audit.csv)")
    add("--seconds", type=cli.positive, default=10, metavar="N", help="length of a window in seconds (default: 10)")
    report.add_options(parser)
    add("--suspects", type=cli.positive, default=20, metavar="N", help="number of stems on the page (default: 20)")
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    if options.from_training:
        for option, name in {"data_path": "data_path", "models": "model", "weights": "weights", "report": "report"}.items():
            if getattr(options, option):
                parser.error(f"--from-training goes by tables alone; leave --{name} out")
    elif not (options.data_path and options.models):
        parser.error("name the data with --data-path and a model with --model, or tables of trainings with --from-training")
    return options


def _read_marks(out: Path) -> Marks:
    """Return the marks in the table that will be replaced."""
    if not out.exists():
        return {}
    try:
        rows = stem_table.read(out, COLUMNS)
    except stem_table.TableError as error:
        raise AuditError(f"{error}; --out {out} is not replaced, as it is no audit's: move it, or name another") from error
    marks = {(row["track"], row["instrument"]): row["keep"].strip().lower() for row in rows if row["keep"].strip()}
    odd = [shown(*stem) for stem, mark in marks.items() if mark not in ("yes", "no")]
    if odd:
        raise AuditError(f"{out}: keep of {odd[0]} is no mark, expected yes, no or nothing; correct it, or name another --out")
    return marks


def _marks_of(stems: Sequence[Key], marks: Marks, out: Path) -> Marks:
    """Return the marks by stem. Refuse to replace a table if a marked stem is not in the new one."""
    meant = stem_table.match(marks, stems)
    lost = [shown(*stem) for stem in sorted(marks.keys() - meant.keys())]
    odd = [shown(*stem) for stem in marks if stem not in meant and not stem_table.is_utf8(*stem)]
    if odd:
        raise AuditError(f"{out}: {stem_table.SAVE_AGAIN} (it names {odd[0]}, which is not audited now)")
    if lost:
        raise AuditError(f"{out}: holds marks of stems that are not audited now ({some(lost)}); move it, or name another --out")
    return {stem: marks[name] for name, stem in meant.items()}


def measure_all(
    separator: BaseSeparator, stems: Sequence[Stem], journal: Journal, seconds: float, failed: dict[str, str]
) -> list[Measurement]:
    """Measure the stems that the journal does not hold yet; return the measurements of all.

    Args:
        separator: the model.
        stems: the stems to measure.
        journal: gets a line for each stem; its lines are for files by path, size and time of change.
        seconds: length of a window.
        failed: gets the stems that cannot be measured: name -> reason.
    """
    if journal.differences:
        print(f"starting again: {'; '.join(journal.differences)}", flush=True)
    known = {(entry["path"], *entry["file"]): entry for entry in journal.entries}
    states = [_file_state(stem.path) for stem in stems]
    done = sum(state in known for state in states)
    if done:
        print(f"going on where the last audit stopped: {done} of {len(stems)} stems are done", flush=True)
    measurements = []
    with tqdm(total=len(stems), initial=done, desc="stems", unit="stem", disable=None) as bar:
        for stem, state in zip(stems, states, strict=True):
            if state not in known:
                try:
                    known[state] = _measure(separator, stem, state, seconds)
                except UserError as error:
                    failed[stem.name] = " ".join(str(error).split())
                    tqdm.write(f"{stem.name}: FAILED: {escaped(failed[stem.name])}")
                else:
                    journal.append(known[state])
                bar.update()
            if state in known:
                entry = known[state]
                measurements.append(Measurement(stem, entry["seconds"], np.array(entry["energies"]), seconds))
    return measurements


def _file_state(path: Path) -> tuple[str, int, int]:
    """Return a file's path, size and time of change, which tell whether it was measured as it is now."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _measure(separator: BaseSeparator, stem: Stem, state: tuple[str, int, int], seconds: float) -> dict[str, Any]:
    """Measure a stem; return its line of the journal."""
    file = AudioFile(stem.path)
    with cli.seconds_bar(separator, file.seconds, stem.name, position=1):
        energies = measure(separator, file, separator.source_order.index(stem.instrument), seconds)
    rounded = [[float(f"{value:.6g}") for value in window] for window in energies]
    return {"path": state[0], "file": state[1:], "seconds": file.seconds, "energies": rounded}


def _write_table(out: Path, scores: Sequence[StemScore], marks: Marks) -> list[StemScore]:
    """Write the table with the marks of the one it replaces; return the scores with these marks."""
    marked = [dataclasses.replace(stem, keep=marks.get(stem.key, "")) for stem in scores]
    stem_table.write(out, COLUMNS, [stem.row() for stem in marked])
    if marks:
        print(f"{len(marks)} marks of the former table are kept")
    print(f"table: {shown(out)}", flush=True)
    return marked


def _print_scores(scores: Sequence[StemScore], unscored: str, baselines: Mapping[str, Baseline] | None = None) -> None:
    """Print the worst stems, those without a score (`unscored` says why they have none), baselines, and the total."""
    scored = [(stem.score, stem) for stem in scores if stem.score is not None]
    if scored:
        print(f"the worst {min(PRINTED, len(scored))} of {len(scored)} stems, and their scores:")
    for value, stem in scored[:PRINTED]:
        print(f"  {stem.name}: {value:.2f}{_remarks(stem)}")
    others = [stem.name for stem in scores if stem.score is None]
    if others:
        print(f"{unscored}: {some(others)}")
    for name, baseline in (baselines or {}).items():
        known = f"own share usually {baseline.centre:.1f} dB, spread {baseline.spread:.1f} dB"
        how = known if baseline.is_reliable else "too few stems for a baseline, scored by themselves"
        print(f"{name}: {how}; {count_below(scores, name)} of {baseline.stems} stems are below {DEFAULT_THRESHOLD:g}")
    print(f"{sum(stem.is_below for stem in scores)} of {len(scored)} stems are below {DEFAULT_THRESHOLD:g}, and best left out")


def _remarks(stem: StemScore) -> str:
    """Return in words where a stem is worst, and which other instrument it seems to contain."""
    remarks = ""
    if stem.is_below and stem.from_s is not None:
        remarks += f", worst at {stem.from_s:.0f} to {stem.to_s:.0f} s of {stem.seconds:.0f}"
    return remarks + (f", seems to contain {stem.contains}" if stem.contains else "")
