"""Separate songs into stems: <out>/<name>/<instrument>.wav.

    python -m my_submission separate song.mp3
    python -m my_submission separate music/ --model B --out stems --format flac --report page.html
    torchrun --nproc-per-node 4 -m my_submission separate music/

The songs are files that libsndfile reads (wav, flac, mp3, ogg, opus, aiff); a folder stands for all such files in it and below.
Songs that are already separated are skipped, so the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from my_submission.src import report
from my_submission.src.audio.files import SUBTYPES, SUFFIXES, AudioError, AudioFile, readable_seconds
from my_submission.src.audio.prefetch import ReadAhead, prefetch
from my_submission.src.common import cli
from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.errors import UserError

if TYPE_CHECKING:
    from my_submission.src.separator import Separator


@dataclass(frozen=True)
class Job:
    """One song to separate."""

    path: Path
    folder: Path  # for its stems


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 2 if a song could not be separated."""
    options = _parse(argv)
    jobs = find_jobs(options.inputs, options.out)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if options.report:
        inputs = [path for path in options.inputs if path.is_dir()]
        below_out = options.out.resolve() in options.report.resolve().parents  # no songs are searched for there
        report.check_path(options.report, options.embed, apart_from=[] if below_out else inputs)
    if rank == 0:
        _announce_reading(jobs, ranks)
    for folder in {job.folder.parent for job in jobs}:
        clear_dead(folder)
    separator = _open_separator(options, rank)
    failed = separate_all(separator, jobs[rank::ranks], options, rank)
    if ranks > 1:
        failed = _gather_failures(failed)
    if rank == 0 and failed and len(jobs) > 1:
        print(f"{len(failed)} of {len(jobs)} songs failed", file=sys.stderr)
    if rank == 0 and options.report:  # one page for the songs of all ranks
        _write_page(separator, jobs, failed, options)
    return 2 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission separate", description=__doc__)
    parser.add_argument("inputs", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="songs, or folders of songs")
    parser.add_argument(
        "--model",
        default="A",
        metavar="A|B|demo|DIR",
        help="model that separates; DIR holds config.yaml and checkpoints (default: A)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("separated"), metavar="DIR", help="folder for the stems (default: separated)"
    )
    cli.add_ensemble_options(parser)
    parser.add_argument("--format", default="wav", choices=tuple(SUBTYPES), help="file format of the stems (default: wav)")
    parser.add_argument(
        "--subtype", default="PCM_16", choices=SUBTYPES["wav"], help="sample format of the stems (default: PCM_16)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="separate every song, replacing stems that are there (default: skip it)"
    )
    report.add_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    if options.subtype not in SUBTYPES[options.format]:
        parser.error(f"--format {options.format} has no --subtype {options.subtype}: {', '.join(SUBTYPES[options.format])}")
    return options


def find_jobs(inputs: Sequence[Path], out: Path) -> list[Job]:
    """Return a job for every song of the inputs. Its folder below `out` is the song's name, or its path below the input folder.

    Raises AudioError for a folder without audio, and for two songs that would share a folder.
    """
    jobs: dict[Path, Job] = {}
    for path in inputs:
        songs = _audio_below(path, out) if path.is_dir() else [path]
        if not songs:
            raise AudioError(f"{path}: holds no audio, expected files ending in {' '.join(SUFFIXES)}")
        for song in songs:
            below = song.relative_to(path).parent if path.is_dir() else Path()
            name = song.stem if song.stem.strip(".") else song.name  # "...mp3" has the stem ".."
            job = Job(song, out / below / name)
            other = jobs.setdefault(job.folder, job)
            if other.path.resolve() != song.resolve():
                raise AudioError(
                    f"{other.path} and {song} would both be written to {job.folder}; separate them with another --out each"
                )
    return list(jobs.values())


def _audio_below(folder: Path, out: Path) -> list[Path]:
    """Return the audio files in a folder and below, without hidden files and without those in `out`."""

    def wanted(path: Path) -> bool:
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        return path.suffix.lower() in SUFFIXES and path.is_file() and not hidden and out.resolve() not in path.resolve().parents

    return sorted(filter(wanted, folder.rglob("*")))


def _announce_reading(jobs: Sequence[Job], ranks: int) -> None:
    """Print the number of songs and their duration. A file that cannot be read is reported later, in its turn."""
    seconds = readable_seconds(job.path for job in jobs)
    shared = f", shared by {ranks} processes" if ranks > 1 else ""
    print(f"{len(jobs)} {'song' if len(jobs) == 1 else 'songs'}, {seconds:.1f} s of audio{shared}")


def _open_separator(options: argparse.Namespace, rank: int) -> Separator:
    """Load the model that the options name, and print which seeds, device and precision it uses."""
    from my_submission.src.separator import open_model

    if options.device == "auto" and "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            options.device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    if rank == 0:
        cli.announce_compiling(options)
    separator = open_model(options.model, **cli.ensemble_options(options))
    if rank == 0:
        if separator.note:
            print(f"note: {separator.note}")
        print(
            f"model {options.model}: seeds {', '.join(map(str, separator.checkpoints))} on {separator.device} in "
            f"{separator.precision}, overlap {separator.overlap} -> {options.out}",
            flush=True,
        )
    return separator


def separate_all(separator: Separator, jobs: Sequence[Job], options: argparse.Namespace, rank: int = 0) -> dict[str, str]:
    """Separate the songs one after another, and print the outcome of each.

    While one song is on the device, the files of the previous one are finished and the beginning of the next one is decoded.

    Args:
        separator: the model.
        jobs: the songs and their folders.
        options: as parsed: format, subtype and overwrite are used.
        rank: of this process, for the position of its progress bar (default: 0).

    Returns song -> reason for the songs that failed.
    """
    failed = {}

    def attempt(job: Job, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except UserError as error:
            failed[str(job.path)] = str(error)
            tqdm.write(f"error: {error}", file=sys.stderr)
            return None

    with ThreadPoolExecutor(1) as opener, ThreadPoolExecutor(1) as finisher:
        finishing = None
        songs = prefetch((opener.submit(_open, separator, job, options) for job in jobs), 1)
        for job, song in zip(jobs, songs, strict=True):
            finish = attempt(job, partial(_separate_one, separator, job, song, options, rank))
            if finishing:
                finishing.result()  # at most one unfinished song at a time
            finishing = finisher.submit(attempt, job, finish) if finish else None
    if separator.redone_chunks:
        print(f"{separator.redone_chunks} chunks were too loud for {separator.precision} and done again in fp32")
    return failed


def _open(separator: Separator, job: Job, options: argparse.Namespace) -> ReadAhead | None:
    """Start to decode the song of a job. Return None if its stems are there already."""
    stems = _stems(separator, job, options).values()
    there = [path for path in stems if path.exists()]
    if there and not options.overwrite:
        if len(there) == len(stems):
            return None
        raise AudioError(f"{job.folder}: holds {there[0].name} of another run; --overwrite replaces it")
    return ReadAhead(AudioFile(job.path))


def _separate_one(
    separator: Separator, job: Job, opened: Future[ReadAhead | None], options: argparse.Namespace, rank: int
) -> Callable[[], None] | None:
    """Separate one song. Return a function that waits for its files and prints the outcome; None if it was done already."""
    song = opened.result()
    if song is None:
        tqdm.write(f"{job.path}: is done already, in {job.folder} (--overwrite does it again)")
        return None
    started, seconds = time.perf_counter(), song.num_samples / song.sample_rate
    with cli.seconds_bar(separator, seconds, job.path.name, position=rank):
        writer = separator.separate_to_folder(job.folder, song, container=options.format, subtype=options.subtype, wait=False)

    def finish() -> None:
        gain = writer.wait()
        taken = time.perf_counter() - started
        line = f"{job.path} -> {job.folder}  ({taken:.1f} s, {taken / seconds:.2f} x its duration)"
        if gain < 1:
            decibels = 20 * math.log10(gain)
            line += (
                f"\n  all stems {decibels:.1f} dB, or {options.subtype} would clip (a wav of --subtype FLOAT keeps the level)"
            )
        tqdm.write(line)

    return finish


def _stems(separator: Separator, job: Job, options: argparse.Namespace) -> dict[str, Path]:
    """Return instrument -> the file of that stem."""
    return {name: job.folder / f"{name}.{options.format}" for name in separator.source_order}


def _write_page(separator: Separator, jobs: Sequence[Job], failed: dict[str, str], options: argparse.Namespace) -> None:
    """Write the page of all songs of this call that are separated, by this run or an earlier one."""
    songs = [
        report.Song(str(job.folder.relative_to(options.out)), job.path, _stems(separator, job, options))
        for job in jobs
        if str(job.path) not in failed
    ]
    facts = {
        "the model": options.model,
        "seeds": ", ".join(map(str, separator.checkpoints)),
        "overlap": separator.overlap,
        "precision": separator.precision,
        "device": separator.device,
    }
    report.write_page(options.report, songs, title="Separated songs", facts=facts, failed=failed, embed=options.embed)
    print(f"report: {options.report}")


def _gather_failures(failed: dict[str, str]) -> dict[str, str]:
    """Wait for all ranks, as torchrun stops the others when one exits with an error; return the failures of all."""
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(days=30))
    everywhere: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everywhere, failed)
    torch.distributed.destroy_process_group()
    return {song: reason for failures in everywhere for song, reason in failures.items()}
