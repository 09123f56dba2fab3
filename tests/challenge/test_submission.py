"""The challenge's contract: the wrapper, and classes A and B behind it."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission import aicrowd_wrapper, user_config
from my_submission.aicrowd_wrapper import AIcrowdWrapper
from my_submission.src.common.errors import UserError
from my_submission.src.separator import ModelA, ModelB, Separator
from tests.helpers.paths import GOLDEN, ROOT

INSTRUMENTS = ["bass", "drums", "other", "vocals"]


class PlainModel:
    """Has only what the contract requires; every instrument is the mixture at another level."""

    def __init__(self, level: float = 0.5, instruments: Sequence[str] = INSTRUMENTS) -> None:
        self.level, self.instruments = level, instruments

    def separate_music_file(self, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        return dict.fromkeys(self.instruments, self.level * mixture), dict.fromkeys(self.instruments, sample_rate)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Make an empty dataset and an empty folder for predictions, with the environment variables unset."""
    monkeypatch.delenv("AICROWD_DATASET_DIR", raising=False)
    monkeypatch.delenv("AICROWD_PUBLIC_SHARED_DIR", raising=False)
    paths = tmp_path / "dataset", tmp_path / "predictions"
    for path in paths:
        path.mkdir()
    return paths


@pytest.mark.parametrize(("cls", "folder", "step"), [(ModelA, "modelA", 100000), (ModelB, "modelB", 150000)])
def test_golden_answers_through_the_wrapper(
    cls: type[Separator], folder: str, step: int, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, predictions = folders
    (tmp_path / folder).mkdir()
    for path in (GOLDEN / "separation_A").iterdir():
        shutil.copy(path, tmp_path / folder / path.name.replace("step100000", f"step{step}"))
    monkeypatch.setattr(cls, "default_folder", tmp_path / folder)
    monkeypatch.setattr(aicrowd_wrapper, "MySeparationModel", cls)
    golden = np.load(GOLDEN / "separation_A" / "separation.npz")
    (dataset / "song").mkdir()
    soundfile.write(dataset / "song" / "mixture.wav", golden["mixture_10007"], 44100, subtype="FLOAT")

    wrapper = AIcrowdWrapper(dataset, predictions)
    assert wrapper.instruments == wrapper.model.instruments == INSTRUMENTS
    assert wrapper.separate_music_file("song") is True

    assert sorted(path.name for path in (predictions / "song").iterdir()) == [f"{name}.wav" for name in INSTRUMENTS]
    for name in INSTRUMENTS:
        path = predictions / "song" / f"{name}.wav"
        assert (soundfile.info(path).subtype, soundfile.info(path).samplerate) == ("PCM_16", 44100)
        np.testing.assert_allclose(soundfile.read(path)[0], golden[f"{name}_10007"], rtol=0, atol=2e-4)

    # the evaluator's own copy of the wrapper passes float64, as soundfile reads it
    stems, rates = cls().separate_music_file(*soundfile.read(dataset / "song" / "mixture.wav"))
    assert rates == dict.fromkeys(INSTRUMENTS, 44100)
    for name in INSTRUMENTS:
        np.testing.assert_allclose(stems[name], golden[f"{name}_10007"], rtol=0, atol=1e-5)


def test_the_evaluator_builds_model_a_without_arguments() -> None:
    assert user_config.MySeparationModel is user_config.A is ModelA
    assert user_config.B is ModelB
    inspect.signature(user_config.MySeparationModel).bind()
    inspect.signature(AIcrowdWrapper).bind()


@pytest.mark.parametrize(("cls", "step"), [(ModelA, 100000), (ModelB, 150000)])
def test_missing_checkpoints_are_named_with_the_way_to_get_them(cls: type[ModelA], step: int, tmp_path: Path) -> None:
    folder = tmp_path / cls.default_folder.name
    folder.mkdir()
    shutil.copy(GOLDEN / "separation_A" / "config.yaml", folder)
    shutil.copy(GOLDEN / "separation_A" / "step100000_seed1.ckpt", folder / f"step{step}_seed1.ckpt")
    local = type("Local", (cls,), {"default_folder": folder})
    with pytest.raises(UserError) as caught:
        local()
    message = str(caught.value)
    assert f"missing step{step}_seed0.ckpt, step{step}_seed2.ckpt." in message
    assert "mdx_AB.zip" in message
    assert "python -m my_submission install mdx_AB.zip" in message


def test_a_model_with_the_contract_only_works(folders: tuple[Path, Path], make_song: Callable[..., Path]) -> None:
    dataset, predictions = folders
    mixture = soundfile.read(make_song(dataset / "song" / "mixture.wav", level=0.4))[0]
    assert AIcrowdWrapper(dataset, predictions, model=PlainModel(level=2)).separate_music_file("song") is True
    assert np.abs(2 * mixture).max() > 1
    for name in INSTRUMENTS:  # samples beyond +-1 are clipped
        stem = soundfile.read(predictions / "song" / f"{name}.wav")[0]
        np.testing.assert_allclose(stem, np.clip(2 * mixture, -1, 1), rtol=0, atol=1e-4)


def test_the_environment_overrides_the_arguments(
    folders: tuple[Path, Path], tmp_path: Path, make_song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, predictions = folders
    make_song(tmp_path / "elsewhere" / "song" / "mixture.wav")
    (tmp_path / "shared" / "predictions").mkdir(parents=True)
    monkeypatch.setenv("AICROWD_DATASET_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("AICROWD_PUBLIC_SHARED_DIR", str(tmp_path / "shared"))
    AIcrowdWrapper(tmp_path / "not there", predictions, model=PlainModel()).separate_music_file("song")
    assert len(list((tmp_path / "shared" / "predictions" / "song").iterdir())) == 4
    assert list(predictions.iterdir()) == []


def test_missing_folders_are_refused_and_not_created(folders: tuple[Path, Path], tmp_path: Path) -> None:
    dataset, predictions = folders
    for arguments in ((tmp_path / "gone", predictions), (dataset, tmp_path / "gone")):
        with pytest.raises(UserError, match=r"gone: no such folder, expected one for the (dataset|predictions)"):
            AIcrowdWrapper(*arguments, model=PlainModel())
    assert not (tmp_path / "gone").exists()


def test_a_mixture_that_cannot_be_read_is_named(folders: tuple[Path, Path]) -> None:
    wrapper = AIcrowdWrapper(*folders, model=PlainModel())
    with pytest.raises(UserError, match=r"song/mixture.wav: no such file"):
        wrapper.separate_music_file("song")
    assert list(folders[1].iterdir()) == []


@pytest.mark.parametrize(
    ("stems", "message"),
    [
        (["bass", "drums", "other"], "the model gave stems for bass, drums, other; expected bass, drums, other, vocals"),
        ([*INSTRUMENTS, "piano"], "the model gave stems for bass, drums, other, piano, vocals; expected"),
        ([], "the model gave stems for none; expected"),
    ],
)
def test_answers_without_exactly_the_four_instruments_are_refused(
    stems: list[str], message: str, folders: tuple[Path, Path], make_song: Callable[..., Path]
) -> None:
    dataset, predictions = folders
    make_song(dataset / "song" / "mixture.wav")
    with pytest.raises(NameError, match=message):
        AIcrowdWrapper(dataset, predictions, model=PlainModel(instruments=stems)).separate_music_file("song")
    assert list(predictions.iterdir()) == []


def test_sample_rates_are_checked_too(folders: tuple[Path, Path]) -> None:
    wrapper = AIcrowdWrapper(*folders, model=PlainModel())
    wrapper.check_output(dict.fromkeys(INSTRUMENTS), dict.fromkeys(INSTRUMENTS, 44100))
    with pytest.raises(NameError, match="the model gave sample rates for bass; expected"):
        wrapper.check_output(dict.fromkeys(INSTRUMENTS), {"bass": 44100})


def test_messages_for_the_challenges_log_are_name_errors(folders: tuple[Path, Path], small_model: Path) -> None:
    for speaker in (AIcrowdWrapper(*folders, model=PlainModel()), Separator(small_model)):
        with pytest.raises(NameError, match=r"^too loud$"):
            speaker.raise_aicrowd_error("too loud")


KITS_WRAPPER = """
import os
import soundfile
from my_submission.user_config import MySeparationModel

class AIcrowdWrapper:
    def __init__(self, dataset_dir="./public_dataset/", predictions_dir="./evaluator_outputs/"):
        self.model, self.data, self.out = MySeparationModel(), dataset_dir, predictions_dir

    def separate_music_file(self, foldername):
        mixture, rate = soundfile.read(os.path.join(self.data, foldername, "mixture.wav"))
        stems, rates = self.model.separate_music_file(mixture, rate)
        os.makedirs(os.path.join(self.out, foldername))
        for name in self.model.instruments:
            soundfile.write(os.path.join(self.out, foldername, name + ".wav"), stems[name], rates[name])
        return True
"""


def test_the_folder_works_in_another_kit(tmp_path: Path, make_song: Callable, run_python: Callable) -> None:
    """Copy my_submission alone, replace our wrapper by the evaluator's, and run it from the kit's root."""
    package = tmp_path / "kit" / "my_submission"
    shutil.copytree(ROOT / "my_submission", package, ignore=shutil.ignore_patterns("__pycache__", "ckpts"))
    shutil.copytree(GOLDEN / "separation_A", package / "ckpts" / "modelA")
    (package / "aicrowd_wrapper.py").write_text(KITS_WRAPPER)
    make_song(tmp_path / "kit" / "public_dataset" / "song" / "mixture.wav", seconds=0.1)
    program = "from my_submission.aicrowd_wrapper import *; assert AIcrowdWrapper().separate_music_file('song')"
    result = run_python("-c", program, cwd=tmp_path / "kit")
    assert result.returncode == 0, result.stderr
    assert sorted(path.stem for path in (tmp_path / "kit" / "evaluator_outputs" / "song").iterdir()) == INSTRUMENTS
