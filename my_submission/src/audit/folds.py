"""Divide tracks into folds, for networks that judge only tracks that they have never heard.

    folds = assign([["a"], ["b", "copy of b"], ["c"]], folds=2, seed=0)        # {"a": 0, "b": 1, "copy of b": 1, "c": 0}

A fold follows from the tracks' names and the seed alone, whatever their order and place. The tracks of a group are in one fold.
The folds' sizes differ by one at most, unless groups are too large for that. When a track is added, few others change their
fold.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from my_submission.src.audit import AuditError
from my_submission.src.common import stem_table

COLUMNS = ("track", "fold", "same_as")


def assign(groups: Sequence[Sequence[str]], folds: int, seed: int) -> dict[str, int]:
    """Return the fold of each track: name -> 0 to folds - 1, in the order of `groups`.

    Copies of one song go to the smallest fold, the most numerous first. Each other track goes to the fold that it prefers, by
    a hash, among those with room.

    Args:
        groups: names of tracks; the tracks of a group stay together.
        folds: number of folds, 2 or more.
        seed: other seeds give other folds.

    Raises AuditError if there are fewer groups than folds.
    """
    if not 2 <= folds <= len(groups):
        distinct = f"{len(groups)} different tracks"
        raise AuditError(f"{folds} folds of {distinct}: expected 2 folds or more, and at least one track for each; see --folds")
    by_name = {min(group, key=lambda name: (_composed(name), name)): group for group in groups}
    order = sorted(by_name, key=lambda name: (-len(by_name[name]), _hash(seed, _composed(name)), name))
    loads, chosen = [0] * folds, {}

    def put(name: str, fold: int) -> None:
        loads[fold] += len(by_name[name])
        chosen.update(dict.fromkeys(by_name[name], fold))

    copied = [name for name in order if len(by_name[name]) > 1]
    for name in copied:
        put(name, min(_wishes(name, folds, seed), key=loads.__getitem__))
    single = order[len(copied) :]
    level, spare = _level(loads, len(single))
    for name in single:
        put(name, next(fold for fold in _wishes(name, folds, seed) if loads[fold] < level + (spare > 0)))
        spare -= loads[chosen[name]] > level
    return {name: chosen[name] for group in groups for name in group}


def _level(loads: Sequence[int], tracks: int) -> tuple[int, int]:
    """Return the size to which this number of tracks fills up the folds, and how many folds get one more than that."""
    level = min(loads)
    while sum(max(0, level + 1 - load) for load in loads) <= tracks:
        level += 1
    return level, tracks - sum(max(0, level - load) for load in loads)


def _wishes(name: str, folds: int, seed: int) -> list[int]:
    """Return the folds in the order in which a group prefers them."""
    return sorted(range(folds), key=lambda fold: _hash(seed, _composed(name), fold))


def write_folds(path: Path, groups: Sequence[Sequence[str]], folds: Mapping[str, int]) -> None:
    """Write the table of the folds, by track. `same_as` names the first track of the same audio. Raises TableError."""
    same_as = {name: group[0] for group in groups for name in group[1:]}
    names = sorted(folds)
    stem_table.write(path, COLUMNS, [{"track": name, "fold": folds[name], "same_as": same_as.get(name, "")} for name in names])


def _composed(name: str) -> str:
    """Return one form for the spellings of a name: macOS writes accents decomposed."""
    return unicodedata.normalize("NFC", name)


def _hash(*parts: object) -> bytes:
    return hashlib.sha256(b"\0".join(os.fsencode(str(part)) for part in parts)).digest()
