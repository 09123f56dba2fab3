"""The page of an audit's worst stems. Each is separated once more, so that it can be compared with its outputs, and marked.

    write_page(Path("page.html"), audited, 20, separator, embed=False)

The page can save the table with the marks. It holds the table's bytes, cut at the places where the marks go.
"""

from __future__ import annotations

import base64
import csv
import io
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.audit import page_markup as markup
from my_submission.src.audit.baseline import Baseline
from my_submission.src.audit.stem_score import COLUMNS, StemScore, count_below
from my_submission.src.audit.stems import Stem
from my_submission.src.common import cli, stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.report.lanes import Lane, slug, write_lanes

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator


@dataclass(frozen=True)
class Audited:
    """The results of an audit."""

    data: Sequence[Path]  # folders of tracks
    stems: Mapping[tuple[str, str], Stem]  # by track and instrument
    scores: Sequence[StemScore]  # with their marks, the worst first
    baselines: Mapping[str, Baseline]  # by instrument
    table: Path  # already written
    facts: Mapping[str, object]  # the settings, for the end of the page
    failed: Mapping[str, str]  # name of a stem -> reason


def write_page(path: Path, audited: Audited, suspects: int, separator_of: Callable[[str], BaseSeparator], embed: bool) -> None:
    """Write the page and its folder of files, in constant memory.

    Args:
        path: the page to write.
        audited: the results to show.
        suspects: number of stems on the page, the worst that have a score.
        separator_of: returns the model of a track; a stem that it can no longer separate is listed on the page among those
            that failed.
        embed: whether to put the audio into the page itself. It is then a single file, but a large one.

    Raises ReportError, and leaves an existing page as it was.
    """
    worst = [stem for stem in audited.scores if stem.score is not None][:suspects]

    def make(files: Path) -> str:
        failed = dict(audited.failed)
        shown: list[markup.Suspect] = []
        with tqdm(total=3 * len(worst), desc="page", unit="lane", leave=False, disable=None) as bar:
            for number, score in enumerate(worst, 1):
                try:
                    file = AudioFile(audited.stems[score.key].path)
                    lanes = _write_lanes(
                        score, file, separator_of(score.track), files, f"{number:03d}_{slug('_'.join(score.key))}", bar
                    )
                    shown.append(markup.Suspect(score, file.seconds, file.sample_rate, lanes))
                except UserError as error:
                    failed[score.name] = str(error)
        rows = stem_table.read(audited.table, COLUMNS)
        pieces = cut_table(rows, [suspect.score.key for suspect in shown])
        return markup.page(
            title=f"Audit of {', '.join(map(str, audited.data))}",
            suspects=shown,
            groups=[
                markup.Group(name, baseline, count_below(audited.scores, name)) for name, baseline in audited.baselines.items()
            ],
            table=markup.Table(audited.table.name, [base64.b64encode(piece).decode("ascii") for piece in pieces]),
            failed=failed,
            facts=audited.facts,
        )

    report.write_with_files(path, make, embed)


def _write_lanes(score: StemScore, file: AudioFile, separator: BaseSeparator, files: Path, below: str, bar: tqdm) -> list[Lane]:
    """Write the lanes of a stem into `files`/`below`: the stem, its own output, and the output it seems to contain.

    If it seems to contain nothing else, the third lane is the loudest other output.
    """
    names = [score.instrument, score.contains or score.loudest]
    places = [separator.source_order.index(name) for name in names]
    separated, form = files / "separated", (file.sample_rate, file.channels, file.num_samples, "wav", "FLOAT")
    try:
        with cli.seconds_bar(separator, file.seconds, score.name, position=1), StemWriter(separated, names, *form) as writer:
            for block in separator.separate(file, share_residual=False):
                writer.write(block[places])
        lanes = {("stem", score.instrument): file.path}
        lanes |= {("estimate", name): separated / f"{name}.wav" for name in names}
        return write_lanes([lanes], file.seconds, files, below, bar.update)
    except UserError:
        shutil.rmtree(files / below, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(separated, ignore_errors=True)


def cut_table(rows: Sequence[Mapping[str, str]], marked: Collection[tuple[str, str]]) -> list[bytes]:
    """Return the table as bytes, cut where the marks of some stems go (track, instrument), in the order of its rows."""
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
