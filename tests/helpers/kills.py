"""Kill a command at random moments, and check what it leaves: nothing that only looks finished, and nothing to clear up.

    subject = SUBJECTS["separate"](folder)          # data, command line and checks, in an empty folder
    report = Killer(subject, seed=0).run(kills=4)   # raises AssertionError

Half of the kills come at a random time, the others just before a random file operation. Each process is forked from one that
has imported torch already.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
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

from tqdm import tqdm

from tests.helpers.kill_subjects import Subject
from tests.helpers.paths import ROOT

OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.scandir", "os.truncate"}  # audit events


def fork_server() -> multiprocessing.context.ForkServerContext:
    """Return a context whose processes start with torch and the commands imported already."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    context = multiprocessing.get_context("forkserver")
    modules = ["separate", "separator", "evaluation.evaluate", "corrupt.command", "challenge.install"]
    modules += ["audit.cleaning", "train"]
    context.set_forkserver_preload(["tests.helpers.kills", *(f"my_submission.src.{name}" for name in modules)])
    return context


def run_command(name: str, argv: list[str], log: Path, watched: Path, die_at: int | None, pauses: bool = False) -> None:
    """Run a command as the target of a process, with its output in `log`.

    File operations below `watched` are counted. The process kills itself before number `die_at` of them; without it, the count
    is written next to the log. If it `pauses`, it stops itself when it has opened its journal, after it has made a file
    `.paused` next to the log.
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
    if pauses:
        pause_at_the_journal(log.with_suffix(".paused"))
    status = cli.run(COMMANDS[name], argv)
    log.with_suffix(".count").write_text(str(count))
    sys.exit(status)


def pause_at_the_journal(mark: Path) -> None:
    """Have this process stop as soon as it has opened a journal; just before, it makes the file `mark`."""
    from my_submission.src.common.journal import Journal

    opened = Journal.__init__

    def pause(journal: Journal, path: str | Path, settings: dict[str, Any]) -> None:
        opened(journal, path, settings)
        mark.touch()
        os.kill(os.getpid(), signal.SIGSTOP)

    Journal.__init__ = pause  # type: ignore[method-assign]


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


def _clean(argv: list[str]) -> int:
    """Clean with trainings in this process, so that their file operations count, too."""
    from my_submission.src.audit import clean
    from tests.helpers.clean import train_in_this_process

    train_in_this_process()
    return clean.main(argv)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "separate": _separate,
    "evaluate_locally": _evaluate,
    "clean": _clean,
    "corrupt": _corrupt,
    "install": _install,
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
