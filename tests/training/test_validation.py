"""Validation stops within a batch of chunks when it is asked to; its failures do not end the training."""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path

import pytest
import torch

from my_submission.src import train
from my_submission.src.audio.tracks import TrackError
from my_submission.src.common import cli
from my_submission.src.config import load_config
from my_submission.src.dataset import open_tracks
from my_submission.src.ensemble import Ensemble, SeparationError
from my_submission.src.training.loop import Run
from my_submission.src.training.run_folder import RunFolder
from my_submission.src.training.trainer import Trainer
from my_submission.src.training.validation import Validation, ValidationError
from tests.helpers.training import write_config, write_track


@pytest.fixture
def validation(tmp_path: Path) -> Validation:
    """Two songs of about 15 batches of chunks each."""
    for i in range(2):
        write_track(tmp_path / "valid" / f"track{i}", 30_000, seed=i)
    config = load_config(write_config(tmp_path / "config.yaml"))
    return Validation(tmp_path / "valid", config, device=torch.device("cpu"), precision="fp32")


def test_a_validation_ends_within_a_batch_of_being_asked(validation: Validation, monkeypatch: pytest.MonkeyPatch) -> None:
    state = Trainer(validation.config, seed=0, device=torch.device("cpu"), precision="fp32").ema.state_dict()
    batches = 0  # that went through the network
    seen: list[int] = []  # `batches` at every call of stop
    estimate = Ensemble.estimate

    def count(self: Ensemble, chunks: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += 1
        return estimate(self, chunks)

    def stop_at_third_call() -> bool:
        seen.append(batches)
        return len(seen) == 3

    monkeypatch.setattr(Ensemble, "estimate", count)
    assert validation.scores(state, stop_at_third_call) is None
    assert len(seen) == 3
    assert seen[2] - seen[1] == 1  # stop is called after every batch
    assert batches == seen[2]  # nothing more was separated, neither of this song nor of the next
    scores = validation.scores(state)
    assert scores is not None
    assert list(scores) == list(validation.config.source_order)
    assert batches > seen[2] + 20


def start(validation: Validation) -> dict[str, torch.Tensor]:
    return Trainer(validation.config, seed=0, device=torch.device("cpu"), precision="fp32").ema.state_dict()


def test_a_validation_writes_no_file(validation: Validation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = start(validation)
    for function in ("mkdtemp", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory"):
        monkeypatch.setattr(tempfile, function, refuse)
    monkeypatch.setattr(torch, "save", refuse)
    assert validation.scores(state) is not None


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), r"OSError: \[Errno 28\] No space left on device"),
        (RuntimeError("CUDA error:\nsome kernel"), "RuntimeError: CUDA error: some kernel"),
        (SeparationError("the networks gave NaN"), "the networks gave NaN"),
    ],
)
def test_a_validation_that_fails_does_not_end_the_training(
    validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    trainer = Trainer(validation.config, seed=0, device=torch.device("cpu"), precision="fp32")
    tracks = open_tracks([tmp_path / "valid"], validation.config)
    folder = RunFolder(tmp_path / "run", 0)
    folder.prepare(validation.config, "")
    run = Run(trainer, folder, tracks=tracks, validation=validation, valid_every=10)
    estimate = Ensemble.estimate

    def fail_in_the_first(self: Ensemble, chunks: torch.Tensor) -> torch.Tensor:
        if trainer.steps == 10:
            raise failure
        return estimate(self, chunks)

    monkeypatch.setattr(Ensemble, "estimate", fail_in_the_first)
    with pytest.warns(
        UserWarning, match=f"^step 10: the validation is skipped \\({reason}\\); the training goes on$"
    ) as warned:
        assert run.train() == 0
    assert len(warned) == 1
    assert (run.validated, trainer.steps) == (20, 20)
    assert folder.best.exists()


def test_songs_that_vanish_do_not_end_the_training(validation: Validation) -> None:
    (validation.tracks[1].folder / "bass.wav").unlink()
    with pytest.raises(ValidationError, match=r"track1/bass\.wav: no such file"):
        validation.scores(start(validation))


def test_best_weights_that_cannot_be_saved_do_not_end_the_training(
    validation: Validation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(validation.config, seed=0, device=torch.device("cpu"), precision="fp32")
    folder = RunFolder(tmp_path / "run", 0)
    folder.prepare(validation.config, "")
    folder.best.mkdir()  # in the way of the file
    run = Run(trainer, folder, tracks=validation.tracks, validation=validation, valid_every=20)
    with pytest.warns(UserWarning, match=r"^step 20: .*best_seed0\.ckpt: cannot be written .*; the training goes on$"):
        assert run.train() == 0


def test_bad_songs_can_be_left_out(validation: Validation, tmp_path: Path) -> None:
    valid, how = tmp_path / "valid", {"device": torch.device("cpu"), "precision": "fp32"}
    for name in ("no_bass", "odd_mixture", "two_mixtures"):
        write_track(valid / name)
    (valid / "no_bass" / "bass.wav").unlink()
    write_track(tmp_path / "short", 500)
    shutil.copyfile(tmp_path / "short" / "bass.wav", valid / "odd_mixture" / "Mixture.wav")
    for name in ("mixture.wav", "MIXTURE.WAV"):
        shutil.copyfile(valid / "two_mixtures" / "bass.wav", valid / "two_mixtures" / name)
    with pytest.raises(TrackError, match="1 of 5 tracks cannot be used"):
        Validation(valid, validation.config, **how)
    with pytest.warns(UserWarning) as warned:
        usable = Validation(valid, validation.config, **how, skip_bad_tracks=True)
    assert [track.name for track in usable.tracks] == ["track0", "track1"]
    assert len(usable.mixtures) == 2
    messages = [str(warning.message) for warning in warned]
    assert "bass is missing" in messages[0]
    assert "Mixture.wav: has (samples, channels, Hz)" in messages[1]
    assert "two_mixtures: the mixture is there twice (MIXTURE.WAV, mixture.wav), expected one file; validating" in messages[2]


def test_the_option_reaches_the_validation(validation: Validation, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "valid" / "track0" / "bass.wav").unlink()
    data, config = tmp_path / "data", tmp_path / "config.yaml"
    write_track(data / "song")
    argv = ["-c", config, "--data-path", data, "--valid-path", tmp_path / "valid", "--model-path", tmp_path / "run"]
    argv += ["--num-steps", 2, "--valid-every", 2, "--num-workers", 0]
    assert cli.run(train.main, list(map(str, argv))) == 2
    assert "leave them out with --skip-bad-tracks" in capsys.readouterr().err
    assert cli.run(train.main, [*map(str, argv), "--skip-bad-tracks"]) == 0
    printed = capsys.readouterr()
    assert "valid: 1 of 2 tracks cannot be used" in printed.err
    assert "step 2: SDR" in printed.out
