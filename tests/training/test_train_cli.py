"""The training command as a user sees it: its files, its output and its error messages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml

from my_submission.src import checkpoint
from my_submission.src.config import load_config
from my_submission.src.model import TFCTDFNet
from my_submission.src.separator import ModelA, open_model
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.paths import GOLDEN, ROOT
from tests.helpers.training import INSTRUMENTS, RATE, tone, write_config, write_track

Command = Callable[..., tuple[int, str]]


def lines(folder: Path, seed: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in RunFolder(folder, seed).log.read_text().splitlines()]


def test_the_command_of_the_guide_trains_a_model_that_separates(
    tmp_path: Path, data: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], command: Command
) -> None:
    config = write_config(tmp_path / "model" / "config.yaml", lr=0.01, datasets=[str(data)])
    owners = config.read_text()
    result = run_python(
        *("src/train.py", "-c", config, "--num-steps", 80, "--log-every", 10, "--num-workers", 2, "--save-every", 30),
        cwd=ROOT / "my_submission",
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "seed 0: 3 tracks (0.00 h), 9,992 parameters, 80 steps of 6 chunks, cpu in fp32" in result.stdout
    folder = config.parent
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml",
        "masked_seed0.csv",
        "state_seed0_step60.pt",
        "state_seed0_step80.pt",
        "step80_seed0.ckpt",
        "train_seed0.jsonl",
        "train_seed0.yaml",
    ]
    assert config.read_text() == owners  # the command never writes to the file that it is given
    assert load_config(folder / "train_seed0.yaml").training.num_steps == 80

    log = lines(folder)
    assert [line["step"] for line in log] == list(range(10, 90, 10))
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    assert log[0]["kept"] == dict.fromkeys(INSTRUMENTS, pytest.approx(2 / 6))
    assert log[0]["lr"] == 0.01
    assert log[0]["skipped"] == 0
    assert log[0]["gradient_norm"] > 0
    assert log[0]["audio_seconds_per_second"] == pytest.approx(log[0]["steps_per_second"] * 6 * 960 / RATE)

    for seed in (1, 2):
        assert command("-c", config, "--num-steps", 3, "--num-workers", 0, "--seed", seed)[0] == 0
    separator = open_model(str(folder), device="cpu")
    assert {seed: path.name for seed, path in separator.checkpoints.items()} == {
        0: "step80_seed0.ckpt",
        1: "step3_seed1.ckpt",
        2: "step3_seed2.ckpt",
    }
    stems, _ = separator.separate_music_file(0.1 * np.ones((3000, 2)), RATE)
    assert sorted(stems) == sorted(INSTRUMENTS)


def test_trained_checkpoints_can_replace_the_published_ones(
    tmp_path: Path, data: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "run" / "config.yaml")
    for seed in range(3):
        assert command("-c", config, "--data-path", data, "--num-steps", 2, "--num-workers", 0, "--seed", seed)[0] == 0
        state = checkpoint.read_state_dict(tmp_path / "run" / f"step2_seed{seed}.ckpt")
        assert list(state) == list(TFCTDFNet(load_config(config)).state_dict())
        assert all(value.dtype == torch.float32 for value in state.values())
    home = tmp_path / "modelA"
    home.mkdir()
    shutil.copy(config, home)
    for seed, name in enumerate(ModelA.default_checkpoints):
        shutil.copy(tmp_path / "run" / f"step2_seed{seed}.ckpt", home / name)
    monkeypatch.setattr(ModelA, "default_folder", home)
    assert sorted(ModelA(device="cpu").checkpoints) == [0, 1, 2]


def test_a_run_can_start_from_the_weights_of_another(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml", lr=0.01)
    options = ("-c", config, "--data-path", data, "--num-workers", 0)
    assert command(*options, "--model-path", tmp_path / "first", "--num-steps", 2)[0] == 0
    first = tmp_path / "first" / "step2_seed0.ckpt"
    gentle = write_config(tmp_path / "gentle.yaml", lr=1e-9)
    options = ("-c", gentle, "--data-path", data, "--num-workers", 0, "--model-path", tmp_path / "second", "--seed", 5)
    assert command(*options, "--num-steps", 1, "--init", first)[0] == 0
    before, after = checkpoint.read_state_dict(first), checkpoint.read_state_dict(tmp_path / "second" / "step1_seed5.ckpt")
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-8)
    wide = write_config(tmp_path / "wide.yaml", growth=8)
    status, printed = command("-c", wide, "--data-path", data, "--model-path", tmp_path / "third", "--init", first)
    assert status == 2
    assert f"error: {first}: does not fit its config.yaml: " in printed
    assert not (tmp_path / "third").exists()


def test_a_run_can_start_from_the_checkpoint_of_another_program(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml", lr=1e-9)
    torch.manual_seed(3)
    weights = TFCTDFNet(load_config(config)).state_dict()
    prefixed = {f"module.{name}": value for name, value in weights.items()} | {"module.stft.window": torch.ones(4)}
    other = tmp_path / "model_mdx23c_ep_3_sdr_9.1.ckpt"
    torch.save({"epoch": 3, "best_metric": np.float64(9.1), "model_state_dict": prefixed, "optimizer_state_dict": {}}, other)
    options = ("-c", config, "--data-path", data, "--num-workers", 0, "--model-path", tmp_path / "run", "--num-steps", 1)
    assert command(*options, "--init", other)[0] == 0
    after = checkpoint.read_state_dict(tmp_path / "run" / "step1_seed0.ckpt")
    for name, value in weights.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-8)


def test_a_new_folder_gets_the_effective_config(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml", grad_clip=0.5)
    options = ("-c", config, "--data-path", data, "--num-workers", 0)
    assert command(*options, "--model-path", tmp_path / "a" / "b", "--num-steps", 2)[0] == 0
    effective = load_config(tmp_path / "a" / "b" / "config.yaml")
    assert effective.training.num_steps == 2
    assert effective.training.datasets == (str(data),)
    assert effective.training.grad_clip == 0.5
    other = write_config(tmp_path / "other.yaml", growth=8)
    status, printed = command("-c", other, "--data-path", data, "--model-path", tmp_path / "a" / "b")
    assert status == 2
    assert "b/config.yaml: is of another network (model.growth was 4, is 8); take another --model-path" in printed
    assert load_config(tmp_path / "a" / "b" / "config.yaml") == effective


def test_validation_keeps_the_best_weights(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml", lr=0.01)
    valid = write_track(tmp_path / "valid" / "with_stems_alone", 4000, seed=7).parent
    track = write_track(valid / "with_a_mixture", 3000, seed=8)
    soundfile.write(track / "mixture.wav", sum(tone(name, 3000, 8) for name in INSTRUMENTS), RATE)
    folder = tmp_path / "run"
    options = ("-c", config, "--data-path", data, "--model-path", folder, "--num-workers", 0)
    status, printed = command(*options, "--num-steps", 30, "--valid-path", valid, "--valid-every", 10)
    assert status == 0, printed
    found = [line for line in lines(folder) if "sdr" in line]
    assert [line["step"] for line in found] == [10, 20, 30]
    assert all(list(line["sdr"]) == list(INSTRUMENTS) for line in found)
    assert found[0]["mean_sdr"] == pytest.approx(np.mean(list(found[0]["sdr"].values())))
    assert found[-1]["mean_sdr"] > found[0]["mean_sdr"] + 0.1
    assert f"step 30: SDR {found[-1]['mean_sdr']:.2f} dB (vocals" in printed

    best = max(found, key=lambda line: line["mean_sdr"])
    assert best["best"]
    assert best["step"] == 30
    kept = checkpoint.read_state_dict(folder / "best_seed0.ckpt")
    final = checkpoint.read_state_dict(folder / "step30_seed0.ckpt")
    assert all(torch.equal(kept[name], final[name]) for name in final)
    assert (
        checkpoint.find_checkpoints(folder)[0].name == "step30_seed0.ckpt"
    )  # a model uses the final weights, not the best ones

    soundfile.write(track / "vocals.wav", np.zeros((3000, 2)), RATE)  # a silent stem is allowed in validation
    assert command(*options, "--num-steps", 31, "--valid-path", valid)[0] == 0
    soundfile.write(track / "mixture.wav", tone("bass", 2999), RATE)
    status, printed = command(*options, "--num-steps", 40, "--valid-path", valid)
    assert status == 2
    assert "mixture.wav: has (samples, channels, Hz) (2999, 2, 44100), but the stems next to it (3000, 2, 44100)" in printed


def test_the_validation_score_is_that_of_a_separation(tmp_path: Path, data: Path, command: Command) -> None:
    """The SDR in the log is the SDR of separating with the finished checkpoint."""
    config = write_config(tmp_path / "run" / "config.yaml", num_overlap=2)
    options = ("-c", config, "--data-path", data, "--num-workers", 0, "--num-steps", 2)
    assert command(*options, "--valid-path", data, "--valid-every", 2)[0] == 0
    separator = open_model(str(tmp_path / "run"), device="cpu")
    scores: dict[str, list[float]] = {name: [] for name in INSTRUMENTS}
    for folder in sorted(data.iterdir()):
        stems = {path.stem: soundfile.read(path)[0] for path in folder.iterdir()}
        estimates, _ = separator.separate_music_file(sum(stems.values()), RATE)
        for name, stem in stems.items():
            scores[name].append(10 * np.log10((stem**2).sum() / ((stem - estimates[name]) ** 2).sum()))
    assert lines(tmp_path / "run")[-1]["sdr"] == {name: pytest.approx(np.mean(all_), abs=1e-3) for name, all_ in scores.items()}


def test_tensorboard_is_written_if_it_is_installed(
    tmp_path: Path, data: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step, 0))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    config = write_config(tmp_path / "run" / "config.yaml")
    assert command("-c", config, "--data-path", data, "--num-workers", 0, "--num-steps", 2, "--log-every", 1)[0] == 0
    assert written[0] == (str(tmp_path / "run" / "tensorboard" / "seed0"), 0, 0)
    assert written[-1] == ("closed", 0, 0)
    assert {name for name, _, step in written if step == 2} >= {"loss", "kept/vocals", "lr", "gradient_norm", "skipped"}


def test_a_refused_command_leaves_no_trace(tmp_path: Path, data: Path, command: Command) -> None:
    config = write_config(tmp_path / "config.yaml")
    run = ("--model-path", tmp_path / "run", "--data-path", data)
    one = write_config(tmp_path / "one.yaml", batch_size=1)
    typo = tmp_path / "typo.yaml"
    typo.write_text(config.read_text().replace("grad_clip", "gradclip"))
    refused = {
        ("-c", tmp_path / "none.yaml", *run): "none.yaml: cannot be read (No such file or directory)",
        ("-c", typo, *run): "training.gradclip is not a key of this file; did you mean training.grad_clip?",
        ("-c", config, "--model-path", tmp_path / "run"): "no data: name folders of tracks with --data-path, or as training",
        ("-c", config, *run, "--data-path", tmp_path / "none"): "none: cannot be read (No such file or directory), expected a",
        ("-c", one, *run): "training.batch_size is 1, and of 1 the coarse mask (training.coarse_loss_clip) keeps none",
        ("-c", config, *run, "--device", "cuda:99"): "device cuda:99 is not available here",
        ("-c", config, *run, "--device", "tpu"): "device is 'tpu', expected auto, cuda, cuda:N, mps or cpu",
        ("-c", config, *run, "--device", "cpu", "--precision", "fp16"): "precision fp16 is for GPUs; on a CPU, expected fp32",
        ("-c", config, *run, "--valid-path", tmp_path / "none"): "none: cannot be read (No such file or directory), expected a",
    }
    for options, message in refused.items():
        status, printed = command(*options)
        assert status == 2, options
        assert f"error: {message}" in printed or message in printed, printed
        assert "Traceback" not in printed
        assert not (tmp_path / "run").exists(), options


def test_broken_tracks_are_reported_together_and_can_be_skipped(tmp_path: Path, data: Path, command: Command) -> None:
    (data / "track0" / "drums.wav").unlink()
    soundfile.write(data / "track1" / "bass.wav", tone("bass", 5700)[:, 0], RATE)
    config = write_config(tmp_path / "config.yaml")
    options = ("-c", config, "--data-path", data, "--model-path", tmp_path / "run", "--num-workers", 0, "--num-steps", 2)
    status, printed = command(*options)
    assert status == 2
    assert printed == (
        f"error: {data}: 2 of 3 tracks cannot be used:\n"
        f"  {data}/track0: drums is missing\n"
        f"  {data}/track1: bass.wav is mono, expected 2 channels\n"
        "fix them, or leave them out with --skip-bad-tracks\n"
    )
    status, printed = command(*options, "--skip-bad-tracks")
    assert status == 0
    assert "track0: drums is missing" in printed
    assert "going on without them" in printed
    assert "seed 0: 1 tracks" in printed


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, data: Path, command: Command) -> None:
    (tmp_path / "file").write_text("in the way")
    config = write_config(tmp_path / "config.yaml")
    status, printed = command("-c", config, "--data-path", data, "--model-path", tmp_path / "file" / "run")
    assert status == 2
    assert "run: cannot be written to (Not a directory)" in printed


def test_the_published_configs_can_be_trained() -> None:
    for model in ("modelA", "modelB"):
        config = load_config(ROOT / "my_submission" / "ckpts" / model / "config.yaml")
        assert config.training.activation_checkpointing is False
        with torch.device("meta"):
            network = TFCTDFNet(config)
        assert sum(parameter.numel() for parameter in network.parameters()) == 30_119_168
    tree = yaml.safe_load((GOLDEN / "training_coarse" / "config.yaml").read_text())
    assert "activation_checkpointing" not in tree["training"]  # the key is optional: published files lack it
