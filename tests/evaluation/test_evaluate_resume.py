"""evaluate_locally.py: how it continues after an interruption, and when it starts again."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import pytest

import evaluate_locally
from my_submission.src import audio
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from tests.helpers.evaluation import cut_off, evaluate, make_track, scores
from tests.helpers.paths import ROOT

DIES_IN_THE_MIDDLE_OF_C = """
import os, signal, sys
import evaluate_locally
from my_submission.src import audio

write = audio.write

def write_and_die(path, *rest):
    write(path, *rest)
    if (path.parent.name, path.name) == ("c", "drums.wav"):
        os.kill(os.getpid(), signal.SIGKILL)

audio.write = write_and_die
evaluate_locally.main(sys.argv[1:])
"""


def test_a_killed_evaluation_continues_where_it_stopped(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    for index, track in enumerate("abcd"):
        make_track(tmp_path / "data" / track, 1000 + index)
    options = ["--model", str(small_model), "--overlap", "2", "--device", "cpu", "--data", str(tmp_path / "data")]
    killed = [*options, "--out", str(tmp_path / "out"), "--csv", str(tmp_path / "killed.csv")]
    screen, terminal = pty.openpty()  # standard error is a terminal here, so that the bars are drawn
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", DIES_IN_THE_MIDDLE_OF_C, *killed],
        cwd=ROOT,
        stderr=terminal,
        env={**os.environ, "TQDM_MININTERVAL": "0"},  # every step is drawn
    )
    os.close(terminal)
    drawn = b""
    try:
        while piece := os.read(screen, 1 << 16):
            drawn += piece
    except OSError:  # Linux raises this when the other end of a terminal is closed
        pass
    os.close(screen)
    assert process.wait(60) == -9, drawn.decode()
    assert b"tracks:  50%" in drawn
    assert re.search(rb"this track +[1-9]\d*% ", drawn)
    assert not (tmp_path / "killed.csv").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "c").iterdir()) == ["bass.wav", "drums.wav"]  # half separated

    with (tmp_path / "out" / "evaluation.jsonl").open("a") as file:
        file.write('{"track": "c", "secon')  # as if it had been killed in the middle of this line
    written = []
    write = audio.write
    monkeypatch.setattr(audio, "write", lambda path, *rest: (written.append(path.parent.name), write(path, *rest)))
    capfd.readouterr()
    assert evaluate_locally.main(killed) == 0
    assert "going on where the last evaluation stopped: 2 of 4 tracks are done" in capfd.readouterr().out
    assert written == ["c"] * 4 + ["d"] * 4
    entries = [json.loads(line) for line in (tmp_path / "out" / "evaluation.jsonl").read_text().splitlines()]
    assert [entry["track"] for entry in entries[1:-1]] == ["a", "b", "c", "d"]
    assert evaluate_locally.main([*options, "--out", str(tmp_path / "whole"), "--csv", str(tmp_path / "whole.csv")]) == 0
    assert len(scores(tmp_path / "whole.csv")) == 17
    assert scores(tmp_path / "killed.csv") == scores(tmp_path / "whole.csv")


def test_an_interrupt_keeps_the_journal(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(path: Path, *rest: object) -> None:
        if path.parent.name == "b":
            raise KeyboardInterrupt
        write(path, *rest)

    write = audio.write
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # cli.run replaces it and does not restore it
    monkeypatch.setattr(audio, "write", interrupt)
    for index, track in enumerate("ab"):
        make_track(tmp_path / "data" / track, 1000 + index)
    assert cli.run(lambda argv: evaluate(tmp_path, *argv), []) == 130
    monkeypatch.setattr(audio, "write", write)
    assert evaluate(tmp_path) == 0
    assert sizes == [1000, 1001, 1001]
    assert "going on" in capsys.readouterr().out


def test_a_finished_evaluation_starts_again(tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture) -> None:
    make_track(tmp_path / "data" / "a")
    assert evaluate(tmp_path) == evaluate(tmp_path) == 0
    assert sizes == [2000, 2000]
    assert "going on" not in capsys.readouterr().out


def test_failed_tracks_are_tried_again(tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture) -> None:
    make_track(tmp_path / "data" / "a", 1000)
    cut_off(make_track(tmp_path / "data" / "b", 1001) / "mixture.wav")
    assert evaluate(tmp_path, "--csv", tmp_path / "s.csv") == 1
    make_track(tmp_path / "data" / "b", 1001)
    assert evaluate(tmp_path, "--csv", tmp_path / "s.csv") == 0
    assert sizes == [1000, 1001]
    assert [row[0] for row in scores(tmp_path / "s.csv")[1:]] == ["a"] * 4 + ["b"] * 4
    assert "failed" not in capsys.readouterr().out.split("going on")[1]


def test_tracks_that_changed_are_done_again(tmp_path: Path, sizes: list[int]) -> None:
    for index, track in enumerate("abc"):
        make_track(tmp_path / "data" / track, 1000 + index)
    (tmp_path / "data" / "z").mkdir()  # fails, so that the evaluation is not finished
    assert evaluate(tmp_path) == 1
    make_track(tmp_path / "data" / "a", 1500)
    (tmp_path / "out" / "b" / "other.wav").unlink()
    assert evaluate(tmp_path) == 1
    assert sizes == [1000, 1001, 1002, 1500, 1001]


def test_other_settings_start_again_and_are_named(
    tmp_path: Path, small_model: Path, capsys: pytest.CaptureFixture, sizes: list[int]
) -> None:
    make_track(tmp_path / "data" / "a", 500)
    (tmp_path / "data" / "z").mkdir()
    options = ["--model", small_model, "--device", "cpu", "--overlap"]
    assert evaluate(tmp_path, *options, 1, "--batch-size", 1) == 1
    assert evaluate(tmp_path, *options, 1, "--batch-size", 3) == 1
    assert "going on" in capsys.readouterr().out
    assert evaluate(tmp_path, *options, 2) == 1
    assert "starting again: overlap was 1, is 2\n" in capsys.readouterr().out
    shutil.copy(small_model / "step100000_seed0.ckpt", small_model / "step100000_seed1.ckpt")
    assert evaluate(tmp_path, *options, 2, "--seeds", "0,1") == 1
    told = capsys.readouterr().out
    assert "starting again: step100000_seed1.ckpt was " in told
    assert "step100000_seed2.ckpt was " in told
    assert "going on" not in told


def test_a_file_that_is_no_journal_is_refused_and_left_untouched(tmp_path: Path, sizes: list[int]) -> None:
    make_track(tmp_path / "data" / "a")
    journal = tmp_path / "out" / "evaluation.jsonl"
    journal.parent.mkdir()
    header = json.dumps({"settings of this run": {}})
    for text, number in (("precious\n", 1), ("precious", 1), ('{"a": 1}\n', 1), (f"{header}\n[]\n", 2)):
        journal.write_text(text)
        with pytest.raises(UserError, match=f"evaluation.jsonl: line {number} is not a line of a journal; delete the file"):
            evaluate(tmp_path)
        assert journal.read_text() == text
    assert sizes == []
