"""Locks by which processes know of each other. The system releases a process's locks when it ends, even if it is killed.

    lock = Lock(Path("out/evaluation.jsonl"))     # raises BlockingIOError while another process holds it
    lock.release()

    with exclusive(Path("out/song")):             # waits until no other process is in such a block
        ...

Windows and some network file systems have no such locks. Lock then raises OSError, and the caller goes on without one.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TRIES = 20  # to make something that other processes delete
_held: set[int] = set()  # descriptors of this process's locks


class Lock:
    """An exclusive lock on a file or folder that exists. It conflicts with every other Lock, in this process, too.

    Args:
        path: the file or folder.
        wait: wait while another process holds the lock (default: raise BlockingIOError).

    Raises BlockingIOError; FileNotFoundError if the path was deleted or replaced before it could be locked; another OSError
    where there are no locks.
    """

    def __init__(self, path: Path, wait: bool = False) -> None:
        if fcntl is None:
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
        self.descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks only what may be written
        _held.add(self.descriptor)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if not os.path.samestat(os.fstat(self.descriptor), path.stat()):
                raise FileNotFoundError(errno.ENOENT, "was replaced meanwhile", str(path))
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        if self.descriptor in _held:
            _held.remove(self.descriptor)
            with contextlib.suppress(OSError):
                fcntl.flock(self.descriptor, fcntl.LOCK_UN)
            os.close(self.descriptor)
        self.descriptor = -1


def _leave_to_parent() -> None:
    """Close the locks that a forked process has inherited, so that they end with the process that took them."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def lock_file(path: Path) -> Lock | None:
    """Make a file and the folders above it if they are missing, and lock the file; return None where there are no locks.

    Raises BlockingIOError if another process holds the lock, or another OSError if the file cannot be made.
    """
    for _ in range(TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.open("ab").close()
            return Lock(path)
        except FileNotFoundError:  # another process has just deleted it, or the folder, which was empty
            continue
        except BlockingIOError:
            raise
        except OSError:
            if not path.is_file():
                raise
            return None
    raise FileNotFoundError(errno.ENOENT, "is deleted again and again", str(path))


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock on a file or folder and hold it during the block; go on without it where there are no locks."""
    lock = None
    with contextlib.suppress(OSError):
        lock = Lock(path, wait=True)
    try:
        yield
    finally:
        if lock:
            lock.release()
