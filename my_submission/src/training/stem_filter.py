"""`train.py --keep`: train only on the stems that pass in a table of scores and marks, such as the audit's.

    tracks = keep_stems(tracks, Path("audit.csv"), config)          # track.dropped names the stems that do not pass

A stem passes if it is marked `yes`, or if it is unmarked and its score reaches the threshold. Unmarked stems without a score
fail. Every stem is judged by itself: a track with a wrong bass keeps its other three stems.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from my_submission.src.audio.tracks import Track
from my_submission.src.common import stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown, some
from my_submission.src.config import Config
from my_submission.src.training import DEFAULT_THRESHOLD

COLUMNS = ("track", "instrument", "score", "keep")

Key = tuple[str, str]  # track and instrument


class KeepError(UserError):
    """The table cannot be used for this data."""


def keep_stems(
    tracks: Sequence[Track],
    path: Path,
    config: Config,
    *,
    threshold: float = DEFAULT_THRESHOLD,
    skip_bad_tracks: bool = False,
) -> list[Track]:
    """Return the same tracks, with the instruments that do not pass in `dropped`.

    Args:
        tracks: the data; their names must differ.
        path: the table, with the columns of COLUMNS.
        config: names the instruments.
        threshold: the lowest score that passes (default: 0, the audit's recommended cut); a higher one keeps fewer stems.
        skip_bad_tracks: allow rows of further tracks (default: False), because unusable tracks were left out of `tracks`.

    Raises TableError if the file cannot be read. Raises KeepError for an invalid value, if the table and the data do not name
    the same stems, and if too little is left to train on.
    """
    _refuse_twins(tracks)
    instruments = config.training.instruments
    stems = [(track.name, name) for track in tracks for name in instruments]
    rows = {(row["track"], row["instrument"]): row for row in stem_table.read(path, COLUMNS)}
    meant = stem_table.match(rows, stems)
    _refuse_other_data(rows, meant, stems, path, skip_bad_tracks)
    verdicts = {stem: _passes(rows[name], path, threshold) for name, stem in meant.items()}
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
    if mark or not row["score"].strip():  # a stem without a score, such as a silent one, may be wrong
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


def _refuse_other_data(
    named: Iterable[Key], meant: Mapping[Key, Key], stems: Sequence[Key], path: Path, skip_bad_tracks: bool
) -> None:
    """Refuse a table that leaves out a stem, or names another one. `meant` maps the table's names to stems."""
    there, tracks = set(meant.values()), {track for track, _ in stems}
    others = sorted(name for name in named if name not in meant)
    unnamed = [shown(*stem) for stem in stems if stem not in there]
    unknown = [shown(*name) for name in others if name[0] in tracks or not skip_bad_tracks]
    odd = [name for name in others if not stem_table.is_utf8(*name)]
    if odd and (unnamed or unknown):
        raise KeepError(f"{path}: {stem_table.SAVE_AGAIN} (it names {shown(*odd[0])}, which is not in the data)")
    problems = [f"does not name {some(unnamed)}"] if unnamed else []
    problems += [f"names {some(unknown)}, not in the data"] if unknown else []
    if problems:
        raise KeepError(
            f"{path}: is of other data: it {'; it '.join(problems)}. Name the data it was made from with --data-path, or make "
            "it again from this data"
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
    """Return the numbers of stems kept: `10 of 12 stems (vocals 3, drums 2, bass 2, other 3)`."""
    counts = {name: sum(name not in track.dropped for track in tracks) for name in instruments}
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{sum(counts.values())} of {len(tracks) * len(instruments)} stems ({each})"
