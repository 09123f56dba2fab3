"""Faults put into clean multitrack songs on purpose, and a table that names each of them.

    python -m my_submission corrupt labelnoise IN OUT --rate 0.2 --seed 0
    python -m my_submission corrupt bleeding IN OUT --rate 0.5 --level -20 -10 --seed 0

IN holds tracks: folders of two or more wav or flac stems of any names. OUT gets the same folders and files, exactly
round(rate * stems) of all stems wrong, and truth.csv: for each stem what is wrong with it (kind) and which instruments it
holds. A mixture.wav is no stem; it is copied, because it is what was heard. Kinds of label noise:

    swap   two stems of a track exchange their sound; both are wrong
    add    a stem holds another's sound too, which also stays where it was
    move   a stem holds another's sound too, for one stretch, a third to two thirds of the track, and that other is silent
           there ("moved-away", not wrong): as when one of several players was filed under the wrong name

and of recordings: bleeding, where a stem holds all others of its track as its microphone heard them: quieter, dull, late.
A stem that would clip is turned down, it alone, by the gain that truth.csv has: clipped, it would hold distortion that is no
instrument's, and be found out by that. But for such gains, swap and move keep the sum of the stems. A silent stem is never
what is heard in another; a track with fewer than two that sound is refused.

IN is not changed. The same seed writes the same bytes. Tracks that are there are passed over, so that the same command goes
on where it was interrupted. How it is done: `my_submission.src.corrupt`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from my_submission.src.common import cli, stem_table
from my_submission.src.common.atomic import atomic_folder
from my_submission.src.common.journal import HEADER, Journal
from my_submission.src.corrupt import CorruptError
from my_submission.src.corrupt.faults import COLUMNS, LEVEL, Fault, Faults, Settings, draw_faults, with_stretches
from my_submission.src.corrupt.sound import FaultyStem
from my_submission.src.corrupt.tracks import Track, find_tracks, fingerprint

JOURNAL, TRUTH = "corrupt.jsonl", "truth.csv"  # in OUT: the settings, and the rows of finished tracks; the rows of all


def corrupt(data: Path, out: Path, settings: Settings) -> tuple[list[dict[str, Any]], int]:
    """Write the tracks of `data` into `out`, with the faults of a seed: the rows of truth.csv, and how many tracks were there.

    Raises CorruptError, AudioError, JournalError or TableError. Tracks that were finished by then stay; where none was,
    nothing does.
    """
    tracks = find_tracks(data)
    _refuse_nested(out, [data, *(track.folder for track in tracks)])
    facts = {**dataclasses.asdict(settings), "level": list(settings.level), "tracks": fingerprint(tracks)}
    _refuse_other_content(out, facts)
    plan = draw_faults(tracks, settings)
    rows, there = [], 0
    with _folder(out), Journal(out / JOURNAL, facts) as journal:
        done = {entry["track"]: entry["rows"] for entry in journal.entries}
        for number, track in enumerate(tqdm(tracks, desc=str(out), unit="track", disable=None)):
            folder = out / track.name
            if folder.exists():
                _refuse_other_track(folder, track, done)
                there += 1
            else:
                faults = with_stretches(track, plan[number], np.random.default_rng([settings.seed, number]))
                done[track.name] = _write_track(folder, track, faults, journal)
            rows += done[track.name]
        stem_table.write(out / TRUTH, COLUMNS, rows)
    return rows, there


def _refuse_nested(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse an OUT through which the clean files could be reached."""
    place = out.resolve()
    for path in (path.resolve() for path in inputs):
        if place == path or place in path.parents or path in place.parents:
            raise CorruptError(f"{out}: is, holds or lies in {path}, expected a place apart from the clean tracks")


def _refuse_other_content(out: Path, facts: Mapping[str, Any]) -> None:
    """Refuse an OUT that holds anything but what a run with these settings left."""
    if out.exists() and not out.is_dir():
        raise CorruptError(f"{out}: is a file, expected a folder or a name that is free")
    there = sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) if out.exists() else []
    if not there:
        return
    try:
        former = json.loads((out / JOURNAL).read_text(encoding="utf-8").splitlines()[0])[HEADER]
        differ = [name for name in facts if former.get(name) != facts[name]]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptError(f"{out}: holds {there[0]} already, expected an empty folder or a name that is free") from error
    if differ:
        told = [f"{name} was {former.get(name)}, is {facts[name]}" for name in differ if name != "tracks"]
        told += ["the tracks of IN were others"] if "tracks" in differ else []
        raise CorruptError(f"{out}: was made with other settings ({'; '.join(told)}); delete it, or name another OUT")


def _refuse_other_track(folder: Path, track: Track, done: Mapping[str, Any]) -> None:
    """Refuse to pass over a folder that is not as it was left."""
    missing = [path.name for path in track.files if not (folder / path.name).is_file()]
    if missing or track.name not in done:
        found = f"lacks {missing[0]}" if missing else f"is not in {JOURNAL}"
        raise CorruptError(f"{folder}: is there already, but {found}; delete the folder, and the same command makes it")


def _write_track(folder: Path, track: Track, faults: Faults, journal: Journal) -> list[dict[str, Any]]:
    """Write a track, whole or not at all, and its rows into the journal; return them."""
    rows = []
    try:
        with atomic_folder(folder) as partial:
            for path in track.mixtures:
                shutil.copyfile(path, partial / path.name)
            for name, stem in track.stems.items():
                fault = faults.get(name, Fault())
                rows.append(fault.row(track.name, name, _write_stem(partial / stem.path.name, track, name, fault)))
            journal.append({"track": track.name, "rows": rows})  # first, so that no folder is there without its rows
    except OSError as error:
        raise CorruptError(f"{folder}: cannot be written ({error.strerror}); the same command goes on when it can") from error
    return rows


def _write_stem(path: Path, track: Track, name: str, fault: Fault) -> float:
    """Write a stem, byte for byte where it is a clean one or another's of the same format; return its gain."""
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
    """OUT, made where it is missing; as it was where an error comes before its first track."""
    made = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            if not any(path.is_dir() for path in out.iterdir()):
                (out / JOURNAL).unlink(missing_ok=True)
        for path in made:
            with contextlib.suppress(OSError):  # not empty: something was finished in it
                path.rmdir()
        if isinstance(error, OSError):
            raise CorruptError(f"{out}: cannot be written ({error.strerror})") from error
        raise


def main(argv: Sequence[str]) -> int:
    """The command."""
    options = _parse(argv)
    settings = Settings(options.kind, options.rate, options.seed, tuple(options.level or LEVEL))
    rows, there = corrupt(options.data, options.out, settings)
    kinds = Counter(row["kind"] for row in rows if row["wrong"] == "yes")
    listed = f" ({', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))})" if kinds else ""
    tracks = len({row["track"] for row in rows})
    print(
        f"{options.out}: {sum(kinds.values())} of {len(rows)} stems wrong{listed}, in {tracks} "
        f"{'track' if tracks == 1 else 'tracks'}{f', {there} there already' if there else ''}; {TRUTH} says which"
    )
    return 0


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(prog="python -m my_submission corrupt", description=__doc__)
    parser.add_argument("kind", choices=("labelnoise", "bleeding"), help="what is to be wrong")
    parser.add_argument("data", type=Path, metavar="IN", help="folder of clean tracks")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the faulty ones; made where it is missing")
    parser.add_argument("--rate", type=float, required=True, metavar="R", help="wrong stems per stem, 0 to 1")
    levels = "of bleeding, dB: each stem's is drawn between the two (default: -20 -10)"
    parser.add_argument("--level", type=float, nargs=2, metavar=("LO", "HI"), help=levels)
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="another seed, other faults (default: %(default)s)")
    options = parser.parse_args(argv)
    if options.level and options.kind != "bleeding":
        parser.error("--level is of bleeding; labelnoise has none")
    return options
