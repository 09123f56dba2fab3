"""Compare quality with time for several overlaps, seeds, windows and precisions, on songs that no training has used.

    python tests/benchmarks/quality.py                   # the demo on six songs of 20 s
    python tests/benchmarks/quality.py --songs 20 --json quality.json
    python tests/benchmarks/quality.py --precision bf16 fp16 --device cuda

Each song is separated with every setting in turn, from memory to memory; the first chunks of a setting are not counted. The
columns of the table:

    s/s         median over songs and rounds of the seconds per second of audio
    SDR, dB     global SDR, mean over songs and instruments
    difference  of the SDR to the published settings (all seeds, overlap 8, rectangular window, fp32), with the standard error
                of its mean over songs
    agreement   energy of the published settings' estimates relative to that of the difference to them, mean over songs
    steps       how the steps of the stems' waveforms where chunks begin rank among the steps around them, median: about 0.5
                where nothing is special, near 1 where every chunk begins with a click

Short songs cost more per second than long ones, because some chunks reach past both ends; a higher overlap has more of these.
The songs stay in --folder, which demo.py shares.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from measuring import agreement, command, machine, print_table, ranks_of_steps, write_json  # noqa: E402

import evaluate_locally  # noqa: E402
from my_submission.src import audio  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.evaluation.metrics import global_sdr  # noqa: E402
from my_submission.src.overlap_add import WINDOWS  # noqa: E402
from my_submission.src.separator import Separator, open_model  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Setting:
    """The settings of a separation. The defaults are the published ones."""

    seeds: tuple[int, ...] | None = None  # None: all
    overlap: int = 8
    window: str = "rectangular"
    precision: str = "fp32"


@dataclasses.dataclass(frozen=True)
class Song:
    """A mixture and its stems."""

    mixture: audio.AudioArray
    stems: dict[str, NDArray[np.float32]]  # instrument -> [n, C]


@dataclasses.dataclass
class Measured:
    """A setting and its results."""

    setting: Setting
    separator: Separator
    note: str
    sdr: list[float] = dataclasses.field(default_factory=list)  # per song: dB, mean over instruments
    agreement: list[float] = dataclasses.field(default_factory=list)  # per song: dB
    steps: list[float] = dataclasses.field(default_factory=list)  # per song, border, stem and channel: 0 to 1
    pace: list[float] = dataclasses.field(default_factory=list)  # per song and round: seconds per second of audio


PUBLISHED = Setting()


def main(argv: Sequence[str]) -> int:
    """Separate every song with every setting, print the table and write JSON."""
    options = parse(argv)
    measured = [open_setting(setting, options) for setting in settings(options.precision)]
    names = make_songs(options.folder / "songs", options.songs)
    for name in names:
        measure(read_song(options.folder / "songs" / name, options.seconds), measured, options.rounds)
        print(f"{name} done", file=sys.stderr, flush=True)
    rows = sorted((summary(each, measured[0]) for each in measured), key=lambda row: row["s_per_s"])
    device = machine(measured[0].separator.device)
    length = f"{options.seconds:g} s" if options.seconds else f"{evaluate_locally.DEMO_SECONDS:g} s"
    print(f"{options.model}, {len(names)} synthetic songs of {length}, {options.rounds} rounds; {device}\n{command()}")
    report(rows)
    write_json(options.json, device, rows, model=options.model, songs=names, length=length, rounds=options.rounds)
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add, folder = parser.add_argument, ROOT / "evaluator_outputs" / "demo_benchmark"
    add("--songs", type=cli.positive, default=6, help="number of songs (default: 6)")
    add("--seconds", type=float, help="seconds of each song, from its beginning (default: all)")
    add("--rounds", type=cli.positive, default=1, help="separations of each song with each setting (default: 1)")
    add("--model", default="demo", help="demo, A, B or the folder of an ensemble (default: demo)")
    add("--precision", nargs="*", default=["bf16"], choices=("fp16", "bf16"), help="precisions besides fp32 (default: bf16)")
    add("--device", default="auto", help="cuda, cuda:N, mps or cpu (default: the best available)")
    add("--folder", type=Path, default=folder, help="folder of the songs (default: %(default)s)")
    add("--json", type=Path, help="file for all results (default: none)")
    return parser.parse_args(argv)


def settings(precisions: Sequence[str]) -> Iterator[Setting]:
    """Yield the settings to compare, the published ones first; each line varies one of them."""
    windows = [window for window in WINDOWS if window != PUBLISHED.window]
    yield PUBLISHED
    yield from (Setting(None, overlap) for overlap in (1, 2, 4))
    yield from (Setting(None, overlap, window) for window, overlap in itertools.product(windows, (2, 4)))
    yield from (Setting((0,), overlap) for overlap in (1, 2, 8))
    yield from (Setting((0,), 2, window) for window in windows)
    yield from (Setting(seeds, 2, precision=precision) for precision, seeds in itertools.product(precisions, (None, (0,))))


def open_setting(setting: Setting, options: argparse.Namespace) -> Measured:
    """Open a separator for a setting. The window is set in its config, because it is no option of a separator."""
    how = {"device": options.device, "precision": setting.precision}
    separator = open_model(options.model, seeds=setting.seeds, overlap=setting.overlap, **how)
    config, notes = separator.config, ["published" if setting == PUBLISHED else ""]
    if setting == dataclasses.replace(PUBLISHED, overlap=config.inference.num_overlap, window=config.inference.window):
        notes.append("the config's")
    if setting == Setting((0,), 2, config.inference.window):
        notes.append("`--fast`")
    inference = dataclasses.replace(config.inference, window=setting.window)
    separator.config = dataclasses.replace(config, inference=inference)
    return Measured(setting, separator, ", ".join(filter(None, notes)))


def make_songs(folder: Path, count: int) -> list[str]:
    """Make the songs that are missing and return the names of all."""
    first = evaluate_locally.DEMO_SONGS.start
    seeds = range(first, first + count)
    evaluate_locally.make_demo_songs(folder, seeds)
    return [f"song_{seed}" for seed in seeds]


def read_song(folder: Path, seconds: float | None) -> Song:
    """Read a song, or its first `seconds`."""
    sounds = {path.stem: audio.read(path) for path in sorted(folder.glob("*.wav"))}
    rate = sounds["mixture"][1]
    stems = {name: sound[: None if seconds is None else round(seconds * rate)] for name, (sound, _) in sounds.items()}
    return Song(audio.AudioArray(stems.pop("mixture"), rate), stems)


def measure(song: Song, measured: Sequence[Measured], rounds: int) -> None:
    """Separate a song with every setting in turn. The first setting must be the published one, the reference of the others."""
    for each in measured:
        if not each.pace:  # torch initialises itself in the first chunks
            each.separator.separate_array(
                audio.AudioArray(song.mixture.array[: each.separator.config.inference_chunk_size], song.mixture.sample_rate)
            )
    published = None
    for turn in range(rounds):
        for each in measured:
            begin = time.perf_counter()
            estimates = each.separator.separate_array(song.mixture)  # [S, n, C]
            each.pace.append((time.perf_counter() - begin) * song.mixture.sample_rate / song.mixture.num_samples)
            if turn > 0:  # later rounds have the same estimates
                continue
            published = estimates if published is None else published
            found = zip(each.separator.source_order, estimates, strict=True)
            each.sdr.append(statistics.fmean(global_sdr(song.stems[name], estimate) for name, estimate in found))
            each.agreement.append(agreement(estimates, published))
            hop = each.separator.config.inference_chunk_size // each.separator.overlap
            each.steps += ranks_of_steps(estimates, range(hop, song.mixture.num_samples, hop))


def summary(each: Measured, published: Measured) -> dict[str, Any]:
    """Return the row of a setting."""
    differences = [mine - theirs for mine, theirs in zip(each.sdr, published.sdr, strict=True)]
    error = statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else None
    return {
        **dataclasses.asdict(each.setting),
        "seeds": list(each.separator.checkpoints),
        "note": each.note,
        "s_per_s": statistics.median(each.pace),
        "sdr_db": statistics.fmean(each.sdr),
        "difference_db": statistics.fmean(differences),
        "standard_error_db": error,
        "agreement_db": None if each is published else statistics.fmean(each.agreement),
        "steps": statistics.median(each.steps) if each.steps else None,
        "sdr_of_songs_db": each.sdr,
        "paces": each.pace,
    }


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print one row per setting, in the given order."""
    heads = ["seeds", "overlap", "window", "precision", "s/s", "SDR, dB", "difference", "agreement", "steps", ""]
    cells = [
        [
            ",".join(map(str, row["seeds"])),
            str(row["overlap"]),
            row["window"],
            row["precision"],
            f"{row['s_per_s']:.3f}",
            f"{row['sdr_db']:.2f}",
            f"{row['difference_db']:+.3f}" + ("" if row["standard_error_db"] is None else f" ± {row['standard_error_db']:.3f}"),
            "" if row["agreement_db"] is None else f"{row['agreement_db']:.1f} dB",
            "" if row["steps"] is None else f"{row['steps']:.2f}",
            row["note"],
        ]
        for row in rows
    ]
    print_table(heads, cells)


if __name__ == "__main__":
    sys.exit(cli.run(main))
