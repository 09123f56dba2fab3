"""The page of an audit's worst stems: each is separated once more, to be heard beside what came of it, and can be marked.

    write_page(Path("page.html"), audited, audited.scored[:20], separator, embed=False)

The page saves the table with the marks. It does not make that table, it has it inside: its bytes, cut where the marks go.
"""

from __future__ import annotations

import base64
import csv
import io
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.audit import COLUMNS
from my_submission.src.audit import page_markup as markup
from my_submission.src.audit.scoring import Baseline, Scored, count_below
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.report.lanes import Lane, slug, write_lanes

if TYPE_CHECKING:
    from my_submission.src.separator import Separator


@dataclass(frozen=True)
class Audited:
    """What came of an audit."""

    data: Sequence[Path]
    scored: Sequence[Scored]  # the worst first
    usual: Mapping[str, Baseline]  # by instrument
    table: Path
    rows: Sequence[Mapping[str, str]]  # of the table
    facts: Mapping[str, object]
    failed: Mapping[str, str]  # name of a stem -> why


def write_page(path: Path, audited: Audited, worst: Sequence[Scored], separator: Separator, embed: bool) -> None:
    """Write the page of `worst`, in the order of the table, and its folder of files, in constant memory.

    Raises ReportError, what was there before being left as it was. A stem that cannot be separated any more is on the page
    among those that failed.
    """
    marks = {(row["track"], row["instrument"]): row["keep"] for row in audited.rows}

    def make(files: Path) -> str:
        failed, shown = dict(audited.failed), {}
        with tqdm(total=3 * len(worst), desc="page", unit="lane", leave=False, disable=None) as bar:
            for number, scored in enumerate(worst, 1):
                stem = (scored.stem.track, scored.stem.instrument)
                try:
                    lanes = _write_lanes(scored, separator, files, f"{number:03d}_{slug('_'.join(stem))}", bar)
                    shown[stem] = _suspect(scored, lanes, marks[stem])
                except UserError as error:
                    failed[scored.stem.name] = str(error)
        pieces = [base64.b64encode(piece).decode("ascii") for piece in cut_table(audited.rows, shown)]
        return markup.page(
            title=f"Audit of {', '.join(map(str, audited.data))}",
            suspects=list(shown.values()),
            groups=_groups(audited),
            table=markup.Table(audited.table.name, pieces),
            failed=failed,
            facts=audited.facts,
        )

    report.write_with_files(path, make, embed)


def _write_lanes(scored: Scored, separator: Separator, files: Path, below: str, bar: tqdm) -> list[Lane]:
    """Write the lanes of a stem into `files`/`below`: the stem, its own output, and that of what else is heard in it."""
    stem, file = scored.stem, AudioFile(scored.stem.path)
    names = [stem.instrument, scored.contains or scored.loudest]
    places = [separator.source_order.index(name) for name in names]
    separated, form = files / "separated", (file.sample_rate, file.channels, file.num_samples, "wav", "FLOAT")
    try:
        with cli.seconds_bar(separator, file.seconds, stem.name, position=1), StemWriter(separated, names, *form) as writer:
            for block in separator.separate(file, share_residual=False):
                writer.write(block[places])
        lanes = {("stem", stem.instrument): stem.path}
        lanes |= {("estimate", name): separated / f"{name}.wav" for name in names}
        return write_lanes([lanes], file.seconds, files, below, bar.update)
    except UserError:
        shutil.rmtree(files / below, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(separated, ignore_errors=True)


def _suspect(scored: Scored, lanes: Sequence[Lane], mark: str) -> markup.Suspect:
    return markup.Suspect(
        scored.stem.track,
        scored.stem.instrument,
        score=scored.score,
        self_sdr=scored.self_sdr,
        margin=scored.margin,
        worst=scored.worst,
        contains=scored.contains,
        windows=scored.windows,
        seconds=scored.seconds,
        sample_rate=AudioFile(scored.stem.path).sample_rate,
        lanes=lanes,
        mark=mark,
    )


def _groups(audited: Audited) -> list[markup.Group]:
    """The instruments, and what is usual for each."""
    groups = []
    for name, usual in audited.usual.items():
        known = (usual.centre, usual.spread) if usual.is_reliable else (None, None)
        groups.append(markup.Group(name, usual.stems, count_below(audited.scored, name), *known))
    return groups


def cut_table(rows: Sequence[Mapping[str, str]], marked: Collection[tuple[str, str]]) -> list[bytes]:
    """The table as bytes, cut where the marks of some stems go (track, instrument), in the order of its rows."""
    pieces = []
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        values = [row[name] for name in COLUMNS]
        if (row["track"], row["instrument"]) not in marked:
            writer.writerow(values)
            continue
        writer.writerow([*values[:-1], ""])  # keep is the last column
        pieces.append(out.getvalue().removesuffix("\r\n"))
        out = io.StringIO("\r\n", newline="")
        out.seek(0, io.SEEK_END)
        writer = csv.writer(out)
    return [piece.encode("utf-8", "surrogateescape") for piece in (*pieces, out.getvalue())]
