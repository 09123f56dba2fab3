"""Tables of stems: CSV files with a header and one row per stem, for spreadsheets and for our commands.

    write(Path("audit.csv"), ("track", "instrument", "score"), [{"track": "song", "instrument": "bass", "score": 0.25}])
    read(Path("audit.csv"), ("track", "instrument", "score"))      # [{"track": "song", "instrument": "bass", "score": "0.25"}]

`track` is the name of a folder, and `instrument` is the name of a file in it without its suffix. Each pair stands in a table
once. The meaning of further columns is up to the caller.
"""

from __future__ import annotations

import csv
import numbers
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown

KEYS = ("track", "instrument")


class TableError(UserError):
    """A table of stems cannot be read or written."""


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows in the file's order: column -> text, further columns too.

    Raises TableError if the file cannot be read, or lacks track, instrument or one of `columns`. Also raises it, with the
    number of the line, for a row with more or fewer values than the header, a row without track or instrument, and a stem that
    an earlier row names.
    """
    lines: dict[tuple[str, str], int] = {}
    rows = []
    try:
        # -sig: spreadsheets begin UTF-8 with a byte order mark; surrogateescape: file names may be undecodable
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _refuse_header(path, header, [*KEYS, *(name for name in columns if name not in KEYS)])
            for values in filter(None, reader):  # skips empty lines
                if len(values) != len(header):
                    found = f"{len(values)} values, expected the header's {len(header)}"
                    raise TableError(
                        f"{path}, line {reader.line_num}: {found}; was it cut off, or saved with other separators?"
                    )
                row = dict(zip(header, values, strict=True))
                row |= {key: _as_file_name(row[key]) for key in KEYS}
                stem = (row["track"], row["instrument"])
                if not all(stem):
                    raise TableError(
                        f"{path}, line {reader.line_num}: no track or no instrument; fill it in, or delete the line"
                    )
                if stem in lines:
                    first = f"is there already, on line {lines[stem]}; delete one of them"
                    raise TableError(f"{path}, line {reader.line_num}: {shown(*stem)} {first}")
                lines[stem] = reader.line_num
                rows.append(row)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}); expected a CSV file with a row for each stem") from error
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: is not CSV ({error})") from error
    return rows


def _refuse_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Raise TableError if a column is missing or stands in the header twice."""
    expected = f"expected a CSV file whose first line names {','.join(columns)}"
    missing = [name for name in columns if name not in header]
    if missing:
        raise TableError(f"{path}: no column {' and no column '.join(missing)}; {expected}")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise TableError(f"{path}: two columns {twice!r}; {expected}, each once")


def write(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a header and the rows, atomically: floats with 6 digits, None as an empty cell.

    Args:
        path: the CSV file; an existing one is replaced.
        columns: names of the columns to write, in this order. Further keys of a row are left out.
        rows: column -> value.

    Raises TableError if the file cannot be written.
    """
    try:
        with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows([_text(row[name]) for name in columns] for row in rows)
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror})") from error


def _as_file_name(text: str) -> str:
    """Return a name of a table, which is in UTF-8, as the system spells it in its own encoding."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape")) if sys.getfilesystemencoding() != "utf-8" else text


def _text(value: object) -> str:
    """Return the text of a cell."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) else str(value)
