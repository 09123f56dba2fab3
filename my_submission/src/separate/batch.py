"""The songs of one process: separate them one after another, and print and note the outcome of each.

batch = Batch(separator, options, plan)
batch.separate_all(jobs)
batch.done                     # song -> Outcome
"""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from tqdm import tqdm

from my_submission.src.audio import lossy
from my_submission.src.audio.files import AudioError, AudioFile
from my_submission.src.audio.outcomes import Outcome
from my_submission.src.audio.plan import Plan
from my_submission.src.audio.prefetch import ReadAhead, WriteBehind, prefetch
from my_submission.src.audio.songs import Job
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import escaped, shown

if TYPE_CHECKING:
    from my_submission.src.family.blend import Blend
    from my_submission.src.separator import Separator

    Model: TypeAlias = Separator | Blend

T = TypeVar("T")


def open_separator(options: argparse.Namespace) -> Model:
    """Load the models that the options name. Raises UserError."""
    from my_submission.src.family.blend import open_models

    return open_models(options.models, options.weights, **cli.ensemble_options(options))


def announcement(separator: Model, options: argparse.Namespace) -> list[str]:
    """Return lines that say which seeds, device and precision are used, and notes about them."""
    from my_submission.src.family.blend import advice, summary

    notes = [f"note: {line}" for line in ([separator.note] if separator.note else []) + advice(separator)]
    lines = summary(options.models, separator)
    return [*notes, *lines[:-1], f"{lines[-1]} -> {shown(options.out)}"]


class Bar(Protocol):
    """A progress bar, such as cli.seconds_bar: its block separates a song, and `model.on_progress` moves it."""

    def __call__(self, model: Model, seconds: float, label: str) -> contextlib.AbstractContextManager[None]:
        """Show the bar in a `with` block."""
        ...


@dataclass
class Batch:
    """The songs of one process. A song that fails costs no other, in whatever way it fails.

    Args:
        separator: the model.
        options: of the command line.
        plan: the files of each song.
        bar: shows the progress of a song (default: a bar on the terminal's next line).
        on_done: called with the final outcome of each song, in any thread (default: nothing happens).
        looks_ahead: begin to decode the next song while one is separated (default: yes). Without it, `separate_all` takes a
            song from `jobs` only when it is that song's turn.
    """

    separator: Model
    options: argparse.Namespace
    plan: Plan
    bar: Bar = cli.seconds_bar
    on_done: Callable[[Outcome], object] = lambda outcome: None
    looks_ahead: bool = True
    done: dict[str, Outcome] = field(default_factory=dict)  # by song

    def facts(self) -> dict[str, object]:
        """Return the facts about the model that pages and JSON files have."""
        from my_submission.src.family.blend import facts

        return facts(self.options.models, self.separator)

    def separate_all(self, jobs: Iterable[Job]) -> None:
        """Separate the songs one after another, and print and note the outcome of each.

        While one song is on the device, the files of the previous one are finished, and the next one is being decoded.
        """
        self.separate(jobs)
        if self.separator.redone_chunks:
            precision = self.separator.precision
            print(f"{self.separator.redone_chunks} chunks were too loud for {precision} and done again in fp32")

    def separate(self, jobs: Iterable[Job]) -> None:
        """Separate the songs. After an interrupt, a song whose files take long to finish is deleted."""
        finishing: Future[None] | None = None  # at most one unfinished song at a time
        writers: list[WriteBehind] = []  # of that one, and of the song after it
        songs = ((job, self._open(job)) for job in jobs)
        opened = prefetch(songs, 1) if self.looks_ahead else songs
        with ThreadPoolExecutor(1) as finisher, contextlib.closing(opened):
            try:
                for job, song in opened:
                    started = time.perf_counter()
                    writer = self._attempt(job, partial(self._separate, job, song))
                    writers += [writer] if writer else []
                    if finishing:
                        finishing.result()
                    writers, finishing = [writer] if writer else [], None
                    if writer:
                        finishing = finisher.submit(self._attempt, job, partial(self._finish, job, writer, started))
                if finishing:
                    finishing.result()
            except BaseException:
                for writer in writers:
                    writer.stop()
                raise

    def _attempt(self, job: Job, step: Callable[[], T]) -> T | None:
        """Return the result of a step, or None if it fails; the reason is printed and noted, beginning with the song."""
        try:
            return step()
        except Exception as error:
            if not isinstance(error, (UserError, OSError, MemoryError)):  # an error of the program
                tqdm.write(escaped(traceback.format_exc()), file=sys.stderr)
            song, reason = shown(job.path), str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            reason = reason.replace(str(job.path), song)
            outcome = self._outcome(job)
            outcome.status, outcome.error = "failed", reason if reason.startswith(f"{song}:") else f"{song}: {reason}"
            tqdm.write(f"error: {escaped(outcome.error)}", file=sys.stderr)
            self.on_done(outcome)
            return None

    def _outcome(self, job: Job) -> Outcome:
        return self.done.setdefault(str(job.path), Outcome(str(job.path)))

    def _open(self, job: Job) -> ReadAhead | Exception | None:
        """Start to decode the song of a job. Return None if its stems are there already, or the error instead of raising it."""
        try:
            stems = self.plan.files(job).values()
            there = [path for path in stems if path.exists()]
            if there and not self.options.overwrite:
                if len(there) == len(stems):
                    return None
                raise AudioError(f"{shown(there[0].parent)}: holds {there[0].name} of another run; --overwrite replaces it")
            for folder in {folder for path in stems for folder in path.parents}:
                if folder.exists() and not folder.is_dir():
                    raise AudioError(f"{shown(folder)}: is a file, expected the place of a folder for the stems")
            return ReadAhead(AudioFile(job.path))
        except Exception as error:  # `_attempt` reports it when it is the song's turn
            return error

    def _separate(self, job: Job, song: ReadAhead | Exception | None) -> WriteBehind | None:
        """Separate one song. Return its writer, which may still be finishing the files; None if it was done already."""
        if isinstance(song, Exception):
            raise song
        outcome, files = self._outcome(job), self.plan.files(job)
        if song is None:
            place = self.plan.place(job)
            tqdm.write(f"{shown(job.path)}: is done already, in {shown(place)} (--overwrite does it again)")
            outcome.status, outcome.stems = "done already", {name: str(path) for name, path in files.items()}
            if self.options.json:
                file = AudioFile(job.path)
                outcome.seconds, outcome.sample_rate = file.seconds, file.sample_rate
            self.on_done(outcome)
            return None
        seconds = song.num_samples / song.sample_rate
        outcome.seconds, outcome.sample_rate = seconds, song.sample_rate
        how = {"container": self.options.format, "subtype": self.options.subtype, "setting": self.options.setting}
        with self.bar(self.separator, seconds, shown(job.path.name)):
            return self.separator.separate_to_folder(
                job.folder, song, **how, outputs=self.plan.outputs, paths=files, wait=False
            )

    def _finish(self, job: Job, writer: WriteBehind, started: float) -> None:
        """Wait for the files of a song, and print and note the outcome."""
        gain = writer.wait()
        outcome = self._outcome(job)
        outcome.status, outcome.gain = "separated", gain
        outcome.stems = {name: str(path) for name, path in self.plan.files(job).items()}
        outcome.seconds_taken = taken = time.perf_counter() - started
        seconds = writer.writer.num_samples / writer.writer.sample_rate
        speed = f"({taken:.1f} s, {taken / seconds:.2f} x its duration)"
        line = f"{shown(job.path)} -> {shown(self.plan.place(job))}  {speed}"
        if gain < 1:
            form = self.options.format if self.options.format in lossy.LOSSY else self.options.subtype
            lower = f"all stems {20 * math.log10(gain):.1f} dB, or {form} would clip"
            line += f"\n  {lower} (a wav of --subtype FLOAT keeps the level)"
        tqdm.write(line)
        self.on_done(outcome)
