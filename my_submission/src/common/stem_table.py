"""Tables of stems: CSV files with a header and one row per stem, for spreadsheets and for our commands.

    write(Path("audit.csv"), ("track", "instrument", "score"), [{"track": "song", "instrument": "bass", "score": 0.25}])
    read(Path("audit.csv"), ("track", "instrument", "score"))      # [{"track": "song", "instrument": "bass", "score": "0.25"}]

`track` is the name of a folder, and `instrument` is the name of a file in it without its suffix. Each pair stands in a table
once. The meaning of further columns is up to the caller.

Tables are UTF-8. A name that no encoding explains, which a file system may hold, is written as the bytes that it has. Therefore
bytes that are not UTF-8 are read back in these two columns, as surrogates, and `match` accepts them only as the name of a stem
that exists. `match` also takes composed and decomposed accents for the same, because macOS and spreadsheets differ in them.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import numbers
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown

KEYS = ("track", "instrument")
SAVE_AGAIN = "is not UTF-8: save it as CSV UTF-8"

Key = tuple[str, str]  # track and instrument of a stem


class TableError(UserError):
    """A table of stems cannot be read or written."""


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows in the file's order: column -> text, further columns too.

    Raises TableError if the file cannot be read, or lacks track, instrument or one of `columns`. Also raises it, with the
    number of the line, for a row with more or fewer values than the header, a row without track or instrument, a stem that an
    earlier row names, and a value that is not UTF-8 in another column than these two.
    """
    lines: dict[Key, int] = {}
    rows = []
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        header = next(reader, [])
        _refuse_header(path, header, [*KEYS, *(name for name in columns if name not in KEYS)])
        for values in filter(None, reader):  # skips empty lines
            where = f"{path}, line {reader.line_num}"
            if len(values) != len(header):
                found = f"{len(values)} values, expected the header's {len(header)}"
                raise TableError(f"{where}: {found}; was it cut off, or saved with other separators?")
            row = dict(zip(header, values, strict=True))
            if not is_utf8(*(row[name] for name in header if name not in KEYS)):
                raise TableError(f"{where}: {SAVE_AGAIN}")
            row |= {key: _as_file_name(row[key]) for key in KEYS}
            stem = (row["track"], row["instrument"])
            if not all(stem):
                raise TableError(f"{where}: no track or no instrument; fill it in, or delete the line")
            if stem in lines:
                raise TableError(f"{where}: {shown(*stem)} is there already, on line {lines[stem]}; delete one of them")
            lines[stem] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: is not CSV ({error})") from error
    return rows


def _read_text(path: Path) -> str:
    """Return the content of a table; bytes that are not UTF-8 become surrogates. Raises TableError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror}); expected a CSV file with a row for each stem") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:1024]:
        raise TableError(f"{path}: {SAVE_AGAIN} (it looks like UTF-16)")
    return content.decode("utf-8-sig", "surrogateescape")  # -sig: spreadsheets begin UTF-8 with a byte order mark


def is_utf8(*texts: str) -> bool:
    """Return whether texts that were read hold no bytes that are not UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for text in texts for letter in text)


def match(named: Iterable[Key], stems: Iterable[Key]) -> dict[Key, Key]:
    """Return the stem that each name of a table means; names that mean none are left out.

    A name means the stem of the same name, or else the one that differs from it in the form of its accents alone.
    """
    names, existing = list(named), set(stems)
    by_form: dict[Key, list[Key]] = {}
    for stem in existing - set(names):
        by_form.setdefault(_composed(stem), []).append(stem)
    meant = {name: [name] if name in existing else by_form.get(_composed(name), []) for name in names}
    return {name: found[0] for name, found in meant.items() if len(found) == 1}


def _composed(stem: Key) -> Key:
    track, instrument = (unicodedata.normalize("NFC", part) for part in stem)
    return track, instrument


def _refuse_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    """Raise TableError if a column is missing or stands in the header twice."""
    expected = f"expected a CSV file whose first line names {','.join(columns)}"
    missing = [name for name in columns if name not in header]
    if missing:
        raise TableError(f"{path}: no column {' and no column '.join(missing)}; {expected}")
    if not is_utf8(*header):
        raise TableError(f"{path}: {SAVE_AGAIN}")
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


def rewrite(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> bool:
    """Write a table unless it is there with the same rows already; return whether it was written. Raises TableError."""
    if path.exists():
        with contextlib.suppress(TableError):
            former = read(path, columns)
            if former == [{name: _text(row[name]) for name in columns} for row in rows]:
                return False
    write(path, columns, rows)
    return True


def _as_file_name(text: str) -> str:
    """Return a name of a table, which is in UTF-8, as the system spells it in its own encoding."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape")) if sys.getfilesystemencoding() != "utf-8" else text


def _text(value: object) -> str:
    """Return the text of a cell."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) else str(value)
