"""Put faults into clean multitrack songs on purpose, and write a table that names each of them.

    python -m my_submission corrupt labelnoise IN OUT --rate 0.2 --seed 0
    python -m my_submission corrupt bleeding IN OUT --rate 0.5 --level -20 -10 --seed 0

IN holds tracks: folders of two or more wav or flac stems of any names. OUT gets the same folders and files, with exactly
round(rate * stems) of all stems wrong, and truth.csv. For each stem, truth.csv says how it is wrong (kind) and which
instruments it holds. A mixture.wav is no stem. It is copied, because the mixture stays as it was heard.

Kinds of label noise:

    swap   two stems of a track exchange their sound; both are wrong
    add    a stem also holds the sound of another, which stays in its own stem too
    move   a stem also holds the sound of another for one stretch, a third to two thirds of the track. The other stem is
           silent there ("moved-away", not wrong), as if one of several players had been filed under the wrong name

With bleeding, a stem holds all others of its track as its microphone picked them up: quieter, duller and later.

A stem that would clip is turned down, and truth.csv has its gain. Clipping would add distortion that belongs to no
instrument and would give the fault away. Apart from such gains, swap and move keep the sum of the stems. A silent stem is
never put into another; a track with fewer than two stems that sound is refused.

IN is not changed. The same seed writes the same bytes. Finished tracks in OUT are skipped, so the same command continues an
interrupted run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from my_submission.src.audio.tracks import Track
from my_submission.src.common import cli, stem_table
from my_submission.src.common.atomic import atomic_folder
from my_submission.src.common.journal import Journal, JournalError, is_blank, read_settings
from my_submission.src.common.text import shown
from my_submission.src.corrupt import CorruptError
from my_submission.src.corrupt.faults import COLUMNS, LEVEL, Fault, Faults, Settings, draw_faults, with_stretches
from my_submission.src.corrupt.sound import FaultyStem
from my_submission.src.corrupt.tracks import files_of, fingerprint, open_clean_tracks

JOURNAL = "corrupt.jsonl"  # in OUT: the settings, and the rows of finished tracks
TRUTH = "truth.csv"  # in OUT: the rows of all tracks


def corrupt(data: Path, out: Path, settings: Settings) -> tuple[list[dict[str, Any]], int]:
    """Write the tracks of `data` into `out` with faults; return the rows of truth.csv, and the number of tracks skipped.

    Raises CorruptError, TrackError, AudioError, JournalError or TableError. Finished tracks then stay in `out`; if there are
    none, `out` is left as it was.
    """
    tracks = open_clean_tracks(data)
    _refuse_nested(out, [data, *(track.folder for track in tracks)])
    facts = {**dataclasses.asdict(settings), "level": list(settings.level), "tracks": fingerprint(tracks)}
    _refuse_other_content(out, facts)
    plan = draw_faults(tracks, settings)
    rows: list[dict[str, Any]] = []
    skipped = 0
    with _folder(out), Journal(out / JOURNAL, facts) as journal, _no_journal_alone(out):
        done = {entry["track"]: entry["rows"] for entry in journal.entries}
        for number, track in enumerate(tqdm(tracks, desc=str(out), unit="track", disable=None)):
            folder = out / track.name
            if folder.exists():
                _refuse_other_track(folder, track, done)
                skipped += 1
            else:
                faults = with_stretches(track, plan[number], np.random.default_rng([settings.seed, number]))
                done[track.name] = _write_track(folder, track, faults, journal)
            rows += done[track.name]
        stem_table.write(out / TRUTH, COLUMNS, rows)
    return rows, skipped


def _refuse_nested(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse an OUT that is, contains or lies in one of the folders of clean files."""
    place = out.resolve()
    for path in (path.resolve() for path in inputs):
        if place == path or place in path.parents or path in place.parents:
            raise CorruptError(f"{out}: is, holds or lies in {path}, expected a place apart from the clean tracks")


def _refuse_other_content(out: Path, facts: Mapping[str, Any]) -> None:
    """Refuse an OUT that holds anything but the output of a run with these settings."""
    if out.exists() and not out.is_dir():
        raise CorruptError(f"{out}: is a file, expected a folder or a name that is free")
    there = sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.exists() else []
    if not there or (there == [JOURNAL] and is_blank(out / JOURNAL)):
        return
    try:
        former = read_settings(out / JOURNAL)
    except JournalError as error:
        raise CorruptError(f"{out}: holds {there[0]} already, expected an empty folder or a name that is free") from error
    differ = [name for name in facts if former.get(name) != facts[name]]
    if differ:
        told = [f"{name} was {former.get(name)}, is {facts[name]}" for name in differ if name != "tracks"]
        told += ["the tracks of IN were others"] if "tracks" in differ else []
        raise CorruptError(f"{out}: was made with other settings ({'; '.join(told)}); delete it, or name another OUT")


def _refuse_other_track(folder: Path, track: Track, done: Mapping[str, Any]) -> None:
    """Refuse to skip a folder that lacks a file, or that the journal does not name."""
    missing = [path.name for path in files_of(track) if not (folder / path.name).is_file()]
    if missing or track.name not in done:
        found = f"lacks {missing[0]}" if missing else f"is not in {JOURNAL}"
        raise CorruptError(f"{folder}: is there already, but {found}; delete the folder, and the same command makes it")


def _write_track(folder: Path, track: Track, faults: Faults, journal: Journal) -> list[dict[str, Any]]:
    """Write a track, whole or not at all, and its rows into the journal; return the rows."""
    rows = []
    try:
        with atomic_folder(folder) as partial:
            for path in track.mixtures:
                shutil.copyfile(path, partial / path.name)
            for name, stem in track.stems.items():
                fault = faults.get(name, Fault())
                rows.append(fault.row(track.name, name, _write_stem(partial / stem.path.name, track, name, fault)))
            journal.append({"track": track.name, "rows": rows})  # before the folder appears, so that it never lacks its rows
    except OSError as error:
        raise CorruptError(f"{folder}: cannot be written ({error.strerror}); the same command goes on when it can") from error
    return rows


def _write_stem(path: Path, track: Track, name: str, fault: Fault) -> float:
    """Write a stem and return its gain. A clean or swapped stem is copied byte for byte if the formats agree."""
    clean = track.stems[name]
    whole = track.stems[fault.others[0]] if fault.kind == "swap" else clean
    same_format = (whole.path.suffix.lower(), whole.subtype) == (clean.path.suffix.lower(), clean.subtype)
    if fault.kind in ("clean", "swap") and same_format:
        shutil.copyfile(whole.path, path)
        return 1.0
    stem = FaultyStem(track, name, fault)
    stem.write_to(path)
    return stem.gain


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make OUT if it is missing. If an error comes before anything is in it, delete it again."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        for path in made:
            with contextlib.suppress(OSError):  # not empty: it has a finished track
                path.rmdir()
        if isinstance(error, OSError):
            raise CorruptError(f"{out}: cannot be written ({error.strerror})") from error
        raise


@contextlib.contextmanager
def _no_journal_alone(out: Path) -> Iterator[None]:
    """Delete the journal if an error comes before the first track. The caller holds the journal's lock."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            if not any(path.is_dir() for path in out.iterdir()):
                (out / JOURNAL).unlink(missing_ok=True)
        raise


def main(argv: Sequence[str]) -> int:
    """Run the command; return its exit status."""
    options = _parse(argv)
    level = (options.level[0], options.level[1]) if options.level else LEVEL
    settings = Settings(options.kind, options.rate, options.seed, level)
    rows, skipped = corrupt(options.data, options.out, settings)
    kinds = Counter(row["kind"] for row in rows if row["wrong"] == "yes")
    listed = f" ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})" if kinds else ""
    tracks = len({row["track"] for row in rows})
    print(
        f"{shown(options.out)}: {sum(kinds.values())} of {len(rows)} stems wrong{listed}, in {tracks} "
        f"{'track' if tracks == 1 else 'tracks'}{f', {skipped} there already' if skipped else ''}; {TRUTH} says which"
    )
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission corrupt", description=__doc__)
    add = parser.add_argument
    add("kind", choices=("labelnoise", "bleeding"), help="kind of faults: wrong labels, or bleeding between microphones")
    add("data", type=Path, metavar="IN", help="folder of clean tracks to read")
    add("out", type=Path, metavar="OUT", help="folder to write the faulty tracks into; made if it is missing")
    add("--rate", type=float, required=True, metavar="R", help="fraction of all stems that become wrong, 0 to 1")
    levels = "lowest and highest level of bleeding in dB; each stem's is drawn between them (default: -20 -10)"
    add("--level", type=float, nargs=2, metavar=("LO", "HI"), help=levels)
    add("--seed", type=int, default=0, metavar="K", help="seed that the faults are drawn from (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.level and options.kind != "bleeding":
        parser.error("--level is of bleeding; labelnoise has none")
    return options
