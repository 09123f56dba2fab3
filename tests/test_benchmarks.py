"""Short runs of the benchmarks of growth, quality, speed and real songs; their figures are computed in a second way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
import soundfile
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


def test_speed_compares_equal_estimates(tmp_path: Path, run_python: Callable[..., object]) -> None:
    path = tmp_path / "speed.json"
    options = [
        "--size",
        "small",
        "--what",
        "separation",
        "--seconds",
        "4",
        "--seeds",
        "2",
        "--rounds",
        "1",
        "--layout",
        "channels-last",
    ]
    result = run_python(BENCHMARKS / "speed.py", *options, "--precision", "fp32", "--device", "cpu", "--json", path)
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(path.read_text())["rows"]
    assert row["agreement_db"] > 100


def test_the_audit_is_measured_against_the_known_faults(tmp_path: Path, run_python: Callable[..., object]) -> None:
    columns = ("track", "instrument", "wrong", "kind", "holds", "level_db")
    truth = [("a", "bass", "yes", "add", "bass+drums", ""), ("a", "drums", "no", "clean", "drums", "")]
    truth += [("b", "bass", "yes", "move", "bass+drums", ""), ("b", "drums", "no", "clean", "drums", "")]
    truth += [("c", "bass", "yes", "bleeding", "bass+drums", "-12"), ("c", "drums", "yes", "bleeding", "drums+bass", "-22")]
    write_rows(tmp_path / "truth.csv", columns, truth)
    scores = [
        ("a", "bass", -1),
        ("a", "drums", 2),
        ("b", "bass", 1),
        ("b", "drums", -0.5),
        ("c", "bass", 3),
        ("c", "drums", ""),
    ]
    write_rows(tmp_path / "audit.csv", ("track", "instrument", "score"), scores)
    levels = [("a", "bass", "", -30), ("a", "drums", -20, ""), ("b", "bass", "", ""), ("b", "drums", "", "")]
    levels += [("c", "bass", "", -13.5), ("c", "drums", "", "")]
    write_rows(tmp_path / "levels.csv", ("track", "instrument", "bass_db", "drums_db"), levels)
    tables = ["--truth", tmp_path / "truth.csv", "--audit", tmp_path / "audit.csv", "--bleeding", tmp_path / "levels.csv"]
    result = run_python(BENCHMARKS / "audit.py", *tables, "--json", tmp_path / "figures.json")
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    faults = {row["kind"]: row for row in figures["faults"]}
    assert faults["all"]["area"] == pytest.approx((2 + 1 + 0) / 6)
    assert faults["move"]["area"] == pytest.approx(1 / 2)
    assert (faults["all"]["precision"], faults["all"]["recall"]) == (pytest.approx(1 / 2), pytest.approx(1 / 3))
    by_level = {row["level"]: row for row in figures["levels"]}
    assert (by_level["all"]["pairs"], by_level["all"]["not_found"]) == (2, 1)
    assert by_level["-15 to -10 dB"]["median_error"] == pytest.approx(1.5)
    assert by_level["no bleeding; above -25 dB: 1"]["pairs"] == 2


def write_rows(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]) + "\n")


def test_real_scores_songs_of_both_kinds(small_model: Path, tmp_path: Path, run_python: Callable[..., object]) -> None:
    rng, songs = np.random.default_rng(0), tmp_path / "songs"
    stems = {name: 0.6 * rng.uniform(-1, 1, (RATE, 2)) for name in (*INSTRUMENTS, "accompaniment")}
    for song, names in {"band": INSTRUMENTS, "duo": ("vocals", "accompaniment")}.items():
        (songs / song).mkdir(parents=True)
        for name in names:
            soundfile.write(
                songs / song / f"{name.upper()}.ogg" if song == "duo" else songs / song / f"{name}.flac", stems[name], RATE
            )
    table, page = tmp_path / "scores.csv", tmp_path / "real.html"
    how = ["--model", small_model, "--device", "cpu", "--overlap", "1", "--set", "inference.window=hann"]
    result = run_python(BENCHMARKS / "real.py", songs, *how, "--csv", table, "--report", page)
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(table.open()))
    assert [(row["song"], row["stem"]) for row in rows] == [
        *(("band", name) for name in INSTRUMENTS),
        ("duo", "vocals"),
        ("duo", "accompaniment"),
    ]
    separator = Separator(small_model, overlap=1, device="cpu", overrides=["inference.window=hann"])
    for song, names in {"band": INSTRUMENTS, "duo": ("vocals", "accompaniment")}.items():
        files = {name: next(path for path in (songs / song).iterdir() if path.stem.lower() == name) for name in names}
        sounds = {name: soundfile.read(path, dtype="float32")[0] for name, path in files.items()}
        gain = np.float32(0.99 / np.abs(sum(sounds.values())).max())
        assert gain < 1
        mixture = gain * sum(sounds.values())
        estimates = dict(zip(separator.source_order, separator.separate_array(AudioArray(mixture, RATE)), strict=True))
        estimates["accompaniment"] = mixture - estimates["vocals"]
        for row in rows:
            if row["song"] == song:
                truth = gain * sounds[row["stem"]]
                assert float(row["sdr"]) == pytest.approx(global_sdr(truth, estimates[row["stem"]]), abs=1e-3)
                assert float(row["mixture_sdr"]) == pytest.approx(global_sdr(truth, mixture), abs=1e-3)
    assert all(f"\n| {name} | {who} |" in result.stdout for name in ("band", "duo", "mean") for who in ("model", "mixture"))
    assert all(name in page.read_text() for name in ("band", "duo", "accompaniment"))

    (songs / "band" / "bass.flac").unlink()
    result = run_python(BENCHMARKS / "real.py", songs, *how)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {songs / 'band'}: holds drums, other, vocals; expected one set of stems, bass, drums, other, vocals or "
        "vocals, accompaniment\n"
    )
    soundfile.write(songs / "band" / "bass.flac", stems["bass"][1:], RATE)
    result = run_python(BENCHMARKS / "real.py", songs, *how)
    assert result.returncode == 2
    assert "error: band: files of different forms (bass 44100 Hz, 2 channels, 44099 samples; drums" in result.stderr
    assert "Traceback" not in result.stderr
