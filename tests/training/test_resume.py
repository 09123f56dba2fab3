"""Exact resume of runs that were killed, stopped, damaged or changed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from my_submission.src import train
from my_submission.src.common import cli
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.paths import ROOT
from tests.helpers.training import fork_server, run_command, write_config, write_track


@pytest.fixture
def start(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts the command in its own process, which can be killed. torch is imported once, in the common parent."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    context = fork_server()
    config = write_config(tmp_path / "config.yaml")

    def begin(folder: str, *options: object, **how: Any) -> multiprocessing.Process:
        argv = ["-c", config, "--data-path", data, "--model-path", tmp_path / folder, "--log-every", 1, *options]
        process = context.Process(
            target=run_command, args=([str(word) for word in argv], tmp_path / f"{folder}.log"), kwargs=how
        )
        process.start()
        return process

    return begin


def steps_shown(folder: Path) -> list[int]:
    """Return the steps in the log of seed 0; a line that is not finished does not count."""
    path = RunFolder(folder, 0).log
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["step"] for line in lines]


def wait_until(condition: Callable[[], object], process: multiprocessing.Process) -> None:
    deadline = time.monotonic() + 60
    while not condition() and process.is_alive():
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.002)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_killed_at_random_steps_ends_with_the_same_checkpoint(
    tmp_path: Path, start: Callable[..., Any], workers: int
) -> None:
    whole = start("whole", "--num-steps", 60, "--num-workers", 1)
    rng = np.random.default_rng(workers)
    kills, begun_at = 0, []
    while True:
        run = start("killed", "--num-steps", 60, "--num-workers", workers, "--save-every", 2)
        if kills < 15:
            states = RunFolder(tmp_path / "killed", 0).states()
            begun_at.append(int(states[0].stem.partition("_step")[2]) if states else 0)
            goal = begun_at[-1] + int(rng.integers(1, 5))
            wait_until(lambda goal=goal: max(steps_shown(tmp_path / "killed"), default=0) >= goal, run)
            time.sleep(rng.uniform(0, 0.03))  # during a step or during a save
            run.kill()
        run.join()
        if run.exitcode == 0:
            break
        assert run.exitcode == -signal.SIGKILL, (tmp_path / "killed.log").read_text()
        kills += 1
    whole.join()
    assert whole.exitcode == 0
    assert kills >= 10
    assert len(set(begun_at)) >= 5  # the run was resumed from different steps
    for name in ("step60_seed0.ckpt", "masked_seed0.csv"):
        results = [(tmp_path / folder / name).read_bytes() for folder in ("whole", "killed")]
        assert results[0] == results[1], name
    losses = [losses_shown(tmp_path / folder) for folder in ("whole", "killed")]
    assert [step for step, _ in losses[1]] == list(range(1, 61))  # every line is there once
    assert losses[0] == losses[1]
    assert f"going on from step {begun_at[-1]}, saved in" in (tmp_path / "killed.log").read_text()
    left = sorted(path.name for path in (tmp_path / "killed").iterdir())
    assert [name for name in left if name.startswith(".")] == []
    assert [name for name in left if name.startswith("state")] == ["state_seed0_step58.pt", "state_seed0_step60.pt"]


def losses_shown(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "train_seed0.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_in_the_middle_of_a_save_leaves_a_usable_state(
    tmp_path: Path, start: Callable[..., Any], number: int, status: int
) -> None:
    whole = start("whole", "--num-steps", 8)
    saving = tmp_path / "saving"
    run = start("stopped", "--num-steps", 8, "--save-every", 3, slow_write=saving)
    wait_until(saving.exists, run)  # at step 3
    assert list((tmp_path / "stopped").glob(".*.partial"))
    os.kill(run.pid, number)
    run.join()
    log = (tmp_path / "stopped.log").read_text()
    assert run.exitcode == status, log
    found = [path.name for path in RunFolder(tmp_path / "stopped", 0).states()]
    if number == signal.SIGKILL:
        assert found == []
    else:
        assert f"{signal.Signals(number).name}: finishing the step, then saving" in log
        assert found[-1] == "state_seed0_step3.pt"
        assert f"stopped after step {found[0].partition('_step')[2].removesuffix('.pt')}, saved; the same command" in log
        assert not (tmp_path / "stopped" / "step8_seed0.ckpt").exists()
    run = start("stopped", "--num-steps", 8)
    run.join()
    whole.join()
    assert (run.exitcode, whole.exitcode) == (0, 0)
    assert list((tmp_path / "stopped").glob(".*")) == []
    results = [(tmp_path / folder / "step8_seed0.ckpt").read_bytes() for folder in ("whole", "stopped")]
    assert results[0] == results[1]


@pytest.fixture
def command(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs the command in this process; returns its status and its output."""

    def run(*options: object, config: Path | None = None, data: Path = data) -> tuple[int, str]:
        config = config or write_config(tmp_path / "config.yaml", batch_size=2)
        argv = ["-c", config, "--data-path", data, "--model-path", tmp_path / "run", "--num-workers", 0, *options]
        status = cli.run(train.main, [str(word) for word in argv])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_a_seed_that_another_process_trains_is_refused(tmp_path: Path, command: Callable[..., tuple[int, str]]) -> None:
    with RunFolder(tmp_path / "run", 0).claimed():
        status, printed = command("--num-steps", 1)
        assert status == 2
        assert "another process is training seed 0 there" in printed
        assert len(printed.strip().splitlines()) == 1
        assert command("--num-steps", 1, "--seed", 1)[0] == 0
    assert command("--num-steps", 1)[0] == 0
    assert list((tmp_path / "run").glob(".*")) == []


def test_a_damaged_state_is_reported_and_the_one_before_it_used(
    tmp_path: Path, command: Callable[..., tuple[int, str]]
) -> None:
    assert command("--num-steps", 6, "--save-every", 4)[0] == 0
    result = tmp_path / "run" / "step6_seed0.ckpt"
    expected = result.read_bytes()
    newest, older = RunFolder(tmp_path / "run", 0).states()
    assert (newest.name, older.name) == ("state_seed0_step6.pt", "state_seed0_step4.pt")
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1  # one bit, which torch.load does not notice
    newest.write_bytes(damaged)
    result.unlink()
    status, printed = command("--num-steps", 6)
    assert status == 0
    assert f"warning: {newest}: is damaged (its checksum does not match); looking for the one before it" in printed
    assert "going on from step 4" in printed
    assert result.read_bytes() == expected
    for path in RunFolder(tmp_path / "run", 0).states():
        path.write_bytes(path.read_bytes()[:1000])  # cut off
    status, printed = command("--num-steps", 6)
    assert status == 2
    assert "no saved state of seed 0 is whole; to start again: --restart" in printed
    assert command("--num-steps", 6, "--restart")[0] == 0
    assert result.read_bytes() == expected


def test_a_finished_run_is_done_and_can_be_made_longer(tmp_path: Path, command: Callable[..., tuple[int, str]]) -> None:
    command("--num-steps", 3)
    status, printed = command("--num-steps", 3)
    assert (status, "all 3 steps are done already" in printed) == (0, True)
    status, printed = command("--num-steps", 5)
    assert (status, "going on from step 3" in printed) == (0, True)
    longer = (tmp_path / "run" / "step5_seed0.ckpt").read_bytes()
    assert command("--num-steps", 5, "--restart")[0] == 0
    assert (tmp_path / "run" / "step5_seed0.ckpt").read_bytes() == longer
    status, printed = command("--num-steps", 2)
    assert status == 2
    assert "seed 0 stands at step 5 already, past the 2 asked for" in printed


def test_a_changed_run_is_not_resumed(tmp_path: Path, data: Path, command: Callable[..., tuple[int, str]]) -> None:
    command("--num-steps", 2)
    before = sorted((path.name, path.read_bytes()) for path in (tmp_path / "run").iterdir())
    changed = write_config(tmp_path / "changed.yaml", batch_size=3, lr=0.01)
    status, printed = command("--num-steps", 4, config=changed)
    assert status == 2
    assert "training.batch_size was 2, is 3; training.lr was 0.001, is 0.01." in printed
    assert "Put it back to go on, start again with --restart, or take another --model-path" in printed
    status, printed = command("--num-steps", 4, "--precision", "bf16")
    assert (status, "--precision was fp32, is bf16" in printed) == (2, True)
    more = shutil.copytree(data, tmp_path / "more")
    shutil.rmtree(more / "track0")
    write_track(more / "another", 4000)
    status, printed = command("--num-steps", 4, data=more)
    assert status == 2
    assert "the data was 3 tracks, is 3, without track0 (5000 samples) and with the new another (4000 samples)" in printed
    assert sorted((path.name, path.read_bytes()) for path in (tmp_path / "run").iterdir()) == before
    # the tracks may move; memory and inference settings may change
    moved = shutil.copytree(data, tmp_path / "moved")
    free = write_config(tmp_path / "free.yaml", batch_size=2, activation_checkpointing=True, num_overlap=4)
    assert command("--num-steps", 4, config=free, data=moved)[0] == 0
    assert command("--num-steps", 4, "--seed", 1, config=free)[0] == 0  # another seed is another run
    falling = write_config(tmp_path / "falling.yaml", batch_size=2, lr_schedule="cosine")
    assert command("--num-steps", 4, "--seed", 2, config=falling)[0] == 0
    status, printed = command("--num-steps", 6, "--seed", 2, config=falling)  # its rate has already fallen to 0
    assert (status, "training.num_steps was 4, is 6" in printed) == (2, True)


def test_a_checkpoint_without_a_saved_state_is_not_overwritten(tmp_path: Path, command: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "run").mkdir()
    published = tmp_path / "run" / "step2_seed0.ckpt"
    published.write_bytes(b"precious")
    status, printed = command("--num-steps", 2)
    assert status == 2
    assert f"{published} is there already, and no saved state that belongs to it; take another --model-path" in printed
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step2_seed0.ckpt"]
    assert published.read_bytes() == b"precious"
    assert command("--num-steps", 2, "--restart")[0] == 0
    assert len(published.read_bytes()) > 10_000


def test_a_state_that_cannot_be_written_keeps_the_older_states(
    tmp_path: Path, command: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    command("--num-steps", 2)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("my_submission.src.training.resume.os.fsync", full)
    status, printed = command("--num-steps", 4)
    assert status == 2
    assert "state_seed0_step4.pt: cannot be written (No space left on device); the states saved before are untouched" in printed
    assert [path.name for path in RunFolder(tmp_path / "run", 0).states()] == ["state_seed0_step2.pt"]
    assert list((tmp_path / "run").glob(".*")) == []
