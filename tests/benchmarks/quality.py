"""Quality against time: what overlap, seeds, window and precision buy, on songs that nothing was trained on.

    python tests/benchmarks/quality.py                   # the demo on six songs of 20 s
    python tests/benchmarks/quality.py --songs 20 --json quality.json
    python tests/benchmarks/quality.py --precision bf16 fp16 --device cuda

Settings take turns on each song, after a first separation that does not count; time is the median over songs and rounds, of
audio in memory. The score is global SDR, mean over songs and instruments; the difference is to the published settings (all
seeds, overlap 8, equal weight, fp32), with the standard error of its mean over songs. Agreement is with those settings'
estimates. Songs this short have more chunks that stick out at both ends, by the second, than long ones, the more so the more
they overlap. The songs stay in --folder, where demo.py has them, too.
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

from measuring import agreement, command, machine, print_table, write_json  # noqa: E402

import evaluate_locally  # noqa: E402
from my_submission.src import audio  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.evaluation.metrics import global_sdr  # noqa: E402
from my_submission.src.separator import Separator, open_model  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Setting:
    """One way to separate. The defaults are the published ones."""

    seeds: tuple[int, ...] | None = None  # all of them
    overlap: int = 8
    window: str = "rectangular"
    precision: str = "fp32"


@dataclasses.dataclass(frozen=True)
class Song:
    """A mixture and what it is made of."""

    mixture: audio.AudioArray
    stems: dict[str, NDArray[np.float32]]  # instrument -> [n, C]


@dataclasses.dataclass
class Measured:
    """A setting, and what it reached: a number per song, and per song and round."""

    setting: Setting
    separator: Separator
    note: str
    sdr: list[float] = dataclasses.field(default_factory=list)  # dB, mean over instruments
    agreement: list[float] = dataclasses.field(default_factory=list)  # dB
    pace: list[float] = dataclasses.field(default_factory=list)  # seconds per second of audio


PUBLISHED = Setting()


def main(argv: Sequence[str]) -> int:
    """Separate every song with every setting, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--songs", type=cli.positive, default=6)
    parser.add_argument("--seconds", type=float, help="of each song, from its beginning (default: all)")
    parser.add_argument("--rounds", type=cli.positive, default=1, help="times that each song is separated")
    parser.add_argument("--model", default="demo", help="or A, B, a folder with another ensemble")
    parser.add_argument("--precision", nargs="*", default=["bf16"], choices=("fp16", "bf16"), help="beside fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, default=ROOT / "evaluator_outputs" / "demo_benchmark")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    measured = [opened(setting, options) for setting in settings(options.precision)]
    names = make_songs(options.folder / "songs", options.songs)
    for name in names:
        measure(read_song(options.folder / "songs" / name, options.seconds), measured, options.rounds)
        print(f"{name} done", file=sys.stderr, flush=True)
    rows = sorted((summary(each, measured[0]) for each in measured), key=lambda row: row["s_per_s"])
    device = machine(measured[0].separator.device)
    length = f"{options.seconds:g} s" if options.seconds else f"{evaluate_locally.DEMO_SECONDS:g} s"
    print(f"{options.model}, {len(names)} made songs of {length}, {options.rounds} rounds; {device}\n{command()}")
    report(rows)
    write_json(options.json, device, rows, model=options.model, songs=names, length=length, rounds=options.rounds)
    return 0


def settings(precisions: Sequence[str]) -> Iterator[Setting]:
    """What is compared, the published settings first; each line varies one thing."""
    yield PUBLISHED
    yield from (Setting(None, overlap) for overlap in (1, 2, 4))
    yield from (Setting(None, overlap, "hann") for overlap in (2, 4))
    yield from (Setting((0,), overlap) for overlap in (1, 2, 8))
    yield Setting((0,), 2, "hann")
    yield from (Setting(seeds, 2, precision=precision) for precision, seeds in itertools.product(precisions, (None, (0,))))


def opened(setting: Setting, options: argparse.Namespace) -> Measured:
    """A separator for a setting; its window is the config's to say."""
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
    """Make the songs where they are not there; give their names."""
    first = evaluate_locally.DEMO_SONGS.start
    seeds = range(first, first + count)
    evaluate_locally.make_demo_songs(folder, seeds)
    return [f"song_{seed}" for seed in seeds]


def read_song(folder: Path, seconds: float | None) -> Song:
    """A song, or its beginning."""
    sounds = {path.stem: audio.read(path) for path in sorted(folder.glob("*.wav"))}
    rate = sounds["mixture"][1]
    stems = {name: sound[: None if seconds is None else round(seconds * rate)] for name, (sound, _) in sounds.items()}
    return Song(audio.AudioArray(stems.pop("mixture"), rate), stems)


def measure(song: Song, measured: Sequence[Measured], rounds: int) -> None:
    """Separate a song with every setting in turn; the published ones come first, for the others to be compared with."""
    for each in measured:
        if not each.pace:  # the first chunks pay for torch's own set-up
            each.separator.separate_array(
                audio.AudioArray(song.mixture.array[: each.separator.config.inference_chunk_size], song.mixture.sample_rate)
            )
    published = None
    for turn in range(rounds):
        for each in measured:
            begin = time.perf_counter()
            estimates = each.separator.separate_array(song.mixture)  # [S, n, C]
            each.pace.append((time.perf_counter() - begin) * song.mixture.sample_rate / song.mixture.num_samples)
            if turn > 0:  # the same estimates again
                continue
            published = estimates if published is None else published
            found = zip(each.separator.source_order, estimates, strict=True)
            each.sdr.append(statistics.fmean(global_sdr(song.stems[name], estimate) for name, estimate in found))
            each.agreement.append(agreement(estimates, published))


def summary(each: Measured, published: Measured) -> dict[str, Any]:
    """A setting's row."""
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
        "sdr_of_songs_db": each.sdr,
        "paces": each.pace,
    }


def report(rows: Sequence[dict[str, Any]]) -> None:
    """A line per setting, the fastest first."""
    heads = ["seeds", "overlap", "window", "precision", "s/s", "SDR, dB", "to the published", "agreement", ""]
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
            row["note"],
        ]
        for row in rows
    ]
    print_table(heads, cells)


if __name__ == "__main__":
    sys.exit(cli.run(main))
