"""The demo: one command without data or download, and lower limits for its scores."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import evaluate_locally
from my_submission.src.audio import AudioArray
from my_submission.src.common import cli
from my_submission.src.separator import Demo, open_model
from my_submission.src.synth.command import make_song
from tests.benchmarks.measuring import ranks_of_steps

MEMBERS = ("seed 0", "seed 1", "seed 2")
SONGS = range(1_000_002, 1_000_019, 16)  # two of about the same difficulty as the twenty of benchmarks/demo.py
MEAN, EACH = 8.0, 6.0  # dB, of the ensemble


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the demo write to a temporary folder instead of the repository; return the folder."""
    monkeypatch.delenv("AICROWD_DATASET_DIR", raising=False)
    monkeypatch.delenv("AICROWD_PUBLIC_SHARED_DIR", raising=False)
    monkeypatch.setattr(evaluate_locally, "DEMO", tmp_path / "demo")
    return tmp_path / "demo"


def test_two_songs_reach_the_lower_limits(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate_locally, "DEMO_SONGS", SONGS)
    assert evaluate_locally.main(["--demo", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "note: the demo has learned from synthetic songs only" in printed
    assert f"report: {home / 'report.html'}" in printed
    scores = {name: float(value) for name, value in re.findall(r"^(\w+): (-?\d+\.\d+)$", printed, re.MULTILINE)}
    assert list(scores) == ["sdr_bass", "sdr_drums", "sdr_other", "sdr_vocals", "mean_sdr"]
    assert scores["mean_sdr"] >= MEAN
    assert min(scores.values()) >= EACH
    members = {name: float(value) for name, value in re.findall(r"^(seed \d) by itself: (\S+)$", printed, re.MULTILINE)}
    assert tuple(members) == MEMBERS
    assert max(members.values()) < scores["mean_sdr"]

    page = (home / "report.html").read_text()
    assert all(word in page for word in ("song_1000002", "song_1000018", *MEMBERS))
    assert sorted(path.name for path in home.iterdir()) == ["predictions", "report.html", "report_audio", "songs"]
    songs = sorted(path.name for path in (home / "predictions").iterdir() if path.is_dir())
    assert songs == ["song_1000002", "song_1000018"]  # the members' stems are deleted


def test_no_step_is_left_where_a_chunk_begins() -> None:
    mixture = sum(stem.astype(np.float32) for stem in make_song(2000, 16.0).values()) / 32768
    ranks, elsewhere = {}, {}
    for window in ("of the config", "rectangular"):
        overrides = [] if window == "of the config" else [f"inference.window={window}"]
        demo = Demo(device="cpu", precision="fp32", seeds=[0], overlap=2, overrides=overrides)
        stems = demo.separate_array(AudioArray(mixture, 44100))
        hop = demo.config.inference_chunk_size // 2
        ranks[window] = np.median(ranks_of_steps(stems, range(hop, len(mixture), hop)))
        elsewhere[window] = np.median(ranks_of_steps(stems, range(hop // 2, len(mixture), hop)))
    assert ranks["rectangular"] > 0.95, "the measure finds no steps"
    assert max(elsewhere.values()) < 0.7
    assert ranks["of the config"] < 0.7


def test_the_checkpoints_are_small() -> None:
    demo = Demo(device="cpu")
    assert list(demo.checkpoints) == [0, 1, 2]
    assert all(path.stat().st_size < 4_000_000 for path in demo.checkpoints.values())
    assert isinstance(open_model("demo", device="cpu", seeds=[1]), Demo)


@pytest.mark.parametrize("options", [["--model", "A"], ["--data", "songs"]])
def test_the_demo_refuses_another_model_and_other_songs(
    options: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        evaluate_locally.main(["--demo", *options])
    assert leaving.value.code == 2
    assert "--demo brings its model and its songs; to use one of them, leave it out" in capsys.readouterr().err
    assert not home.exists()


def test_the_demo_refuses_a_dataset_of_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AICROWD_DATASET_DIR", str(home.parent))
    assert cli.run(evaluate_locally.main, ["--demo"]) == 2
    assert f"error: --demo {home / 'songs'}: AICROWD_DATASET_DIR is set too, to {home.parent}, " in capsys.readouterr().err
    assert not home.exists()


def test_each_seed_needs_several_seeds(tmp_path: Path, small_model: Path, make_song) -> None:
    make_song(tmp_path / "data" / "song" / "mixture.wav")
    options = ["--data", tmp_path / "data", "--out", tmp_path / "out", "--model", small_model, "--seeds", "1", "--each-seed"]
    with pytest.raises(evaluate_locally.EvaluationError, match="--each-seed: this model is no ensemble of several seeds"):
        evaluate_locally.main([*map(str, options)])
