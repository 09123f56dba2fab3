"""The table of an audit: write it with a person's marks, and read the marks of the table that it replaces."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from my_submission.src.audit import AuditError
from my_submission.src.audit.stem_score import COLUMNS, StemScore
from my_submission.src.common import stem_table
from my_submission.src.common.text import shown, some

Key = tuple[str, str]  # track and instrument of a stem
Marks = dict[Key, str]  # stem -> yes or no


def read_marks(out: Path) -> Marks:
    """Return the marks in the table that will be replaced. Raises AuditError."""
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


def marks_of(stems: Sequence[Key], marks: Marks, out: Path) -> Marks:
    """Return the marks by stem. Refuse to replace a table if a marked stem is not in the new one."""
    meant = stem_table.match(marks, stems)
    lost = [shown(*stem) for stem in sorted(marks.keys() - meant.keys())]
    odd = [shown(*stem) for stem in marks if stem not in meant and not stem_table.is_utf8(*stem)]
    if odd:
        raise AuditError(f"{out}: {stem_table.SAVE_AGAIN} (it names {odd[0]}, which is not audited now)")
    if lost:
        raise AuditError(f"{out}: holds marks of stems that are not audited now ({some(lost)}); move it, or name another --out")
    return {stem: marks[name] for name, stem in meant.items()}


def write_table(out: Path, scores: Sequence[StemScore], marks: Marks) -> list[StemScore]:
    """Write the table with the marks of the one it replaces; return the scores with these marks. Raises TableError."""
    marked = [dataclasses.replace(stem, keep=marks.get(stem.key, "")) for stem in scores]
    stem_table.rewrite(out, COLUMNS, [stem.row() for stem in marked])
    if marks:
        print(f"{len(marks)} marks of the former table are kept")
    print(f"table: {shown(out)}", flush=True)
    return marked
