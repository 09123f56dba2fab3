"""Signals that end a command: Ctrl-C, a batch system's SIGTERM, a closed terminal.

    with Interrupts() as interrupts:
        ...                     # a signal raises KeyboardInterrupt or SystemExit here, so that partial files are deleted
    interrupts.signal           # the first one's number; 0 without a signal

Python calls its handlers between two operations of the main thread. One operation of a large network may take many seconds.
If it takes longer than PATIENCE, a second thread deletes the partial files and ends the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import TracebackType

from my_submission.src.common.atomic import delete_unfinished

PATIENCE = 1.0  # seconds


class Interrupts:
    """The handler of the signals, from the start of the `with` block on; it stays after it, for the process is ending then.

    A signal less than a second after the last one is ignored, because the first one's partial files are being deleted then.
    """

    def __init__(self) -> None:
        self.signal = 0  # the first one's number
        self._last = 0.0  # time of the last one, seconds of time.monotonic
        self._is_handled = False  # the main thread got to the handler
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Interrupts:
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                signal.signal(number, self)
        if sys.platform != "win32":  # where only sockets can be woken up
            self._start_watching()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._cleanup.close()

    def __call__(self, number: int, _: object) -> None:
        """Raise the exception, in the main thread."""
        self._is_handled = True
        last, self._last = self._last, time.monotonic()
        if self.signal and self._last < last + 1:
            return
        self.signal = self.signal or number
        if _is_being_imported("torch"):  # an exception there may abort the process; nothing is half-written yet
            os._exit(128 + number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    def _start_watching(self) -> None:
        """Start the second thread. Signals write their number into a pipe, whatever the main thread is doing."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        previous = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        _pipes.add(writing)
        self._cleanup.callback(os.close, writing)  # the last: it ends the thread
        self._cleanup.callback(_pipes.discard, writing)
        self._cleanup.callback(signal.set_wakeup_fd, previous)
        threading.Thread(target=self._watch, args=(reading,), name="interrupts", daemon=True).start()

    def _watch(self, reading: int) -> None:
        while number := int.from_bytes(os.read(reading, 1), "big"):
            # another handler may have been set inside the block: a training saves its state first
            handler: object = signal.getsignal(number)
            if handler is not self:
                continue
            deadline = time.monotonic() + PATIENCE
            while not self._is_handled and time.monotonic() < deadline:
                time.sleep(0.05)
            if not self._is_handled:
                delete_unfinished()
                if number == signal.SIGINT:
                    print("interrupted", file=sys.stderr)
                os._exit(128 + number)
        os.close(reading)


_pipes: set[int] = set()  # that signals write to


def _leave_to_parent() -> None:
    """Keep a forked process, which shares the pipe, from reporting its signals as the parent's."""
    if _pipes:
        with contextlib.suppress(ValueError):  # forked by another thread than the main one
            signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _is_being_imported(name: str) -> bool:
    """Whether the import of a module has begun and is not done."""
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))
