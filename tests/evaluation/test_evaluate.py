"""evaluate_locally.py: what it prints and writes, what it goes on with, what it refuses."""

from __future__ import annotations

import csv
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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate_locally
from my_submission import user_config
from my_submission.src import audio
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from tests.helpers.paths import GOLDEN, ROOT

INSTRUMENTS = ("bass", "drums", "other", "vocals")


class PlainModel:
    """What the contract asks of a model, and no more: every instrument is a quarter of the mixture."""

    instruments = INSTRUMENTS
    sizes: list[int]  # of the mixtures it was given

    def separate_music_file(self, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        self.sizes.append(len(mixture))
        return dict.fromkeys(INSTRUMENTS, mixture / 4), dict.fromkeys(INSTRUMENTS, sample_rate)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The plain model becomes user_config's; gives the list of the mixtures' sizes that it has been given."""
    monkeypatch.delenv("AICROWD_DATASET_DIR", raising=False)
    monkeypatch.delenv("AICROWD_PUBLIC_SHARED_DIR", raising=False)
    monkeypatch.setattr(PlainModel, "sizes", [], raising=False)
    monkeypatch.setattr(user_config, "MySeparationModel", PlainModel)
    return PlainModel.sizes


def make_track(folder: Path, samples: int = 2000, stems: tuple[str, ...] = INSTRUMENTS) -> Path:
    """A track whose mixture is the sum of four noises, those in `stems` being written."""
    folder.mkdir(parents=True, exist_ok=True)
    noises = 0.1 * np.random.default_rng(samples).standard_normal((4, samples, 2))
    soundfile.write(folder / "mixture.wav", noises.sum(0), 44100)
    for name, noise in zip(INSTRUMENTS, noises, strict=True):
        if name in stems:
            soundfile.write(folder / f"{name}.wav", noise, 44100)
    return folder


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def evaluate(tmp_path: Path, *more: object) -> int:
    return evaluate_locally.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *map(str, more)])


def scores(path: Path) -> list[list[str]]:
    """The columns of a CSV that do not depend on the clock."""
    with path.open(newline="") as file:
        return [row[:4] for row in csv.reader(file)]


def sdr(reference: Path, estimate: Path) -> float:
    truth, found = soundfile.read(reference)[0], soundfile.read(estimate)[0]
    return 10 * np.log10(((truth**2).sum() + 1e-7) / (((truth - found) ** 2).sum() + 1e-7))


def test_the_command_from_another_folder(tmp_path: Path, small_model: Path, run_python: Callable) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    odd = 'a, "quoted"\nname'
    make_track(data / odd)
    make_track(data / "b", 1500)
    make_track(data / "no references", 900, ())
    make_track(data / "partly", 800, ("bass", "vocals"))
    make_track(data / ".hidden")
    cut_off(make_track(data / "truncated") / "mixture.wav")
    (data / "without").mkdir()
    (data / "notes.txt").write_text("no track")
    program = [ROOT / "evaluate_locally.py", "--model", "small_model", "--data", "data", "--out", "out", "--csv", "s.csv"]
    done = run_python(*program, "--overlap", 2, "--seeds", "0,2", cwd=tmp_path, AICROWD_DATASET_DIR="")

    assert done.returncode == 1
    expected = {
        name: [sdr(data / track / f"{name}.wav", out / track / f"{name}.wav") for track in (odd, "b")] for name in INSTRUMENTS
    }
    lines = done.stdout.splitlines()
    report = lines[lines.index("Evaluation Results") + 1 :]
    means = {name: np.mean(values) for name, values in expected.items()}
    assert [line.split(": ")[0] for line in report[:5]] == [f"sdr_{name}" for name in INSTRUMENTS] + ["mean_sdr"]
    printed = [float(line.split(": ")[1]) for line in report[:5]]
    np.testing.assert_allclose(printed, [*means.values(), np.mean(list(means.values()))], atol=1e-3)
    assert report[5] == "tracks: 2 scored, 2 separated and not scored, 2 failed"
    assert report[6] == "not scored: partly: no drums.wav, other.wav"
    assert report[7].startswith("real-time factor: ")
    assert report[7].endswith(f"s of separation for {5200 / 44100:.1f} s of audio)")
    assert "the limit of 1.57 x" in report[8]
    assert "failed: truncated: " + str(Path("data/truncated/mixture.wav")) + ": is cut off" in done.stderr
    assert "failed: without: " + str(Path("data/without/mixture.wav")) + ": no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith(("'a, \"quoted\"\\nname': bass ", "b: bass ")) for line in lines) == 2  # a line per track

    rows = scores(tmp_path / "s.csv")
    assert rows[0] == ["track", "instrument", "sdr", "track_seconds"]
    assert [row[:2] for row in rows[1:]] == [[t, name] for t in (odd, "b", "no references", "partly") for name in INSTRUMENTS]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:9]], np.transpose(list(expected.values())).ravel(), atol=1e-3)
    assert {row[2] for row in rows[9:]} == {""}
    assert {row[3] for row in rows[5:9]} == {f"{1500 / 44100:.6f}"}
    assert not list(tmp_path.rglob("*.partial"))


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


def test_a_killed_evaluation_goes_on_where_it_stopped(
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
    except OSError:  # how Linux says that the other end of a terminal is gone
        pass
    os.close(screen)
    assert process.wait(60) == -9, drawn.decode()
    assert b"tracks:  50%" in drawn
    assert re.search(rb"this track +[1-9]\d*% ", drawn)
    assert not (tmp_path / "killed.csv").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "c").iterdir()) == ["bass.wav", "drums.wav"]  # half separated

    with (tmp_path / "out" / "evaluation.jsonl").open("a") as file:
        file.write('{"track": "c", "secon')  # as if it had died while it wrote this
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
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # cli.run sets it for good
    monkeypatch.setattr(audio, "write", interrupt)
    for index, track in enumerate("ab"):
        make_track(tmp_path / "data" / track, 1000 + index)
    assert cli.run(lambda argv: evaluate(tmp_path, *argv), []) == 130
    monkeypatch.setattr(audio, "write", write)
    assert evaluate(tmp_path) == 0
    assert sizes == [1000, 1001, 1001]
    assert "going on" in capsys.readouterr().out


def test_a_finished_evaluation_begins_anew(tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture) -> None:
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


def test_other_settings_begin_anew_and_are_named(
    tmp_path: Path, small_model: Path, capsys: pytest.CaptureFixture, sizes: list[int]
) -> None:
    make_track(tmp_path / "data" / "a", 500)
    (tmp_path / "data" / "z").mkdir()
    options = ["--model", small_model, "--device", "cpu", "--overlap"]
    assert evaluate(tmp_path, *options, 1, "--batch-size", 1) == 1
    assert evaluate(tmp_path, *options, 1, "--batch-size", 3) == 1
    assert "going on" in capsys.readouterr().out
    assert evaluate(tmp_path, *options, 2) == 1
    assert "beginning anew: overlap was 1, is 2\n" in capsys.readouterr().out
    shutil.copy(small_model / "step100000_seed0.ckpt", small_model / "step100000_seed1.ckpt")
    assert evaluate(tmp_path, *options, 2, "--seeds", "0,1") == 1
    told = capsys.readouterr().out
    assert "beginning anew: step100000_seed1.ckpt was " in told
    assert "step100000_seed2.ckpt was " in told
    assert "going on" not in told


def test_a_file_that_is_no_journal_is_refused_and_left(tmp_path: Path, sizes: list[int]) -> None:
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


def test_without_references_nothing_is_scored(tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture) -> None:
    make_track(tmp_path / "data" / "a", stems=())
    assert evaluate(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "a: not scored, no reference stems; " in printed
    assert "nothing was scored: no track that was separated has all four reference stems" in printed
    assert "sdr_" not in printed
    assert "real-time factor: " in printed
    assert len(list((tmp_path / "out" / "a").iterdir())) == 4


def test_a_failing_track_costs_no_other_and_leaves_no_old_stems(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for index, track in enumerate("abcd"):
        make_track(tmp_path / "data" / track, 1000 + index)
    assert evaluate(tmp_path) == 0
    make_track(tmp_path / "data" / "a", 1100, ("bass",))  # the other references are of another length now
    soundfile.write(tmp_path / "data" / "b" / "vocals.wav", np.zeros((1001, 2)), 22050)
    separate = PlainModel.separate_music_file

    def fail_on_c(self: PlainModel, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        return separate(self, mixture, sample_rate) if len(mixture) != 1002 else {}["chorus"]

    monkeypatch.setattr(PlainModel, "separate_music_file", fail_on_c)
    capsys.readouterr()
    assert evaluate(tmp_path) == 1
    printed = capsys.readouterr()
    assert "drums.wav: the estimate has shape [1100, 2], expected the reference's [1000, 2]; is it a stem of" in printed.err
    assert "vocals.wav: the estimate has 44100 Hz, expected the reference's 22050 Hz" in printed.err
    assert "failed: c: KeyError: 'chorus'" in printed.err
    assert "fail_on_c" in printed.err  # a model of the user's own: where it failed
    assert "tracks: 1 scored, 0 separated and not scored, 3 failed" in printed.out
    assert list((tmp_path / "out" / "c").iterdir()) == []


def test_the_environment_names_the_folders(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_track(tmp_path / "elsewhere" / "a")
    monkeypatch.setenv("AICROWD_DATASET_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("AICROWD_PUBLIC_SHARED_DIR", str(tmp_path / "shared"))
    assert evaluate_locally.main([]) == 0
    assert len(list((tmp_path / "shared" / "predictions" / "a").iterdir())) == 4
    for option in ("--data", "--out"):
        with pytest.raises(UserError, match=rf"{option} else: AICROWD_\w+ is set too, to .*; unset it, or leave {option} out"):
            evaluate_locally.main([option, "else"])


def test_without_options_the_kits_folders_are_used(tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_locally, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    make_track(tmp_path / "public_dataset" / "a")
    assert evaluate_locally.main([]) == 0
    assert len(list((tmp_path / "evaluator_outputs" / "a").iterdir())) == 4


def test_what_cannot_be_evaluated_is_refused_at_the_door(tmp_path: Path, sizes: list[int]) -> None:
    data = tmp_path / "data"
    with pytest.raises(UserError, match="data: no such folder, expected a dataset; name yours with --data"):
        evaluate(tmp_path)
    data.mkdir()
    (data / "notes.txt").write_text("no track")
    with pytest.raises(UserError, match="data: holds no tracks, expected a folder for each, with a mixture"):
        evaluate(tmp_path)
    make_track(data / "a")
    three_stems = shutil.copytree(GOLDEN / "full_band_three_stems", tmp_path / "three")
    own_class = "MySeparationModel of user_config.py does not take these options .*overlap"
    for options, message in (
        (["--out", data], "--out .*data: lies in the dataset"),
        (["--out", data / "new"], "--out .*new: lies in the dataset"),
        (["--csv", tmp_path], "--csv .*: expected the name of a file in a folder that exists"),
        (["--csv", tmp_path / "new" / "s.csv"], "--csv .*: expected the name of a file in a folder that exists"),
        (["--model", "C"], "C: no such model, expected A, B, demo or a folder"),
        (["--model", three_stems], "three: separates .*; the challenge wants exactly bass, drums, other, vocals"),
        (["--overlap", "2"], own_class),
        (["--out", data / "a" / "mixture.wav" / "x"], "lies in the dataset"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(tmp_path, *options)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be made"):
        evaluate(tmp_path, "--out", tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "three"]
    assert len(list((data / "a").iterdir())) == 5
    assert sizes == []
