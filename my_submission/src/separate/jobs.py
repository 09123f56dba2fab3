"""The processes of `--jobs N`, which share the songs: each takes the next one when it has separated the last.

    workers = Workers(options, plan, processes=4)
    workers.separate_all(jobs)
    workers.done                   # song -> Outcome

A worker that is killed costs the songs it was at, and no other. If it was the last one, a new one takes its place.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from my_submission.src.audio.outcomes import Outcome
from my_submission.src.audio.plan import Plan
from my_submission.src.audio.songs import Job
from my_submission.src.common import cli
from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import escaped, shown

GRACE = 10.0  # seconds that workers have to delete their partial files after SIGTERM
_ROOT = Path(__file__).resolve().parents[3]  # of the package my_submission
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from my_submission.src.separate.worker import main; sys.exit(main())"

Event = tuple["_Worker", tuple[Any, ...]]


class Workers:
    """Processes that separate songs side by side; see `worker` for their messages.

    Args:
        options: of the command line.
        plan: the files of each song.
        processes: the number of workers.
    """

    def __init__(self, options: argparse.Namespace, plan: Plan, processes: int) -> None:
        self.options, self.plan, self.processes = options, plan, processes
        self.done: dict[str, Outcome] = {}  # by song
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.living: list[_Worker] = []
        self.waiting: deque[Job] = deque()
        self._facts: dict[str, object] = {}  # empty until a worker has opened the model
        self._threads = _threads_for(processes)

    def facts(self) -> dict[str, object]:
        """Return the facts about the model that pages and JSON files have; empty if no worker has opened it yet."""
        return self._facts

    def separate_all(self, jobs: Sequence[Job]) -> None:
        """Separate the songs, and print and note the outcome of each. Raises UserError if no worker can separate any."""
        self.waiting = deque(jobs)
        cli.announce_compiling(self.options)
        try:
            for place in range(self.processes):
                self._start(place)
            while self.living:
                worker, message = self.events.get()
                self._handle(worker, message)
        finally:
            self._end()
        if self.waiting:
            raise UserError(f"{len(self.waiting)} of {len(jobs)} songs were not begun, as no process is left to separate them")

    def _start(self, place: int) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(_ROOT)]
        environment = {**os.environ, "OMP_NUM_THREADS": self._threads}
        pipe = subprocess.PIPE
        try:  # in a session of its own it gets no Ctrl-C from the terminal: `_end` tells it
            process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        except OSError as error:
            raise UserError(f"--jobs {self.options.jobs}: cannot start a process ({error.strerror}); choose fewer") from error
        worker = _Worker(place, process, self.events)
        self.living.append(worker)
        worker.send((self.options, self.plan))

    def _handle(self, worker: _Worker, message: tuple[Any, ...]) -> None:
        """Do what a worker's message asks for."""
        kind, *content = message
        if kind in ("output", "error"):
            tqdm.write(content[0], file=sys.stdout if kind == "output" else sys.stderr, end="")
        elif kind == "warning":
            cli.warn_once(content[0])
        elif kind == "ready":
            self._ready(*content)
        elif kind == "useless":
            if not self._facts:  # else the model could be opened, and `_ended` reports this worker
                raise UserError(content[0])
            tqdm.write(f"error: {escaped(content[0])}", file=sys.stderr)
        elif kind == "next":
            worker.give(self.waiting.popleft() if self.waiting else None)
        elif kind == "outcome":
            worker.songs.pop(content[0].path)
            self.done[content[0].path] = content[0]
        elif kind == "ended":
            self._ended(worker, *content)
        else:
            worker.show(kind, *content)

    def _ready(self, facts: dict[str, object], lines: Sequence[str]) -> None:
        """Note the facts that the first worker reports, and print its lines; the other workers say the same."""
        if not self._facts:
            self._facts = facts
            tqdm.write("\n".join(lines))
            sys.stdout.flush()

    def _ended(self, worker: _Worker, status: int) -> None:
        """Report the songs that a worker has left unfinished. If it was the last one, start another, unless that is vain."""
        self.living.remove(worker)
        worker.close()
        lost = list(worker.songs.values())
        reason = _reason(status)
        for job in lost:
            song, cause = shown(job.path), "is the memory full? each of the processes holds the network and its buffers"
            outcome = Outcome(str(job.path), "failed", error=f"{song}: the process that separated it {reason}; {cause}")
            self.done[outcome.path] = outcome
            tqdm.write(f"error: {escaped(str(outcome.error))}", file=sys.stderr)
            clear_dead(job.folder.parent)
        if status and not lost:
            tqdm.write(f"warning: one of the processes {reason}, between two songs", file=sys.stderr)
        if lost and self.waiting and not self.living:
            self._start(worker.place)

    def _end(self) -> None:
        """End the workers that still live, after an interrupt or an error, and note the songs that they finish meanwhile."""
        try:
            for worker in self.living:
                worker.process.terminate()
            deadline = time.monotonic() + GRACE
            for worker in self.living:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, deadline - time.monotonic()))
        finally:
            for worker in self.living:
                worker.process.kill()
                worker.reader.join(1)
                worker.close()
        while not self.events.empty():
            worker, message = self.events.get()
            if message[0] in ("output", "outcome"):
                self._handle(worker, message)
        for folder in {job.folder.parent for worker in self.living for job in worker.songs.values()}:
            clear_dead(folder)


class _Worker:
    """One process, the songs it has been given and not finished, and its progress bar."""

    def __init__(self, place: int, process: subprocess.Popen[bytes], events: queue.SimpleQueue[Event]) -> None:
        self.place, self.process, self.events = place, process, events
        self.songs: dict[str, Job] = {}
        self.bar: tqdm[Any] | None = None
        self.messages = threading.Thread(target=self._read_messages, daemon=True)
        self.reader = threading.Thread(target=self._read_events, daemon=True)
        self.messages.start()
        self.reader.start()

    def give(self, job: Job | None) -> None:
        """Answer the worker's question for the next song."""
        if job:
            self.songs[str(job.path)] = job
        self.send(job)

    def send(self, content: object) -> None:
        """Send something; if the process has ended, its end is reported soon."""
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.write(pickle.dumps(content))
            self.process.stdin.flush()

    def close(self) -> None:
        """Remove the progress bar of a process that has ended, and close the pipe to it."""
        self.show("bar ends")
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def show(self, kind: str, *content: Any) -> None:
        """Show a message about the progress bar."""
        if kind == "progress" and self.bar is not None:
            self.bar.update(content[0])
        elif kind != "progress" and self.bar is not None:
            self.bar.close()
            self.bar = None
        if kind == "bar":
            label, seconds = content
            self.bar = cli.open_bar(seconds, label, self.place)

    def _read_events(self) -> None:
        """Hand on the worker's messages, and then its end."""
        assert self.process.stdout
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):  # the last message may be cut off
            while True:
                self.events.put((self, pickle.load(self.process.stdout)))
        status = self.process.wait()
        self.messages.join(1)  # a program that the worker has started may hold the pipe longer
        self.events.put((self, ("ended", status)))

    def _read_messages(self) -> None:
        """Hand on lines that libraries and the interpreter itself have written to standard error."""
        assert self.process.stderr
        for line in self.process.stderr:
            text = escaped(line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
            self.events.put((self, ("error", text + "\n")))


def _threads_for(processes: int) -> str:
    """Return the number of threads of each process: its share of those that one process would use."""
    import torch

    return os.environ.get("OMP_NUM_THREADS") or str(max(1, torch.get_num_threads() // processes))


def _reason(status: int) -> str:
    """Return in words how a process ended; Popen's status is -n after signal n, and a command's is 128 + n."""
    number = -status if status < 0 else status - 128
    with contextlib.suppress(ValueError):
        return f"was ended by {signal.Signals(number).name}"
    return f"ended with status {status}"
