"""Score the demo on synthetic songs that no training has used: global SDR in dB of the ensemble, its seeds and the mixture.

    python tests/benchmarks/demo.py                      # twenty songs of 20 s
    python tests/benchmarks/demo.py --songs 3 --overlap 8

The songs and stems stay in --folder, so an interrupted command can be repeated.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import evaluate_locally  # noqa: E402
from my_submission.aicrowd_wrapper import AIcrowdWrapper  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.common.journal import Journal  # noqa: E402
from my_submission.src.evaluation.evaluate import JOURNAL, evaluate, members_of, settings_of_run  # noqa: E402
from my_submission.src.evaluation.results import INSTRUMENTS, Result, score_files  # noqa: E402
from my_submission.src.separator import open_model  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Make the songs, separate them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=int, default=20, help="number of songs (default: %(default)s)")
    parser.add_argument("--model", default="demo", help="demo, A, B or the folder of an ensemble (default: %(default)s)")
    folder = ROOT / "evaluator_outputs" / "demo_benchmark"
    parser.add_argument("--folder", type=Path, default=folder, help="folder of the songs and stems (default: %(default)s)")
    cli.add_ensemble_options(parser)
    options = parser.parse_args(argv)
    songs, out = options.folder / "songs", options.folder / "predictions"
    out.mkdir(parents=True, exist_ok=True)
    seeds = range(evaluate_locally.DEMO_SONGS.start, evaluate_locally.DEMO_SONGS.start + options.songs)
    evaluate_locally.make_demo_songs(songs, seeds)
    tracks = [f"song_{seed}" for seed in seeds]
    model = open_model(options.model, **cli.ensemble_options(options))
    members = members_of(model)
    with Journal(out / JOURNAL, settings_of_run(songs, model, members)) as journal:
        results, failed = evaluate(AIcrowdWrapper(songs, out, model=model), tracks, journal, members)
    print_table(results, songs)
    return 1 if failed else 0


def print_table(results: Sequence[Result], songs: Path) -> None:
    """Print one row per song, and the mean."""
    rows = [
        {
            **result.sdr,
            "mean": result.mean_sdr,
            **{name: fmean(sdr.values()) for name, sdr in result.members.items()},
            "mixture": fmean(
                score_files(songs / result.track / f"{name}.wav", songs / result.track / "mixture.wav") for name in INSTRUMENTS
            ),
            "real time": result.real_time_factor,
        }
        for result in results
    ]
    rows.append({name: fmean(row[name] for row in rows) for name in rows[0]})
    print(f"\n| song | {' | '.join(rows[0])} |\n|---{'|---' * len(rows[0])}|")
    for name, row in zip([*(result.track for result in results), "mean"], rows, strict=True):
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in row.values())} |")


if __name__ == "__main__":
    sys.exit(cli.run(main))
