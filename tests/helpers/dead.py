"""Hidden folders as killed processes leave them: with the name of atomic.py, and without a lock."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from my_submission.src.common.atomic import hidden_folder


def leave_dead(parent: Path) -> Path:
    """Let a process that is killed leave a hidden folder with a file in it; return the folder."""
    before = set(parent.iterdir())
    child = os.fork()
    if child == 0:
        with hidden_folder(parent) as partial:
            (partial / "left.wav").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    (left,) = set(parent.iterdir()) - before
    return left
