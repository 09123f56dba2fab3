"""Tables of stems: a written table reads back, and a malformed one is refused with the number of the line."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from my_submission.src.common.stem_table import TableError, is_utf8, match, read, write
from my_submission.src.training import DEFAULT_THRESHOLD

COLUMNS = ("track", "instrument", "score", "keep")


def test_a_written_table_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    undecodable = os.fsdecode(b"caf\xe9")  # a folder's name from another system
    rows = [
        {"track": 'Song, with "all" of it\nin two lines', "instrument": "bass", "score": 0.1234567, "keep": None},
        {"track": undecodable, "instrument": "vocals", "score": np.float32(-2), "keep": "yes", "more": "is left out"},
        {"track": "Þjóð", "instrument": "my own", "score": 3, "keep": ""},
    ]
    write(path, COLUMNS, rows)
    assert read(path, ("score", "track")) == [
        {"track": rows[0]["track"], "instrument": "bass", "score": "0.123457", "keep": ""},
        {"track": undecodable, "instrument": "vocals", "score": "-2", "keep": "yes"},
        {"track": "Þjóð", "instrument": "my own", "score": "3", "keep": ""},
    ]
    assert path.read_bytes().startswith(
        b'track,instrument,score,keep\r\n"Song, with ""all"" of it\nin two lines",bass,0.123457,\r\n'
    )
    assert list(tmp_path.iterdir()) == [path]
    assert DEFAULT_THRESHOLD == 0.0


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "audit.csv"
    path.write_bytes("\ufefftrack,score,instrument\r\nsong,1,bass\r\n\r\nsong,2,drums\r\n".encode())
    assert [(row["instrument"], row["score"]) for row in read(path, COLUMNS[:3])] == [("bass", "1"), ("drums", "2")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, ": cannot be read (No such file or directory); expected a CSV file with a row for each stem"),
        ("", ": no column track and no column instrument and no column score; expected a CSV file whose first line names "),
        ("track,instrument\n", ": no column score; expected a CSV file whose first line names track,instrument,score"),
        ("track;instrument;score\n", ": no column track and no column instrument and no column score; expected"),
        ("track,score,instrument,score\n", ": two columns 'score'; expected"),
        ("track,instrument,score\na,bass,1\nb,bass\n", ", line 3: 2 values, expected the header's 3; was it cut off, or saved"),
        ("track,instrument,score\na,bass,1,2\n", ", line 2: 4 values, expected the header's 3"),
        ("track,instrument,score\n,bass,1\n", ", line 2: no track or no instrument; fill it in, or delete the line"),
        (
            "track,instrument,score\na,bass,1\na,drums,1\n\na,bass,2\n",
            ", line 5: a/bass is there already, on line 2; delete one of them",
        ),
        ('track,instrument,score\na,"bass,1\n', ", line 2: is not CSV (unexpected end of data)"),
    ],
)
def test_a_malformed_table_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "audit.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TableError) as refusal:
        read(path, ("track", "instrument", "score"))
    assert str(refusal.value).startswith(f"{path}{message}")


def forms(name: str) -> tuple[str, str]:
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


TABLE = "track,instrument,score,keep\r\nMotörhead - Ace,bass,1,yes\r\n"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_table_in_utf_16_is_named_as_such(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_bytes(TABLE.encode(encoding))
    with pytest.raises(TableError) as refusal:
        read(tmp_path / "a.csv", COLUMNS)
    assert str(refusal.value) == f"{tmp_path}/a.csv: is not UTF-8: save it as CSV UTF-8 (it looks like UTF-16)"


def test_bytes_that_are_not_utf_8_are_read_in_names_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TABLE.encode("cp1252"))
    (row,) = read(path, COLUMNS)
    assert not is_utf8(row["track"])
    assert is_utf8("Motörhead", "\U0001f3b8")
    path.write_bytes(TABLE.replace("yes", "ös").encode("cp1252"))
    with pytest.raises(TableError, match=r"a\.csv, line 2: is not UTF-8: save it as CSV UTF-8$"):
        read(path, COLUMNS)
    path.write_bytes(TABLE.replace("score", "score,Größe").encode("cp1252"))
    with pytest.raises(TableError, match=r"a\.csv: is not UTF-8: save it as CSV UTF-8$"):
        read(path, COLUMNS)


def test_a_name_means_the_stem_of_that_name_or_of_the_same_accents() -> None:
    composed, decomposed = forms("Motörhead")
    undecodable = os.fsdecode("Motörhead".encode("cp1252"))
    bass, drums = (composed, "bass"), (decomposed, "drums")
    assert match([bass], [(decomposed, "bass")]) == {bass: (decomposed, "bass")}
    assert match([drums], [(composed, "drums")]) == {drums: (composed, "drums")}
    assert match([("a", forms("Chöre")[0])], [("a", forms("Chöre")[1])]) == {("a", forms("Chöre")[0]): ("a", forms("Chöre")[1])}
    assert match([bass], [bass, (decomposed, "bass")]) == {bass: bass}  # both exist: each means itself
    assert match([(undecodable, "bass")], [(undecodable, "bass")]) == {(undecodable, "bass"): (undecodable, "bass")}
    assert match([(undecodable, "bass"), bass], [bass]) == {bass: bass}
    assert match([("MOTÖRHEAD", "bass")], [bass]) == {}


def test_an_error_of_writing_leaves_the_old_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"nowhere/audit.csv: cannot be written \(No such file or directory\)"):
        write(tmp_path / "nowhere" / "audit.csv", COLUMNS, [])
    path = tmp_path / "audit.csv"
    path.write_text("before")
    with pytest.raises(KeyError):
        write(path, COLUMNS, [{"track": "song"}])
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems spell names in UTF-8 only")
def test_names_are_spelled_as_the_system_spells_them(run_python: Callable[..., object], tmp_path: Path) -> None:
    (tmp_path / "日本").mkdir()
    program = f"""
from pathlib import Path
from my_submission.src.common import stem_table
folder = Path({str(tmp_path)!r})
name = next(path.name for path in folder.iterdir() if path.is_dir())
stem_table.write(folder / "t.csv", ("track", "instrument"), [{{"track": name, "instrument": "bass"}}])
row, = stem_table.read(folder / "t.csv", ())
assert (folder / row["track"]).is_dir(), ascii(row)
"""
    result = run_python("-c", program, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "t.csv", ())[0]["track"] == "日本"
