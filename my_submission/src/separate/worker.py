"""A process of `--jobs N`: it asks the command's process for one song after another, and reports all that happens.

Both directions are pickled tuples, over pipes in the place of standard input and output. A worker sends:

    ("ready", facts, lines)         the model is open; the facts are for pages, the lines for the terminal
    ("useless", reason)             the model cannot be opened, which is the user's mistake
    ("next",)                       the answer is a Job, or None if there is no more
    ("bar", label, seconds), ("progress", seconds), ("bar ends",)
    ("outcome", outcome)            a song is separated or has failed
    ("output", text), ("error", text)       whole lines for the terminal
    ("warning", message)            which the command shows once

A worker whose parent has gone deletes its partial files and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pickle
import queue
import signal
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from my_submission.src.audio.plan import Plan
from my_submission.src.audio.songs import Job
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.separate.batch import Batch, announcement, open_separator

if TYPE_CHECKING:
    from my_submission.src.separate.batch import Model


def main() -> int:
    """Run the worker; return its exit status."""
    commands, link = _take_pipes()
    options, plan = pickle.load(commands)
    with contextlib.redirect_stdout(_Lines(link, "output")), contextlib.redirect_stderr(_Lines(link, "error")):
        return cli.run(lambda _: _work(options, plan, commands, link), [])


class Link:
    """The way to the command's process, for all threads."""

    def __init__(self, pipe: BinaryIO) -> None:
        self.pipe, self.lock = pipe, threading.Lock()

    def send(self, *message: object) -> None:
        """Send a message."""
        whole = pickle.dumps(message)
        with self.lock:
            self.pipe.write(whole)
            self.pipe.flush()


def _take_pipes() -> tuple[BinaryIO, Link]:
    """Return the pipes to read and to write. Libraries and other programs find the null device and standard error instead."""
    commands, events = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return commands, Link(events)


def _work(options: argparse.Namespace, plan: Plan, commands: BinaryIO, link: Link) -> int:
    """Open the model, then separate songs until there is no more."""
    warnings.showwarning = lambda message, *_, **__: link.send("warning", str(message))
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands, jobs), name="commands", daemon=True).start()
    try:
        separator = open_separator(options)
    except UserError as error:
        link.send("useless", str(error))
        return 2
    batch = Batch(separator, options, plan, partial(_bar, link), partial(link.send, "outcome"), looks_ahead=False)
    link.send("ready", batch.facts(), announcement(separator, options))
    batch.separate_all(_songs(link, jobs))
    return 0


def _listen(commands: BinaryIO, jobs: queue.SimpleQueue[Job | None]) -> None:
    """Receive the songs. At the end of the pipe, which the parent keeps open as long as it lives, end the process."""
    with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
        while True:
            jobs.put(pickle.load(commands))
    os.kill(os.getpid(), signal.SIGTERM)


def _songs(link: Link, jobs: queue.SimpleQueue[Job | None]) -> Iterator[Job]:
    """Yield the songs that the parent gives out, one for each time that it is asked."""
    while True:
        link.send("next")
        job = jobs.get()
        if job is None:
            return
        yield job


@contextlib.contextmanager
def _bar(link: Link, model: Model, seconds: float, label: str) -> Iterator[None]:
    """Let the parent show a progress bar while the `with` block separates a song."""
    link.send("bar", label, seconds)
    model.on_progress = lambda samples: link.send("progress", samples / model.sample_rate)
    try:
        yield
    finally:
        link.send("bar ends")


class _Lines(io.TextIOBase):
    """A text stream that sends whole lines, which the parent prints."""

    def __init__(self, link: Link, kind: str) -> None:
        self.link, self.kind, self.begun = link, kind, ""
        self.lock = threading.RLock()

    def writable(self) -> bool:
        """Return that this is so."""
        return True

    def write(self, text: str) -> int:
        """Send the text if it ends a line, together with what came before; otherwise keep it."""
        with self.lock:
            self.begun += text
            if self.begun.endswith("\n"):
                whole, self.begun = self.begun, ""
                self.link.send(self.kind, whole)
        return len(text)
