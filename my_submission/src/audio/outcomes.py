"""What became of each song, for people's scripts: one JSON file.

    write_json(Path("done.json"), {"model": "A"}, [Outcome("song.mp3", "separated", seconds=240.0)])

Characters beyond ASCII are escaped, so that the file is UTF-8 whatever the names are. A byte of a name that is not UTF-8 is a
lone surrogate, as in Python: os.fsencode gives it back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown


class JsonError(UserError):
    """A JSON file that cannot be written."""


@dataclass
class Outcome:
    """What became of a song."""

    path: str
    status: str = "not done"  # separated, done already, failed; or not done, after an interrupt
    seconds: float | None = None  # duration
    sample_rate: int | None = None  # of the song, Hz
    stems: dict[str, str] = field(default_factory=dict)  # name -> file, of those that are there
    gain: float | None = None  # that all stems got; below 1 if they would have clipped
    seconds_taken: float | None = None
    error: str | None = None


def check_path(path: Path, taken: Iterable[Path]) -> None:
    """Raise JsonError for a file that cannot be written or would overwrite one of `taken`, before anything is computed."""
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise JsonError(f"--json {shown(path)}: expected the name of a file in a folder that exists")
    if path.resolve() in {other.resolve() for other in taken}:
        raise JsonError(f"--json {shown(path)}: is a song or a stem; expected another name")


def write_json(path: Path, facts: Mapping[str, object], outcomes: Sequence[Outcome]) -> None:
    """Write the facts and the songs' outcomes, atomically. Raises JsonError."""
    text = json.dumps({**facts, "songs": [dataclasses.asdict(outcome) for outcome in outcomes]}, indent=1)
    try:
        with atomic_file(path) as partial:
            partial.write_text(text + "\n", encoding="ascii", newline="\n")
    except OSError as error:
        raise JsonError(f"--json {shown(path)}: cannot be written ({error.strerror}); is the disk full?") from error
