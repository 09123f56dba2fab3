"""Score a model on real songs: global SDR in dB of every stem, and of the mixture taken as the estimate.

    python tests/benchmarks/real.py FOLDER                               # the demo
    python tests/benchmarks/real.py FOLDER --model runs/A --overlap 4 --csv scores.csv --report real.html

Every subfolder is a song of one of two kinds, in any format that libsndfile reads:

    bass, drums, other, vocals     with or without a mixture; without one, the mixture is their sum
    vocals, accompaniment          the mixture is their sum; the accompaniment's estimate is mixture - vocals

A sum above full scale is scaled down together with its stems. A stem that the model does not separate is not scored.
"""

from __future__ import annotations

import csv
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from my_submission.src import audio, report  # noqa: E402
from my_submission.src.audio.files import SUFFIXES, AudioFile, Block  # noqa: E402
from my_submission.src.audio.tracks import MIXTURE, is_junk, same_form, track_folders  # noqa: E402
from my_submission.src.common import cli  # noqa: E402
from my_submission.src.common.atomic import atomic_file  # noqa: E402
from my_submission.src.common.errors import UserError  # noqa: E402
from my_submission.src.common.text import shown  # noqa: E402
from my_submission.src.evaluation.results import INSTRUMENTS, score_files  # noqa: E402

ACCOMPANIMENT = "accompaniment"
KINDS = (INSTRUMENTS, ("vocals", ACCOMPANIMENT))  # the stems of a song
HIGHEST = 0.99  # of full scale; the peak of a sum that is scaled down


class RealError(UserError):
    """Songs that cannot be scored."""


def main(argv: Sequence[str]) -> int:
    """Separate the songs of a folder, score them and print the table."""
    parser = cli.Parser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of songs, each a folder of stems")
    cli.add_model_options(parser, "score", " (default: demo)")
    cli.add_ensemble_options(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row per song and stem (default: none)")
    report.add_options(parser)
    options = parser.parse_args(argv)
    report.check_options(parser, options)
    if options.report:
        report.check_path(options.report, options.embed, [options.folder])
    if options.csv and (options.csv.is_dir() or not options.csv.absolute().parent.is_dir()):
        raise RealError(f"--csv {options.csv}: expected the name of a file in a folder that exists")
    songs = find_songs(options.folder)

    from my_submission.src.family.blend import facts, open_models  # after the checks, because it imports torch

    models = options.models or ["demo"]
    cli.announce_compiling(options)
    model = open_models(models, options.weights, **cli.ensemble_options(options))
    if not any(set(files) & {*model.source_order, *implied(model.source_order)} for files in songs.values()):
        raise RealError(f"the model separates {', '.join(model.source_order)}, and no song has such a stem")
    with tempfile.TemporaryDirectory() as scratch:
        scored = [_score(model, name, files, Path(scratch)) for name, files in songs.items()]
        print_table(scored)
        if options.csv:
            write_csv(options.csv, scored)
        if options.report:
            page = _comparable(scored)
            about = {**facts(models, model), "scored": ", ".join(page[0].sdr) or "nothing: the songs have no stem in common"}
            report.write_page(options.report, page, title="Real songs", facts=about, embed=options.embed)
            print(f"report: {shown(options.report)}")
    return 0


def find_songs(folder: Path) -> dict[str, dict[str, Path]]:
    """Return song -> stem, and the mixture if there is one -> file. Raises RealError unless every subfolder is a song."""
    if not folder.is_dir():
        raise RealError(f"{folder}: no such folder, expected one with a folder of stems for each song")
    try:
        songs = {path.name: _stems(path) for path in track_folders(folder)}
    except OSError as error:
        raise RealError(f"{error.filename}: cannot be read ({error.strerror}), expected a folder") from error
    if not songs:
        raise RealError(f"{folder}: holds no songs, expected a folder of stems for each")
    return songs


def _stems(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or is_junk(path.name):
            continue
        name = same_form(path.stem)
        if name in files:
            raise RealError(f"{folder}: {name} is there twice ({files[name].name}, {path.name}), expected one file")
        files[name] = path
    kinds = [kind for kind in KINDS if set(kind) <= set(files)]
    if len(kinds) != 1:
        expected = " or ".join(", ".join(kind) for kind in KINDS)
        raise RealError(f"{folder}: holds {', '.join(files) or 'no audio'}; expected one set of stems, {expected}")
    return {name: files[name] for name in (*kinds[0], MIXTURE) if name in files}


def implied(names: Sequence[str]) -> list[str]:
    """Return the stems that follow from the mixture and a model's stems."""
    return [ACCOMPANIMENT] if "vocals" in names else []


def _read(name: str, files: Mapping[str, Path]) -> tuple[dict[str, Block], int]:
    """Return a song's stems and mixture, [n, C], and their sample rate. Raises RealError and AudioError."""
    opened = {stem: AudioFile(path) for stem, path in files.items()}
    forms = {stem: (file.sample_rate, file.channels, file.num_samples) for stem, file in opened.items()}
    if len(set(forms.values())) > 1:
        found = "; ".join(f"{stem} {form[0]} Hz, {form[1]} channels, {form[2]} samples" for stem, form in forms.items())
        raise RealError(f"{name}: files of different forms ({found}), expected one rate, number of channels and length")
    sounds = {stem: audio.read(path)[0] for stem, path in files.items()}
    if MIXTURE not in sounds or ACCOMPANIMENT in sounds:
        sounds.pop(MIXTURE, None)
        total = np.sum(list(sounds.values()), axis=0, dtype=np.float32)
        gain = np.float32(min(1.0, HIGHEST / max(float(np.abs(total).max()), 1e-9)))
        sounds = {stem: gain * sound for stem, sound in {MIXTURE: total, **sounds}.items()}
    return sounds, next(iter(opened.values())).sample_rate


def _score(model: Any, name: str, files: Mapping[str, Path], scratch: Path) -> report.Song:
    """Separate and score a song; its files are written into `scratch`."""
    sounds, rate = _read(name, files)
    folder = scratch / f"song_{len(list(scratch.iterdir()))}"
    references = {stem: folder / f"{stem}.wav" for stem in files if stem != MIXTURE}
    folder.mkdir()
    for stem, sound in sounds.items():
        audio.write(folder / f"{stem}.wav", sound, rate, "FLOAT")
    mixture = AudioFile(folder / f"{MIXTURE}.wav")
    started = time.perf_counter()
    with cli.seconds_bar(model, mixture.seconds, shown(name)):
        model.separate_to_folder(folder / "estimates", mixture, subtype="FLOAT")
    taken = time.perf_counter() - started
    found = {stem: folder / "estimates" / f"{stem}.wav" for stem in model.source_order}
    if ACCOMPANIMENT in references and ACCOMPANIMENT not in found and "vocals" in found:
        found[ACCOMPANIMENT] = folder / "estimates" / f"{ACCOMPANIMENT}.wav"
        audio.write(found[ACCOMPANIMENT], sounds[MIXTURE] - audio.read(found["vocals"])[0], rate, "FLOAT")
    sdr = {stem: score_files(path, found[stem]) for stem, path in references.items() if stem in found}
    baseline = {stem: score_files(references[stem], mixture.path) for stem in sdr}
    return report.Song(name, mixture.path, found, references, sdr, {MIXTURE: baseline}, taken)


def print_table(songs: Sequence[report.Song]) -> None:
    """Print two rows per song, the model's and the mixture's scores, and the means over the songs that have a stem."""
    columns = [stem for stem in (*INSTRUMENTS, ACCOMPANIMENT) if any(stem in song.sdr for song in songs)]
    print(f"\n| song | estimate | {' | '.join(columns)} | mean | real time |\n|---|---{'|---' * len(columns)}|---|---|")
    rows = {"model": [song.sdr for song in songs], MIXTURE: [song.compared[MIXTURE] for song in songs]}
    for number, song in enumerate(songs):
        for estimate, scores in rows.items():
            speed = f"{song.real_time_factor:.2f}" if estimate == "model" else ""
            print(
                _row(shown(song.name), estimate, scores[number], columns, speed, fmean(scores[number].values() or [math.nan]))
            )
    for estimate, scores in rows.items():
        means = {stem: fmean(score[stem] for score in scores if stem in score) for stem in columns}
        print(_row("mean", estimate, means, columns, "", fmean(fmean(score.values()) for score in scores if score)))


def _row(song: str, estimate: str, scores: Mapping[str, float], columns: Sequence[str], speed: str, mean: float) -> str:
    cells = [f"{scores[stem]:.2f}" if stem in scores else "" for stem in columns]
    return f"| {' | '.join([song, estimate, *cells, f'{mean:.2f}', speed])} |"


def write_csv(path: Path, songs: Sequence[report.Song]) -> None:
    """Write a row per song and stem, atomically. Raises RealError."""
    try:
        with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(("song", "stem", "sdr", "mixture_sdr"))
            for song in songs:
                mixture = song.compared[MIXTURE]
                writer.writerows((song.name, stem, f"{sdr:.6f}", f"{mixture[stem]:.6f}") for stem, sdr in song.sdr.items())
    except OSError as error:
        raise RealError(f"--csv {path}: cannot be written ({error.strerror})") from error


def _comparable(songs: Sequence[report.Song]) -> list[report.Song]:
    """Return the songs for a page, whose means need the same stems from all: scores of the common stems alone."""
    common = set.intersection(*(set(song.sdr) for song in songs))
    scores = [{stem: sdr for stem, sdr in song.sdr.items() if stem in common} for song in songs]
    return [
        report.Song(song.name, song.mixture, song.estimates, song.references, sdr, {}, song.separation_seconds)
        for song, sdr in zip(songs, scores, strict=True)
    ]


if __name__ == "__main__":
    sys.exit(cli.run(main))
