"""Separate a dataset as the evaluator does, score it, and time it.

    python evaluate_locally.py --demo                      # needs no data and no download: made songs, a small ensemble, a page
    python evaluate_locally.py                             # ./public_dataset -> ./evaluator_outputs, beside this file
    python evaluate_locally.py --data songs --out predictions --model B --csv scores.csv --report page.html

Every folder of the dataset is a track: a mixture.wav, and bass.wav, drums.wav, other.wav and vocals.wav where it is to be
scored. The score is global SDR; the mean is over songs. The same command again goes on where it was interrupted, and tries
tracks that failed once more. Exit status: 0, 1 where a track failed, 2 for a mistake in what was asked for.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from my_submission.src import audio, report
from my_submission.src.audio.tracks import track_folders
from my_submission.src.common import cli
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import shown
from my_submission.src.evaluation.results import INSTRUMENTS, Result, line, print_report, score_files, write_csv

if TYPE_CHECKING:
    from my_submission.aicrowd_wrapper import AIcrowdWrapper

ROOT = Path(__file__).resolve().parent
JOURNAL = "evaluation.jsonl"  # in the folder of the predictions
DEMO = ROOT / "evaluator_outputs" / "demo"
DEMO_SONGS = range(1_000_000, 1_000_003)  # seeds, from those that nothing was trained on
DEMO_SECONDS = 20.0


class EvaluationError(UserError):
    """A dataset, a model or a track that cannot be evaluated."""


def main(argv: Sequence[str]) -> int:
    """The command: 0, or 1 where a track failed."""
    options = _parse(argv)
    data_option = "--demo" if options.demo else "--data"
    data = _folder(data_option, options.data, ROOT / "public_dataset", "AICROWD_DATASET_DIR")
    out = _folder("--out", options.out, ROOT / "evaluator_outputs", "AICROWD_PUBLIC_SHARED_DIR", "predictions")
    if options.demo:
        make_demo_songs(data, DEMO_SONGS)
    tracks = find_tracks(data, out)
    if options.csv and (options.csv.is_dir() or not options.csv.absolute().parent.is_dir()):
        raise EvaluationError(f"--csv {options.csv}: expected the name of a file in a folder that exists")
    if options.report:
        report.check_path(options.report, options.embed, apart_from=[data])

    from my_submission.aicrowd_wrapper import AIcrowdWrapper

    model = open_chosen_model(options)
    if getattr(model, "note", ""):
        print(f"note: {model.note}", flush=True)
    members = members_of(model) if options.each_seed else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be made ({error.strerror}); name another folder with --out") from error
    wrapper = AIcrowdWrapper(data, out, model=model)
    print(f"{len(tracks)} {'track' if len(tracks) == 1 else 'tracks'} of {data} -> {out}", flush=True)
    settings = settings_of_run(data, model) | {"each seed": ", ".join(members) or "no"}
    with Journal(out / JOURNAL, settings) as journal:
        results, failed = evaluate(wrapper, tracks, journal, members)
        if options.csv:
            write_csv(options.csv, results)
        print_report(results, failed, getattr(model, "redone_chunks", 0))
        if options.report:
            report.write_page(
                options.report,
                report.evaluated_tracks(results, data, out),
                title=f"Evaluation of {options.model or type(model).__name__}",
                facts=settings,
                failed=failed,
                embed=options.embed,
            )
            print(f"report: {options.report}")
        if not failed:
            journal.finish()
    return 1 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python evaluate_locally.py", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="the demo ensemble on songs made for it; writes a page, too")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the dataset (default: public_dataset)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the predictions (default: evaluator_outputs)")
    parser.add_argument(
        "--model", metavar="A|B|demo|DIR", help="DIR: config.yaml and checkpoints (default: what user_config.py names)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line per track and instrument")
    parser.add_argument("--each-seed", action="store_true", help="score every member of the ensemble by itself, too")
    report.add_options(parser)
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    if options.demo:
        _set_up_demo(parser, options)
    report.check_options(parser, options)
    return options


def _set_up_demo(parser: cli.Parser, options: argparse.Namespace) -> None:
    """What --demo stands for; folders and page may be others."""
    if options.model or options.data:
        parser.error("--demo brings its model and its songs; to use one of them, leave it out: --model demo --data DIR")
    options.model, options.data, options.each_seed = "demo", DEMO / "songs", True
    options.out = options.out or DEMO / "predictions"
    options.report = options.report or DEMO / "report.html"


def _folder(option: str, asked: Path | None, default: Path, variable: str, below: str = "") -> Path:
    """The folder that the wrapper is going to use: the environment's, or the option's, or the default."""
    environment = os.environ.get(variable)
    if not environment:
        return asked or default
    if asked:
        raise EvaluationError(
            f"{option} {asked}: {variable} is set too, to {environment}, and would win; unset it, or leave {option} out"
        )
    return Path(environment) / below


def make_demo_songs(folder: Path, seeds: Sequence[int]) -> None:
    """Make the songs of these seeds for the demo, if they are not there. Raises SynthError."""
    from my_submission.src.synth.command import write_song

    for seed in tqdm(seeds, desc="making songs", unit="song", leave=False, disable=None):
        write_song(folder / f"song_{seed}", seed, DEMO_SECONDS)


def members_of(model: Any) -> dict[str, Any]:
    """ "seed 0" -> that member of an ensemble as a model of its own. Raises EvaluationError where there are not several."""
    members = model.members() if hasattr(model, "members") else {}
    if len(members) < 2:
        raise EvaluationError("--each-seed: this model is no ensemble of several seeds; leave it out")
    return {f"seed {seed}": member for seed, member in members.items()}


def find_tracks(data: Path, out: Path) -> list[str]:
    """Names of the dataset's tracks: its folders, but hidden ones.

    Raises EvaluationError where there is none, and where predictions would land among the tracks.
    """
    if not data.is_dir():
        raise EvaluationError(f"{data}: no such folder, expected a dataset; name yours with --data")
    if data.resolve() in (out.resolve(), *out.resolve().parents):
        raise EvaluationError(f"--out {out}: lies in the dataset {data}; expected a folder elsewhere")
    tracks = [folder.name for folder in track_folders(data)]
    if not tracks:
        raise EvaluationError(f"{data}: holds no tracks, expected a folder for each, with a mixture.wav in it")
    return tracks


def open_chosen_model(options: argparse.Namespace) -> Any:
    """What --model names, or user_config's class, with the ensemble's options. Raises UserError."""
    from my_submission.src.separator import open_model
    from my_submission.user_config import MySeparationModel

    cli.announce_compiling(options)
    ensemble = cli.ensemble_options(options)
    if options.model:
        model = open_model(options.model, **ensemble)
    else:  # a class of the user's own need not take any
        given = {name: value for name, value in ensemble.items() if value not in (None, "auto")}
        try:
            inspect.signature(MySeparationModel).bind(**given)
        except TypeError as error:
            raise EvaluationError(f"MySeparationModel of user_config.py does not take these options ({error})") from error
        model = MySeparationModel(**given)
    if sorted(model.instruments) != list(INSTRUMENTS):
        raise EvaluationError(
            f"{options.model or 'MySeparationModel'}: separates {', '.join(model.instruments)}; the challenge wants exactly "
            f"{', '.join(INSTRUMENTS)} (to use another model: python -m my_submission separate)"
        )
    return model


def settings_of_run(data: Path, model: Any) -> dict[str, Any]:
    """What tells one evaluation from another."""
    from my_submission.src.separator import Separator

    settings = {"the dataset": str(data.resolve()), "the model's class": type(model).__qualname__}
    return settings | (model.settings() if isinstance(model, Separator) else {})


def evaluate(
    wrapper: AIcrowdWrapper, tracks: Sequence[str], journal: Journal, members: Mapping[str, Any]
) -> tuple[list[Result], dict[str, str]]:
    """Evaluate what the journal does not hold yet: results in the order of the tracks, and why the others failed."""
    results = {entry["track"]: Result(**entry) for entry in journal.entries}
    results = {track: results[track] for track in tracks if track in results and _is_current(results[track], wrapper)}
    failed = {}
    if journal.differences:
        print(f"beginning anew: {'; '.join(journal.differences)}", flush=True)
    if results:
        print(f"going on where the last evaluation stopped: {len(results)} of {len(tracks)} tracks are done", flush=True)
    with tqdm(total=len(tracks), initial=len(results), desc="tracks", unit="track", disable=None) as bar:
        for track in tracks:
            if track in results:
                continue
            try:
                result = evaluate_track(wrapper, track, members)
            except UserError as error:
                failed[track] = str(error)
            except Exception as error:  # a model of the user's own may fail in any way; the other tracks are worth having
                failed[track] = f"{type(error).__name__}: {error}"
                tqdm.write(traceback.format_exc(), file=sys.stderr)
            else:
                journal.append(asdict(result))
                results[track] = result
            tqdm.write(f"{shown(track)}: {line(results[track]) if track in results else 'FAILED: ' + failed[track]}")
            sys.stdout.flush()
            bar.update()
    return [results[track] for track in tracks if track in results], failed


def _is_current(result: Result, wrapper: AIcrowdWrapper) -> bool:
    """Whether a result of the journal still holds: the same files went in, and the predictions are there."""
    predictions = wrapper.predictions_dir / result.track
    there = all((predictions / f"{name}.wav").is_file() for name in INSTRUMENTS)
    return there and result.files == _stamps(wrapper.dataset_dir / result.track)


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Size and time of change of a track's files."""
    paths = [folder / f"{name}.wav" for name in ("mixture", *INSTRUMENTS)]
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths if path.exists()}


def evaluate_track(wrapper: AIcrowdWrapper, track: str, members: Mapping[str, Any]) -> Result:
    """Separate one track through the wrapper and score the files that it wrote, as the challenge does; `members` likewise.

    Raises UserError for audio that cannot be used, and what the model and the wrapper raise.
    """
    folder, predictions = wrapper.dataset_dir / track, wrapper.predictions_dir / track
    for name in INSTRUMENTS:  # of an earlier run: a track that fails leaves no old stems behind
        (predictions / f"{name}.wav").unlink(missing_ok=True)
    files = _stamps(folder)
    seconds = audio.AudioFile(folder / "mixture.wav").seconds
    started = time.perf_counter()
    with cli.seconds_bar(wrapper.model, seconds, "this track", position=1):
        wrapper.separate_music_file(track)
    taken = time.perf_counter() - started
    missing = [name for name in INSTRUMENTS if not (folder / f"{name}.wav").exists()]
    sdr = {} if missing else _scores(folder, predictions)
    by_member = {} if missing else {name: _score_member(wrapper, member, track) for name, member in members.items()}
    return Result(track, seconds, taken, sdr, missing, files, by_member)


def _scores(references: Path, predictions: Path) -> dict[str, float]:
    return {name: score_files(references / f"{name}.wav", predictions / f"{name}.wav") for name in INSTRUMENTS}


def _score_member(wrapper: AIcrowdWrapper, member: Any, track: str) -> dict[str, float]:
    """The scores of another model on a track, by the same way through files, of which none is kept."""
    with tempfile.TemporaryDirectory(prefix="member_", dir=wrapper.predictions_dir) as folder:
        other = copy.copy(wrapper)
        other.model, other.predictions_dir = member, Path(folder)
        other.separate_music_file(track)
        return _scores(wrapper.dataset_dir / track, Path(folder) / track)


if __name__ == "__main__":
    sys.exit(cli.run(main))
