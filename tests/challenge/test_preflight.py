"""preflight: every check passes or fails as it should, and its message contains the remedy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from my_submission.src import checkpoint
from my_submission.src.challenge import preflight, published, trial_run
from my_submission.src.challenge.preflight import FAIL, PASS, UNKNOWN, Subject
from my_submission.src.challenge.trial_run import JUDGEMENTS, RATE, SECONDS, Report
from my_submission.src.separator import ModelA, ModelB
from tests.helpers.paths import GOLDEN, ROOT

CKPTS = "my_submission/ckpts"


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """Make a folder without git that has the golden ensemble as model A and passes all other checks."""
    root = tmp_path / "repository"
    folder = Path(shutil.copytree(GOLDEN / "separation_A", root / CKPTS / "modelA"))
    for name in ("aicrowd.json", "requirements.txt", "apt.txt"):
        shutil.copy(ROOT / name, root / name)
    model = type("ModelA", (ModelA,), {"default_folder": folder})
    return Subject(root, model=model, checkpoints=preflight.selected_checkpoints(model))


def put_under_git(subject: Subject, *paths: str) -> None:
    for command in (["init", "--quiet"], ["add", "--force", *paths]):
        subprocess.run(["git", "-C", str(subject.root), *command], check=True)
    subject.tracked = preflight._tracked(subject.root)


def verdict(subject: Subject, name: str, status: str) -> str:
    """Assert the status of a check; return its detail."""
    found = preflight.CHECKS[name](subject)
    assert found.status == status, found
    return found.detail


def test_a_complete_repository_passes_every_check(subject: Subject) -> None:
    put_under_git(subject, ".")
    settings = json.loads((subject.root / "aicrowd.json").read_text())
    (subject.root / "aicrowd.json").write_text(json.dumps(settings | {"authors": ["me"]}))
    found = {name: check(subject) for name, check in preflight.CHECKS.items()}
    assert {name for name, (status, _) in found.items() if status != PASS} == set()


def test_the_selected_class_is_checked(subject: Subject) -> None:
    assert verdict(subject, "selected class", PASS) == "ModelA, leaderboard A"
    subject.model = type("Mine", (), {"instruments": []})
    assert "a class without separate_music_file, raise_aicrowd_error; set it to A or B" in verdict(
        subject, "selected class", FAIL
    )
    subject.model = ModelA.separate
    assert "set it to A or B" in verdict(subject, "selected class", FAIL)
    subject.model, subject.problem = None, "my_submission/user_config.py: SyntaxError: what"
    assert "SyntaxError: what" in verdict(subject, "selected class", FAIL)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labelnoise": False, "bleeding": True}, "leaderboard A wants labelnoise true, bleeding false; --fix sets that"),
        ({"external_dataset_used": True}, "wants external_dataset_used false"),
        ({"gpu": 1}, "wants gpu true"),
        ({"challenge_id": "another"}, 'wants challenge_id "music-demixing-track-mdx-23"'),
    ],
)
def test_wrong_flags_fail_and_are_fixed(subject: Subject, changed: dict[str, object], message: str) -> None:
    path = subject.root / "aicrowd.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | changed))
    assert message in verdict(subject, "aicrowd.json", FAIL)
    assert json.loads(path.read_text()) == settings | changed
    subject.fix = True
    assert "set for leaderboard A" in verdict(subject, "aicrowd.json", PASS)
    assert json.loads(path.read_text()) == settings
    assert sorted(found.name for found in subject.root.iterdir() if found.is_file()) == [
        "aicrowd.json",
        "apt.txt",
        "requirements.txt",
    ]


def test_flags_of_other_models_and_damaged_files_are_reported(subject: Subject) -> None:
    subject.fix = True
    subject.model = ModelB
    assert "set for leaderboard B: labelnoise false, bleeding true" in verdict(subject, "aicrowd.json", PASS)
    subject.model = type("Mine", (), {})
    assert "names no leaderboard" in verdict(subject, "aicrowd.json", UNKNOWN)
    for text, message in (("{,}", "is no JSON"), ("[]", "holds no settings")):
        (subject.root / "aicrowd.json").write_text(text)
        assert message in verdict(subject, "aicrowd.json", FAIL)
        assert (subject.root / "aicrowd.json").read_text() == text
    (subject.root / "aicrowd.json").unlink()
    assert "cannot be read" in verdict(subject, "aicrowd.json", FAIL)


def test_the_placeholder_is_no_author(subject: Subject) -> None:
    assert "write your AIcrowd user name there" in verdict(subject, "authors", UNKNOWN)


def test_missing_checkpoints_fail(subject: Subject) -> None:
    (subject.model.default_folder / "step100000_seed2.ckpt").unlink()
    detail = verdict(subject, "checkpoints", FAIL)
    assert "missing step100000_seed2.ckpt" in detail
    assert published.DOWNLOAD in detail
    assert published.INSTALL in detail


def test_damaged_checkpoints_fail(subject: Subject) -> None:
    path = subject.model.default_folder / "step100000_seed1.ckpt"
    good = path.read_bytes()
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert "is a git-lfs pointer" in verdict(subject, "checkpoints", FAIL)
    path.write_bytes(good[:-1000])
    assert "step100000_seed1.ckpt: is damaged" in verdict(subject, "checkpoints", FAIL)
    state = torch.load(GOLDEN / "separation_A" / path.name, weights_only=True)
    torch.save(state | {"one_more": torch.zeros(1)}, path)
    assert "one_more is unknown to the config" in verdict(subject, "checkpoints", FAIL)
    path.unlink()
    path.symlink_to(GOLDEN / "separation_A" / path.name)
    assert "is a symbolic link" in verdict(subject, "checkpoints", FAIL)


def test_checkpoints_outside_the_repository_fail(subject: Subject) -> None:
    subject.model.default_folder = GOLDEN / "separation_A"
    subject.checkpoints = preflight.selected_checkpoints(subject.model)
    assert "lies outside the repository" in verdict(subject, "checkpoints", FAIL)
    subject.checkpoints = preflight.selected_checkpoints(type("Mine", (), {}))
    assert "only it knows" in verdict(subject, "checkpoints", UNKNOWN)


def test_published_and_own_checkpoints_are_told_apart(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    path = subject.checkpoints[1]
    monkeypatch.setitem(published.PUBLISHED, "modelA/step100000_seed1.ckpt", checkpoint.sha256(path))
    origins = "step100000_seed0.ckpt own, step100000_seed1.ckpt published, step100000_seed2.ckpt own"
    assert origins in verdict(subject, "checkpoints", PASS)


def test_checkpoints_of_other_models_must_not_be_tracked(subject: Subject) -> None:
    assert verdict(subject, "other models", UNKNOWN) == "no git repository here"
    other, demo = (subject.root / CKPTS / name for name in ("modelB/step150000_seed0.ckpt", "demo/step1_seed0.ckpt"))
    for path in (other, demo):
        path.parent.mkdir()
        path.touch()
    put_under_git(subject, ".")
    command = "git rm --cached --quiet -- my_submission/ckpts/modelB/step150000_seed0.ckpt"
    assert verdict(subject, "other models", FAIL).endswith(command)
    subject.checkpoints = None  # the user's own class
    assert "modelB/step150000_seed0.ckpt" in verdict(subject, "other models", UNKNOWN)

    subject.checkpoints, subject.fix = preflight.selected_checkpoints(subject.model), True
    assert "untracked, the files stay" in verdict(subject, "other models", PASS)
    assert other.is_file()
    assert f"{CKPTS}/demo/step1_seed0.ckpt" in subject.tracked
    assert f"{CKPTS}/modelB/step150000_seed0.ckpt" not in subject.tracked


def test_files_that_the_model_needs_must_be_tracked(subject: Subject) -> None:
    assert verdict(subject, "tracked", UNKNOWN) == "no git repository here"
    put_under_git(subject)
    assert verdict(subject, "tracked", UNKNOWN) == "git tracks nothing here yet"
    put_under_git(subject, "aicrowd.json", "apt.txt")
    assert verdict(subject, "tracked", FAIL).endswith("git add my_submission/ckpts/modelA/config.yaml requirements.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("torch\nnumpy==1.0\n", "not pinned: torch; expected name==version"),
        ("torch>=2.6\n", "not pinned: torch>=2.6"),
        ("torch==2.*\n", "not pinned: torch==2.*"),
        ("-r more.txt\ngit+https://example.org/x\n", "not pinned: -r more.txt, git+https://example.org/x"),
        ("torch==2.6.0\nnumpy==2.2.6  # why\n", "missing soundfile, pyyaml, which the wrapper imports"),
        (None, "requirements.txt is not there"),
    ],
)
def test_wrong_requirements_fail(subject: Subject, text: str | None, message: str) -> None:
    path = subject.root / "requirements.txt"
    path.unlink() if text is None else path.write_text(text)
    assert message in verdict(subject, "requirements.txt", FAIL)


def test_requirements_as_pip_writes_them_pass(subject: Subject) -> None:
    text = (
        "# a comment\n--extra-index-url https://example.org/simple\ntorch==2.6.0+cu124\nnumpy[x]==2.2.6 ; python_version > '3'"
        "\nPyYAML == 6.0.3 \\\n  --hash=sha256:00\nsoundfile==0.14.0\n"
    )
    (subject.root / "requirements.txt").write_text(text)
    assert verdict(subject, "requirements.txt", PASS) == "4 packages, all pinned"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("git\n", "missing libsndfile"),
        ("libsndfile1\n", "missing git"),
        ("git libsndfile1\n", "no name of a Debian package: git libsndfile1"),
        (None, "apt.txt is not there"),
    ],
)
def test_a_wrong_apt_txt_fails(subject: Subject, text: str | None, message: str) -> None:
    path = subject.root / "apt.txt"
    path.unlink() if text is None else path.write_text(text)
    assert message in verdict(subject, "apt.txt", FAIL)


def test_git_lfs_is_needed_for_large_files_only(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    monkeypatch.setattr(preflight, "_git", lambda root, *arguments: None)
    assert verdict(subject, "git-lfs", UNKNOWN).startswith("git-lfs is not installed")
    subject.tracked = []
    assert "nothing over 5 MB travels" in verdict(subject, "git-lfs", PASS)
    os.truncate(subject.checkpoints[0], preflight.LARGE + 1)
    assert "over 5 MB are: step100000_seed0.ckpt; apt-get install git-lfs" in verdict(subject, "git-lfs", FAIL)


def good_report(**changed: object) -> Report:
    stems = {name: {"shape": [SECONDS * RATE, 2], "finite": True, "peak": 0.5} for name in trial_run.INSTRUMENTS}
    files = {name: [SECONDS * RATE, 2, RATE] for name in trial_run.INSTRUMENTS}
    good = {"seconds": 10.0, "peak_bytes": 10**9, "gpu": "a GPU", "gpu_bytes": 10**9, "stems": stems, "files": files}
    return Report(**(good | changed))


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("wrapper run", lambda report: report.stems["bass"].update(shape=[5, 2]), "bass is [5, 2], expected [1323000, 2]"),
        ("wrapper run", lambda report: report.stems["other"].update(finite=False), "other holds NaN or infinite samples"),
        ("wrapper run", lambda report: report.stems["vocals"].update(peak=1.5), "vocals has a peak of 1.50: it is clipped"),
        ("wrapper run", lambda report: report.files.pop("drums"), "found the files bass, other, vocals, expected"),
        ("wrapper run", lambda report: report.files.update(bass=[1, 2, 3]), "bass.wav is [1, 2, 3]"),
        ("wrapper run", lambda report: report.network.append("example.org"), "wanted to reach example.org"),
        ("wrapper run", lambda report: setattr(report, "error", "ValueError: what"), "ValueError: what"),
        ("time", lambda report: setattr(report, "seconds", 47.2), "47.2 s for 30 s of song on a GPU: 1.57 x"),
        ("memory", lambda report: setattr(report, "peak_bytes", 17 * 10**9), "17.0 GB; the limit is 16 GB"),
        ("GPU memory", lambda report: setattr(report, "gpu_bytes", 17 * 10**9), "17.0 GB; the limit is 16 GB"),
    ],
)
def test_bad_runs_fail(name: str, spoil: Callable[[Report], object], message: str) -> None:
    report = good_report()
    assert JUDGEMENTS[name](report).status == PASS
    spoil(report)
    found = JUDGEMENTS[name](report)
    assert found.status == FAIL
    assert message in found.detail


def test_without_a_run_or_a_gpu_the_rows_cannot_tell() -> None:
    assert {judge(None).status for judge in JUDGEMENTS.values()} == {UNKNOWN}
    without_cuda = good_report(gpu=None)
    assert [JUDGEMENTS[name](without_cuda).status for name in ("time", "GPU memory")] == [UNKNOWN, UNKNOWN]


def test_the_command_works_in_a_folder_without_git(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(ROOT / "my_submission", root / "my_submission", ignore=shutil.ignore_patterns("__pycache__", "*.ckpt"))
    for name in ("aicrowd.json", "requirements.txt", "apt.txt"):
        shutil.copy(ROOT / name, root / name)
    folder = Path(shutil.copytree(GOLDEN / "separation_A", root / CKPTS / "modelA", dirs_exist_ok=True))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["audio"] |= {"n_fft": 2048, "hop_length": 1024, "chunk_size": 1024 * 15}  # coarse, so that it is fast
    config["inference"]["num_overlap"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))

    done = run_python("-m", "my_submission", "preflight", "--list", tmp_path / "list", cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {line[13:31].strip(): line[:11].strip() for line in done.stdout.splitlines()[:-1]}
    unknown = {"authors", "other models", "tracked"} | (set() if torch.cuda.is_available() else {"time", "GPU memory"})
    unknown |= set() if shutil.which("git-lfs") else {"git-lfs"}
    assert {name for name, status in rows.items() if status == UNKNOWN} == unknown
    assert list(rows) == [*preflight.CHECKS, *JUDGEMENTS]
    assert "wrapper run: 0 of 30 s of song done" in done.stderr
    assert (tmp_path / "list").read_text().split() == [f"{CKPTS}/modelA/step100000_seed{seed}.ckpt" for seed in range(3)]

    # a model that hides its downloads and returns bad stems
    (root / "my_submission/user_config.py").write_text(
        """
import os, socket, urllib.request
from my_submission.src.separator import ModelA

class MySeparationModel(ModelA):
    def separate_music_file(self, mixture, sample_rate):
        try:
            urllib.request.urlopen("http://example.org/weights")
        except OSError:
            pass
        try:
            socket.create_connection(("192.0.2.1", 80), timeout=1)
        except OSError:
            pass
        assert "MY_SETTING" not in os.environ, "not a clean environment"
        stems, rates = super().separate_music_file(mixture, sample_rate)
        stems["bass"] = stems["bass"] * float("nan")
        return {name: stem[:-1] for name, stem in stems.items()}, rates
"""
    )
    done = run_python("-m", "my_submission", "preflight", cwd=root, MY_SETTING="1")
    assert done.returncode == 1
    assert "fail         wrapper run       the code wanted to reach 192.0.2.1, example.org; the evaluator" in done.stdout
    assert "bass holds NaN" in done.stdout
    assert "drums is [1322999, 2], expected [1323000, 2]" in done.stdout
    assert "clean environment" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 fail, ")


def test_an_unknown_option_is_refused(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run_python("-m", "my_submission", "preflight", "--fixx")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("requirements.txt", PASS, "5 packages, all pinned"),
        (
            "apt.txt",
            UNKNOWN,
            "the file begins with a byte order mark, which the evaluator may not read; save it as UTF-8 without",
        ),
        (
            "aicrowd.json",
            UNKNOWN,
            "A; the file begins with a byte order mark, which the evaluator may not read; --fix takes it",
        ),
    ],
)
def test_a_byte_order_mark_is_read(subject: Subject, name: str, status: str, message: str) -> None:
    path = subject.root / name
    text = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert message in verdict(subject, name, status)
    subject.fix = True
    if name == "aicrowd.json":
        assert verdict(subject, name, PASS) == "the flags of leaderboard A"
        assert json.loads(path.read_text("utf-8")) == json.loads(text)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be"):
        path.write_bytes(text.decode().encode(encoding))
        assert f"{name} is UTF-16, or no text; save it as UTF-8" in verdict(subject, name, FAIL)
    path.write_bytes(text + "ä".encode("cp1252"))
    assert f"{name} is not UTF-8; save it as UTF-8" in verdict(subject, name, FAIL)
