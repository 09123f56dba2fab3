"""Several processes train as one: same losses, same items kept, one error message, and no process survives another."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from my_submission.src import train
from my_submission.src.common import cli, stem_table
from my_submission.src.dataset import share_of
from my_submission.src.loss import masked_loss_and_kept, quantile, squared_errors
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.paths import ROOT
from tests.helpers.training import fork_server, run_command, write_config, write_tracks


def rendezvous(rank: int, size: int, port: int) -> dict[str, str]:
    """torchrun's variables."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(number) for name, number in numbers.items()}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Runs a function as that many ranks, with torchrun's variables as its first argument; returns the exit statuses."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    context = fork_server()

    def run(size: int, function: Callable[..., None], *arguments: object) -> list[int]:
        port = free_port()
        processes = [context.Process(target=function, args=(rendezvous(rank, size, port), *arguments)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(timeout=120)
        return [process.exitcode for process in processes]

    return run


def toy_batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 7, 3, 2, 40, generator=generator).unbind()


def write_losses(environment: dict[str, str], folder: Path) -> None:
    """Write a rank's share of the loss, its gradient and its shares kept to a file."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    estimate, target = (tensor[list(share_of(7, rank, size))] for tensor in toy_batch())
    found = {}
    for coarse in (True, False):
        for q in (0.2, 0.4, 0.93, 1.0):
            share = estimate.clone().requires_grad_()
            loss, kept = masked_loss_and_kept(share, target, q, "coarse" if coarse else "fine")
            loss.backward()
            found[f"{coarse} {q}"] = [loss.detach(), kept, share.grad]
        bad = estimate.clone()
        bad[0, 0, 0, 0] = math.nan if rank == size - 1 else 0
        found[f"{coarse} nan"] = [masked_loss_and_kept(bad, target, 0.4, "coarse" if coarse else "fine")[0]]
    torch.save(found, folder / f"{size}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 3])
def test_the_quantile_is_that_of_the_global_batch(tmp_path: Path, ranks: Callable[..., list[int]], size: int) -> None:
    """7 items on 2 or 3 ranks, so that the ranks have different numbers of items."""
    assert ranks(size, write_losses, tmp_path) == [0] * size
    found = [torch.load(tmp_path / f"{size}-{rank}.pt", weights_only=True) for rank in range(size)]
    for coarse in (True, False):
        for q in (0.2, 0.4, 0.93, 1.0):
            estimate, target = toy_batch()
            estimate.requires_grad_()
            loss, kept = masked_loss_and_kept(estimate, target, q, "coarse" if coarse else "fine")
            loss.backward()
            losses, shares, gradients = zip(*(each[f"{coarse} {q}"] for each in found), strict=True)
            assert torch.allclose(torch.stack(losses).mean(), loss, rtol=1e-6)
            assert torch.equal(torch.cat(shares), kept)  # of each item, on the rank that has it
            gradient = torch.cat(gradients) / size  # DDP averages over the ranks
            assert torch.allclose(gradient, estimate.grad, rtol=1e-5, atol=1e-9)
            assert torch.equal(gradient == 0, estimate.grad == 0)  # the same items, the same samples
        assert all(each[f"{coarse} nan"][0].isnan() for each in found)  # a NaN on one rank is a NaN on all


def train_as_rank(environment: dict[str, str], argv: list[str], log: Path) -> None:
    run_command(argv, log.with_suffix(f".{environment['RANK']}"), environment)


def printed_by(folder: Path, rank: int, log: str = "log") -> str:
    """A rank's output, without the lines that torch 2.9 prints about its connections."""
    lines = (folder / f"{log}.{rank}").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("[Gloo]"))


def shown(folder: Path) -> tuple[list[float], list[float]]:
    """Return the loss of every step, and all shares kept."""
    lines = [json.loads(line) for line in RunFolder(folder, 0).log.read_text().splitlines()]
    return [line["loss"] for line in lines], [share for line in lines for share in line["kept"].values()]


@pytest.mark.parametrize(("coarse", "size"), [(True, 3), (False, 2)])
def test_several_processes_train_with_the_losses_of_one(
    tmp_path: Path, ranks: Callable[..., list[int]], size: int, coarse: bool
) -> None:
    data = write_tracks(tmp_path / "data")
    config = write_config(tmp_path / "config.yaml", batch_size=5, coarse_loss_clip=coarse, q=0.5 if coarse else 0.93)
    argv = ["-c", config, "--data-path", data, "--num-steps", 8, "--log-every", 1, "--num-workers", 0]
    argv += ["--valid-path", data, "--valid-every", 8]
    argv = [str(word) for word in argv]
    assert cli.run(train.main, [*argv, "--model-path", str(tmp_path / "one")]) == 0
    several = [*argv, "--model-path", str(tmp_path / "several")]
    statuses = ranks(size, train_as_rank, several, tmp_path / "log")
    assert statuses == [0] * size, (tmp_path / "log.0").read_text()
    logs = [RunFolder(tmp_path / folder, 0).log.read_text().splitlines() for folder in ("one", "several")]
    *steps, validations = zip(*([json.loads(line) for line in log] for log in logs), strict=True)
    for one, other in steps:
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["kept"] == pytest.approx(one["kept"], rel=1e-6)  # the same number of values, in every step
    one, several = (stem_table.read(RunFolder(tmp_path / folder, 0).masked_table, ["masked"]) for folder in ("one", "several"))
    stems = {(row["track"], row["instrument"]): row for row in several}  # the order may differ if shares are nearly equal
    assert len(one) == len(stems) == 12
    for row in one:
        found = stems[row["track"], row["instrument"]]
        assert found["chunks"] == row["chunks"]
        assert float(found["masked"]) == pytest.approx(float(row["masked"]), abs=0 if coarse else 1e-4)
    assert sum(int(row["chunks"]) for row in one) == 8 * 5 * 4
    assert validations[1]["sdr"] == pytest.approx(validations[0]["sdr"], abs=1e-3)  # divided among the ranks
    assert len((tmp_path / "log.0").read_text().splitlines()) > 8
    assert all(printed_by(tmp_path, rank) == "" for rank in range(1, size))  # only rank 0 prints


def test_a_run_goes_on_with_two_three_and_one_process(tmp_path: Path) -> None:
    data, config = write_tracks(tmp_path / "data"), write_config(tmp_path / "config.yaml")
    options = ["-c", config, "--data-path", data, "--log-every", 1, "--num-workers", 0]
    argv = [str(word) for word in options]
    assert cli.run(train.main, [*argv, "--model-path", str(tmp_path / "one"), "--num-steps", "6"]) == 0
    argv += ["--model-path", str(tmp_path / "run")]
    for processes, steps in ((2, 2), (3, 4)):
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [*torchrun, "src/train.py", *argv, "--num-steps", str(steps)]
        folder = ROOT / "my_submission"
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
        assert result.returncode == 0, result.stderr
        assert f"cpu in fp32, {processes} processes" in result.stdout
    assert "going on from step 2" in result.stdout
    assert cli.run(train.main, [*argv, "--num-steps", "6"]) == 0
    losses, kept = shown(tmp_path / "run")
    expected, expected_kept = shown(tmp_path / "one")
    assert losses == pytest.approx(expected, rel=1e-5)
    assert kept == pytest.approx(expected_kept)


def test_device_ids_start_processes_and_the_death_of_one_ends_them_all(tmp_path: Path) -> None:
    data, config = write_tracks(tmp_path / "data"), write_config(tmp_path / "config.yaml")
    command = [
        sys.executable,
        "-m",
        "my_submission",
        "train",
        "-c",
        config,
        "--data-path",
        data,
        "--model-path",
        tmp_path / "run",
    ]
    command += ["--device", "cpu", "--device-ids", 0, 1, "--num-workers", 0, "--save-every", 5, "--log-every", 1]
    command = [str(word) for word in command]
    launcher = subprocess.Popen(
        [*command, "--num-steps", "100000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_step(tmp_path / "run", 12, launcher)
    child = children_of(launcher.pid)[1]
    os.kill(child, signal.SIGKILL)
    printed, errors = launcher.communicate(timeout=60)
    assert launcher.returncode != 0
    assert "lost another process of this run" in errors
    assert "the same command goes on from the last save" in errors
    assert "Traceback" not in errors
    assert children_of(launcher.pid) == []

    launcher = subprocess.Popen(
        [*command, "--num-steps", "100000"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    reached = int(printed.split("\nstep ")[-1].split(":")[0])
    wait_for_step(tmp_path / "run", reached + 3, launcher)
    launcher.send_signal(signal.SIGTERM)
    printed, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == 143, errors
    assert (
        f"going on from step {reached // 5 * 5}, saved in" in printed or f"going on from step {reached // 5 * 5 - 5}" in printed
    )
    assert "Traceback" not in errors
    last = int(printed.split("\nstep ")[-1].split(":")[0])
    assert RunFolder(tmp_path / "run", 0).state(last).exists()  # saved at the step of the signal, not at the last multiple of 5


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    log, deadline = RunFolder(folder, 0).log, time.monotonic() + 90
    while not (log.exists() and f'{{"step": {step},' in log.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")  # there is no ps in a slim container
    return sorted(map(int, children.read_text().split())) if children.exists() else []


def test_every_problem_is_reported_once(tmp_path: Path, ranks: Callable[..., list[int]]) -> None:
    """All ranks end with one message, even if only a rank on another machine has the problem."""
    config = write_config(tmp_path / "config.yaml")
    argv = ["-c", str(config), "--model-path", str(tmp_path / "run"), "--data-path"]
    assert ranks(2, train_as_rank, [*argv, str(tmp_path / "nowhere")], tmp_path / "log") == [2, 2]
    assert printed_by(tmp_path, 0).startswith(f"error: {tmp_path}/nowhere: cannot be read")
    assert printed_by(tmp_path, 1) == ""
    write_tracks(tmp_path / "here-0")
    write_tracks(tmp_path / "here-1", 2)
    assert ranks(2, train_with_own_data, [*argv, str(tmp_path / "here")], tmp_path / "other") == [2, 2]
    assert printed_by(tmp_path, 0, "other") == (
        "error: the processes see different tracks (3 on rank 0, 2 on rank 1); give every machine the same files\n"
    )
    assert not (tmp_path / "run").exists()


def train_with_own_data(environment: dict[str, str], argv: list[str], log: Path) -> None:
    train_as_rank(environment, [*argv[:-1], f"{argv[-1]}-{environment['RANK']}"], log)


def test_one_process_computes_the_quantile_alone() -> None:
    estimate, target = toy_batch()
    assert not dist.is_initialized()
    errors = squared_errors(estimate, target, mask="coarse")
    assert torch.allclose(quantile(errors, 0.4)[0], torch.quantile(errors, 0.4, dim=1))
