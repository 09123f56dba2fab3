"""Kill a command at random moments, and check what it leaves: nothing that only looks finished, and nothing to clear up.

    subject = SUBJECTS["separate"](folder)          # data, command line and checks, in an empty folder
    report = Killer(subject, seed=0).run(kills=4)   # raises AssertionError

Half of the kills come at a random time, the others just before a random file operation. Each process is forked from one that
has imported torch already.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import statistics
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from tests.helpers.paths import GOLDEN, ROOT

MODEL = GOLDEN / "separation_A"
INSTRUMENTS = ("bass", "drums", "other", "vocals")
RATE = 44100
OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate"}  # audit events


def fork_server() -> multiprocessing.context.ForkServerContext:
    """Return a context whose processes start with torch and the commands imported already."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = multiprocessing.get_context("forkserver")
    modules = ["separate", "separator", "evaluation.evaluate", "corrupt.command", "challenge.install"]
    context.set_forkserver_preload(["tests.helpers.kills", *(f"my_submission.src.{name}" for name in modules)])
    return context


def run_command(name: str, argv: list[str], log: Path, watched: Path, die_at: int | None) -> None:
    """Run a command as the target of a process, with its output in `log`.

    File operations below `watched` are counted. The process kills itself before number `die_at` of them; without it, the count
    is written next to the log.
    """
    import torch

    from my_submission.src.common import cli

    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own one would need to be cleared up after a kill
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in OPERATIONS and str(arguments[0]).startswith(str(watched)):
            count += 1
            if count == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    status = cli.run(COMMANDS[name], argv)
    log.with_suffix(".count").write_text(str(count))
    sys.exit(status)


def _separate(argv: list[str]) -> int:
    from my_submission.src import separate

    return separate.main(argv)


def _evaluate(argv: list[str]) -> int:
    import evaluate_locally

    return evaluate_locally.main(argv)


def _corrupt(argv: list[str]) -> int:
    from my_submission.src.corrupt import command

    return command.main(argv)


def _install(argv: list[str]) -> int:
    """Install stand-ins for the published files into another folder than the package's."""
    from my_submission.src.challenge import install

    archive, folder = map(Path, argv)
    with zipfile.ZipFile(archive) as opened:
        contents = {path: opened.read(path) for path in opened.namelist() if path.endswith(".ckpt")}
    install.PUBLISHED = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    install.PUBLISHED_BYTES = len(next(iter(contents.values())))
    install.install(archive, folder=folder)
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "separate": _separate,
    "evaluate_locally": _evaluate,
    "corrupt": _corrupt,
    "install": _install,
}


@dataclass
class Subject:
    """A command with its data, and the checks of its output."""

    name: str
    argv: list[str]
    out: Path
    check: Callable[[], None]  # raises AssertionError if something looks finished and is not
    is_fixed: Callable[[Path], bool] = lambda _: True  # whether a file of the output has the same bytes after every run
    there_before: dict[str, bytes] | None = None  # path below `out` -> content; without it, `out` does not exist

    def reset(self) -> None:
        """Make the output's folder what it was before the first run."""
        shutil.rmtree(self.out, ignore_errors=True)
        for name, content in (self.there_before or {}).items():
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_bytes(content)


def write_noise(path: Path, seconds: float, level: float = 0.1, seed: int = 0) -> int:
    """Write stereo noise; return its number of samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = level * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2))
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    return len(noise)


def frames_of(path: Path) -> int:
    return soundfile.info(path).frames


def separation(folder: Path) -> Subject:
    """Separate three songs, the second of which is so loud that its stems get a gain at the end."""
    frames = {name: write_noise(folder / "in" / f"{name}.wav", 0.4, 3 if name == "b" else 0.1, ord(name)) for name in "abc"}
    out = folder / "out"

    def check() -> None:
        for name, length in frames.items():
            if (out / name).exists():
                found = {path.name: frames_of(path) for path in (out / name).iterdir()}
                assert found == {f"{instrument}.wav": length for instrument in INSTRUMENTS}, (name, found)

    argv = [str(folder / "in"), "--model", str(MODEL), "--seeds", "0", "--overlap", "1", "--out", str(out)]
    return Subject("separate", argv, out, check)


def evaluation(folder: Path) -> Subject:
    """Evaluate two tracks, the ensemble and each of its members, with a table."""
    frames = {}
    for name in "ab":
        for index, part in enumerate(("mixture", *INSTRUMENTS)):
            frames[name] = write_noise(folder / "data" / name / f"{part}.wav", 0.15, seed=100 * ord(name) + index)
    out = folder / "out"

    def check() -> None:
        for path in out.glob("[!.]*/[!.]*.wav"):
            assert frames_of(path) == frames[path.parent.name], path
        journal = out / "evaluation.jsonl"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        for entry in map(json.loads, lines[1:]):
            if "track" in entry:
                assert all((out / entry["track"] / f"{name}.wav").exists() for name in INSTRUMENTS), entry["track"]
        if (out / "scores.csv").exists():
            with (out / "scores.csv").open(newline="") as file:
                assert len(list(csv.DictReader(file))) >= 4 * len(frames)

    argv = ["--data", str(folder / "data"), "--out", str(out), "--csv", str(out / "scores.csv"), "--model", str(MODEL)]
    argv += ["--overlap", "1", "--each-seed"]
    return Subject(
        "evaluate_locally", argv, out, check, is_fixed=lambda path: path.suffix == ".wav", there_before={"mine.txt": b""}
    )


def corruption(folder: Path) -> Subject:
    """Put bleeding into three tracks of four stems."""
    names = [f"track {number}" for number in range(3)]
    frames = {}
    for number, name in enumerate(names):
        for index, part in enumerate(INSTRUMENTS):
            frames[name] = write_noise(folder / "in" / name / f"{part}.wav", 0.5, seed=10 * number + index)
        (folder / "in" / name / "mixture.wav").write_bytes(b"copied as it is")
    out = folder / "out"

    def check() -> None:
        for name in names:
            if (out / name).exists():
                assert sorted(path.stem for path in (out / name).iterdir()) == sorted(["mixture", *INSTRUMENTS]), name
                assert {frames_of(out / name / f"{part}.wav") for part in INSTRUMENTS} == {frames[name]}, name
        if (out / "truth.csv").exists():
            with (out / "truth.csv").open(newline="") as file:
                assert len(list(csv.DictReader(file))) == len(names) * len(INSTRUMENTS)

    argv = ["bleeding", str(folder / "in"), str(out), "--rate", "0.5", "--seed", "3"]
    return Subject("corrupt", argv, out, check, is_fixed=lambda path: path.name != "corrupt.jsonl")


def installation(folder: Path) -> Subject:
    """Install stand-ins for the published checkpoints."""
    from my_submission.src.challenge.install import MODELS, PUBLISHED

    random_bytes = np.random.default_rng(0).bytes
    contents = {path: random_bytes(3_000_000) for path in PUBLISHED}
    contents |= {
        f"{model}/config.yaml": (ROOT / "my_submission/ckpts" / model / "config.yaml").read_bytes() for model in MODELS
    }
    with zipfile.ZipFile(folder / "mdx_AB.zip", "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    out = folder / "ckpts"

    def check() -> None:
        for path in out.glob("[!.]*/*"):
            assert path.read_bytes() == contents[str(path.relative_to(out))], path

    before = {path: data for path, data in contents.items() if path not in PUBLISHED}
    return Subject("install", [str(folder / "mdx_AB.zip"), str(out)], out, check, there_before=before)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "separate": separation,
    "evaluate_locally": evaluation,
    "corrupt": corruption,
    "install": installation,
}


@dataclass
class Report:
    """The outcome of a series of kills."""

    by_time: int = 0
    by_operation: int = 0
    completed: int = 0  # runs to the end, after one to three kills
    leftovers: int = 0  # hidden names that kills left, all cleared by the next run
    seconds: list[float] = field(default_factory=list)  # of whole runs


class Killer:
    """Kills one subject again and again."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self.subject = subject
        self.random = random.Random(f"{subject.name} {seed}")
        self.context = fork_server()
        self.log = subject.out.with_name(f"{subject.name}.log")
        self.report = Report()
        self.operations = 0  # file operations of a whole run

    def run(self, kills: int) -> Report:
        """Kill the command that many times, and let it end after every one to three kills. Raises AssertionError."""
        self._complete(fresh=True)
        self._complete(fresh=True)  # the first run of a fork server is slower
        expected = self._fixed_files()
        while self.report.by_time + self.report.by_operation < kills:
            self.subject.reset()
            for _ in range(self.random.randint(1, 3)):
                self._kill()
                self.subject.check()
                self.report.leftovers += len(self._hidden())
            self._complete()
            assert self._fixed_files() == expected
        return self.report

    def _start(self, die_at: int | None = None) -> multiprocessing.Process:
        words = (self.subject.name, self.subject.argv, self.log, self.subject.out, die_at)
        process = self.context.Process(target=run_command, args=words)
        process.start()
        return process

    def _kill(self) -> None:
        if self.random.random() < 0.5:
            process = self._start()
            process.join(self.random.uniform(0, 1.1 * statistics.median(self.report.seconds)))
            process.kill()
            self.report.by_time += 1
        else:
            process = self._start(die_at=self.random.randint(1, self.operations))
            self.report.by_operation += 1
        process.join(60)
        assert process.exitcode in (0, -signal.SIGKILL), self.log.read_text()

    def _complete(self, fresh: bool = False) -> None:
        if fresh:
            self.subject.reset()
        started = time.perf_counter()
        process = self._start()
        process.join(120)
        if fresh:
            self.report.seconds = [time.perf_counter() - started]
        assert process.exitcode == 0, self.log.read_text()
        if fresh:
            self.operations = int(self.log.with_suffix(".count").read_text())
        self.subject.check()
        assert self._hidden() == []
        self.report.completed += 1

    def _hidden(self) -> list[Path]:
        return sorted(path for path in self.subject.out.parent.rglob(".*"))

    def _fixed_files(self) -> dict[str, str]:
        files = [path for path in self.subject.out.rglob("*") if path.is_file() and self.subject.is_fixed(path)]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
