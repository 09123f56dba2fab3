"""`train.py --keep`: which stems are drawn from, by a table that gives each a score or a mark, as `audit` makes one.

    tracks = keep_stems(tracks, Path("audit.csv"), config)          # those that do not pass are in track.dropped

A stem passes that is marked `yes`, or that is not marked and has a score of the threshold or more; one with neither does not.
It is stems that pass, not tracks: one with a wrong bass still gives its three others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from my_submission.src.audio.tracks import Track
from my_submission.src.common import stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown, some
from my_submission.src.config import Config
from my_submission.src.training import DEFAULT_THRESHOLD

COLUMNS = ("track", "instrument", "score", "keep")

Verdicts = dict[tuple[str, str], bool]  # (track, instrument) -> whether it passes


class KeepError(UserError):
    """A table of stems that this data cannot be trained by."""


def keep_stems(
    tracks: Sequence[Track],
    path: Path,
    config: Config,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    skip_bad_tracks: bool = False,
) -> list[Track]:
    """The same tracks, with the instruments that do not pass in `dropped`; with skip_bad_tracks the table may name others.

    Raises TableError for a file that cannot be read, and KeepError for a value that cannot be meant, for a table and data
    that do not name the same stems, and where not enough is left to draw from.
    """
    _refuse_twins(tracks)
    instruments = config.training.instruments
    verdicts = {(row["track"], row["instrument"]): _passes(row, path, threshold) for row in stem_table.read(path, COLUMNS)}
    if skip_bad_tracks:
        names = {track.name for track in tracks}
        verdicts = {stem: verdict for stem, verdict in verdicts.items() if stem[0] in names}
    _refuse_other_data(verdicts, [(track.name, name) for track in tracks for name in instruments], path)
    marked = [
        dataclasses.replace(track, dropped=frozenset(name for name in instruments if not verdicts[track.name, name]))
        for track in tracks
    ]
    _refuse_too_little(marked, path, config, threshold)
    return marked


def _passes(row: dict[str, str], path: Path, threshold: float) -> bool:
    stem, mark = shown(row["track"], row["instrument"]), row["keep"].strip().lower()
    if mark not in ("", "yes", "no"):
        raise KeepError(f"{path}: keep of {stem} is {row['keep']!r}, expected yes, no, or nothing to go by the score")
    if mark or not row["score"].strip():  # without a score, as of a silent stem, nothing says that it is right
        return mark == "yes"
    try:
        score = float(row["score"])
    except ValueError:
        score = math.nan
    if math.isnan(score):
        raise KeepError(f"{path}: score of {stem} is {row['score']!r}, expected a number; or write yes or no under keep")
    return score >= threshold


def _refuse_twins(tracks: Sequence[Track]) -> None:
    folders: dict[str, Path] = {}
    for track in tracks:
        if track.name in folders:
            raise KeepError(
                f"--keep tells tracks apart by their names, but {track.name} is in {folders[track.name]} and in "
                f"{track.folder.parent}; train on one folder, or rename one of them"
            )
        folders[track.name] = track.folder.parent


def _refuse_other_data(verdicts: Verdicts, stems: Sequence[tuple[str, str]], path: Path) -> None:
    unnamed = [shown(*stem) for stem in stems if stem not in verdicts]
    unknown = [shown(*stem) for stem in sorted(verdicts.keys() - set(stems))]
    problems = [f"does not name {some(unnamed)}"] if unnamed else []
    problems += [f"names {some(unknown)}, not in the data"] if unknown else []
    if problems:
        raise KeepError(
            f"{path}: is of other data: it {'; it '.join(problems)}. Name the data it was made from with --data_path, or make "
            "it anew from this data"
        )


def _refuse_too_little(tracks: Sequence[Track], path: Path, config: Config, threshold: float) -> None:
    advice = f"lower --keep-threshold (it is {threshold:g}), or mark stems that are right with yes under keep"
    for name in config.training.instruments:
        if all(name in track.dropped for track in tracks):
            raise KeepError(f"{path}: no stem of {name} passes, and {name} could not be learned; {advice}")
    if config.training.same_song > 0 and all(track.dropped for track in tracks):
        raise KeepError(
            f"{path}: of no track all stems pass, but training.same_song is {config.training.same_song} and needs such tracks; "
            f"set it to 0, or {advice}"
        )


def kept_counts(tracks: Sequence[Track], instruments: Sequence[str]) -> str:
    """What is kept, in words: `10 of 12 stems (vocals 3, drums 2, bass 2, other 3)`."""
    counts = {name: sum(name not in track.dropped for track in tracks) for name in instruments}
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{sum(counts.values())} of {len(tracks) * len(instruments)} stems ({each})"
