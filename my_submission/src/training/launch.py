"""Start the processes of a training run on this machine, as torchrun would: `--device-ids 0 1`.

The processes find each other through torchrun's variables (RANK, WORLD_SIZE, ...), so they work the same under either
launcher. If one fails, the others are ended. This module does not import torch; each process imports it for itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LAUNCHER = "MY_SUBMISSION_LAUNCHER"  # environment variable: the launcher's process id; unset under torchrun
GRACE = 15.0  # seconds that the other processes have to end by themselves after a failure, and again after SIGTERM


def is_launched() -> bool:
    """Return whether this is one of several processes, started by torchrun or by `launch`."""
    return "RANK" in os.environ


def is_ours() -> bool:
    """Return whether `launch` started this process, not torchrun."""
    return LAUNCHER in os.environ


def launcher_is_gone() -> bool:
    """Return whether `launch` started this process and its launcher no longer exists."""
    return is_ours() and os.getppid() != int(os.environ[LAUNCHER])


def launch(script: str | Path, argv: Sequence[str], processes: int) -> int:
    """Run `python SCRIPT ARGV` as that many ranks. Return 0, or the exit status of the first rank that failed.

    The launcher passes SIGINT and SIGTERM on to every rank, also those that the terminal sends.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        LAUNCHER: str(os.getpid()),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // processes)),
    }
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _: object) -> None:
        for child in children:
            child.send_signal(number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(processes):
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # In the launcher's session, a child would receive Ctrl-C twice: from the terminal and from the launcher.
            children.append(subprocess.Popen([sys.executable, str(script), *argv], env=environment, start_new_session=True))
        return _wait(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all children to succeed or for one to fail; then end the others. Return the exit status."""
    while True:
        statuses = [child.poll() for child in children]
        failed = next((status for status in statuses if status), None)
        if failed is not None:
            break
        if None not in statuses:
            return 0
        time.sleep(0.05)
    if not _all_ended(children):
        for child in children:
            child.terminate()
        _all_ended(children)
    return failed if failed > 0 else 128 - failed  # Popen's status of a child killed by signal n is -n


def _all_ended(children: Sequence[subprocess.Popen[bytes]]) -> bool:
    """Wait up to GRACE seconds; return whether all children have ended."""
    deadline = time.monotonic() + GRACE
    while any(child.poll() is None for child in children):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
