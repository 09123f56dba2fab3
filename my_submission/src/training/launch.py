"""One command that becomes several processes on this machine, as torchrun would start them: `--device_ids 0 1`.

The processes find each other through torchrun's variables (RANK, WORLD_SIZE, ...), so they need not know who started them.
When one ends early, all end. Nothing here needs torch, which every process imports for itself.
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

LAUNCHER = "MY_SUBMISSION_LAUNCHER"  # the process id of who started us; unset under torchrun
GRACE = 15.0  # seconds that the others get to end by themselves after the first, and again after SIGTERM


def is_launched() -> bool:
    """Whether this is one of the processes, under torchrun or from here."""
    return "RANK" in os.environ


def is_ours() -> bool:
    """Whether this process was started from here, rather than by torchrun."""
    return LAUNCHER in os.environ


def launcher_is_gone() -> bool:
    """Whether this process was started here by one that is no more."""
    return is_ours() and os.getppid() != int(os.environ[LAUNCHER])


def launch(script: str | Path, argv: Sequence[str], processes: int) -> int:
    """Run `python SCRIPT ARGV` as so many ranks. Gives the exit status: 0, or that of the first to end otherwise.

    SIGINT and SIGTERM are passed on, once, whoever sent them.
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

    former = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for rank in range(processes):
            environment = {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            # a session of its own, or Ctrl-C would reach it twice: from the terminal and from here
            children.append(subprocess.Popen([sys.executable, str(script), *argv], env=environment, start_new_session=True))
        return _wait(children)
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.wait()
        for number, handler in former.items():
            signal.signal(number, handler)


def _wait(children: Sequence[subprocess.Popen[bytes]]) -> int:
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
    return failed if failed > 0 else 128 - failed  # a child that a signal killed has the signal's number below 0


def _all_ended(children: Sequence[subprocess.Popen[bytes]]) -> bool:
    deadline = time.monotonic() + GRACE
    while any(child.poll() is None for child in children):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
