"""Make synthetic multitrack songs: OUT/song_000042/{mixture,vocals,drums,bass,other}.wav, stereo, 16 bits, 44.1 kHz.

    python -m my_submission synth OUT --songs 100 --seconds 20 --seed 0

A run with --seed K makes the songs K, K + 1, and so on. A song depends on its number and on --seconds only. The mixture is
exactly the sum of the stems. Existing songs are skipped, so an interrupted command can be repeated.
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
from my_submission.src.common.atomic import atomic_folder, clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown
from my_submission.src.synth.mix import record, to_16_bits
from my_submission.src.synth.score import INSTRUMENTS
from my_submission.src.synth.waves import RATE, samples

SHORTEST, LONGEST = 1.0, 600.0  # seconds


class SynthError(UserError):
    """A song cannot be made, or cannot be written."""


def make_song(seed: int, seconds: float) -> dict[str, NDArray[np.int16]]:
    """Make the stems of the song with a seed: instrument -> [n, 2], int16, at 44.1 kHz. Their sum fits in int16, too.

    The same seed and duration give the same samples on every machine. It takes about a tenth of the song's duration, and
    10 MB of memory per second of audio.

    Raises:
        SynthError: the seed is negative, or the duration is not between 1 and 600 seconds.
    """
    if seed < 0:
        raise SynthError(f"seed is {seed}, expected 0 or more")
    if not SHORTEST <= seconds <= LONGEST:
        raise SynthError(f"seconds is {seconds:g}, expected {SHORTEST:g} to {LONGEST:g}")
    return to_16_bits(record(seed, seconds))


def write_song(folder: str | Path, seed: int, seconds: float) -> bool:
    """Make a song and write its stems and their mixture into `folder`, which appears complete or not at all.

    Return False if the folder already holds a song of this duration, or another process has just written it; else True.

    Raises:
        SynthError: as for `make_song`; or the folder holds something else, or cannot be made.
        AudioError: a file cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        _refuse_other_song(folder, seconds)
        return False
    stems = make_song(seed, seconds)
    mixture = np.zeros_like(stems["vocals"])
    for stem in stems.values():
        mixture += stem
    try:
        with atomic_folder(folder) as partial:
            for name, sound in {"mixture": mixture, **stems}.items():
                audio.write(partial / f"{name}.wav", sound, RATE)
    except FileExistsError:
        _refuse_other_song(folder, seconds)
        return False
    except OSError as error:
        raise SynthError(f"{folder}: cannot be written ({error.strerror})") from error
    return True


def _refuse_other_song(folder: Path, seconds: float) -> None:
    """Refuse a folder that does not hold five files of the right length."""
    for name in ("mixture", *INSTRUMENTS):
        path = folder / f"{name}.wav"
        num_samples = audio.AudioFile(path).num_samples if path.is_file() else 0
        if num_samples != samples(seconds):
            found = f"lasts {num_samples / RATE:g} s" if num_samples else "is missing"
            raise SynthError(
                f"{path}: {found}, expected {seconds:g} s in an existing song; delete {folder}, or choose another OUT"
            )


def main(argv: Sequence[str]) -> int:
    """Run `python -m my_submission synth`."""
    options = _parse(argv)
    if options.out.exists() and not options.out.is_dir():
        raise SynthError(f"{options.out}: is a file, expected a folder or an unused name")
    clear_dead(options.out)
    made = 0
    seeds = range(options.seed, options.seed + options.songs)
    for seed in tqdm(seeds, desc=str(options.out), unit="song", disable=None):
        made += write_song(options.out / f"song_{seed:06d}", seed, options.seconds)
    skipped = f", {len(seeds) - made} there already" if made < len(seeds) else ""
    print(f"{shown(options.out)}: {made} {'song' if made == 1 else 'songs'} of {options.seconds:g} s made{skipped}")
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission synth", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the songs; created if it is missing")
    parser.add_argument("--songs", type=cli.positive, default=10, metavar="N", help="number of songs (default: %(default)s)")
    parser.add_argument("--seconds", type=_seconds, default=20.0, metavar="S", help="seconds per song (default: %(default)g)")
    parser.add_argument("--seed", type=cli.whole, default=0, metavar="K", help="seed of the first song (default: %(default)s)")
    return parser.parse_args(argv)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {SHORTEST:g} to {LONGEST:g}")
    return seconds
