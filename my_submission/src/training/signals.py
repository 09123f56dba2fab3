"""SIGINT and SIGTERM as a question that a loop asks between two steps.

with Interruption() as interruption:
    while not interruption.requested:
        ...
return interruption.status
"""

from __future__ import annotations

import signal
import sys
import time
from typing import Any

from my_submission.src.training.launch import launcher_is_gone


class Interruption:
    """Takes note of the signals inside, instead of dying of them. A second Ctrl-C, a moment later, leaves at once."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.signal: signal.Signals | None = None
        self._since = 0.0

    @property
    def requested(self) -> bool:
        """Whether it is time to save and leave."""
        if self.signal is None and launcher_is_gone():
            self.signal = signal.SIGTERM
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that was asked to end: 130 for SIGINT, 143 for SIGTERM."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> Interruption:
        self._former: dict[int, Any] = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        # a batch system may send SIGTERM to the launcher and to us, so that it comes twice: only Ctrl-C can be impatient
        if self.signal is not None:
            if number == signal.SIGINT and time.monotonic() > self._since + 1:
                raise KeyboardInterrupt
            return
        self.signal, self._since = signal.Signals(number), time.monotonic()
        if not self.quiet:
            print(f"{self.signal.name}: finishing the step, then saving", file=sys.stderr)
