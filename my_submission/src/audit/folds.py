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

    Each group goes to the fold that it prefers, by a hash, among those with room. Larger groups choose first; the order of
    the others is by a hash, too.

    Args:
        groups: names of tracks; the tracks of a group stay together.
        folds: number of folds, 2 or more.
        seed: other seeds give other folds.

    Raises AuditError if there are fewer groups than folds.
    """
    if not 2 <= folds <= len(groups):
        distinct = f"{len(groups)} different tracks"
        raise AuditError(f"{folds} folds of {distinct}: expected 2 folds or more, and at least one track for each; see --folds")
    size, larger = divmod(sum(map(len, groups)), folds)  # `larger` folds have one track more than `size`
    loads = [0] * folds

    def has_room(fold: int, tracks: int) -> bool:
        load = loads[fold] + tracks
        return load <= size or (load == size + 1 and sum(other > size for other in loads) < larger)

    named = {min(_composed(name) for name in group): group for group in groups}
    chosen: dict[str, int] = {}
    for first, group in sorted(named.items(), key=lambda pair: (-len(pair[1]), _hash(seed, pair[0]))):
        wishes = _wishes(first, folds, seed)
        best = next((fold for fold in wishes if has_room(fold, len(group))), None)
        fold = min(wishes, key=loads.__getitem__) if best is None else best
        loads[fold] += len(group)
        chosen |= dict.fromkeys(group, fold)
    if not all(loads):
        raise AuditError(f"{folds} folds: copies of one song stay together, and nothing is left for a fold; take fewer --folds")
    return {name: chosen[name] for group in groups for name in group}


def _wishes(name: str, folds: int, seed: int) -> list[int]:
    """Return the folds in the order in which a group prefers them."""
    return sorted(range(folds), key=lambda fold: _hash(seed, name, fold))


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
