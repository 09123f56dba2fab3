"""A clone with core.autocrlf=true, as Git for Windows makes it, has every file byte for byte, so that bash runs the scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SCRIPTS = ("submit.sh", "tests/run", ".ci/run")
FOLDERS = ("my_submission/ckpts/demo", "tests/golden")


def clone(tmp_path: Path, attributes: bool) -> Path:
    """Commit the scripts, checkpoints and golden files; return a clone of them with core.autocrlf=true."""
    origin, there = tmp_path / "origin", tmp_path / "clone"
    for name in (*SCRIPTS, "aicrowd.json", "requirements.txt", "apt.txt", *([".gitattributes"] if attributes else [])):
        (origin / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, origin / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, origin / name)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    me = ["-c", "user.name=me", "-c", "user.email=me@example.org"]
    for command in (
        ["-C", origin, "init", "--quiet"],
        ["-C", origin, "add", "--force", "."],
        ["-C", origin, *me, "commit", "--quiet", "-m", "all"],
        ["-c", "core.autocrlf=true", "clone", "--quiet", origin, there],
    ):
        subprocess.run(["git", *map(str, command)], check=True, env=environment, capture_output=True)
    return there


def test_a_clone_for_windows_runs(tmp_path: Path) -> None:
    there = clone(tmp_path, attributes=True)
    files = [path.relative_to(there) for path in there.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert len(files) > 20
    assert [str(path) for path in files if (there / path).read_bytes() != (ROOT / path).read_bytes()] == []
    for command in (["bash", "submit.sh", "--help"], ["./submit.sh", "--help"]):
        done = subprocess.run(command, cwd=there, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("usage: ./submit.sh")
    for script in SCRIPTS:
        done = subprocess.run(["bash", "-n", script], cwd=there, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_it_would_not_without_our_attributes(tmp_path: Path) -> None:
    there = clone(tmp_path, attributes=False)
    if b"\r\n" not in (there / "submit.sh").read_bytes():
        pytest.skip("this git does not convert line ends")
    done = subprocess.run(["bash", "submit.sh", "--help"], cwd=there, capture_output=True, text=True, check=False)
    assert done.returncode != 0
