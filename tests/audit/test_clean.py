"""Cross-fitted audits and clean: who judges whom, resuming, refusals, marks."""

from __future__ import annotations

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from my_submission.src.audit import clean, cost, crossfit, planning, trainings
from my_submission.src.audit import command as audit
from my_submission.src.audit.stem_score import COLUMNS
from my_submission.src.common import cli, stem_table
from my_submission.src.common.locks import lock_file
from my_submission.src.config import load_config
from my_submission.src.training import TrainingError
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.clean import heard, judged, lenient, run_training, write_small_config, write_songs
from tests.helpers.paths import ROOT, digests

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run clean on tmp_path/data, with its trainings in this process; return the status and the output."""
    write_songs(tmp_path / "data")
    write_small_config(tmp_path / "config.yaml")
    monkeypatch.setattr(trainings, "run_command", run_training)
    monkeypatch.setattr(crossfit, "score", lenient)
    monkeypatch.setattr(planning, "time_step", lambda *_: (0.5, "cpu in fp32", 1000))
    fixed = ["--config", tmp_path / "config.yaml", "--num-workers", 0, "--device", "cpu", "--suspects", 1]

    def command(*options: object, verb: Callable[..., int] = clean.main) -> tuple[int, str]:
        mine = [tmp_path / "data", "--out", tmp_path / "run", "--folds", 2, "--seeds", "0"] if verb is clean.main else []
        try:
            status = cli.run(verb, [str(word) for word in (*mine, *fixed, *options)])
        except SystemExit as refusal:
            status = refusal.code
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return command


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def tables(folder: Path) -> dict[str, bytes]:
    """Return the tables and the checkpoints of a cleaning."""
    paths = [path for pattern in ("*.csv", "*.ckpt") for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_no_network_judges_a_track_that_it_has_heard_and_all_are_judged_once(tmp_path: Path, run: Run) -> None:
    status, printed = run()
    assert status == 0, printed
    names = {f"song {number}" for number in range(6)}
    fold_of = {row["track"]: row["fold"] for row in rows(tmp_path / "run" / "folds.csv")}
    for number in (1, 2):
        folds = [tmp_path / "run" / f"round_{number}" / f"fold_{fold}" for fold in range(2)]
        assert [len(judged(fold)) for fold in folds] == [3, 3]
        assert set.union(*map(judged, folds)) == names
        for place, fold in enumerate(folds):
            assert judged(fold) == {name for name in names if fold_of[name] == str(place)}
            assert not heard(fold) & judged(fold)
            # the training itself says what it left out
            kept = next(line for line in (fold / "train_seed0.yaml").read_text().splitlines() if "--keep" in line)
            assert str(fold / "keep.csv") in kept
            drawn = {row["track"] for row in rows(fold / "masked_seed0.csv") if int(row["chunks"]) > 0}
            assert drawn
            assert not drawn & judged(fold)
    failed = {
        (row["track"], row["instrument"]) for row in rows(tmp_path / "run" / "round_1" / "audit.csv") if float(row["score"]) < 0
    }
    for fold in (tmp_path / "run" / "round_2").glob("fold_*"):
        kept_there = {(row["track"], row["instrument"]) for row in rows(fold / "keep.csv") if row["keep"] == "yes"}
        assert not kept_there & failed
    changes = rows(tmp_path / "run" / "changes.csv")
    assert len(changes) == 24
    for row in changes:
        sides = row["passed_1"], row["passed_2"]
        assert row["changed"] == {("no", "yes"): "now passes", ("yes", "no"): "no longer passes"}.get(sides, "")
    assert "round 1 to 2: " in printed
    assert [path.name for path in (tmp_path / "run" / "model").glob("*.ckpt")] == ["step2_seed0.ckpt"]
    assert not list((tmp_path / "run").rglob("state_*"))[1:]  # the model's alone
    assert (tmp_path / "run" / "suspects.html").exists()


def test_the_cost_is_printed_first_and_a_dry_run_writes_nothing(tmp_path: Path, run: Run) -> None:
    status, printed = run("--dry-run")
    assert status == 0
    assert not (tmp_path / "run").exists()
    assert printed.splitlines()[:5] == [
        f"{tmp_path / 'data'} -> {tmp_path / 'run'}",
        "6 tracks, 24 stems, 0.00 h of stems",
        "2 folds of 3 tracks",
        "5 of 5 trainings are to do: 10 of 10 steps of 2 chunks",
        "timing a step ...",
    ]
    assert "a step takes 0.5 s here (cpu in fp32): about 5 s of training" in printed
    assert run()[0] == 0
    before = digests(tmp_path)
    printed = run("--dry-run")[1]
    assert "0 of 5 trainings are to do: 0 of 10 steps" in printed
    assert "timing" not in printed
    assert digests(tmp_path) == before


def test_given_again_it_changes_nothing_and_repeats_no_training(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run()[0] == 0
    before, page = tables(tmp_path / "run"), (tmp_path / "run" / "suspects.html").stat().st_mtime_ns
    monkeypatch.setattr(trainings, "run_command", lambda argv: pytest.fail("trained again"))
    assert run()[0] == 0
    assert tables(tmp_path / "run") == before
    assert (tmp_path / "run" / "suspects.html").stat().st_mtime_ns == page


def test_interrupted_after_any_training_it_goes_on_to_the_same_tables(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run()[0] == 0
    whole = tables(tmp_path / "run")
    shutil.rmtree(tmp_path / "run")
    statuses = iter([130, None, 143, 1, None, None, 130, None, None])

    def sometimes(argv: list[str]) -> int:
        status = next(statuses)
        if status == 1:
            raise KeyboardInterrupt
        return run_training(argv) if status is None else status

    monkeypatch.setattr(trainings, "run_command", sometimes)
    assert [run()[0] for _ in range(5)] == [130, 143, 130, 130, 0]
    assert tables(tmp_path / "run") == whole
    assert not list((tmp_path / "run").rglob(".*"))


def test_other_data_and_other_settings_are_refused(tmp_path: Path, run: Run) -> None:
    assert run("--until-audit")[0] == 0
    before = digests(tmp_path / "run")
    for options, message in (
        (["--rounds", 3], "--rounds was 2, is 3"),
        (["--folds", 3], "--folds was 2, is 3"),
        (["--fold-seed", 1], "--fold-seed was 0, is 1"),
        (["--seconds", 3], "--seconds was 2, is 3"),
        (["--set", "training.lr=0.5"], "training.lr was 0.001, is 0.5"),
        (["--set", "inference.num_overlap=2"], "inference.num_overlap was 1, is 2"),
        (["--set", "training.num_steps=9"], "training.num_steps was 2, is 9"),
    ):
        status, printed = run(*options)
        assert status == 2, printed
        assert f"run: was begun with something else: {message}.\nPut it back to go on, or name another folder" in printed
    song = tmp_path / "data" / "song 0"
    song.rename(tmp_path / "data" / "song 9")
    status, printed = run()
    assert (status, "song 0/vocals, song 0/drums" in printed or "of the data song 0/bass" in printed) == (2, True)
    assert "is missing; of the data song 9/bass" in printed
    (tmp_path / "data" / "song 9").rename(song)
    whole = (song / "bass.wav").read_bytes()
    (song / "bass.wav").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "of the data song 0/bass has changed" in run()[1]
    (song / "bass.wav").write_bytes(whole)  # another time of change, the same bytes
    assert digests(tmp_path / "run") == before
    moved = shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    status, printed = run(moved, "--dry-run")
    assert status == 2  # `data` is still named, and is gone
    assert "Traceback" not in printed


def test_marks_decide_and_come_too_late_for_a_trained_model(tmp_path: Path, run: Run) -> None:
    status, printed = run("--until-audit")
    assert status == 0
    assert "mark suspects on the page" in printed
    assert not (tmp_path / "run" / "model").exists()
    table = tmp_path / "run" / "audit.csv"
    found = stem_table.read(table, COLUMNS)
    marked = [{**row, "keep": {0: "yes", 23: "no"}.get(place, "")} for place, row in enumerate(found)]
    stem_table.write(table, COLUMNS, marked)
    assert run()[0] == 0
    kept = {(row["track"], row["instrument"]): row["keep"] for row in rows(tmp_path / "run" / "model" / "keep.csv")}
    assert kept[found[0]["track"], found[0]["instrument"]] == "yes"
    assert kept[found[23]["track"], found[23]["instrument"]] == "no"
    assert [row["keep"] for row in stem_table.read(table, COLUMNS)] == [row["keep"] for row in marked]
    before = digests(tmp_path / "run" / "model")
    stem_table.write(
        table, COLUMNS, [{**row, "keep": "no" if place == 22 else row["keep"]} for place, row in enumerate(marked)]
    )
    status, printed = run()
    assert status == 2
    assert "were trained on other stems than those that pass now" in printed
    assert digests(tmp_path / "run" / "model") == before
    stem_table.write(table, COLUMNS, [{**row, "keep": "perhaps"} for row in marked])
    assert "no mark, expected yes, no or nothing" in run()[1]


def test_mistakes_are_refused_before_anything_is_written(tmp_path: Path, run: Run) -> None:
    single = write_small_config(tmp_path / "single.yaml", target_instrument="vocals")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "poem.txt").write_text("a poem")
    before = digests(tmp_path)
    for options, message in (
        (["--folds", 1], "1 folds of 6 different tracks: expected 2 folds or more"),
        (["--folds", 7], "7 folds of 6 different tracks"),
        (["--config", single], "separates vocals alone, expected one of several instruments"),
        (["--out", tmp_path / "taken"], "taken: holds poem.txt already, expected an empty folder or a name that is free"),
        (["--out", tmp_path / "taken" / "poem.txt"], "poem.txt: is a file, expected a folder or a name that is free"),
        (["--out", tmp_path / "data" / "run"], "run: is, holds or lies in"),
        (["--out", tmp_path], "is, holds or lies in"),
        (["--config", tmp_path / "none.yaml"], "none.yaml: cannot be read"),
        (["--rounds", 0], "'0' is not a whole number of 1 or more"),
        (["--seeds", "a"], "'a' is not a list of seeds"),
    ):
        status, printed = run(*options)
        assert (status, message in printed) == (2, True), (options, printed)
    (tmp_path / "data" / "song 0" / "bass.wav").rename(tmp_path / "data" / "song 0" / "bass.mp3")
    status, printed = run()
    assert status == 2
    assert "1 of 6 tracks cannot be used" in printed
    (tmp_path / "data" / "song 0" / "bass.mp3").rename(tmp_path / "data" / "song 0" / "bass.wav")
    assert digests(tmp_path) == before


def test_copies_of_a_song_are_in_one_fold_and_bad_tracks_in_none(tmp_path: Path, run: Run) -> None:
    shutil.copytree(tmp_path / "data" / "song 2", tmp_path / "data" / "copy of 2")
    (tmp_path / "data" / "song 0" / "bass.wav").unlink()
    status, printed = run("--skip-bad-tracks", "--rounds", 1)
    assert status == 0, printed
    assert "the same audio, kept in one fold: copy of 2, song 2" in printed
    found = {row["track"]: row for row in rows(tmp_path / "run" / "folds.csv")}
    assert found["copy of 2"]["fold"] == found["song 2"]["fold"]
    assert found["song 2"]["same_as"] == "copy of 2"
    assert "song 0" not in found
    assert len(rows(tmp_path / "run" / "audit.csv")) == 24


def test_a_round_that_leaves_nothing_to_learn_from_is_refused(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = crossfit.Found.passed.fget
    none = property(lambda found: {key: ok and key[1] != "bass" for key, ok in passed(found).items()})
    monkeypatch.setattr(crossfit.Found, "passed", none)
    status, printed = run()
    assert status == 2
    assert "round 2, fold 1 of 2: no stem of bass passed outside the fold" in printed


def test_the_audit_with_folds_has_the_same_scores_as_a_round(tmp_path: Path, run: Run) -> None:
    assert run("--rounds", 1, "--until-audit", "--overlap", 1)[0] == 0
    options = ["--data-path", tmp_path / "data", "--folds", 2, "--model-path", tmp_path / "folds"]
    out = ["--out", tmp_path / "audit.csv", "--report", tmp_path / "page.html"]
    status, printed = run(*options, *out, "--dry-run", verb=audit.main)
    assert (status, (tmp_path / "folds").exists()) == (0, False)
    assert "2 of 2 trainings are to do" in printed
    status, printed = run(*options, *out, verb=audit.main)
    assert status == 0, printed
    assert (tmp_path / "audit.csv").read_bytes() == (tmp_path / "run" / "audit.csv").read_bytes()
    assert (tmp_path / "page.html").exists()
    for wrong, message in (
        (["--folds", 2, "--data-path", tmp_path / "data"], "their folder with --model-path"),
        ([*options, "--model", "demo"], "--model is for a model that is trained already"),
        ([*options, "--fast"], "--fast is for a model that is trained already"),
        (["--data-path", tmp_path / "data", "--model", "demo"], "--num-workers is for the trainings of --folds"),
        (["--from-training", "x.csv", "--folds", 2], "leave --folds out"),
    ):
        status, printed = run(*wrong, *out[:2], verb=audit.main)
        assert status == 2
        assert message in printed


def test_a_killed_command_takes_its_training_along_and_the_next_one_goes_on(
    tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    """The real processes: the training notices that its cleaning is gone, saves, and ends; the next command waits for it."""
    write_songs(tmp_path / "data", 4)
    config = write_small_config(tmp_path / "config.yaml", num_steps=100_000, lr=1e-6)
    argv = ["-m", "my_submission", "audit", "--data-path", tmp_path / "data", "--folds", 2, "--config", config]
    argv += ["--model-path", tmp_path / "run", "--out", tmp_path / "audit.csv", "--num-workers", 0, "--save-every", 1]
    words = [str(word) for word in (*argv, "--device", "cpu")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("run/fold_0/state_*")):
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    step = RunFolder(tmp_path / "run" / "fold_0", 0).states
    changed = run_python(*words, "--set", "training.lr=0.1")
    assert changed.returncode == 2
    assert "training.lr was 1e-06, is 0.1" in changed.stderr
    with (tmp_path / "log").open("a") as log:
        process = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=log, stderr=log)
    while "going on from step" not in (tmp_path / "log").read_text():
        assert process.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline + 120
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert step()
    assert not list((tmp_path / "run").rglob(".*"))


def test_rounds_end_when_all_stems_pass(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = property(lambda found: {stem.key: True for stem in found.scores})
    monkeypatch.setattr(crossfit.Found, "passed", everything)
    status, printed = run("--rounds", 3, "--until-audit")
    assert status == 0
    assert "all stems passed: another round would train the same networks again" in printed
    assert sorted(path.name for path in (tmp_path / "run").glob("round_*")) == ["round_1"]


def test_a_folder_in_which_another_process_cleans_is_refused(tmp_path: Path, run: Run) -> None:
    assert run("--until-audit", "--rounds", 1)[0] == 0
    lock = lock_file(tmp_path / "run" / ".lock")
    status, printed = run("--until-audit", "--rounds", 1)
    assert status == 2
    assert "another process is at work there" in printed
    lock.release()


def test_a_step_is_timed_with_the_config_and_bad_recipes_are_refused_there(tmp_path: Path) -> None:
    config = load_config(write_small_config(tmp_path / "config.yaml"))
    seconds, device, parameters = cost.time_step(config, "cpu", "fp32")
    assert 0 < seconds < 20
    assert (device, parameters) == ("cpu in fp32", 9992)
    bad = load_config(tmp_path / "config.yaml", ["training.batch_size=1", "training.coarse_loss_clip=true", "training.q=0.4"])
    with pytest.raises(TrainingError, match="the coarse mask"):
        cost.time_step(bad, "cpu", "fp32")
    assert [cost.duration(value) for value in (3, 40, 100, 700, 6000, 200_000)] == [
        "3 s",
        "40 s",
        "1.7 min",
        "12 min",
        "1.7 h",
        "2.3 days",
    ]
