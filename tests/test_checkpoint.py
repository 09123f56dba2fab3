"""Checkpoints: finding, loading, refusing and saving them."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from my_submission.src.checkpoint import (
    CheckpointError,
    find_checkpoints,
    load_network,
    read_state_dict,
    save_checkpoint,
)
from my_submission.src.config import load_config
from tests.helpers.paths import GOLDEN


def test_seeds_are_read_from_names(tmp_path: Path) -> None:
    for name in (
        "step100_seed1.ckpt",
        "step20_seed1.ckpt",
        "best_seed0.ckpt",
        "step5_seed0.ckpt",
        ".step9_seed7.ckpt",
        "x.txt",
    ):
        (tmp_path / name).touch()
    found = find_checkpoints(tmp_path)
    assert {seed: path.name for seed, path in found.items()} == {0: "step5_seed0.ckpt", 1: "step100_seed1.ckpt"}
    assert list(find_checkpoints(tmp_path, seeds=[1])) == [1]
    with pytest.raises(CheckpointError, match="has no checkpoint of seed 2; there are 0, 1"):
        find_checkpoints(tmp_path, seeds=[0, 2])


def test_files_without_a_seed_are_numbered(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no checkpoints, expected a config\.yaml and files like"):
        find_checkpoints(tmp_path)
    for name in ("weights_b.ckpt", "weights_a.ckpt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_checkpoints(tmp_path).values()] == ["weights_a.ckpt", "weights_b.ckpt"]


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    torch.save({"first_conv.weight": Malicious(tmp_path / "owned")}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Malicious(tmp_path / "owned"), protocol=2))
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(CheckpointError, match=rf"{name}: is damaged, or no plain state dict of tensors"):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "owned").exists()


def test_files_that_are_no_checkpoints_are_recognised(tmp_path: Path) -> None:
    whole = (GOLDEN / "instance_gelu" / "weights.ckpt").read_bytes()
    for content, message in {
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "is a git-lfs pointer, .* git lfs pull",
        b"<!DOCTYPE html><html>": "is a web page, not a checkpoint",
        b"": "is damaged, or no plain state dict",
        b"some text": "is damaged, or no plain state dict",
        whole[: len(whole) // 2]: "is damaged, or no plain state dict",
    }.items():
        (tmp_path / "x.ckpt").write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"x\.ckpt: {message}"):
            read_state_dict(tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt: no such file"):
        read_state_dict(tmp_path / "nowhere.ckpt")
    for value in ([1, 2], {"step": 3, "state": {}}):
        torch.save(value, tmp_path / "x.ckpt")
        with pytest.raises(CheckpointError, match="holds something else than a plain state dict"):
            read_state_dict(tmp_path / "x.ckpt")


def test_weights_load_strictly() -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    name = "first_conv.weight"
    for state, message in [
        ({key: value for key, value in good.items() if key != name}, f"{name} is missing"),
        ({**good, "extra": torch.zeros(1)}, "extra is unknown to the config"),
        ({**good, name: torch.zeros(2, 2)}, rf"{name} is \[2, 2\], expected \[8, 16, 1, 1\]"),
        ({**good, name: good[name] * torch.nan}, f"{name} is not finite"),
        ({}, "and [0-9]+ more"),
    ]:
        with pytest.raises(CheckpointError, match=rf"some file: does not fit its config\.yaml: .*{message}"):
            load_network(config, state, "some file")
    network = load_network(config, good, "some file")
    assert not network.training
    assert all(torch.equal(value, good[key]) for key, value in network.state_dict().items())


def test_saving_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "step1_seed0.ckpt"
    save_checkpoint({"a": torch.arange(3.0, requires_grad=True)}, path)
    with pytest.raises(AttributeError):
        save_checkpoint({"a": torch.zeros(3), "b": "no tensor"}, path)
    assert torch.equal(read_state_dict(path)["a"], torch.arange(3.0))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
