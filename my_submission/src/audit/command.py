"""Which stems of a data set are not what their names say: every stem is given a score, the worst are listed, and shown.

    python -m my_submission audit --data_path DIR --model DIR --out audit.csv --report page.html
    python -m my_submission audit --from-training runs/A/masked_seed0.csv runs/A/masked_seed1.csv --out audit.csv

DIR holds a folder for each track, with a wav or flac for each instrument. Each stem is separated by itself: a bass of which
little comes back as bass, beside what is usual for a bass in this data, holds something else. The model may have been trained
on the very data: in training, what few stems have wrong is not learned. --from-training goes by what the trainings' masks
left out instead, and needs neither audio nor a model.

audit.csv has a row for each stem, the worst first. score: higher is better, stems below 0 are best left out; self_sdr and
margin_db: how well the stem comes back as itself, and how far that is over the loudest other output; from_s, to_s: where it
is worst; contains: what else it seems to hold; keep: yes or no where a person said so, which overrides the score. On the page
of --report the worst can be heard, marked, and the table with the marks saved. Then: train.py --keep audit.csv

The same command again goes on where it was interrupted, and measures no stem twice (audit.jsonl, beside the table, has what
was measured); marks in the former table are kept. Exit status: 0, 1 where a stem failed, 2 for a mistake in what was asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio.files import AudioFile
from my_submission.src.audit import COLUMNS, AuditError, page
from my_submission.src.audit import from_training as masked
from my_submission.src.audit.scoring import Baseline, Measured, Scored, count_below, score
from my_submission.src.audit.stems import Stem, find_stems, find_tracks
from my_submission.src.audit.windows import measure
from my_submission.src.common import cli, stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import shown, some
from my_submission.src.training import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from my_submission.src.separator import Separator

PRINTED = 10  # suspects

Marks = dict[tuple[str, str], str]  # (track, instrument) -> yes or no


def main(argv: Sequence[str]) -> int:
    """The command: 0, or 1 where a stem failed."""
    options = _parse(argv)
    if options.out.suffix.lower() != ".csv" or options.out.is_dir() or not options.out.absolute().parent.is_dir():
        raise AuditError(f"--out {options.out}: expected the name of a .csv file in a folder that exists")
    marks = _former_marks(options.out)
    if options.from_training:
        rows = masked.score_tables(options.from_training)
        _refuse_losing(marks, [(row["track"], row["instrument"]) for row in rows], options.out)
        _tell(rows, silent="never drawn, no score")
        _write_table(options.out, rows, marks)
        return 0
    return _audit(options, marks)


def _audit(options: argparse.Namespace, marks: Marks) -> int:
    """Audit with a model."""
    tracks = find_tracks(options.data_path)
    if options.report:
        report.check_path(options.report, options.embed, apart_from=options.data_path)

    from my_submission.src.separator import open_model

    cli.announce_compiling(options)
    separator = open_model(options.model, **cli.ensemble_options(options))
    if len(separator.source_order) < 2:
        raise AuditError(
            f"{options.model}: separates {separator.source_order[0]} alone, expected a model of several instruments"
        )
    stems, failed = find_stems(tracks, separator.source_order)
    _refuse_losing(marks, [(stem.track, stem.instrument) for stem in stems], options.out)
    if separator.note:
        print(f"note: {separator.note}", flush=True)
    print(f"{len(stems)} stems of {len(tracks)} {'track' if len(tracks) == 1 else 'tracks'} -> {options.out}", flush=True)
    settings = separator.settings() | {"seconds of a window": options.seconds}
    with Journal(options.out.with_suffix(".jsonl"), settings) as journal:
        measured = measure_all(separator, stems, journal, options.seconds, failed)
    scored, usual = score(measured, separator.source_order)
    rows = [_row(stem) for stem in scored]
    _tell(rows, silent="silent throughout, no score", usual=_usual_lines(usual, scored))
    rows = _write_table(options.out, rows, marks)
    if options.report:
        facts = {"the table": options.out, **settings}
        audited = page.Audited(options.data_path, scored, usual, options.out, rows, facts, failed)
        suspects = [stem for stem in scored if stem.score is not None][: options.suspects]
        page.write_page(options.report, audited, suspects, separator, options.embed)
        print(f"report: {options.report}")
    sys.stdout.flush()
    for name, reason in failed.items():
        print(f"failed: {name}: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission audit", description=__doc__)
    parser.add_argument("--data_path", nargs="+", type=Path, metavar="DIR", help="folders of tracks, as train.py takes them")
    parser.add_argument("--model", metavar="DIR|A|B|demo", help="DIR: config.yaml and checkpoints")
    parser.add_argument("--from-training", nargs="+", type=Path, metavar="FILE", help="masked_seed*.csv of trainings, instead")
    parser.add_argument("--out", type=Path, default=Path("audit.csv"), metavar="FILE", help="the table (default: audit.csv)")
    parser.add_argument("--seconds", type=cli.positive, default=10, metavar="N", help="of a window (default: 10)")
    report.add_options(parser)
    parser.add_argument("--suspects", type=cli.positive, default=20, metavar="N", help="stems on the page (default: 20)")
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    if options.from_training:
        for option in ("data_path", "model", "report"):
            if getattr(options, option):
                parser.error(f"--from-training goes by tables alone; leave --{option} out")
    elif not (options.data_path and options.model):
        parser.error("name the data with --data_path and a model with --model, or tables of trainings with --from-training")
    return options


def _former_marks(out: Path) -> Marks:
    """(track, instrument) -> yes or no, where a person marked the table that is going to be replaced."""
    if not out.exists():
        return {}
    try:
        rows = stem_table.read(out, COLUMNS)
    except stem_table.TableError as error:
        raise AuditError(f"{error}; --out {out} is not replaced, as it is no audit's: move it, or name another") from error
    marks = {(row["track"], row["instrument"]): row["keep"].strip().lower() for row in rows if row["keep"].strip()}
    odd = [shown(*stem) for stem, mark in marks.items() if mark not in ("yes", "no")]
    if odd:
        raise AuditError(f"{out}: keep of {odd[0]} is no mark, expected yes, no or nothing; mend it, or name another --out")
    return marks


def _refuse_losing(marks: Marks, stems: Sequence[tuple[str, str]], out: Path) -> None:
    """Refuse to replace a table whose marks have no place in the new one."""
    lost = [shown(*stem) for stem in sorted(marks.keys() - set(stems))]
    if lost:
        raise AuditError(f"{out}: holds marks of stems that are not audited now ({some(lost)}); move it, or name another --out")


def measure_all(
    separator: Separator, stems: Sequence[Stem], journal: Journal, seconds: float, failed: dict[str, str]
) -> list[Measured]:
    """Measure what the journal does not hold yet; why others cannot be goes into `failed`."""
    if journal.differences:
        print(f"beginning anew: {'; '.join(journal.differences)}", flush=True)
    known = {(entry["path"], *entry["file"]): entry for entry in journal.entries}
    keys = {stem: _key(stem.path) for stem in stems}
    there = sum(key in known for key in keys.values())
    if there:
        print(f"going on where the last audit stopped: {there} of {len(stems)} stems are done", flush=True)
    measured = []
    with tqdm(total=len(stems), initial=there, desc="stems", unit="stem", disable=None) as bar:
        for stem, key in keys.items():
            if key not in known:
                try:
                    known[key] = _measure(separator, stem, key, seconds)
                except UserError as error:
                    failed[stem.name] = " ".join(str(error).split())
                    tqdm.write(f"{stem.name}: FAILED: {failed[stem.name]}")
                else:
                    journal.append(known[key])
                bar.update()
            if key in known:
                entry = known[key]
                measured.append(Measured(stem, entry["seconds"], np.array(entry["energies"]), seconds))
    return measured


def _key(path: Path) -> tuple[str, int, int]:
    """A file and its state: path, size and time of change."""
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


def _measure(separator: Separator, stem: Stem, key: tuple[str, int, int], seconds: float) -> dict[str, Any]:
    """A line of the journal."""
    file = AudioFile(stem.path)
    with cli.seconds_bar(separator, file.seconds, stem.name, position=1):
        energies = measure(separator, file, separator.source_order.index(stem.instrument), seconds)
    rounded = [[float(f"{value:.6g}") for value in window] for window in energies]
    return {"path": key[0], "file": key[1:], "seconds": file.seconds, "energies": rounded}


def _row(scored: Scored) -> dict[str, object]:
    begin, end = scored.worst or (None, None)
    return {
        "track": scored.stem.track,
        "instrument": scored.stem.instrument,
        "score": scored.score,
        "self_sdr": scored.self_sdr,
        "margin_db": scored.margin,
        "seconds": scored.seconds,
        "from_s": begin,
        "to_s": end,
        "contains": scored.contains,
    }


def _tell(rows: Sequence[Mapping[str, Any]], silent: str, usual: Sequence[str] = ()) -> None:
    """The worst, those that have no score because they are `silent`, what is `usual`, and the total."""
    suspects = [row for row in rows if row["score"] is not None]
    if suspects:
        print(f"the worst {min(PRINTED, len(suspects))} of {len(suspects)} stems, and their scores:")
    for row in suspects[:PRINTED]:
        print(f"  {_line(row)}")
    without = [shown(row["track"], row["instrument"]) for row in rows if row["score"] is None]
    if without:
        print(f"{silent}: {some(without)}")
    for line in usual:
        print(line)
    below = sum(row["score"] < DEFAULT_THRESHOLD for row in suspects)
    print(f"{below} of {len(suspects)} stems are below {DEFAULT_THRESHOLD:g}, and best left out")


def _write_table(out: Path, rows: Sequence[Mapping[str, Any]], marks: Marks) -> list[dict[str, str]]:
    """Write the table with the marks of the former one; give its rows as they are read."""
    stem_table.write(out, COLUMNS, [{**row, "keep": marks.get((row["track"], row["instrument"]), "")} for row in rows])
    if marks:
        print(f"{len(marks)} marks of the former table are kept")
    print(f"table: {out}", flush=True)
    return stem_table.read(out, COLUMNS)


def _line(row: Mapping[str, Any]) -> str:
    """One suspect."""
    line = f"{shown(row['track'], row['instrument'])}: {row['score']:.2f}"
    if row["from_s"] is not None and row["score"] < DEFAULT_THRESHOLD:
        line += f", worst at {row['from_s']:.0f} to {row['to_s']:.0f} s of {row['seconds']:.0f}"
    return line + (f", seems to contain {row['contains']}" if row["contains"] else "")


def _usual_lines(usual: Mapping[str, Baseline], scored: Sequence[Scored]) -> list[str]:
    """What the scores are measured from, by instrument."""
    lines = []
    for name, found in usual.items():
        known = f"own share usually {found.centre:.1f} dB, spread {found.spread:.1f} dB"
        how = known if found.is_reliable else "too few stems to say what is usual, scored by themselves"
        lines.append(f"{name}: {how}; {count_below(scored, name)} of {found.stems} stems are below {DEFAULT_THRESHOLD:g}")
    return lines
