"""Files and folders that are there whole or not at all: written under a hidden name of the process's own, then renamed.

A hidden name is short, whatever the final name is, so that the longest final names work. A process locks its hidden files and
folders. The unlocked ones belong to processes that were killed; the next write to the same folder deletes them. If a hidden
folder names the places of files that were all complete (note_moves), the next write moves them there first.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import json
import os
import re
import secrets
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from my_submission.src.common.locks import TRIES, Lock

HIDDEN = re.compile(r"\.([0-9a-f]{8})-[0-9a-f]{8}\.partial")  # the machine, and a random number
_made: set[tuple[int, Path]] = set()  # (process, path) of hidden files and folders that were not deleted or renamed yet
MOVES = "moves.json"  # in a hidden folder
DAY = 86400.0  # seconds after which the files of another machine, whose locks may be unknown here, count as abandoned


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an empty hidden file that replaces `path` on success; on an error `path` is left untouched. Raises OSError."""
    with _hidden(path.parent, lambda partial: partial.touch(exist_ok=False)) as partial:
        yield partial
        partial.replace(path)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes `path` on success; on an error no such folder is left.

    `path` must not exist, or be an empty folder. Raises FileExistsError if it has been filled meanwhile, or another OSError.
    """
    with hidden_folder(path.parent) as partial:
        yield partial
        try:
            partial.rename(path)
        except OSError as error:
            if path.is_dir():  # systems differ in the error they report
                raise FileExistsError(error.errno, "is there already", str(path)) from error
            raise


@contextlib.contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty hidden folder in `parent`, which is made if it is missing. Afterwards the hidden folder is deleted.

    Folders that were made for it are deleted too, unless something else is in them. Raises OSError.
    """
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        with _hidden(parent, _make_folder) as partial:
            yield partial
    finally:
        for path in made:
            with contextlib.suppress(OSError):  # not empty: something was finished in it
                path.rmdir()


def clear_dead(folder: Path) -> None:
    """Delete the hidden files and folders that killed processes have left in `folder`. Errors are ignored."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = HIDDEN.fullmatch(entry.name)
            if match:
                with contextlib.suppress(OSError):  # its process lives, or there are no locks here, or it may not be deleted
                    _delete_if_dead(Path(entry.path), same_machine=match[1] == _machine())


def _delete_if_dead(path: Path, same_machine: bool) -> None:
    lock = Lock(path)
    try:
        if same_machine or not _was_changed_lately(path):
            _make_moves(path)
            _delete(path)
    finally:
        lock.release()


def note_moves(folder: Path, moves: Mapping[Path, Path]) -> None:
    """Note that the files in a hidden folder are complete, and their places: file -> place in or below the folder's parent.

    If the process is killed while it renames them, the next write to that parent renames the rest. Raises OSError.
    """
    places = {str(file.relative_to(folder)): str(place.relative_to(folder.parent)) for file, place in moves.items()}
    with atomic_file(folder / MOVES) as partial:
        partial.write_text(json.dumps(places), encoding="ascii")


def forget_moves(folder: Path) -> None:
    """Undo note_moves."""
    (folder / MOVES).unlink(missing_ok=True)


def _make_moves(folder: Path) -> None:
    """Rename the files of which a killed process had noted the places, and which it had not renamed yet."""
    if not (folder / MOVES).is_file():
        return
    for file, place in json.loads((folder / MOVES).read_text(encoding="ascii")).items():
        target = folder.parent / place
        if (
            (folder / file).is_file()
            and ".." not in (*Path(file).parts, *Path(place).parts)
            and folder.parent in target.parents
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / file).replace(target)


def _was_changed_lately(path: Path) -> bool:
    newest = max(part.lstat().st_mtime for part in (path, *path.rglob("*")))
    return time.time() - newest < DAY


@contextlib.contextmanager
def _hidden(parent: Path, make: Callable[[Path], object]) -> Iterator[Path]:
    """Yield something hidden that `make` has made in a folder, under a lock; delete it afterwards unless it was renamed."""
    clear_dead(parent)
    partial, lock = _make_locked(parent, make)
    try:
        yield partial
    finally:
        _delete(partial)
        _made.discard((os.getpid(), partial))
        if lock:
            lock.release()


@atexit.register
def delete_unfinished() -> None:
    """Delete what a signal between making and yielding has left; its handler raises an exception at any place."""
    for process, path in tuple(_made):
        if process == os.getpid():
            with contextlib.suppress(OSError):  # where it was to be made is no folder
                _delete(path)


def _make_locked(parent: Path, make: Callable[[Path], object]) -> tuple[Path, Lock | None]:
    """Make something under a new hidden name and lock it; the lock is None where there are no locks."""
    for _ in range(TRIES):
        partial = parent / f".{_machine()}-{secrets.token_hex(4)}.partial"
        _made.add((os.getpid(), partial))
        make(partial)
        try:
            return partial, Lock(partial)
        except (BlockingIOError, FileNotFoundError):  # another process deletes it, as it was not locked yet
            _delete(partial)
        except OSError:
            return partial, None
    raise FileNotFoundError(errno.ENOENT, "is deleted again and again", str(partial))


def _make_folder(path: Path) -> None:
    """Make a folder and those above it. Other processes may delete these while they are empty: try again then."""
    for _ in range(TRIES):
        with contextlib.suppress(FileNotFoundError):
            return path.mkdir(parents=True)
    return path.mkdir(parents=True)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _machine() -> str:
    """Return 8 hexadecimal digits that tell machines apart, whose locks need not be known to each other."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_bytes()  # containers on one machine share it, and the locks
    except OSError:
        identity = str(uuid.getnode()).encode()
    return f"{zlib.crc32(identity):08x}"
