"""Checkpoints: finding, loading, refusing and saving them."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
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
from my_submission.src.model import build_network
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


NAME = "first_conv.weight"
QUANTIZED = lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)  # noqa: E731


@pytest.mark.filterwarnings("ignore")  # torch warns that quantized and sparse CSR tensors are old or new
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda tensor: (tensor * 100).to(torch.int8), "int8"),
        (lambda tensor: tensor.long(), "int64"),
        (lambda tensor: tensor > 0, "bool"),
        (lambda tensor: tensor + 1j, "complex64"),
        (lambda tensor: tensor.to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (QUANTIZED, r"quantized \(qint8\)"),
        (lambda tensor: tensor.to_sparse(), "stored as sparse_coo"),
        (lambda tensor: tensor.flatten(1).to_sparse_csr(), "stored as sparse_csr"),
        (lambda tensor: tensor.to("meta"), "a meta tensor, which holds no numbers"),
        (lambda tensor: torch.nested.nested_tensor([tensor, tensor]), "a nested tensor"),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_tensors_that_are_not_plain_are_refused(
    tmp_path: Path, change: Callable[[torch.Tensor], torch.Tensor], kind: str, known: bool
) -> None:
    config, folder = load_config(GOLDEN / "instance_gelu" / "config.yaml"), tmp_path
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    key = NAME if known else "extra"
    torch.save({**good, key: change(good[NAME])}, folder / "x.ckpt")
    with pytest.raises(CheckpointError) as refusal:
        load_network(config, read_state_dict(folder / "x.ckpt"), "some file")
    message = str(refusal.value)
    assert "\n" not in message
    expected = f"^some file: {key} is {kind}, expected an ordinary tensor of floating-point numbers$"
    assert re.search(expected, message) or re.search("is damaged, or no plain state dict", message)  # torch may refuse first
    if "nested" not in kind:
        assert re.search(expected, message)


class OwnTensor(torch.Tensor):
    """A subclass, which may compute other results than a tensor."""


def test_subclasses_of_tensors_are_refused_and_parameters_accepted() -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    with pytest.raises(CheckpointError, match=f"^x: {NAME} is of the class OwnTensor, expected an ordinary tensor"):
        load_network(config, {**good, NAME: good[NAME].as_subclass(OwnTensor)}, "x")
    load_network(config, {**good, NAME: torch.nn.Parameter(good[NAME])}, "x")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_point_types_are_converted(dtype: torch.dtype) -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    network = load_network(config, {key: value.to(dtype) for key, value in good.items()}, "x")
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert torch.equal(network.state_dict()[NAME], good[NAME].to(dtype).float())
    if dtype == torch.float64:  # finite, but not in float32
        with pytest.raises(CheckpointError, match=f"{NAME} is not finite"):
            load_network(config, {**good, NAME: good[NAME].double() * 1e300}, "x")


def test_a_batch_norms_counter_may_be_an_integer() -> None:
    config = load_config(GOLDEN / "full_band_three_stems" / "config.yaml", ["model.norm=BatchNorm"])
    state = build_network(config).state_dict()
    counters = [key for key in state if key.endswith("num_batches_tracked")]
    assert counters
    load_network(config, state, "x")
    load_network(config, {key: value.half() for key, value in state.items()}, "x")
    with pytest.raises(CheckpointError, match=f"{counters[0]} is bool, expected"):
        load_network(config, {**state, counters[0]: torch.tensor(True)}, "x")


def test_a_huge_or_empty_shape_is_compared_before_anything_is_computed() -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    for tensor, shape in ((torch.zeros(1).expand(1 << 50), r"\[1125899906842624\]"), (torch.tensor(1.0), r"\[\]")):
        with pytest.raises(CheckpointError, match=rf"{NAME} is {shape}, expected \[8, 16, 1, 1\]"):
            load_network(config, {**good, NAME: tensor}, "x")
    with pytest.raises(CheckpointError, match="extra is unknown to the config"):
        load_network(config, {**good, "extra": torch.zeros(1).expand(1 << 50)}, "x")


@pytest.mark.parametrize(
    ("prefix", "adds"),
    [
        ("module.", ", as DataParallel adds it"),
        ("_orig_mod.", ", as torch.compile adds it"),
        ("module._orig_mod.", ", as DataParallel and torch.compile adds it"),
        ("model.network.", ""),
    ],
)
def test_a_prefix_of_all_names_is_named(prefix: str, adds: str) -> None:
    config = load_config(GOLDEN / "instance_gelu" / "config.yaml")
    good = read_state_dict(GOLDEN / "instance_gelu" / "weights.ckpt")
    with pytest.raises(CheckpointError) as refusal:
        load_network(config, {f"{prefix}{key}": value for key, value in good.items()}, "x")
    assert str(refusal.value) == (
        f"x: all its names begin with {prefix!r}{adds}, expected {next(iter(good))!r} and so on; save the state dict of the "
        "network inside, or take the prefix off"
    )


def test_a_state_dict_inside_another_is_named(tmp_path: Path) -> None:
    state = {NAME: torch.zeros(1)}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"expected name -> tensor, which it holds under 'state_dict'; save that alone$"):
        read_state_dict(tmp_path / "x.ckpt")
    torch.save({3: torch.zeros(1)}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"expected name -> tensor$"):
        read_state_dict(tmp_path / "x.ckpt")


def test_a_checkpoint_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere/x\.ckpt: cannot be written \(No such file or directory\)"):
        save_checkpoint({"a": torch.zeros(1)}, tmp_path / "nowhere" / "x.ckpt")

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0\nframe #0: ...")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=r"^[^\n]*x\.ckpt: cannot be written [^\n]*is the disk full\?$"):
        save_checkpoint({"a": torch.zeros(1)}, tmp_path / "x.ckpt")
    assert list(tmp_path.iterdir()) == []


def test_saving_is_atomic(tmp_path: Path) -> None:
    path = tmp_path / "step1_seed0.ckpt"
    save_checkpoint({"a": torch.arange(3.0, requires_grad=True)}, path)
    with pytest.raises(AttributeError):
        save_checkpoint({"a": torch.zeros(3), "b": "no tensor"}, path)
    assert torch.equal(read_state_dict(path)["a"], torch.arange(3.0))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
