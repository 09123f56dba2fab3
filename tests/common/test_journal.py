"""The journal of a long run: who may write it, and what killed processes leave of it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from my_submission.src.common.journal import HEADER, Journal, JournalError, is_blank
from tests.helpers.dead import leave_dead

SETTINGS = {"overlap": 8}


def test_a_journal_continues_ends_and_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for entries in ([], [{"track": "a"}]):
        with Journal(path, SETTINGS) as journal:
            assert journal.entries == entries
            journal.append({"track": "b" if entries else "a"})
    with Journal(path, SETTINGS) as journal:
        journal.finish()
    with Journal(path, SETTINGS) as journal:
        assert (journal.entries, journal.differences) == ([], [])
        journal.append({"track": "c"})
    with Journal(path, {"overlap": 2}) as journal:
        assert (journal.entries, journal.differences) == ([], ["overlap was 8, is 2"])
    assert path.read_text() == json.dumps({HEADER: {"overlap": 2}}) + "\n"


@pytest.mark.parametrize("settings", [SETTINGS, {"overlap": 2}])
def test_a_second_writer_is_refused_and_changes_nothing(tmp_path: Path, settings: dict[str, int]) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, SETTINGS) as journal:
        journal.append({"track": "a"})
        before = path.read_bytes()
        with pytest.raises(JournalError, match=r"^\S*run\.jsonl: another process is at work on it; wait until it has ended"):
            Journal(path, settings)
        assert path.read_bytes() == before
        journal.append({"track": "b"})
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == [{"track": "a"}, {"track": "b"}]


@pytest.mark.parametrize("settings", [SETTINGS, {"overlap": 2}])
def test_the_lock_holds_after_the_journal_started_again(tmp_path: Path, settings: dict[str, int]) -> None:
    path = tmp_path / "run.jsonl"
    with Journal(path, SETTINGS) as journal:
        journal.finish()
    with Journal(path, settings), pytest.raises(JournalError, match="another process"):
        Journal(path, settings)


def test_the_journal_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    child = os.fork()
    if child == 0:
        Journal(path, SETTINGS).append({"track": "a"})
        with path.open("a") as file:
            file.write('{"track": "half a li')
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    leave_dead(tmp_path)
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == [{"track": "a"}]
        assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]
        journal.append({"track": "b"})
    assert path.read_text().splitlines()[1:] == ['{"track": "a"}', '{"track": "b"}']


@pytest.mark.parametrize("length", [0, 1, 5, len(HEADER) + 4, -1])
def test_a_journal_without_a_whole_first_line_counts_as_none(tmp_path: Path, length: int) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(json.dumps({HEADER: SETTINGS})[:length])
    assert is_blank(path)
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == []
        assert not is_blank(path)
    assert path.read_text() == json.dumps({HEADER: SETTINGS}) + "\n"


@pytest.mark.parametrize("text", ["notes", '{"a": 1}\n', "\n", '[{"settings of this run": {}}]\n'])
def test_a_file_that_is_no_journal_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text(text)
    for _ in range(2):  # no lock is left behind
        with pytest.raises(JournalError, match="line 1 is not a line of a journal"):
            Journal(path, SETTINGS)
    assert path.read_text() == text


def test_a_journal_that_cannot_be_begun_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "_begin", lambda *_: fail(0))
    with pytest.raises(JournalError, match="No space left on device"):
        Journal(tmp_path / "run.jsonl", SETTINGS)
    assert list(tmp_path.iterdir()) == []
