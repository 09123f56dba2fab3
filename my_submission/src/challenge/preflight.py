"""Check everything that a submission needs, before it leaves: a table of pass, fail and cannot tell.

    python -m my_submission preflight               # runs the wrapper on a song, which takes minutes on a CPU
    python -m my_submission preflight --no-run      # does not run it, and takes seconds

Exit status: 0 if nothing fails, 1 if something fails, 2 for a wrong option. `cannot tell` does not fail.
"""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from my_submission.src.challenge.package_lists import judge_apt, judge_requirements
from my_submission.src.challenge.published import DOWNLOAD, INSTALL, PUBLISHED
from my_submission.src.challenge.trial_run import JUDGEMENTS, run_wrapper
from my_submission.src.challenge.verdict import FAIL, MARK, PASS, UNKNOWN, Verdict, read_text
from my_submission.src.common import cli
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
CKPTS = "my_submission/ckpts"

FLAGS: dict[str | None, dict[str, object]] = {  # leaderboard -> the required settings in aicrowd.json
    board: {
        "challenge_id": "music-demixing-track-mdx-23",
        "labelnoise": board == "A",
        "bleeding": board == "B",
        "external_dataset_used": False,
        "gpu": True,
    }
    for board in "AB"
}
PLACEHOLDER = "your-aicrowd-name"
LARGE = 5_000_000  # bytes; larger files go through git-lfs


class PreflightError(UserError):
    """A file cannot be written."""


@dataclass
class Subject:
    """The repository that is checked, with its selected model."""

    root: Path
    fix: bool = False  # correct settings, as far as possible
    model: Any = None  # MySeparationModel; None if it cannot be imported
    problem: str = ""  # the reason why it cannot
    checkpoints: list[Path] | None = None  # the model's, existing or not; None if the model names no folder
    tracked: list[str] | None = None  # files that git tracks, relative to root; None outside a repository

    @property
    def selected(self) -> list[str]:
        """Return the model's checkpoints below the root, as git names them: relative to it."""
        return [path.relative_to(self.root).as_posix() for path in self.checkpoints or [] if path.is_relative_to(self.root)]


def inspect(root: Path = ROOT, fix: bool = False) -> Subject:
    """Import the selected model and ask git for the tracked files."""
    subject = Subject(root, fix)
    try:
        subject.model = importlib.import_module("my_submission.user_config").MySeparationModel
    except Exception as error:  # the user's own code may fail in any way
        subject.problem = f"my_submission/user_config.py: {type(error).__name__}: {error}"
    subject.checkpoints = selected_checkpoints(subject.model)
    subject.tracked = _tracked(root)
    return subject


def selected_checkpoints(model: Any) -> list[Path] | None:
    """Return a model class's checkpoints: the published names, or those in its default folder; None for a class without one."""
    if not hasattr(model, "default_folder"):
        return None
    from my_submission.src.checkpoint import CheckpointError, find_checkpoints  # imports torch, which may be missing here

    names = getattr(model, "default_checkpoints", [])
    try:
        return [model.default_folder / name for name in names] or list(find_checkpoints(model.default_folder).values())
    except CheckpointError:
        return []


def check_model(subject: Subject) -> Verdict:
    """Check that MySeparationModel is a class with the attributes that the evaluator uses."""
    model = subject.model
    if model is None:
        return Verdict(FAIL, subject.problem)
    absent = [name for name in ("instruments", "separate_music_file", "raise_aicrowd_error") if not hasattr(model, name)]
    if not isinstance(model, type) or absent:
        found = f"a class without {', '.join(absent)}" if isinstance(model, type) else repr(model)
        return Verdict(FAIL, f"MySeparationModel in my_submission/user_config.py is {found}; set it to A or B")
    board = getattr(model, "leaderboard", None)
    return Verdict(PASS, f"{model.__name__}, " + (f"leaderboard {board}" if board else "a class of no leaderboard"))


def check_flags(subject: Subject) -> Verdict:
    """Check that the flags in aicrowd.json are those of the model's leaderboard; `fix` sets them."""
    expected = FLAGS.get(getattr(subject.model, "leaderboard", None))
    settings, has_mark = _read_settings(subject.root)
    if isinstance(settings, str):
        return Verdict(FAIL, settings)
    if has_mark and subject.fix:
        _write_settings(subject.root, settings)
    if expected is None:
        return Verdict(UNKNOWN, "the selected class names no leaderboard; set labelnoise and bleeding yourself")
    # compared as JSON, because 1 and true are equal in Python
    wrong = {key: value for key, value in expected.items() if json.dumps(settings.get(key)) != json.dumps(value)}
    listed = ", ".join(f"{key} {json.dumps(value)}" for key, value in wrong.items())
    board = subject.model.leaderboard
    if not wrong and has_mark and not subject.fix:
        return Verdict(UNKNOWN, f"the flags of leaderboard {board}; the file {MARK}; --fix takes it off")
    if not wrong:
        return Verdict(PASS, f"the flags of leaderboard {board}")
    if not subject.fix:
        return Verdict(FAIL, f"leaderboard {board} wants {listed}; --fix sets that")
    _write_settings(subject.root, settings | expected)
    return Verdict(PASS, f"set for leaderboard {board}: {listed}")


def check_authors(subject: Subject) -> Verdict:
    """Check that an author is named. AIcrowd uses the account that pushes, so a missing name blocks nothing."""
    settings, _ = _read_settings(subject.root)
    authors = settings.get("authors") if isinstance(settings, dict) else None
    if not isinstance(authors, list) or not authors or PLACEHOLDER in authors:
        return Verdict(UNKNOWN, f"aicrowd.json names {authors}; write your AIcrowd user name there")
    return Verdict(PASS, ", ".join(map(str, authors)))


def check_checkpoints(subject: Subject) -> Verdict:
    """Check that the model's checkpoints exist and load strictly; tell published ones, known by their hash, from your own."""
    paths = subject.checkpoints
    if paths is None:
        return Verdict(
            UNKNOWN, subject.problem or "the selected class has no default_folder; only it knows which files it loads"
        )
    from my_submission.src import checkpoint
    from my_submission.src.config import load_config

    folder = subject.model.default_folder
    missing = [path.name for path in paths if not path.exists()]
    if missing or not paths:
        get = f"download mdx_AB.zip from {DOWNLOAD} and run: {INSTALL}"
        return Verdict(FAIL, f"{folder}: missing {', '.join(missing) or 'checkpoints'}; {get if missing else 'train some'}")
    for path in paths:
        if not path.is_relative_to(subject.root):
            return Verdict(FAIL, f"{path}: lies outside the repository, so it cannot travel; put it below {CKPTS}")
        link = next((part for part in (path, *path.parents) if part.is_symlink() and subject.root in part.parents), None)
        if link:
            return Verdict(
                FAIL, f"{link}: is a symbolic link, and git would send the link alone; put the files themselves there"
            )
    try:
        config = load_config(folder / "config.yaml")
        for path in paths:
            checkpoint.load_network(config, checkpoint.read_state_dict(path), str(path))
    except UserError as error:
        return Verdict(FAIL, str(error))
    known = [PUBLISHED.get(f"{folder.name}/{path.name}") == checkpoint.sha256(path) for path in paths]
    origins = [f"{path.name} {'published' if is_known else 'own'}" for path, is_known in zip(paths, known, strict=True)]
    return Verdict(PASS, f"{len(paths)} in {_relative(folder, subject.root)} load: {', '.join(origins)}")


def check_other_models(subject: Subject) -> Verdict:
    """Check that git tracks no checkpoints but the model's and the demo's, which is part of the repository; `fix` untracks."""
    if subject.tracked is None:
        return Verdict(UNKNOWN, "no git repository here")
    there = [path for path in subject.tracked if path.startswith(f"{CKPTS}/") and path.endswith(".ckpt")]
    others = [path for path in there if path not in subject.selected and not path.startswith(f"{CKPTS}/demo/")]
    if not others:
        return Verdict(PASS, "no other model's checkpoints are tracked")
    if subject.checkpoints is None:
        return Verdict(UNKNOWN, f"tracked, and it is yours to know whether they are needed: {', '.join(others)}")
    command = ["git", "rm", "--cached", "--quiet", "--", *others]
    if subject.fix and _git(subject.root, *command[1:]) is not None:
        subject.tracked = _tracked(subject.root)
        return Verdict(PASS, f"untracked, the files stay: {', '.join(others)}")
    return Verdict(FAIL, f"another model's checkpoints are tracked; take them out, the files stay: {' '.join(command)}")


def check_tracked(subject: Subject) -> Verdict:
    """Check that git tracks all files that the selected model needs: only tracked files are pushed."""
    if not subject.tracked:
        return Verdict(UNKNOWN, "no git repository here" if subject.tracked is None else "git tracks nothing here yet")
    needed = {subject.root / name for name in ("aicrowd.json", "requirements.txt", "apt.txt")}
    needed |= {subject.root / f"my_submission/{name}.py" for name in ("aicrowd_wrapper", "user_config")}
    needed |= {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    if hasattr(subject.model, "default_folder"):
        needed.add(subject.model.default_folder / "config.yaml")
    ours = [_relative(path, subject.root) for path in needed if path.is_relative_to(subject.root) and path.is_file()]
    untracked = sorted(path for path in set(ours) - set(subject.tracked) if "/site-packages/" not in path)
    if untracked:
        return Verdict(FAIL, f"needed, but not tracked; run: git add {' '.join(untracked)}")
    return Verdict(PASS, f"{len(subject.tracked)} files, and all that the model imports is among them")


def check_git_lfs(subject: Subject) -> Verdict:
    """Check that git-lfs is installed if a file that is pushed needs it."""
    if shutil.which("git-lfs") or _git(subject.root, "lfs", "version") is not None:
        return Verdict(PASS, "installed")
    files = [subject.root / name for name in {*(subject.tracked or []), *subject.selected}]
    large = [path.name for path in files if path.is_file() and path.stat().st_size > LARGE]
    if large:
        install = "apt-get install git-lfs, brew install git-lfs, or https://git-lfs.com"
        return Verdict(FAIL, f"git-lfs is not installed, and over 5 MB are: {', '.join(sorted(large))}; {install}")
    if subject.tracked is None or not all((subject.root / name).is_file() for name in subject.selected):
        return Verdict(UNKNOWN, "git-lfs is not installed; published checkpoints need it")
    return Verdict(PASS, "not installed, and not needed: nothing over 5 MB travels")


CHECKS: dict[str, Callable[[Subject], Verdict]] = {
    "selected class": check_model,
    "aicrowd.json": check_flags,
    "authors": check_authors,
    "checkpoints": check_checkpoints,
    "other models": check_other_models,
    "tracked": check_tracked,
    "requirements.txt": lambda subject: judge_requirements(subject.root),
    "apt.txt": lambda subject: judge_apt(subject.root),
    "git-lfs": check_git_lfs,
}


def main(argv: Sequence[str]) -> int:
    """Print the table; return the exit status."""
    parser = cli.Parser(prog="python -m my_submission preflight", description=__doc__)
    parser.add_argument(
        "--fix",
        action="store_true",
        help="set the flags in aicrowd.json and untrack other models' checkpoints (default: only report them)",
    )
    parser.add_argument(
        "--no-run", action="store_true", help="do not run the wrapper; its rows then say `cannot tell` (default: run it)"
    )
    parser.add_argument(
        "--list", metavar="FILE", help="write the paths of the selected model's checkpoints to this file, one per line"
    )
    arguments = parser.parse_args(argv)

    subject = inspect(ROOT, arguments.fix)
    verdicts = {name: _say(name, check(subject)) for name, check in CHECKS.items()}
    report = None
    if not arguments.no_run and FAIL not in (verdicts["selected class"].status, verdicts["checkpoints"].status):
        report = run_wrapper(ROOT)
    verdicts |= {name: _say(name, judge(report)) for name, judge in JUDGEMENTS.items()}
    if arguments.list:
        _write_text(Path(arguments.list), "".join(f"{path}\n" for path in subject.selected))
    statuses = [verdict.status for verdict in verdicts.values()]
    print(", ".join(f"{statuses.count(status)} {status}" for status in (FAIL, UNKNOWN, PASS)))
    return 1 if FAIL in statuses else 0


def _say(name: str, verdict: Verdict) -> Verdict:
    print(f"{verdict.status:<11}  {name:<16}  {' '.join(verdict.detail.split())}", flush=True)
    return verdict


def _read_settings(root: Path) -> tuple[dict[str, Any] | str, bool]:
    """Return the settings in aicrowd.json, or a sentence that says why they cannot be used.

    Return also whether the file begins with a byte order mark.
    """
    try:
        text, has_mark = read_text(root / "aicrowd.json")
    except OSError as error:
        return f"aicrowd.json cannot be read ({error.strerror}); the evaluator needs it: take the repository's own", False
    except ValueError as error:
        return f"aicrowd.json {error}", False
    try:
        settings = json.loads(text)
    except ValueError as error:
        return f"aicrowd.json is no JSON ({error}); fix it, or take the repository's own", has_mark
    return settings if isinstance(settings, dict) else "aicrowd.json holds no settings, expected {...}", has_mark


def _write_settings(root: Path, settings: dict[str, Any]) -> None:
    _write_text(root / "aicrowd.json", json.dumps(settings, indent=2, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    try:
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PreflightError(f"{path}: cannot be written ({error.strerror})") from error


def _tracked(root: Path) -> list[str] | None:
    """Return the files in git's index below `root`; None without a repository or without git."""
    listed = _git(root, "ls-files", "-z")
    return None if listed is None else [path for path in listed.split("\0") if path]


def _git(root: Path, *arguments: str) -> str | None:
    """Run git and return its output; None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
