"""Printing ends no command with a traceback: names that cannot be printed, readers that have gone, full and closed outputs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from my_submission.src.common.streams import guarded_streams
from my_submission.src.common.text import escaped, shown
from tests.helpers.paths import ROOT

NAMES = ["plain", "日本", "caf\udce9", "esc\x1b[31m", "new\nline", "\u202eright to left"]
PROGRAM = """
import os, sys, time
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError

def main(argv):
    for number in range(3):
        print("line", number, "日本 caf\\udce9")
        time.sleep(float(os.environ["PAUSE"]))
    sys.stdout.flush()
    raise UserError("b\\x1b[31m caf\\udce9 日本: is cut off")

sys.exit(cli.run(main))
"""


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_on_one_line_without_control_characters(name: str) -> None:
    assert shown(name).isprintable()
    assert shown("plain", name) == (f"plain/{name}" if name.isprintable() else repr(f"plain/{name}"))
    assert escaped(f"{name}: is cut off\nfetch it again").replace("\n", "").isprintable()
    assert escaped("日本: is cut off\nfetch it again") == "日本: is cut off\nfetch it again"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "ascii", "utf-8"])
def test_a_name_that_the_output_cannot_print_is_escaped(
    run_python: Callable[..., subprocess.CompletedProcess], encoding: str
) -> None:
    result = run_python("-c", PROGRAM, PYTHONIOENCODING=encoding, PYTHONUTF8="0", PAUSE="0")
    assert result.returncode == 2
    assert "caf\\udce9" in result.stdout
    assert ("日本" if encoding == "utf-8" else "\\u65e5\\u672c") in result.stdout
    assert result.stderr.startswith("error: b\\x1b[31m caf\\udce9 ")
    assert len(result.stderr.splitlines()) == 1


def shell(command: str, pause: str = "0") -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which $P is the program above; its status is that of the first command of a pipe."""
    environment = {**os.environ, "PYTHON": sys.executable, "P": PROGRAM, "PAUSE": pause}
    line = f"{command}; exit ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("redirection", "status", "printed", "said"),
    [
        ("| head -n 1", 141, ["line 0 "], []),
        ("2>&1 | head -n 1", 141, ["line 0 "], []),
        ("> /dev/full", 2, [], ["error: standard output cannot be written (No space left on device)"]),
        (">&-", 2, [], ["error: b"]),
        ("2>&-", 2, ["line 0 ", "line 1 ", "line 2 "], []),
        ("> /dev/full 2> /dev/full", 2, [], []),
        (">&- 2>&- <&-", 2, [], []),
    ],
)
def test_an_output_that_cannot_be_written_ends_quietly(
    redirection: str, status: int, printed: list[str], said: list[str]
) -> None:
    result = shell(f'"$PYTHON" -c "$P" {redirection}', pause="0.3" if "head" in redirection else "0")
    for found, expected in ((result.stdout, printed), (result.stderr, said)):
        lines = found.splitlines()
        assert len(lines) == len(expected), found
        assert all(line.startswith(start) for line, start in zip(lines, expected, strict=True)), found
    assert result.returncode == status


def test_help_into_a_full_disk_is_no_traceback() -> None:
    for verb in ("", "separate --help"):
        result = shell(f'"$PYTHON" -m my_submission {verb} > /dev/full')
        assert result.returncode == 2
        assert result.stderr == "error: standard output cannot be written (No space left on device)\n"


def test_a_process_without_streams_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with guarded_streams():
        print("nothing")
        sys.stdout.flush()
        print("nothing", file=sys.stderr, flush=True)
    assert sys.stdout is None


def test_a_failed_flush_at_the_end_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    stream = Full()
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as left, guarded_streams():
        print("lost")
    assert left.value.code == 2
    assert sys.stdout is stream


def test_no_file_takes_the_place_of_a_closed_stream() -> None:
    program = """
import os, sys
from my_submission.src.common import cli
sys.exit(cli.run(lambda argv: 0 if os.open(os.devnull, os.O_RDONLY) > 2 else 1))
"""
    environment = {**os.environ, "PYTHON": sys.executable, "P": program}
    line = '"$PYTHON" -c "$P" <&- >&- 2>&-'
    assert subprocess.run(["bash", "-c", line], cwd=ROOT, env=environment, check=False).returncode == 0
