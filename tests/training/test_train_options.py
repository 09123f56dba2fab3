"""The options of the training command: their spellings, wrong values, and overrides of the config."""

from __future__ import annotations

import json
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from my_submission.src import train
from my_submission.src.config import load_config
from my_submission.src.training.distributed import World
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.training import write_config

Command = Callable[..., tuple[int, str]]


def test_help_and_usage_errors_are_instant(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = run_python("-X", "importtime", "-m", "my_submission", "train", "--help")
    assert result.returncode == 0
    assert "--device-ids" in result.stdout
    assert "torch" not in result.stderr.replace("torchrun", "")  # the modules imported


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: --config/-c"),
        (["-c", "x", "--seed", "-1"], "argument --seed: '-1' is not a whole number of 0 or more"),
        (["-c", "x", "--num-steps", "0"], "argument --num-steps: '0' is not a whole number of 1 or more"),
        (["-c", "x", "--precision", "int8"], "argument --precision: invalid choice: 'int8'"),
        (["-c", "x", "--device-ids", "0", "0"], "--device-ids names a device twice: 0 0"),
        (["-c", "x", "--device-ids", "0", "--device", "cuda:1"], "--device cuda:1 and --device-ids name devices both"),
    ],
)
def test_invalid_options_are_refused(command: Command, options: list[str], message: str) -> None:
    status, printed = command(*options)
    assert status == 2
    assert printed.startswith(f"train.py: error: {message}")
    assert printed.endswith("see: train.py --help\n")


@pytest.mark.parametrize("separator", [" ", "="])
def test_every_option_may_be_written_with_underscores(separator: str) -> None:
    words = ["--config my_config.yaml", "--data-path my_data", "--model-path my_runs", "--num-steps 7", "--num-workers 3"]
    words += ["--device-ids 1", "--valid-path my_songs", "--valid-every 2", "--save-every 4", "--log-every 5"]
    words += ["--keep my_table.csv", "--keep-threshold 0.5", "--set training.lr_schedule=cosine"]

    def parsed(spelling: Callable[[str], str]) -> dict[str, Any]:
        pairs = [(spelling(option), value) for option, value in map(str.split, words)]
        argv = [word for option, value in pairs for word in f"{option}{separator}{value}".split(" ")]
        return vars(train._parse([*argv, spelling("--skip-bad-tracks")]))

    dashes = parsed(lambda option: option)
    assert parsed(lambda option: "--" + option[2:].replace("-", "_")) == dashes
    assert dashes["data_path"] == ["my_data"]
    assert dashes["model_path"] == Path("my_runs")
    assert dashes["set"] == ["training.lr_schedule=cosine"]
    assert dashes["skip_bad_tracks"]


def test_the_configs_keys_can_be_overridden(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml")
    owners = config.read_text()
    folder = RunFolder(tmp_path / "run", seed=0)
    options = ("--config", config, "--data-path", data, "--model-path", folder.path, "--num-workers", 0)
    overrides = ("--set", "training.lr=0.0004", "--set", "inference.num_overlap=3")
    status, printed = command(*options, *overrides, "--num-steps", 2, "--log-every", 1)
    assert status == 0, printed
    assert [json.loads(line)["lr"] for line in folder.log.read_text().splitlines()] == [0.0004, 0.0004]
    for path in (folder.config, folder.seed_config):
        assert load_config(path).training.lr == 0.0004
        assert load_config(path).inference.num_overlap == 3
    assert config.read_text() == owners

    status, printed = command(*options, "--num-steps", 3)
    assert (status, "training.lr was 0.0004, is 0.001." in printed) == (2, True)
    status, printed = command(*options, "--set", "training.lr=0.0005", "--num-steps", 3)
    assert (status, "training.lr was 0.0004, is 0.0005." in printed) == (2, True)
    status, printed = command(*options, "--set", "training.lr=0.0004", "--num-steps", 3)
    assert (status, "going on from step 2" in printed) == (0, True)
    status, printed = command(*options, "--set", "model.growth=8", "--num-steps", 3)
    assert (status, "is of another network (model.growth was 4, is 8)" in printed) == (2, True)
    status, printed = command(*options, "--set", "training.learning_rate=1", "--num-steps", 3)
    assert (status, "training.learning_rate" in printed) == (2, True)
    assert "Traceback" not in printed


def test_only_rank_0_prints_the_warnings_of_the_checks() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rank in range(2):
            with train._warnings_of_rank_0_only(World(rank=rank, size=2)):
                warnings.warn(f"rank {rank} skips a track", stacklevel=1)
            warnings.warn(f"rank {rank} is short of memory", stacklevel=1)  # after the checks, all ranks are heard
    assert [str(warning.message) for warning in caught] == [
        "rank 0 skips a track",
        "rank 0 is short of memory",
        "rank 1 is short of memory",
    ]


def test_device_ids_are_refused_under_torchrun(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    status, printed = command("-c", "x", "--device-ids", 0, 1)
    assert status == 2
    assert "torchrun starts the processes itself, one for each GPU: leave out --device-ids" in printed
