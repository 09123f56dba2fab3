"""Separate songs into stems: <out>/<name>/<instrument>.wav.

    python -m my_submission separate song.mp3
    python -m my_submission separate music/ --model B --out stems --format flac --report page.html
    python -m my_submission separate music/ --two-stems vocals --format mp3 --filename "{song} - {stem}" --json done.json
    torchrun --nproc-per-node 4 -m my_submission separate music/

The songs are files that libsndfile reads (wav, flac, mp3, ogg, opus, aiff, ...) or, if it is installed, ffmpeg (m4a, wma,
films, ...); a folder stands for all such files in it and below. The stems may go to the folder of the songs: --out music.
Songs that are already separated are skipped, so the same command continues after an interruption.

If samples beyond +-1 would clip, all stems of a song get the same lower gain, also in lossy formats; FLOAT keeps the level.
Decoded stems have the song's number of samples, or the corresponding number at the sample rate of the file.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio import form_options, lossy, outcomes
from my_submission.src.audio.files import AudioError, AudioFile, readable_seconds
from my_submission.src.audio.layout import Layout
from my_submission.src.audio.outcomes import Outcome
from my_submission.src.audio.outputs import choose
from my_submission.src.audio.plan import Plan
from my_submission.src.audio.prefetch import ReadAhead, WriteBehind, prefetch
from my_submission.src.audio.songs import Found, Job, find_songs, passed_over
from my_submission.src.common import cli
from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import escaped, shown
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.report.page import MARKER

if TYPE_CHECKING:
    from my_submission.src.family.blend import Blend
    from my_submission.src.separator import Separator

    Model: TypeAlias = Separator | Blend

T = TypeVar("T")


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 2 if a song could not be separated."""
    options = _parse(argv)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    _choose_model(options, rank)
    plan = _plan(options)
    found, jobs = plan.found, plan.found.jobs
    if options.report:
        inputs = [path for path in options.inputs if path.is_dir()]
        below_out = options.out.resolve() in options.report.resolve().parents  # a later search passes the page's audio over
        report.check_path(options.report, options.embed, apart_from=[] if below_out else inputs)
    if options.json:
        outcomes.check_path(options.json, [path for job in jobs for path in (job.path, *plan.files(job).values())])
    if rank == 0:
        _announce_reading(found, ranks)
    for folder in {job.folder.parent for job in jobs}:
        clear_dead(folder)
    separator = _open_separator(options, rank)
    batch = _Batch(separator, options, plan, rank)
    try:
        batch.separate_all(jobs[rank::ranks])
        done = _gather(batch.done) if ranks > 1 else batch.done
    except BaseException:
        if options.json and ranks == 1:
            _write_json(separator, jobs, batch.done, options)
        raise
    failed = {song: outcome.error for song, outcome in done.items() if outcome.error is not None}
    if rank == 0 and failed and len(jobs) > 1:
        print(f"{len(failed)} of {len(jobs)} songs failed", file=sys.stderr)
    if rank == 0 and options.json:
        _write_json(separator, jobs, done, options)
    if rank == 0 and options.report:  # one page for the songs of all ranks
        _write_page(separator, plan, failed, options)
    return 2 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission separate", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="songs, or folders of songs")
    cli.add_model_options(parser, "separate with", " (default: A, or demo if A's checkpoints are not installed)")
    parser.add_argument(
        "--out", type=Path, default=Path("separated"), metavar="DIR", help="folder for the stems (default: separated)"
    )
    cli.add_ensemble_options(parser)
    form_options.add_options(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="separate every song, replacing stems that are there (default: skip it)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write what became of each song, for scripts, also if some fail (default: none)",
    )
    report.add_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    form_options.check_options(parser, options)
    return options


def _choose_model(options: argparse.Namespace, rank: int) -> None:
    """Set the model if the options name none, and print a line if the demo has to do."""
    from my_submission.src.separator import default_model

    if not options.models:
        options.models = [default_model()]
        if options.models == ["demo"] and rank == 0:
            print("no --model is named, and no published checkpoints are installed: the small demo that comes along separates")


def _plan(options: argparse.Namespace) -> Plan:
    """Find the songs and stems that the options name. Raises UserError, also for a model without a config."""
    from my_submission.src.family.blend import default_outputs
    from my_submission.src.separator import MODELS, model_folder

    lossy.check_available(options.format)
    default = default_outputs(options.models, options.weights, options.set, options.config)
    places = [model_folder(model).resolve() for model in options.models]
    names = [place.stem if place.is_file() else place.name for place in places]
    names = [model if model in MODELS else name for model, name in zip(options.models, names, strict=True)]
    layout = Layout(options.filename, "+".join(names))
    chosen = options.stems.split(",") if options.stems is not None else None
    plan = Plan(choose(default, stems=chosen, two_stems=options.two_stems), layout, options.format)
    written = [output.name for output in plan.outputs]
    stems = [written, [output.name for output in default], INSTRUMENTS, ("vocals", "instrumental")]
    how = {"layout": layout, "written": written, "container": options.format, "overwrite": options.overwrite}
    plan.found = find_songs(options.inputs, options.out, stems, **how, marker=MARKER)
    return plan


def _announce_reading(found: Found, ranks: int) -> None:
    """Print the number of songs and their duration. A file that cannot be read is reported later, in its turn."""
    for line in passed_over(found):
        print(f"warning: {line}", file=sys.stderr)
    seconds, songs = readable_seconds(job.path for job in found.jobs), len(found.jobs)
    shared = f", shared by {ranks} processes" if ranks > 1 else ""
    print(f"{songs} {'song' if songs == 1 else 'songs'}, {seconds:.1f} s of audio{shared}")


def _open_separator(options: argparse.Namespace, rank: int) -> Model:
    """Load the models that the options name, and print which seeds, device and precision they use."""
    from my_submission.src.family.blend import advice, open_models, summary

    if options.device == "auto" and "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            options.device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    if rank == 0:
        cli.announce_compiling(options)
    separator = open_models(options.models, options.weights, **cli.ensemble_options(options))
    if rank == 0:
        if separator.note:
            print(f"note: {separator.note}")
        for line in advice(separator):
            print(f"note: {line}")
        print("\n".join(summary(options.models, separator)) + f" -> {shown(options.out)}", flush=True)
    return separator


@dataclass
class _Batch:
    """The songs of one process. A song that fails costs no other, in whatever way it fails."""

    separator: Model
    options: argparse.Namespace
    plan: Plan
    rank: int  # of this process, for the position of its progress bar
    done: dict[str, Outcome] = field(default_factory=dict)  # by song

    def separate_all(self, jobs: Sequence[Job]) -> None:
        """Separate the songs one after another, and print and note the outcome of each.

        While one song is on the device, the files of the previous one are finished, and the next one is being decoded.
        """
        self.separate(jobs)
        if self.separator.redone_chunks:
            precision = self.separator.precision
            print(f"{self.separator.redone_chunks} chunks were too loud for {precision} and done again in fp32")

    def separate(self, jobs: Sequence[Job]) -> None:
        """Separate the songs. After an interrupt, a song whose files take long to finish is deleted."""
        finishing: Future[None] | None = None  # at most one unfinished song at a time
        writers: list[WriteBehind] = []  # of that one, and of the song after it
        opened = prefetch(map(self._open, jobs), 1)
        with ThreadPoolExecutor(1) as finisher, contextlib.closing(opened):
            try:
                for job, song in zip(jobs, opened, strict=True):
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
            return None
        seconds = song.num_samples / song.sample_rate
        outcome.seconds, outcome.sample_rate = seconds, song.sample_rate
        how = {"container": self.options.format, "subtype": self.options.subtype, "setting": self.options.setting}
        with cli.seconds_bar(self.separator, seconds, shown(job.path.name), position=self.rank):
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


def _write_json(separator: Model, jobs: Sequence[Job], done: dict[str, Outcome], options: argparse.Namespace) -> None:
    """Write the outcome of every song of this call, in their order."""
    from my_submission.src.family.blend import facts

    songs = [done.get(str(job.path), Outcome(str(job.path))) for job in jobs]
    run = {name.removeprefix("the "): value for name, value in facts(options.models, separator).items()}
    outcomes.write_json(options.json, {**run, "format": options.format}, songs)


def _write_page(separator: Model, plan: Plan, failed: dict[str, str], options: argparse.Namespace) -> None:
    """Write the page of all songs of this call that are separated, by this run or an earlier one."""
    from my_submission.src.family.blend import facts

    songs = [
        report.Song(str(job.folder.relative_to(options.out)), job.path, plan.files(job))
        for job in plan.found.jobs
        if str(job.path) not in failed
    ]
    shown_facts = facts(options.models, separator)
    report.write_page(options.report, songs, title="Separated songs", facts=shown_facts, failed=failed, embed=options.embed)
    print(f"report: {shown(options.report)}")
    print(f"open: {options.report.resolve().as_uri()}")


def _gather(done: dict[str, Outcome]) -> dict[str, Outcome]:
    """Wait for all ranks, as torchrun stops the others when one exits with an error; return the outcomes of all."""
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    everywhere: list[dict[str, Outcome]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, done)
    torch.distributed.destroy_process_group()
    return {song: outcome for outcomes_of_rank in everywhere for song, outcome in outcomes_of_rank.items()}
