"""evaluate_locally.py: its output, its files and its refusals; evaluation from Python; models of the user's own."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate_locally
from my_submission import user_config
from my_submission.aicrowd_wrapper import AIcrowdWrapper
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.evaluation.evaluate import JOURNAL, settings_of_run, track_names
from my_submission.src.evaluation.evaluate import evaluate as evaluate_tracks
from my_submission.src.evaluation.metrics import METRICS, Metric
from tests.helpers.evaluation import INSTRUMENTS, PlainModel, cut_off, evaluate, make_track, scores, sdr
from tests.helpers.paths import GOLDEN, ROOT


def test_the_command_runs_from_another_folder(tmp_path: Path, small_model: Path, run_python: Callable) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    odd = 'a, "quoted"\nname'
    make_track(data / odd)
    make_track(data / "b", 1500)
    make_track(data / "no references", 900, ())
    make_track(data / "partly", 800, ("bass", "vocals"))
    make_track(data / ".hidden")
    cut_off(make_track(data / "truncated") / "mixture.wav")
    (data / "without").mkdir()
    (data / "notes.txt").write_text("no track")
    program = [ROOT / "evaluate_locally.py", "--model", "small_model", "--data", "data", "--out", "out", "--csv", "s.csv"]
    done = run_python(*program, "--overlap", 2, "--seeds", "0,2", cwd=tmp_path, AICROWD_DATASET_DIR="")

    assert done.returncode == 1
    expected = {
        name: [sdr(data / track / f"{name}.wav", out / track / f"{name}.wav") for track in (odd, "b")] for name in INSTRUMENTS
    }
    lines = done.stdout.splitlines()
    report = lines[lines.index("Evaluation Results") + 1 :]
    means = {name: np.mean(values) for name, values in expected.items()}
    assert [line.split(": ")[0] for line in report[:5]] == [f"sdr_{name}" for name in INSTRUMENTS] + ["mean_sdr"]
    printed = [float(line.split(": ")[1]) for line in report[:5]]
    np.testing.assert_allclose(printed, [*means.values(), np.mean(list(means.values()))], atol=1e-3)
    assert report[5] == "tracks: 2 scored, 2 separated and not scored, 2 failed"
    assert report[6] == "not scored: partly: no drums.wav, other.wav"
    assert report[7].startswith("real-time factor: ")
    assert report[7].endswith(f"s of separation for {5200 / 44100:.1f} s of audio)")
    assert "the limit of 1.57 x" in report[8]
    assert "failed: truncated: " + str(Path("data/truncated/mixture.wav")) + ": is cut off" in done.stderr
    assert "failed: without: " + str(Path("data/without/mixture.wav")) + ": no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert sum(line.startswith(("'a, \"quoted\"\\nname': bass ", "b: bass ")) for line in lines) == 2  # a line per track

    rows = scores(tmp_path / "s.csv")
    assert rows[0] == ["track", "instrument", "sdr", "track_seconds"]
    assert [row[:2] for row in rows[1:]] == [[t, name] for t in (odd, "b", "no references", "partly") for name in INSTRUMENTS]
    np.testing.assert_allclose([float(row[2]) for row in rows[1:9]], np.transpose(list(expected.values())).ravel(), atol=1e-3)
    assert {row[2] for row in rows[9:]} == {""}
    assert {row[3] for row in rows[5:9]} == {f"{1500 / 44100:.6f}"}
    assert not list(tmp_path.rglob("*.partial"))


def test_without_references_nothing_is_scored(tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture) -> None:
    make_track(tmp_path / "data" / "a", stems=())
    assert evaluate(tmp_path) == 0
    printed = capsys.readouterr().out
    assert "a: not scored, no reference stems; " in printed
    assert "nothing was scored: no track that was separated has all four reference stems" in printed
    assert "sdr_" not in printed
    assert "real-time factor: " in printed
    assert len(list((tmp_path / "out" / "a").iterdir())) == 4


def test_a_failing_track_costs_no_other_and_leaves_no_old_stems(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for index, track in enumerate("abcd"):
        make_track(tmp_path / "data" / track, 1000 + index)
    assert evaluate(tmp_path) == 0
    make_track(tmp_path / "data" / "a", 1100, ("bass",))  # the other references are of another length now
    soundfile.write(tmp_path / "data" / "b" / "vocals.wav", np.zeros((1001, 2)), 22050)
    separate = PlainModel.separate_music_file

    def fail_on_c(self: PlainModel, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        return separate(self, mixture, sample_rate) if len(mixture) != 1002 else {}["chorus"]

    monkeypatch.setattr(PlainModel, "separate_music_file", fail_on_c)
    capsys.readouterr()
    assert evaluate(tmp_path) == 1
    printed = capsys.readouterr()
    assert "drums.wav: the estimate has shape [1100, 2], expected the reference's [1000, 2]; is it a stem of" in printed.err
    assert "vocals.wav: the estimate has 44100 Hz, expected the reference's 22050 Hz" in printed.err
    assert "failed: c: KeyError: 'chorus'" in printed.err
    assert "fail_on_c" in printed.err  # the traceback shows where the user's own model failed
    assert "tracks: 1 scored, 0 separated and not scored, 3 failed" in printed.out
    assert list((tmp_path / "out" / "c").iterdir()) == []


def test_the_environment_names_the_folders(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_track(tmp_path / "elsewhere" / "a")
    monkeypatch.setenv("AICROWD_DATASET_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("AICROWD_PUBLIC_SHARED_DIR", str(tmp_path / "shared"))
    assert evaluate_locally.main([]) == 0
    assert len(list((tmp_path / "shared" / "predictions" / "a").iterdir())) == 4
    for option in ("--data", "--out"):
        with pytest.raises(UserError, match=rf"{option} else: AICROWD_\w+ is set too, to .*; unset it, or leave {option} out"):
            evaluate_locally.main([option, "else"])


def test_without_options_the_kits_folders_are_used(tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_locally, "ROOT", tmp_path)
    monkeypatch.chdir("/")
    make_track(tmp_path / "public_dataset" / "a")
    assert evaluate_locally.main([]) == 0
    assert len(list((tmp_path / "evaluator_outputs" / "a").iterdir())) == 4


def test_bad_data_options_and_models_are_refused_before_separating(tmp_path: Path, sizes: list[int]) -> None:
    data = tmp_path / "data"
    with pytest.raises(UserError, match="data: no such folder, expected a dataset; name yours with --data"):
        evaluate(tmp_path)
    data.mkdir()
    (data / "notes.txt").write_text("no track")
    with pytest.raises(UserError, match="data: holds no tracks, expected a folder for each, with a mixture"):
        evaluate(tmp_path)
    make_track(data / "a")
    three_stems = shutil.copytree(GOLDEN / "full_band_three_stems", tmp_path / "three")
    own_class = "MySeparationModel of user_config.py does not take these options .*overlap"
    for options, message in (
        (["--out", data], "--out .*data: lies in the dataset"),
        (["--out", data / "new"], "--out .*new: lies in the dataset"),
        (["--csv", tmp_path], "--csv .*: expected the name of a file in a folder that exists"),
        (["--csv", tmp_path / "new" / "s.csv"], "--csv .*: expected the name of a file in a folder that exists"),
        (["--model", "C"], "C: no such model, expected A, B, demo or a folder"),
        (["--model", three_stems], "three: separates .*; the challenge wants exactly bass, drums, other, vocals"),
        (["--overlap", "2"], own_class),
        (["--out", data / "a" / "mixture.wav" / "x"], "lies in the dataset"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(tmp_path, *options)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: cannot be made"):
        evaluate(tmp_path, "--out", tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "file", "three"]
    assert len(list((data / "a").iterdir())) == 5
    assert sizes == []


def test_a_further_metric_is_one_entry_of_metrics(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_track(tmp_path / "data" / "a")
    (tmp_path / "data" / "z").mkdir()  # fails, so that the evaluation is not finished
    assert evaluate(tmp_path) == 1
    sdr_line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("a: "))

    def peak_error(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
        return max(float(np.abs(reference - estimate).max()) for reference, estimate in pairs)

    monkeypatch.setitem(METRICS, "peak_error", Metric(peak_error, ""))
    assert evaluate(tmp_path, "--csv", tmp_path / "s.csv") == 1
    assert sizes == [2000, 2000]  # the result without the new metric was not used again
    expected = {}
    for name in INSTRUMENTS:
        truth, found = (soundfile.read(tmp_path / folder / "a" / f"{name}.wav")[0] for folder in ("data", "out"))
        expected[name] = np.abs(truth - found).max()
    rows = scores(tmp_path / "s.csv")
    assert rows[0] == ["track", "instrument", "sdr", "peak_error"]
    np.testing.assert_allclose([float(row[3]) for row in rows[1:5]], [*expected.values()], atol=1e-5)
    printed = capsys.readouterr().out.splitlines()
    line = next(line for line in printed if line.startswith("a: "))
    assert line.split("; ")[0] == sdr_line.split("; ")[0]
    assert line.split("; ")[1].startswith(f"peak_error: bass {expected['bass']:.3f}, ")
    assert f"mean_peak_error: {np.mean([*expected.values()]):.3f}" in printed
    entry = json.loads((tmp_path / "out" / "evaluation.jsonl").read_text().splitlines()[-1])
    assert list(entry["peak_error"]) == list(INSTRUMENTS)
    assert evaluate(tmp_path, "--csv", tmp_path / "again.csv") == 1
    assert sizes == [2000, 2000]
    assert scores(tmp_path / "again.csv") == rows


class SeededModel(PlainModel):
    """A user's own ensemble: it describes itself, as a Separator does, without being one."""

    note, redone_chunks, overlap = "mind the gap", 3, 1

    def members(self) -> dict[int, PlainModel]:
        return {0: PlainModel(), 7: PlainModel()}

    def settings(self) -> dict[str, object]:
        return {"overlap": self.overlap}


def test_an_own_ensemble_is_described_and_its_members_are_scored(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(user_config, "MySeparationModel", SeededModel)
    make_track(tmp_path / "data" / "a")
    (tmp_path / "data" / "z").mkdir()
    assert evaluate(tmp_path, "--each-seed") == 1
    printed = capsys.readouterr().out
    assert "note: mind the gap" in printed
    means = dict(re.findall(r"^(mean_sdr|seed \d by itself): (.*)$", printed, re.MULTILINE))
    assert list(means) == ["mean_sdr", "seed 0 by itself", "seed 7 by itself"]
    assert len(set(means.values())) == 1  # each member separates like the ensemble
    assert "3 chunks overflowed in half precision" in printed
    assert sizes == [2000] * 3
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == ["a"]  # no stems of members are kept
    monkeypatch.setattr(SeededModel, "overlap", 2)
    assert evaluate(tmp_path) == 1
    assert "starting again: overlap was 1, is 2; each seed was seed 0, seed 7, is no\n" in capsys.readouterr().out


def test_python_callers_evaluate_without_the_command(tmp_path: Path, sizes: list[int]) -> None:
    data, predictions = make_track(tmp_path / "data" / "a").parent, tmp_path / "out"
    predictions.mkdir()
    wrapper = AIcrowdWrapper(data, predictions, model=PlainModel())
    with Journal(predictions / JOURNAL, settings_of_run(data, wrapper.model)) as journal:
        results, failed = evaluate_tracks(wrapper, track_names(data, predictions), journal)
    assert failed == {}
    assert [result.track for result in results] == ["a"]
    for name, score in results[0].sdr.items():
        assert score == pytest.approx(sdr(data / "a" / f"{name}.wav", predictions / "a" / f"{name}.wav"), abs=1e-3)
    assert results[0].mean_sdr == pytest.approx(np.mean([*results[0].sdr.values()]))


def test_references_are_found_whatever_their_case_and_junk_is_passed_over(
    tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "data"
    for track in "abcd":
        make_track(data / track)
    for junk in ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"):
        (data / junk).mkdir()
    for name in INSTRUMENTS:
        samples, rate = soundfile.read(data / "b" / f"{name}.wav")
        (data / "b" / f"{name}.wav").unlink()
        soundfile.write(data / "b" / f"{name.capitalize()}.FLAC", samples, rate, format="FLAC")
    shutil.copy(data / "c" / "bass.wav", data / "c" / "BASS.WAV")
    (data / "d" / "vocals.wav").rename(data / "d" / "vocals.mp3")
    make_track(data / "e")
    (data / "e" / "mixture.wav").rename(data / "e" / "Mixture.WAV")
    make_track(data / "f")
    (data / "f" / "mixture.wav").rename(data / "f" / "mixture.mp3")
    assert evaluate(tmp_path, "--csv", tmp_path / "s.csv", "--report", tmp_path / "page.html") == 1
    printed = capsys.readouterr()
    assert "tracks: 2 scored, 1 separated and not scored, 3 failed" in printed.out
    assert "not scored: d: no vocals.wav (there is vocals.mp3, expected .wav or .flac)\n" in printed.out
    reads = "the evaluator reads mixture.wav alone, so rename or convert it"
    assert printed.err.splitlines()[-3:] == [
        f"failed: c: {data}/c: bass is there twice (BASS.WAV, bass.wav), expected one file",
        f"failed: e: {data}/e/mixture.wav: no such file (there is Mixture.WAV); {reads}",
        f"failed: f: {data}/f/mixture.wav: no such file (there is mixture.mp3); {reads}",
    ]
    rows = scores(tmp_path / "s.csv")
    assert [row[2] for row in rows if row[0] == "a"] == [row[2] for row in rows if row[0] == "b"]
    assert "" not in [row[2] for row in rows if row[0] == "b"]
    sizes.clear()
    assert evaluate(tmp_path) == 1
    assert sizes == []  # the results of a, b and d are in the journal; the others fail before they are separated
    soundfile.write(data / "b" / "Bass.FLAC", np.zeros((2000, 2)), 44100, format="FLAC")
    assert evaluate(tmp_path) == 1
    assert sizes == [2000]


def test_clipped_samples_of_the_estimates_are_counted(
    tmp_path: Path, sizes: list[int], capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for track, gain in (("a", 1), ("loud", 40), ("louder", 60)):
        folder = make_track(tmp_path / "data" / track)
        for path in folder.iterdir():
            samples, rate = soundfile.read(path)
            soundfile.write(path, gain * samples, rate, subtype="FLOAT")
    (tmp_path / "data" / "z").mkdir()  # fails, so that the evaluation is not finished
    monkeypatch.setitem(METRICS, "again", METRICS["sdr"])
    expected = {}
    for track in ("loud", "louder"):
        mixture = soundfile.read(tmp_path / "data" / track / "mixture.wav")[0].astype(np.float32) / 4
        scaled = np.rint(np.float64(mixture) * 32768)
        expected[track] = 4 * int(np.count_nonzero((scaled >= 32767) | (scaled <= -32768)))
    for _ in range(2):  # the second time from the journal
        assert evaluate(tmp_path, "--csv", tmp_path / "s.csv") == 1
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("clipped")]
        assert lines == [
            f"clipped: {sum(expected.values())} samples of the estimates lie at full scale, and 16-bit files hold no more "
            f"(louder {expected['louder']}, loud {expected['loud']})"
        ]
    assert expected["loud"] > 100
    assert (tmp_path / "s.csv").read_text().splitlines()[0] == (
        "track,instrument,sdr,again,track_seconds,separation_seconds,real_time_factor"
    )
