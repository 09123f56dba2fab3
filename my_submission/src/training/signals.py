"""SIGINT and SIGTERM as a flag that a loop reads between two steps.

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
    """Records SIGINT and SIGTERM inside its block instead of ending the process.

    A Ctrl-C more than a second after the first signal raises KeyboardInterrupt. The end of the launcher counts as SIGTERM.

    Args:
        quiet: print nothing when a signal arrives (default: False); for all ranks but one.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.signal: signal.Signals | None = None
        self._since = 0.0  # when the first signal arrived, seconds of time.monotonic

    @property
    def requested(self) -> bool:
        """Whether the loop should save and stop."""
        if self.signal is None and launcher_is_gone():
            self.signal = signal.SIGTERM
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status: 130 after SIGINT, 143 after SIGTERM, 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> Interruption:
        self._previous: dict[int, Any] = {
            number: signal.signal(number, self._record) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _record(self, number: int, _: object) -> None:
        # A batch system may send SIGTERM to the launcher and to this process, so that it arrives twice. Only a repeated Ctrl-C
        # shows that the user does not want to wait.
        if self.signal is not None:
            if number == signal.SIGINT and time.monotonic() > self._since + 1:
                raise KeyboardInterrupt
            return
        self.signal, self._since = signal.Signals(number), time.monotonic()
        if not self.quiet:
            print(f"{self.signal.name}: finishing the step, then saving", file=sys.stderr)
