"""Signals end a command within seconds, with nothing half-written; real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

PROGRAM = """
import sys, time
from pathlib import Path
from my_submission.src.common import cli
from my_submission.src.common.atomic import atomic_folder

def main(argv):
    with atomic_folder(Path(argv[0])) as partial:
        try:
            (partial / "file").write_text("half")
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("deleting", flush=True)
            time.sleep(0.5)
            print("deleted", flush=True)

sys.exit(cli.run(main))
"""
IMPORTING = """
import sys
from my_submission.src.common import cli

def main(argv):
    print("begun", flush=True)
    import torch

sys.exit(cli.run(main))
"""
SWALLOWING = """
import sys, time
from my_submission.src.common import cli

def main(argv):
    print("begun", flush=True)
    try:
        time.sleep(60)
    except BaseException:
        raise ValueError("a library's own error") from None

sys.exit(cli.run(main))
"""


def start(program: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a program, and return when it has printed its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize(
    ("number", "status", "message"),
    [(signal.SIGINT, 130, "interrupted\n"), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")],
)
def test_a_signal_ends_the_command_with_nothing_half_written(
    tmp_path: Path, number: signal.Signals, status: int, message: str
) -> None:
    process = start(PROGRAM, tmp_path / "out")
    process.send_signal(number)
    assert process.stdout.readline() == "deleting\n"
    process.send_signal(number)  # an impatient user, or a batch system that signals twice
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (status, "deleted\n", message)
    assert list(tmp_path.iterdir()) == []


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    program = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{PROGRAM}"
    process = start(program, tmp_path / "out")
    process.send_signal(signal.SIGHUP)  # as under nohup
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


def test_a_signal_while_torch_is_imported_does_not_abort_the_process(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(
        "import time\ntry:\n    time.sleep(60)\nexcept BaseException:\n    import os; os.abort()\n", encoding="utf-8"
    )
    process = start(IMPORTING, PYTHONPATH=str(tmp_path))
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_an_interrupt_that_a_library_turned_into_its_own_error_is_still_one() -> None:
    process = start(SWALLOWING)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_ctrl_c_during_the_start_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "tqdm.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "my_submission", "separate"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "")


def test_a_signal_ends_an_operation_that_takes_long(tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from my_submission.src.common import cli
from my_submission.src.common.atomic import atomic_folder

def main(argv):
    large = np.ones((6000, 6000))
    with atomic_folder(Path(argv[0])) as partial:
        (partial / "file").write_text("half")
        print("begun", flush=True)
        np.linalg.svd(large)  # minutes, in one operation

sys.exit(cli.run(main))
"""
    process = start(program, tmp_path / "out", OPENBLAS_NUM_THREADS="1")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "interrupted\n")
    assert time.monotonic() - begun < 20
    assert list(tmp_path.iterdir()) == []


def test_a_signal_to_a_forked_process_is_not_the_parents() -> None:
    program = """
import os, signal, sys, time
from my_submission.src.common import cli

def main(argv):
    print("begun", flush=True)
    child = os.fork()
    if not child:
        try:
            time.sleep(60)
        finally:
            os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    time.sleep(2)
    return 7

sys.exit(cli.run(main))
"""
    process = start(program)
    process.communicate(timeout=60)
    assert process.returncode == 7
