"""Standard output and standard error that end no command with a traceback.

    with guarded_streams():
        print(name)

* Characters that the terminal or the pipe cannot print are escaped.
* If the reader has gone (`| head`), the command ends quietly: `print` raises SystemExit with status 141.
* If the disk is full, `print` says so on standard error and raises SystemExit with status 2.
* If there is no standard output (`>&-`, pythonw), the text is dropped, as is text for a standard error that does not work.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

BROKEN_PIPE = 141  # the status of a program that SIGPIPE ends


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Guard both streams inside the block; at its end, standard output is flushed."""
    _occupy_standard_descriptors()
    previous = sys.stdout, sys.stderr
    sys.stderr = cast(TextIO, _Guarded(sys.stderr, is_output=False))
    sys.stdout = output = cast(TextIO, _Guarded(sys.stdout, is_output=True))
    try:
        yield
    finally:
        try:
            output.flush()
            sys.stderr.flush()
        finally:
            sys.stdout, sys.stderr = previous


def _occupy_standard_descriptors() -> None:
    """Open the null device in place of closed descriptors 0 to 2: an audio file there would receive messages of C libraries."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


class _Guarded:
    """A text stream whose errors do not reach the caller; see above. Everything else is the stream's own."""

    def __init__(self, stream: TextIO | None, is_output: bool) -> None:
        self._stream: Any = stream
        if stream is None:
            self._stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        self._is_output, self._is_lost = is_output, False
        with contextlib.suppress(AttributeError, OSError, ValueError):  # a stream of another kind, or one that is broken
            self._stream.reconfigure(errors="backslashreplace", line_buffering=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def write(self, text: str) -> int:
        """Write the text, or drop it if the stream was lost."""
        if not self._is_lost:
            try:
                self._stream.write(text)
            except UnicodeError:  # of a stream that could not be reconfigured
                self._stream.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if not self._is_lost:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def _lose(self, error: Exception) -> None:
        """Drop all further text. Raise SystemExit if this is standard output."""
        if isinstance(error, BlockingIOError):  # a slow reader of a pipe that does not block: only this text is lost
            return
        self._is_lost = True
        with contextlib.suppress(OSError, ValueError, AttributeError):  # what is still buffered goes to the null device
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        if not self._is_output:
            return
        if isinstance(error, BrokenPipeError):
            raise SystemExit(BROKEN_PIPE)
        print(f"error: standard output cannot be written ({getattr(error, 'strerror', None) or error})", file=sys.stderr)
        raise SystemExit(2)
