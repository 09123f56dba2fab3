"""Two processes that write to one folder at the same time: both end well with whole results, or the second is refused."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src import separate
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.synth import command as synth
from tests.helpers.dead import leave_dead
from tests.helpers.kill_subjects import INSTRUMENTS, MODEL, SUBJECTS, frames_of, write_noise
from tests.helpers.kills import fork_server, run_command
from tests.helpers.watching import hidden, wait_until

STEMS = [f"{name}.wav" for name in INSTRUMENTS]
Start = Callable[..., multiprocessing.Process]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that starts a command in its own process, with its output in NUMBER.log."""
    context = fork_server()

    def begin(number: int, command: str, *argv: object, pauses: bool = False) -> multiprocessing.Process:
        words = (command, [*map(str, argv)], tmp_path / f"{number}.log", tmp_path / "out", None, pauses)
        process = context.Process(target=run_command, args=words)
        process.start()
        return process

    return begin


@pytest.mark.parametrize("interrupted", [False, True])
def test_two_separations_of_one_song(tmp_path: Path, start: Start, interrupted: bool) -> None:
    frames, out = write_noise(tmp_path / "song.wav", 1), tmp_path / "out"
    command = ("separate", tmp_path / "song.wav", "--model", MODEL, "--seeds", 0, "--out", out)
    one = start(1, *command, "--overlap", 2)
    wait_until(lambda: hidden(out))
    os.kill(one.pid, signal.SIGSTOP)
    two = start(2, *command, "--overlap", 4)
    wait_until(lambda: len(hidden(out)) == 2)
    os.kill(two.pid, signal.SIGSTOP)
    os.kill(one.pid, signal.SIGCONT)
    one.join()
    assert one.exitcode == 0, (tmp_path / "1.log").read_text()
    assert sorted(path.name for path in (out / "song").iterdir()) == STEMS
    assert {frames_of(path) for path in (out / "song").iterdir()} == {frames}
    if interrupted:
        os.kill(two.pid, signal.SIGINT)
    os.kill(two.pid, signal.SIGCONT)
    two.join()
    assert two.exitcode == (130 if interrupted else 0), (tmp_path / "2.log").read_text()
    assert [path.name for path in out.iterdir()] == ["song"]
    assert sorted(path.name for path in (out / "song").iterdir()) == STEMS
    assert {frames_of(path) for path in (out / "song").iterdir()} == {frames}
    assert "Traceback" not in (tmp_path / "2.log").read_text()


@pytest.mark.parametrize("name", ["separate", "install"])
def test_the_same_command_twice_at_once(tmp_path: Path, start: Start, name: str) -> None:
    subject = SUBJECTS[name](tmp_path)
    subject.reset()
    processes = [start(number, name, *subject.argv) for number in range(3)]
    for number, process in enumerate(processes):
        process.join()
        assert process.exitcode == 0, (tmp_path / f"{number}.log").read_text()
    subject.check()
    assert len(list(subject.out.iterdir())) == (3 if name == "separate" else 2)
    assert list(subject.out.rglob(".*")) == []


@pytest.mark.parametrize("name", ["evaluate_locally", "corrupt"])
def test_a_second_process_with_the_same_journal_is_refused_in_one_line(tmp_path: Path, start: Start, name: str) -> None:
    subject = SUBJECTS[name](tmp_path)
    subject.reset()
    one = start(1, name, *subject.argv, pauses=True)
    journal = subject.out / ("evaluation.jsonl" if name == "evaluate_locally" else "corrupt.jsonl")
    wait_until(lambda: (tmp_path / "1.paused").exists() or not one.is_alive())
    before = sorted(subject.out.rglob("*"))
    two = start(2, name, *subject.argv)
    two.join()
    errors = [line for line in (tmp_path / "2.log").read_text().splitlines() if line.startswith("error: ")]
    assert (two.exitcode, len(errors)) == (2, 1)
    assert errors[0].startswith(f"error: {journal}: another process is at work on it; wait until it has ended")
    assert sorted(subject.out.rglob("*")) == before
    os.kill(one.pid, signal.SIGCONT)
    one.join()
    assert one.exitcode == 0, (tmp_path / "1.log").read_text()
    subject.check()
    assert list(subject.out.rglob(".*")) == []


def test_two_processes_make_the_same_song(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = synth.make_song

    def make_late(seed: int, seconds: float) -> dict[str, np.ndarray]:
        monkeypatch.setattr(synth, "make_song", make)
        assert synth.main([str(tmp_path / "songs"), "--songs", "2", "--seconds", "1"]) == 0  # the other process is faster
        return make(seed, seconds)

    monkeypatch.setattr(synth, "make_song", make_late)
    assert synth.main([str(tmp_path / "songs"), "--songs", "2", "--seconds", "1"]) == 0
    assert sorted(path.name for path in (tmp_path / "songs").iterdir()) == ["song_000000", "song_000001"]
    assert {frames_of(path) for path in tmp_path.glob("songs/*/*.wav")} == {44100}


def write_stems(folder: Path, value: float, names: list[str], before_the_end: Callable[[], None] = lambda: None) -> None:
    with StemWriter(folder, names, 8000, 1, 10) as writer:
        writer.write(np.full((len(names), 1, 10), value, np.float32))
        before_the_end()


def test_stems_that_appear_meanwhile_are_replaced_whole_and_other_files_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "song"

    def other_process() -> None:
        write_stems(folder, 0.25, ["a", "b"])
        (folder / "notes.txt").write_text("mine")

    write_stems(folder, 0.5, ["a", "b"], other_process)
    assert [path.name for path in tmp_path.iterdir()] == ["song"]
    assert sorted(path.name for path in folder.iterdir()) == ["a.wav", "b.wav", "notes.txt"]
    assert {soundfile.read(folder / f"{name}.wav")[0][0] for name in "ab"} == {0.5}


def test_instruments_named_like_temporary_files_do_not_collide(tmp_path: Path) -> None:
    names = ["a", "a.rest", "rest", "scaled", "stems", "a.scaled", "x" * 251]
    write_stems(tmp_path / "song", 2.0, names)  # so loud that a gain is applied at the end
    for name in names:
        samples, _ = soundfile.read(tmp_path / "song" / f"{name}.wav")
        np.testing.assert_allclose(samples, np.ones(10), atol=1e-4)
    assert len(list((tmp_path / "song").iterdir())) == len(names)


def test_a_name_of_251_bytes_is_separated(tmp_path: Path, start: Start) -> None:
    for name in ("n" * 251, "ん" * 83):
        write_noise(tmp_path / "in" / f"{name}.wav", 0.05)
    run = start(1, "separate", tmp_path / "in", "--model", MODEL, "--seeds", 0, "--overlap", 1, "--out", tmp_path / "out")
    run.join()
    assert run.exitcode == 0, (tmp_path / "1.log").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["n" * 251, "ん" * 83]
    assert len(list((tmp_path / "out").glob("*/*.wav"))) == 8


def test_a_run_that_finds_everything_done_clears_up_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_noise(tmp_path / "song.wav", 0.05)
    songs, out = tmp_path / "songs", tmp_path / "out"
    separation = [str(tmp_path / "song.wav"), "--model", str(MODEL), "--seeds", "0", "--overlap", "1", "--out", str(out)]
    for main, argv, folder in ((separate.main, separation, out), (synth.main, [str(songs), "--songs", "1"], songs)):
        assert main(argv) == 0
        leave_dead(folder)
        assert main(argv) == 0
        assert list(folder.glob(".*")) == []
    assert "is done already" in capsys.readouterr().out
