"""The table of bleeding: how loud each instrument is in each stem of the others. A journal continues an interrupted run.

write_bleeding(Path("bleeding.csv"), stems, sources, lambda track: separator, settings)     # {"song": why it failed}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from my_submission.src.audio.files import AudioFile
from my_submission.src.audit.bleeding import measure_levels
from my_submission.src.audit.measuring import file_state
from my_submission.src.audit.stems import Stem
from my_submission.src.common import stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.common.text import escaped, shown

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator

Levels = dict[str, dict[str, float | None]]  # stem -> instrument heard in it -> dB


def write_bleeding(
    out: Path,
    stems: Sequence[Stem],
    sources: Sequence[str],
    separator_of: Callable[[str], BaseSeparator],
    settings: Mapping[str, Any],
) -> dict[str, str]:
    """Measure the tracks that are not measured yet, write the table and print the levels that are usual.

    Args:
        out: the table; its journal is next to it.
        stems: of all tracks, those of a track together.
        sources: the instruments of the model.
        separator_of: returns the model for a track.
        settings: everything that the levels depend on, flat.

    Returns the tracks that could not be measured: name -> reason. Raises JournalError or TableError.
    """
    tracks: dict[str, dict[str, Stem]] = {}
    for stem in stems:
        tracks.setdefault(stem.track, {})[stem.instrument] = stem
    levels: dict[str, Levels] = {}
    failed: dict[str, str] = {}
    with Journal(out.with_suffix(".jsonl"), dict(settings)) as journal:
        known = {(entry["track"], str(entry["files"])): entry["levels"] for entry in journal.entries}
        for track, by_name in tqdm(tracks.items(), desc="bleeding", unit="track", disable=None):
            files = [list(file_state(stem.path)) for stem in by_name.values()]
            if (track, str(files)) not in known:
                try:
                    found = _measure(separator_of(track), by_name, sources)
                except UserError as error:
                    failed[shown(track)] = " ".join(str(error).split())
                    tqdm.write(f"{shown(track)}: FAILED: {escaped(failed[shown(track)])}")
                    continue
                known[track, str(files)] = found
                journal.append({"track": track, "files": files, "levels": found})
            levels[track] = known[track, str(files)]
    rows = [
        {"track": track, "instrument": name, **{f"{other}_db": heard.get(other) for other in sources}}
        for track, by_stem in levels.items()
        for name, heard in by_stem.items()
    ]
    stem_table.write(out, ["track", "instrument", *(f"{name}_db" for name in sources)], rows)
    print("\n".join(usual_levels(list(levels.values()), sources)))
    print(f"levels of bleeding: {shown(out)}", flush=True)
    return failed


def refuse_other_table(out: Path) -> None:
    """Raise BleedingError if a file would be replaced that is no table of levels."""
    if not out.exists():
        return
    try:
        with out.open(encoding="utf-8-sig", newline="") as file:
            columns = file.readline().rstrip("\r\n").split(",")
    except (OSError, UnicodeDecodeError):
        columns = []
    if columns[:2] != ["track", "instrument"] or not all(name.endswith("_db") for name in columns[2:]):
        raise BleedingError(f"{out}: is not replaced, as it is no table of levels: move it, or name another --bleeding")


def _measure(separator: BaseSeparator, stems: Mapping[str, Stem], sources: Sequence[str]) -> Levels:
    """Measure a track. Raises BleedingError for a track that lacks a stem, and what reading and separating raise."""
    missing = [name for name in sources if name not in stems]
    if missing:
        raise BleedingError(f"lacks {', '.join(missing)}, and levels need all stems of a track")
    found = measure_levels(separator, {name: AudioFile(stems[name].path) for name in sources})
    rounded = {pair: None if level is None else float(f"{level:.4g}") for pair, level in found.items()}
    return {name: {other: rounded[name, other] for other in sources if other != name} for name in sources}


class BleedingError(UserError):
    """A track of which no levels can be measured."""


def usual_levels(levels: Sequence[Levels], sources: Sequence[str]) -> list[str]:
    """Return a line for each instrument: the median level of every other one in its stems."""
    lines = []
    for name in sources:
        parts = []
        for other in sources:
            values = [-np.inf if (value := heard[name][other]) is None else value for heard in levels if other != name]
            if values:
                middle = float(np.median(values))
                parts.append(f"{other} {middle:.0f} dB" if np.isfinite(middle) else f"no {other}")
        lines.append(f"{name} usually holds {', '.join(parts)}")
    return lines
