"""Separate songs into stems: <out>/<name>/<instrument>.wav.

    python -m my_submission separate song.mp3
    python -m my_submission separate music/ --model B --out stems --format flac --report page.html
    python -m my_submission separate music/ --two-stems vocals --format mp3 --filename "{song} - {stem}" --json done.json
    python -m my_submission separate music/ --jobs 4
    torchrun --nproc-per-node 4 -m my_submission separate music/

The songs are files that libsndfile reads (wav, flac, mp3, ogg, opus, aiff, ...) or, if it is installed, ffmpeg (m4a, wma,
films, ...); a folder stands for all such files in it and below. The stems may go to the folder of the songs: --out music.
Songs that are already separated are skipped, so the same command continues after an interruption.

--jobs N separates N songs at a time, each in a process of its own with 1/N of the CPU's cores. Each process holds the network
and its buffers. OMP_NUM_THREADS sets the number of threads of each process; another number may change samples' last bits.

If samples beyond +-1 would clip, all stems of a song get the same lower gain, also in lossy formats; FLOAT keeps the level.
Decoded stems have the song's number of samples, or the corresponding number at the sample rate of the file.
"""

from __future__ import annotations

import argparse
import datetime
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from my_submission.src import report
from my_submission.src.audio import form_options, lossy, outcomes
from my_submission.src.audio.files import readable_seconds
from my_submission.src.audio.layout import Layout
from my_submission.src.audio.outcomes import Outcome
from my_submission.src.audio.outputs import choose
from my_submission.src.audio.plan import Plan
from my_submission.src.audio.songs import Found, Job, find_songs, passed_over
from my_submission.src.common import cli
from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.report.page import MARKER
from my_submission.src.separate.batch import Batch, announcement, open_separator
from my_submission.src.separate.jobs import Workers

Facts: TypeAlias = Mapping[str, object]


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
    processes = _processes(options, plan)
    if rank == 0:
        _announce_reading(found, max(ranks, processes))
    for folder in {job.folder.parent for job in jobs}:
        clear_dead(folder)
    run = Workers(options, plan, processes) if processes > 1 else _batch(options, plan, rank)
    try:
        run.separate_all(jobs[rank::ranks])
        done = _gather(run.done) if ranks > 1 else run.done
    except BaseException:
        if options.json and ranks == 1 and run.facts():  # there are none if no worker has opened the model yet
            _write_json(run.facts(), jobs, run.done, options)
        raise
    ordered = [done[song] for song in (str(job.path) for job in jobs) if song in done]
    failed = {outcome.path: outcome.error for outcome in ordered if outcome.error is not None}
    if rank == 0 and failed and len(jobs) > 1:
        print(f"{len(failed)} of {len(jobs)} songs failed", file=sys.stderr)
    if rank == 0 and options.json:
        _write_json(run.facts(), jobs, done, options)
    if rank == 0 and options.report:  # one page for the songs of all ranks
        _write_page(run.facts(), plan, failed, options)
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
    parser.add_argument(
        "--jobs",
        type=cli.positive,
        default=1,
        metavar="N",
        help="number of songs at a time on CPUs, in N processes that share the cores; each holds the network and its buffers "
        "in memory (default: 1)",
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


def _processes(options: argparse.Namespace, plan: Plan) -> int:
    """Return the number of processes: --jobs, or less if fewer songs are to be separated. Raises UserError."""
    if options.jobs == 1:
        return 1
    name, advice = f"--jobs {options.jobs}", "leave one of the two out"
    if "RANK" in os.environ:
        raise UserError(f"{name}: torchrun has started processes already; {advice}")
    from my_submission.src.runtime.device import pick_device

    device = pick_device(options.device)
    if device.type != "cpu":
        raise UserError(f"{name}: is for CPUs, and the device is {device}; leave it out, or choose --device cpu")
    songs = [list(plan.files(job).values()) for job in plan.found.jobs]
    waiting = [stems for stems in songs if options.overwrite or not all(path.exists() for path in stems)]
    return max(1, min(options.jobs, len(waiting)))


def _batch(options: argparse.Namespace, plan: Plan, rank: int) -> Batch:
    """Load the models that the options name, and print which seeds, device and precision they use."""
    if options.device == "auto" and "LOCAL_RANK" in os.environ:
        import torch

        if torch.cuda.is_available():
            options.device = f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    if rank == 0:
        cli.announce_compiling(options)
    separator = open_separator(options)
    if rank == 0:
        print("\n".join(announcement(separator, options)), flush=True)
    return Batch(separator, options, plan, partial(cli.seconds_bar, position=rank))


def _write_json(facts: Facts, jobs: Sequence[Job], done: dict[str, Outcome], options: argparse.Namespace) -> None:
    """Write the outcome of every song of this call, in their order."""
    songs = [done.get(str(job.path), Outcome(str(job.path))) for job in jobs]
    run = {name.removeprefix("the "): value for name, value in facts.items()}
    outcomes.write_json(options.json, {**run, "format": options.format}, songs)


def _write_page(facts: Facts, plan: Plan, failed: dict[str, str], options: argparse.Namespace) -> None:
    """Write the page of all songs of this call that are separated, by this run or an earlier one."""
    songs = [
        report.Song(str(job.folder.relative_to(options.out)), job.path, plan.files(job))
        for job in plan.found.jobs
        if str(job.path) not in failed
    ]
    report.write_page(options.report, songs, title="Separated songs", facts=facts, failed=failed, embed=options.embed)
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
