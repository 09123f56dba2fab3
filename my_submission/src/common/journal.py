"""A journal of a long run: a run that was killed continues where it stopped. The file is JSON, one object per line.

    with Journal("predictions/evaluation.jsonl", {"overlap": 8}) as journal:
        journal.entries                        # of an unfinished run with the same settings; empty otherwise
        journal.append({"track": "song"})      # on the disk when the call returns
        journal.finish()                       # the next run with these settings starts again

The first line holds the settings; a run continues only a journal with equal settings. A last line that was cut off is dropped.
One process at a time writes a journal; a lock on the file tells whether it still lives.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from my_submission.src.common.atomic import clear_dead
from my_submission.src.common.errors import UserError
from my_submission.src.common.locks import Lock, lock_file

HEADER = "settings of this run"
FINISHED = {"finished": True}


class JournalError(UserError):
    """A journal cannot be read or written."""


class Journal:
    """The journal at `path` of a run with these settings (a flat dictionary of JSON values).

    The journal of a finished run, or of a run with other settings, is overwritten. `differences` then lists the settings that
    changed.

    Hidden files that killed processes have left next to the journal are deleted.

    Raises JournalError if the file is not a journal (it is left as it is), if another process is writing it, or if it cannot be
    read or written.
    """

    def __init__(self, path: str | Path, settings: dict[str, Any]) -> None:
        self.path = Path(path)
        self.entries: list[dict[str, Any]] = []
        self.differences: list[str] = []
        self.lock: Lock | None = None
        try:
            self.lock = lock_file(self.path)
            self._open(settings)
        except BaseException as error:
            self._leave()
            if isinstance(error, BlockingIOError):
                what = "another process is at work on it; wait until it has ended, or write to another place"
                raise JournalError(f"{self.path}: {what}") from error
            if isinstance(error, OSError):
                raise JournalError(f"{self.path}: cannot be read or written ({error.strerror})") from error
            raise

    def _leave(self) -> None:
        """Delete a file that has stayed empty, and release the lock."""
        if self.lock:
            with contextlib.suppress(OSError):
                if self.path.stat().st_size == 0:
                    self.path.unlink()
            self.lock.release()

    def _open(self, settings: dict[str, Any]) -> None:
        clear_dead(self.path.parent)
        found, end = ([], 0) if is_blank(self.path) else self._read()
        former = found[0][HEADER] if found else settings
        self.differences = [
            f"{name} was {former.get(name)}, is {settings.get(name)}"
            for name in dict.fromkeys([*former, *settings])
            if former.get(name) != settings.get(name)
        ]
        if not found or self.differences or FINISHED in found:
            self._begin(settings)
        else:
            self.entries = found[1:]
            os.truncate(self.path, end)
        self.file = self.path.open("a", encoding="utf-8")

    def _read(self) -> tuple[list[dict[str, Any]], int]:
        """Return all complete lines, the header first, and the byte at which the last of them ends."""
        data = self.path.read_bytes()
        end = data.rfind(b"\n") + 1
        lines: list[Any] = []
        for number, line in enumerate(data[:end].splitlines() or [b""], 1):
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append(None)
            if not isinstance(lines[-1], dict) or (number == 1 and not isinstance(lines[0].get(HEADER), dict)):
                raise JournalError(f"{self.path}: line {number} is not a line of a journal; delete the file to start again")
        return lines, end

    def _begin(self, settings: dict[str, Any]) -> None:
        """Write a journal with a header only, into the file that is locked."""
        with self.path.open("w", encoding="utf-8") as file:
            file.write(json.dumps({HEADER: settings}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def append(self, entry: dict[str, Any]) -> None:
        """Write one line, and return when it is on the disk. Raises JournalError."""
        try:
            self.file.write(json.dumps(entry) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be written ({error.strerror}); is the disk full?") from error
        self.entries.append(entry)

    def finish(self) -> None:
        """Mark the run as finished. Raises JournalError."""
        self.append(FINISHED)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # `append` has raised the error that closing repeats
            self.file.close()
        self._leave()


def is_blank(path: Path) -> bool:
    """Return whether a journal is missing, empty or cut off in its first line, because its process was killed at once."""
    if not path.exists():
        return True
    with path.open("rb") as file:
        begun = file.read(1 << 20)
    start = json.dumps({HEADER: {}})[:-2].encode()
    return b"\n" not in begun and begun[: len(start)] == start[: len(begun)]


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in the first line of the journal at `path`. Raises JournalError if there is no such journal."""
    try:
        with path.open(encoding="utf-8") as file:
            settings = json.loads(file.readline())[HEADER]
    except OSError as error:
        raise JournalError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, LookupError, TypeError):
        settings = None
    if not isinstance(settings, dict):
        raise JournalError(f"{path}: line 1 is not one of a journal")
    return settings
