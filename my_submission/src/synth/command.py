"""Procedural multitrack songs, for demo, tests and benchmarks: <out>/song_000042/{mixture,vocals,drums,bass,other}.wav.

    python -m my_submission synth OUT --songs 100 --seconds 20 --seed 0

Song i of a run with --seed K is the song of seed K + i and bears that number, so what it is depends on nothing else but
--seconds. 16 bits, 44.1 kHz, stereo; the mixture is exactly the sum of the stems. Songs that are there are passed over, so
that the same command goes on where it was interrupted. How they are made: `my_submission.src.synth`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from my_submission.src import audio
from my_submission.src.common import cli
from my_submission.src.common.atomic import atomic_folder
from my_submission.src.common.errors import UserError
from my_submission.src.synth.mix import record, to_16_bits
from my_submission.src.synth.score import INSTRUMENTS
from my_submission.src.synth.waves import RATE, samples

SHORTEST, LONGEST = 1.0, 600.0  # seconds


class SynthError(UserError):
    """A song that cannot be made, or a place where it cannot be put."""


def make_song(seed: int, seconds: float) -> dict[str, NDArray[np.int16]]:
    """The stems of the song of a seed: instrument -> [n, 2], int16, at 44.1 kHz. Their sum fits in int16, too.

    The same seed and duration give the same samples on every machine. Takes a tenth of the duration, and 10 MB per second.

    Raises SynthError for a negative seed, and for a duration that is not between 1 and 600 seconds.
    """
    if seed < 0:
        raise SynthError(f"seed is {seed}, expected 0 or more")
    if not SHORTEST <= seconds <= LONGEST:
        raise SynthError(f"seconds is {seconds:g}, expected {SHORTEST:g} to {LONGEST:g}")
    return to_16_bits(record(seed, seconds))


def write_song(folder: str | Path, seed: int, seconds: float) -> bool:
    """Make a song and write its stems and their sum into `folder`, which appears whole or not at all.

    Returns whether it was made: False where it is there already.

    Raises SynthError, also where something else than this song is there; AudioError where it cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        _refuse_other_song(folder, seconds)
        return False
    stems = make_song(seed, seconds)
    mixture = sum(stem.astype(np.int32) for stem in stems.values()).astype(np.int16)
    try:
        with atomic_folder(folder) as partial:
            for name, sound in {"mixture": mixture, **stems}.items():
                audio.write(partial / f"{name}.wav", sound, RATE)
    except OSError as error:
        raise SynthError(f"{folder}: cannot be written ({error.strerror})") from error
    return True


def _refuse_other_song(folder: Path, seconds: float) -> None:
    """Refuse to pass over a folder that does not hold five files of the right length."""
    for name in ("mixture", *INSTRUMENTS):
        path = folder / f"{name}.wav"
        num_samples = audio.AudioFile(path).num_samples if path.is_file() else 0
        if num_samples != samples(seconds):
            found = f"lasts {num_samples / RATE:g} s" if num_samples else "is missing"
            raise SynthError(
                f"{path}: {found}, expected {seconds:g} s in a song that is there already; delete {folder}, or name another OUT"
            )


def main(argv: Sequence[str]) -> int:
    """The command."""
    options = _parse(argv)
    if options.out.exists() and not options.out.is_dir():
        raise SynthError(f"{options.out}: is a file, expected a folder or a name that is free")
    made = 0
    seeds = range(options.seed, options.seed + options.songs)
    for seed in tqdm(seeds, desc=str(options.out), unit="song", disable=None):
        made += write_song(options.out / f"song_{seed:06d}", seed, options.seconds)
    passed = f", {len(seeds) - made} there already" if made < len(seeds) else ""
    print(f"{options.out}: {made} {'song' if made == 1 else 'songs'} of {options.seconds:g} s made{passed}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission synth", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the songs; made where it is missing")
    parser.add_argument("--songs", type=cli.positive, default=10, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=20.0, metavar="S", help="duration of each (default: %(default)g)")
    parser.add_argument("--seed", type=_seed, default=0, metavar="K", help="number of the first song (default: %(default)s)")
    return parser.parse_args(argv)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {SHORTEST:g} to {LONGEST:g}")
    return seconds
