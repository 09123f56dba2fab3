"""Songs shared by several processes, `--jobs N`: real ones with a small network, and made ones that end in bad moments."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from my_submission.src.audio.layout import Layout
from my_submission.src.audio.outcomes import Outcome
from my_submission.src.audio.plan import Plan
from my_submission.src.audio.songs import Job
from my_submission.src.common.errors import UserError
from my_submission.src.runtime import device
from my_submission.src.separate import jobs
from my_submission.src.separate.batch import Batch
from my_submission.src.separate.jobs import Workers
from tests.helpers.paths import ROOT
from tests.helpers.separation import MODEL, STEMS, Song, listing, run
from tests.helpers.watching import hidden, wait_until

QUICK = ["--model", str(MODEL), "--seeds", "0", "--overlap", "1"]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "my_submission", "separate", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def children(parent: int) -> list[int]:
    """Return the processes that a process has started and that still live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = path.read_text().rpartition(") ")
        except OSError:  # it has just ended
            continue
        state, owner = rest.split()[:2]
        if int(owner) == parent and state != "Z":
            found.append(int(path.parent.name))
    return sorted(found)


def lives(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(") ")[2][0] != "Z"


def test_two_jobs_give_the_same_as_one(make_song: Song, tmp_path: Path) -> None:
    for seed, name in enumerate(["a", "b", "new\nline", "loud"]):
        level = 3 if name == "loud" else 0.1
        song = make_song(tmp_path / "made.wav", seconds=0.3, level=level, seed=seed, subtype="FLOAT")
        (tmp_path / "in").mkdir(exist_ok=True)
        song.rename(tmp_path / "in" / f"{name}.wav")
    (tmp_path / "in" / "bad.wav").write_text("not a song")
    results = {}
    for number in (1, 2):
        out = tmp_path / f"out{number}"
        files = ["--out", out, "--json", tmp_path / "done.json", "--report", tmp_path / f"page{number}.html"]
        process = start(tmp_path / "in", *QUICK, "--jobs", number, *files)
        printed, err = process.communicate(timeout=120)
        assert process.returncode == 2, err
        facts = json.loads((tmp_path / "done.json").read_text().replace(str(out), "OUT"))
        for song in facts["songs"]:
            song.pop("seconds_taken")
        lines = printed.replace(str(out), "OUT").replace(f"page{number}", "page").replace(", shared by 2 processes", "")
        lines = re.sub(r"\([\d.]+ s, [\d.]+ x", "(", lines)
        contents = {name: (out / name).read_bytes() for name in listing(out)}
        results[number] = (sorted(lines.splitlines()), err, facts, contents)
    assert "shared by 2 processes" in printed
    assert [song["status"] for song in facts["songs"]].count("separated") == 4
    assert err.count("error: ") == 1
    assert err.endswith("1 of 5 songs failed\n")
    assert any("all stems -" in line for line in lines.splitlines())
    page = (tmp_path / "page2.html").read_text()
    assert all(name in page for name in ("loud", "new", "bad.wav"))
    assert results[1] == results[2]


@LINUX
def test_a_killed_worker_costs_its_song_alone(make_song: Song, tmp_path: Path) -> None:
    for name in "ab":
        make_song(tmp_path / "in" / f"{name}.wav", seconds=8)
    for name in "cd":
        make_song(tmp_path / "in" / f"{name}.wav", seconds=0.1)
    out, done = tmp_path / "out", tmp_path / "done.json"
    process = start(tmp_path / "in", *QUICK[:-1], "2", "--jobs", "2", "--out", out, "--json", done)
    wait_until(lambda: len(hidden(out)) == 2)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    first, last = err.splitlines()
    words = f"the process that separated it was ended by {signal.SIGKILL.name}"
    lost = re.fullmatch(rf"error: {tmp_path}/in/([ab]).wav: {words}; .*", first)
    assert lost, err
    assert "is the memory full?" in first
    assert last == "1 of 4 songs failed"
    others = sorted(set("abcd") - {lost[1]})
    assert listing(out) == [f"{name}/{stem}" for name in others for stem in STEMS]
    songs = json.loads(done.read_text())["songs"]
    assert {Path(song["path"]).stem: song["status"] for song in songs} == {
        name: "separated" if name in others else "failed" for name in "abcd"
    }


@LINUX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_the_end_of_the_command_is_the_end_of_all_workers(
    make_song: Song, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    make_song(tmp_path / "in" / "a.wav", seconds=0.05)
    for name in "bcd":
        make_song(tmp_path / "in" / f"{name}.wav", seconds=60)
    out, done = tmp_path / "out", tmp_path / "done.json"
    process = start(tmp_path / "in", "--model", MODEL, "--jobs", "2", "--out", out, "--json", done)
    wait_until(lambda: (out / "a").exists() and len(hidden(out)) == 2)
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    wait_until(lambda: not any(map(lives, workers)))
    assert time.monotonic() - began < jobs.GRACE  # about a second on an idle machine; then they would be killed
    assert err == ("interrupted\n" if number == signal.SIGINT else "")
    assert listing(out) == [f"a/{stem}" for stem in STEMS]
    if number != signal.SIGKILL:
        states = [song["status"] for song in json.loads(done.read_text())["songs"]]
        assert states == ["separated", "not done", "not done", "not done"]


def test_an_error_of_all_is_printed_once(
    make_song: Song, small_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    songs = [make_song(tmp_path / f"{name}.wav", seconds=0.05) for name in "abc"]
    (small_model / "step100000_seed0.ckpt").write_text("no checkpoint")
    arguments = (*songs, "--model", small_model, "--jobs", 3, "--out", tmp_path / "out")
    alone = run(capfd, *arguments, "--jobs", 1)
    assert alone[2].startswith("error: ")
    status, _, err = run(capfd, *arguments)
    assert (status, err) == (2, alone[2])
    assert not (tmp_path / "out").exists()


def test_there_are_no_more_processes_than_songs(make_song: Song, tmp_path: Path) -> None:
    make_song(tmp_path / "in" / "a.wav", seconds=0.05)
    process = start(tmp_path / "in", *QUICK, "--jobs", "5", "--out", tmp_path / "out")
    printed, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert printed.startswith("1 song, 0.1 s of audio\n")
    assert printed.count(f"model {MODEL}") == 1
    assert listing(tmp_path / "out") == [f"a/{stem}" for stem in STEMS]


def test_the_wrong_use_is_refused(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    song = make_song(tmp_path / "song.wav", seconds=0.05)
    for wrong in ("0", "-1", "x", "1.5", "auto", ""):
        with pytest.raises(SystemExit) as left:
            run(capsys, song, *QUICK, f"--jobs={wrong}", "--out", tmp_path / "out")
        assert left.value.code == 2
        err = capsys.readouterr().err
        assert f"argument --jobs: {wrong!r} is not a whole number of 1 or more" in err
        assert len(err.splitlines()) == 2
    arguments = (song, *QUICK, "--jobs", 2, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setenv("RANK", "0")
        status, _, err = run(capsys, *arguments)
        assert (status, err) == (2, "error: --jobs 2: torchrun has started processes already; leave one of the two out\n")
    with monkeypatch.context() as patch:
        patch.setattr(device, "pick_device", lambda name: torch.device("cuda"))
        status, _, err = run(capsys, *arguments)
    message = "error: --jobs 2: is for CPUs, and the device is cuda; leave it out, or choose --device cpu\n"
    assert (status, err) == (2, message)
    assert not (tmp_path / "out").exists()


FAKE = """
import os, pickle, signal, sys, time, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from my_submission.src.audio.outcomes import Outcome

def send(*message):
    sys.stdout.buffer.write(pickle.dumps(message))
    sys.stdout.buffer.flush()

def receive():
    return pickle.load(sys.stdin.buffer)

options, plan = receive()
folder = Path(options.folder)
{body}
send("ready", {{"model": "made"}}, ["a made model"])
while True:
    send("next")
    job = receive()
    if job is None:
        break
    name = job.path.stem
    {song}
    (folder / name).touch()
    send("output", f"{{name}} is done\\n")
    send("outcome", Outcome(str(job.path), "separated"))
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workers]:
    """Return a function that makes workers which do something at their start and at each song."""

    def make(body: str = "", song: str = "pass", processes: int = 2) -> Workers:
        monkeypatch.setattr(jobs, "_PROGRAM", FAKE.format(body=body, song=song))
        options = argparse.Namespace(jobs=processes, compile="no", folder=str(tmp_path))
        return Workers(options, Plan([], Layout(), "wav"), processes)

    return make


def made_jobs(folder: Path, names: str) -> list[Job]:
    return [Job(folder / f"{name}.wav", folder / "out" / name) for name in names]


def test_a_worker_takes_a_song_only_when_it_is_its_turn(tmp_path: Path) -> None:
    taken: list[str] = []
    outcomes: list[Outcome] = []

    def songs() -> Iterator[Job]:
        for job in made_jobs(tmp_path, "abcd"):  # files that are missing
            assert [outcome.path for outcome in outcomes] == taken
            taken.append(str(job.path))
            yield job

    separator, options = argparse.Namespace(redone_chunks=0), argparse.Namespace(overwrite=False)
    batch = Batch(separator, options, Plan([], Layout(), "wav"), on_done=outcomes.append, looks_ahead=False)
    batch.separate_all(songs())
    assert [outcome.path for outcome in outcomes] == taken
    assert len(taken) == 4


def test_a_long_song_keeps_no_other_waiting(tmp_path: Path, fake: Callable[..., Workers]) -> None:
    others = "all((folder / other).exists() for other in 'bcdef')"
    workers = fake(song=f"while name == 'a' and not {others}: time.sleep(0.01)")
    workers.separate_all(made_jobs(tmp_path, "abcdef"))
    assert {Path(song).stem: outcome.status for song, outcome in workers.done.items()} == dict.fromkeys("abcdef", "separated")


def test_the_last_worker_is_replaced(tmp_path: Path, fake: Callable[..., Workers], capsys: pytest.CaptureFixture[str]) -> None:
    workers = fake(song="if name in 'abd': os.kill(os.getpid(), signal.SIGKILL)")
    workers.separate_all(made_jobs(tmp_path, "abcde"))
    states = {Path(song).stem: outcome.status for song, outcome in workers.done.items()}
    assert states == {name: "failed" if name in "abd" else "separated" for name in "abcde"}
    captured = capsys.readouterr()
    assert captured.out.count("a made model") == 1
    assert captured.err.count("was ended by SIGKILL; is the memory full?") == 3


@pytest.mark.parametrize(("body", "said"), [("sys.exit(3)", "ended with status 3"), ("raise MemoryError", "MemoryError")])
def test_workers_that_cannot_begin_end_the_command(
    tmp_path: Path, fake: Callable[..., Workers], capsys: pytest.CaptureFixture[str], body: str, said: str
) -> None:
    workers = fake(body=body)
    with pytest.raises(UserError, match="3 of 3 songs were not begun, as no process is left to separate them"):
        workers.separate_all(made_jobs(tmp_path, "abc"))
    assert said in capsys.readouterr().err
    assert workers.facts() == {}


def test_lines_stay_whole_and_a_warning_of_all_is_printed_once(
    tmp_path: Path, fake: Callable[..., Workers], capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"'{tmp_path}: is odd'"
    workers = fake(body=f"send('warning', {words}); os.write(2, b'from a \\x1b library\\nand more')", processes=3)
    workers.separate_all(made_jobs(tmp_path, "abc"))
    captured = capsys.readouterr()
    assert sorted(captured.out.splitlines()) == ["a is done", "a made model", "b is done", "c is done"]
    lines = captured.err.splitlines()
    assert sorted(set(lines)) == ["and more", "from a \\x1b library", f"warning: {tmp_path}: is odd"]
    assert lines.count(f"warning: {tmp_path}: is odd") == 1


def test_threads_are_shared_unless_the_environment_sets_them(
    tmp_path: Path, fake: Callable[..., Workers], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 9)
    for given, expected in (("", "4"), ("3", "3")):
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        fake(body="send('output', os.environ['OMP_NUM_THREADS'] + ' threads\\n')").separate_all(made_jobs(tmp_path, "ab"))
        assert capsys.readouterr().out.count(f"{expected} threads\n") == 2
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert jobs._threads_for(4) == "1"
