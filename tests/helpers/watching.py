"""Watch what another process does to a folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition. Raises AssertionError after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.002)


def hidden(out: Path) -> list[Path]:
    """Return the hidden folders of songs that are being written to `out`."""
    return list(out.glob(".*.partial"))
