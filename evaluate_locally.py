"""Separate a dataset as the evaluator does, score it, and time it.

    python evaluate_locally.py --demo                      # needs no data and no download: made songs, a small ensemble, a page
    python evaluate_locally.py                             # ./public_dataset -> ./evaluator_outputs, both next to this file
    python evaluate_locally.py --data songs --out predictions --model B --csv scores.csv --report page.html

Every folder of the dataset is a track: a mixture.wav, and bass.wav, drums.wav, other.wav and vocals.wav if it is to be scored.
The score is global SDR; the mean is over songs. After an interruption, the same command continues, and tries tracks that failed
once more. Exit status: 0; 1 if a track failed; 2 for a mistake in the options or the data.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from my_submission.src import report
from my_submission.src.common import cli
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import shown
from my_submission.src.evaluation.evaluate import (
    JOURNAL,
    EnsembleModel,
    EvaluationError,
    Model,
    evaluate,
    make_own_model,
    members_of,
    refuse_other_instruments,
    settings_of_run,
    track_names,
)
from my_submission.src.evaluation.results import print_report, write_csv

ROOT = Path(__file__).resolve().parent
DEMO = ROOT / "evaluator_outputs" / "demo"
DEMO_SONGS = range(1_000_000, 1_000_003)  # seeds that no training has used
DEMO_SECONDS = 20.0


def main(argv: Sequence[str]) -> int:
    """Run the command; return 0, or 1 if a track failed."""
    options = _parse(argv)
    data_option = "--demo" if options.demo else "--data"
    data = _folder(data_option, options.data, ROOT / "public_dataset", "AICROWD_DATASET_DIR")
    out = _folder("--out", options.out, ROOT / "evaluator_outputs", "AICROWD_PUBLIC_SHARED_DIR", "predictions")
    if options.demo:
        make_demo_songs(data, DEMO_SONGS)
    tracks = track_names(data, out)
    if options.csv and (options.csv.is_dir() or not options.csv.absolute().parent.is_dir()):
        raise EvaluationError(f"--csv {options.csv}: expected the name of a file in a folder that exists")
    if options.report:
        report.check_path(options.report, options.embed, apart_from=[data])

    from my_submission.aicrowd_wrapper import AIcrowdWrapper

    model = _open_model(options)
    if isinstance(model, EnsembleModel) and model.note:
        print(f"note: {model.note}", flush=True)
    members = members_of(model) if options.each_seed else {}
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"{out}: cannot be made ({error.strerror}); name another folder with --out") from error
    wrapper = AIcrowdWrapper(data, out, model=model)
    print(f"{len(tracks)} {'track' if len(tracks) == 1 else 'tracks'} of {shown(data)} -> {shown(out)}", flush=True)
    settings = settings_of_run(data, model, members)
    with Journal(out / JOURNAL, settings) as journal:
        results, failed = evaluate(wrapper, tracks, journal, members)
        if options.csv:
            write_csv(options.csv, results)
        print_report(results, failed, model.redone_chunks if isinstance(model, EnsembleModel) else 0)
        if options.report:
            report.write_page(
                options.report,
                report.evaluated_songs(results, data, out),
                title=f"Evaluation of {', '.join(options.models or [type(model).__name__])}",
                facts=settings,
                failed=failed,
                embed=options.embed,
            )
            print(f"report: {shown(options.report)}")
        if not failed:
            journal.finish()
    return 1 if failed else 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python evaluate_locally.py", description=__doc__)
    parser.add_argument("--demo", action="store_true", help="evaluate the demo ensemble on songs made for it; write a page too")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the dataset (default: public_dataset, next to this file)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the predictions (default: evaluator_outputs, next to this file)"
    )
    cli.add_model_options(parser, "evaluate", " (default: MySeparationModel of user_config.py)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores as a table, a row per track and instrument")
    parser.add_argument("--each-seed", action="store_true", help="also score every member of the ensemble by itself")
    report.add_options(parser)
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    if options.weights and not options.models:
        parser.error("--weights weighs the models of --model; name them")
    if options.demo:
        _set_up_demo(parser, options)
    report.check_options(parser, options)
    return options


def _set_up_demo(parser: cli.Parser, options: argparse.Namespace) -> None:
    """Set the options that --demo implies; --out and --report may still be given."""
    if options.models or options.data:
        parser.error("--demo brings its model and its songs; to use one of them, leave it out: --model demo --data DIR")
    options.models, options.data, options.each_seed = ["demo"], DEMO / "songs", True
    options.out = options.out or DEMO / "predictions"
    options.report = options.report or DEMO / "report.html"


def _folder(option: str, asked: Path | None, default: Path, variable: str, below: str = "") -> Path:
    """Return the folder that the wrapper is going to use.

    Args:
        option: the option's name, for messages.
        asked: the option's value, if it was given.
        default: the folder without option and environment variable.
        variable: the environment variable that overrides both.
        below: folder appended to the variable's value (default: none).
    """
    environment = os.environ.get(variable)
    if not environment:
        return asked or default
    if asked:
        raise EvaluationError(
            f"{option} {asked}: {variable} is set too, to {environment}, and would win; unset it, or leave {option} out"
        )
    return Path(environment) / below


def make_demo_songs(folder: Path, seeds: Sequence[int]) -> None:
    """Make the demo's songs of these seeds, unless they are there already. Raises SynthError."""
    from my_submission.src.synth.command import write_song

    for seed in tqdm(seeds, desc="making songs", unit="song", leave=False, disable=None):
        write_song(folder / f"song_{seed}", seed, DEMO_SECONDS)


def _open_model(options: argparse.Namespace) -> Model:
    """Return the model of --model, or user_config.py's own, with the ensemble's options. Raises UserError."""
    from my_submission.src.family.blend import open_models
    from my_submission.user_config import MySeparationModel

    cli.announce_compiling(options)
    ensemble = cli.ensemble_options(options)
    if options.models:
        model: Model = open_models(options.models, options.weights, **ensemble)
    else:
        model = make_own_model(MySeparationModel, ensemble)
    refuse_other_instruments(model, ", ".join(options.models or ["MySeparationModel"]))
    return model


if __name__ == "__main__":
    sys.exit(cli.run(main))
