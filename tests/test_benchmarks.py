"""Short runs of the benchmarks of growth, quality and speed; their figures are computed in a second way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
import yaml

from my_submission.src.audio.files import AudioArray, write
from my_submission.src.evaluation.metrics import global_sdr
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.separator import Separator
from tests.benchmarks.measuring import ranks_of_steps
from tests.helpers.paths import ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"
RATE = 44100


def test_growth_compares_per_second_and_per_run(small_model: Path, tmp_path: Path, run_python: Callable[..., object]) -> None:
    path = tmp_path / "growth.json"
    rows = ["--minutes", "0.01", "0.02", "--seeds", "--overlaps", "8", "--at", "0.01", "--rounds", "1"]
    result = run_python(BENCHMARKS / "growth.py", *rows, "--model", small_model, "--device", "cpu", "--json", path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n| 0.0") == 3
    figures = json.loads(path.read_text())
    assert "growth.py --minutes 0.01" in figures["command"]
    assert "torch" in figures["machine"]
    short, long, overlapped = figures["rows"]
    # 26,460 and 52,920 samples in chunks of 1984; at overlap 8 the hop is 248, and seven more chunks begin before the song
    assert [row["chunks"] for row in (short, long, overlapped)] == [14, 27, 107 + 7]
    (a,), (b,) = short["seconds"], long["seconds"]
    assert short["s_per_s"] == pytest.approx(a / 0.6)
    assert long["ratio"] == pytest.approx(b / a / 2)
    assert long["ratio_per_run"] == pytest.approx((b / 27) / (a / 14))
    assert (overlapped["group"], overlapped["ratio"]) == ("overlap", 1)
    assert overlapped["host_mb"] > 50
    assert overlapped["device_mb"] == 0


def test_quality_scores_every_setting(small_model: Path, tmp_path: Path, run_python: Callable[..., object]) -> None:
    stems = {name: 0.1 * np.random.default_rng(i).standard_normal((20 * RATE, 2)) for i, name in enumerate(INSTRUMENTS)}
    song = tmp_path / "quality" / "songs" / "song_1000000"
    song.mkdir(parents=True)
    for name, sound in {"mixture": sum(stems.values()), **stems}.items():
        write(song / f"{name}.wav", sound, RATE, "FLOAT")
    path = tmp_path / "quality.json"
    how = ["--songs", "1", "--seconds", "0.1", "--rounds", "2", "--precision", "--device", "cpu", "--json", path]
    result = run_python(BENCHMARKS / "quality.py", "--model", small_model, "--folder", tmp_path / "quality", *how)
    assert result.returncode == 0, result.stderr
    rows = json.loads(path.read_text())["rows"]
    assert [row["s_per_s"] for row in rows] == sorted(row["s_per_s"] for row in rows)
    assert all(row["s_per_s"] == median(row["paces"]) and len(row["paces"]) == 2 for row in rows)
    by_setting = {(len(row["seeds"]), row["overlap"], row["window"]): row for row in rows}
    assert len(by_setting) == len(rows) == 13
    published, hann = by_setting[3, 8, "rectangular"], by_setting[1, 2, "hann"]
    assert 0 <= published["steps"] <= 1
    assert (published["note"], published["difference_db"], published["agreement_db"]) == ("published, the config's", 0, None)
    assert (by_setting[1, 2, "rectangular"]["note"], by_setting[1, 2, "rectangular"]["steps"]) == ("`--fast`", None)

    config = yaml.safe_load((small_model / "config.yaml").read_text())
    config["inference"]["window"] = "hann"
    (small_model / "config.yaml").write_text(yaml.safe_dump(config))
    beginning = {name: sound[: round(0.1 * RATE)].astype(np.float32) for name, sound in stems.items()}
    separator = Separator(small_model, seeds=[0], overlap=2, device="cpu", precision="fp32")
    estimates = separator.separate_array(AudioArray(np.sum(list(beginning.values()), axis=0), RATE))
    scores = [global_sdr(beginning[name], estimate) for name, estimate in zip(separator.source_order, estimates, strict=True)]
    assert hann["sdr_db"] == pytest.approx(fmean(scores), abs=1e-3)
    assert hann["difference_db"] == pytest.approx(hann["sdr_db"] - published["sdr_db"])


def test_a_step_ranks_above_its_neighbours() -> None:
    stems = np.random.default_rng(0).standard_normal((2, 9000, 1)).astype(np.float32).cumsum(axis=1)
    places = range(0, 9000, 100)
    assert 0.4 < median(ranks_of_steps(stems, places)) < 0.6
    stems[0, 5000:] += 100
    assert ranks_of_steps(stems, [5000])[0] > 0.999
    assert max(ranks_of_steps(stems, [4997, 5003])) < 0.999  # only the two second differences with both samples count
    assert ranks_of_steps(stems[:1], [2001, 6999]) == []
    assert ranks_of_steps(0 * stems, places) == []


@pytest.mark.parametrize("layout", ["auto", "channels-last"])
def test_speed_compares_equal_estimates(layout: str, tmp_path: Path, run_python: Callable[..., object]) -> None:
    path = tmp_path / "speed.json"
    options = ["--size", "small", "--what", "separation", "--seconds", "4", "--seeds", "2", "--rounds", "1", "--layout", layout]
    result = run_python(BENCHMARKS / "speed.py", *options, "--precision", "fp32", "--device", "cpu", "--json", path)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(path.read_text())["rows"]
    assert row["agreement_db"] > 100
