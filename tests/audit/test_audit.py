"""The audit command: its table, its printout, resuming, and its refusals. Scores are tested in test_audit_scores.py."""

from __future__ import annotations

import csv
import math
import os
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src import separator
from my_submission.src.audio.files import AudioFile
from my_submission.src.audit import command as audit
from my_submission.src.common import cli, stem_table
from my_submission.src.separator import Separator
from tests.helpers.audit import BandModel, make_data, tone, write_track
from tests.helpers.page import Page
from tests.helpers.paths import GOLDEN, digests

COLUMNS = ["track", "instrument", "score", "self_sdr", "margin_db", "seconds", "from_s", "to_s", "contains", "keep"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BandModel:
    model = BandModel(tmp_path / "model")
    monkeypatch.setattr(separator, "open_model", lambda name, **options: model)
    return model


@pytest.fixture
def run(tmp_path: Path, model: BandModel) -> Callable[..., int]:
    """Run audit in this process, on tmp_path/data, with windows of 2 s."""
    options = ["--data_path", tmp_path / "data", "--model", "bands", "--seconds", 2, "--out", tmp_path / "audit.csv"]
    return lambda *more: cli.run(audit.main, [str(option) for option in (*options, *more)])


def table(path: Path) -> list[dict[str, str]]:
    return stem_table.read(path, COLUMNS)


def test_wrong_stems_come_first_and_their_content_is_named(
    tmp_path: Path, model: BandModel, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    make_data(tmp_path / "data", ("a", 'b, "2"', "c\nü"))
    assert run() == 0
    with (tmp_path / "audit.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == COLUMNS
    assert len(lines) == 12
    rows = table(tmp_path / "audit.csv")
    worst = [(row["track"], row["instrument"], row["contains"]) for row in rows[:3]]
    assert sorted(worst[:2]) == [("a", "bass", "vocals"), ("a", "vocals", "bass")]
    assert worst[2] == ('b, "2"', "drums", "other")
    moved = rows[2]
    assert [float(moved[name]) for name in ("seconds", "from_s", "to_s")] == [24, 6, 12]  # the stretch that was moved
    assert [row["contains"] for row in rows[3:]] == [""] * 9
    scores = [float(row["score"]) for row in rows[:11]]
    assert scores == sorted(scores)
    assert all(score < 0 for score in scores[:3])
    assert all(score > 2 for score in scores[3:])
    assert (rows[3]["track"], rows[3]["instrument"]) == ("c\nü", "drums")  # a little bass: 20 dB below
    assert float(rows[3]["margin_db"]) == pytest.approx(20, abs=0.1)
    assert float(rows[3]["self_sdr"]) == pytest.approx(20, abs=0.1)
    assert float(moved["self_sdr"]) == pytest.approx(10 * math.log10((24 + 4 * 6) / (4 * 6)), abs=0.1)
    assert float(moved["margin_db"]) == pytest.approx(0, abs=0.1)
    assert dict(rows[11]) == dict.fromkeys(COLUMNS, "") | {"track": "c\nü", "instrument": "other", "seconds": "24"}
    assert len(model.separated) == 12
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"12 stems of 3 tracks -> {tmp_path / 'audit.csv'}"
    assert printed[1] == "the worst 10 of 11 stems, and their scores:"
    assert len([line for line in printed if line.startswith("  ")]) == 10
    assert printed[4] == f"""  b, "2"/drums: {float(moved["score"]):.2f}, worst at 6 to 12 s of 24, seems to contain other"""
    assert "silent throughout, no score: 'c\\nü/other'" in "\n".join(printed).replace("\\xfc", "ü")
    assert printed[-2:] == ["3 of 11 stems are below 0, and best left out", f"table: {tmp_path / 'audit.csv'}"]


def test_stems_of_any_format_are_audited_as_they_are(tmp_path: Path, run: Callable[..., int]) -> None:
    """Stems may be flac or stereo, and of lengths that are no multiple of a window or a block."""
    stereo = np.concatenate([tone("bass", 5.37), tone("bass", 5.37, 0.1)], axis=1)
    (tmp_path / "data" / "a").mkdir(parents=True)
    soundfile.write(tmp_path / "data" / "a" / "bass.flac", stereo, 8000)
    for name in ("vocals", "drums", "other"):
        soundfile.write(tmp_path / "data" / "a" / f"{name}.wav", tone(name, 0.003), 8000)  # a few samples
    assert run() == 0
    bass = next(row for row in table(tmp_path / "audit.csv") if row["instrument"] == "bass")
    assert (float(bass["score"]), float(bass["seconds"])) == (10, 5.37)


def test_a_killed_audit_continues(
    tmp_path: Path, model: BandModel, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    make_data(tmp_path / "data", seconds=4.0)
    assert run("--out", tmp_path / "whole.csv") == 0
    model.separated.clear()
    child = os.fork()
    if child == 0:
        model.on_begin = lambda: len(model.separated) == 5 and os.kill(os.getpid(), signal.SIGKILL)
        run()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert not (tmp_path / "audit.csv").exists()
    with (tmp_path / "audit.jsonl").open("a") as journal:
        journal.write('{"path": "half a li')
    capsys.readouterr()
    assert run() == 0
    assert "going on where the last audit stopped: 5 of 12 stems are done" in capsys.readouterr().out
    assert len(model.separated) == 7
    assert (tmp_path / "audit.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()

    model.separated.clear()
    soundfile.write(tmp_path / "data" / "a" / "bass.wav", tone("bass", 4.5), 8000)  # now the right stem
    assert run() == 0
    assert model.separated == [str(tmp_path / "data" / "a" / "bass.wav")]
    assert run("--seconds", 3) == 0
    assert "starting again: seconds of a window was 2, is 3" in capsys.readouterr().out
    assert len(model.separated) == 13


def test_a_stem_that_fails_does_not_affect_the_others(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    data = make_data(tmp_path / "data", seconds=4.0)
    whole = (data / "a" / "bass.wav").read_bytes()
    (data / "a" / "bass.wav").write_bytes(whole[: len(whole) // 2])
    (data / "b" / "other.wav").unlink()
    soundfile.write(data / "c" / "vocals.flac", tone("vocals", 4), 8000)
    assert run() == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "failed: b/other: is missing",
        "failed: c/vocals: is there twice (vocals.flac, vocals.wav), expected one file",
        next(line for line in captured.err.splitlines() if line.startswith("failed: a/bass: ") and "is cut off" in line),
    ]
    assert "a/bass: FAILED: " in captured.out
    assert len(table(tmp_path / "audit.csv")) == 9
    (data / "a" / "bass.wav").write_bytes(whole)
    (data / "c" / "vocals.wav").unlink()
    soundfile.write(data / "b" / "other.wav", tone("other", 4), 8000)
    assert run() == 0  # only the failed stems are measured
    assert len(table(tmp_path / "audit.csv")) == 12


def test_marks_of_the_former_table_are_kept(tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture) -> None:
    make_data(tmp_path / "data", seconds=4.0)
    assert run() == 0
    path = tmp_path / "audit.csv"
    unmarked = path.read_bytes()
    rows = [{**row, "keep": {0: "no", 5: " Yes"}.get(number, "")} for number, row in enumerate(table(path))]
    stem_table.write(path, COLUMNS, rows)
    assert run() == 0
    assert "2 marks of the former table are kept" in capsys.readouterr().out
    assert [row["keep"] for row in table(path)] == ["no", "", "", "", "", "yes", *[""] * 6]
    marked = path.read_bytes()
    assert marked.replace(b",no\r\n", b",\r\n").replace(b",yes\r\n", b",\r\n") == unmarked
    write_track(tmp_path / "elsewhere" / "x", {"bass": tone("bass", 1)})
    assert run("--data_path", tmp_path / "elsewhere") == 2
    assert "audit.csv: holds marks of stems that are not audited now (" in capsys.readouterr().err
    stem_table.write(path, COLUMNS, [{**row, "keep": "perhaps"} for row in rows])
    assert run() == 2
    assert "no mark, expected yes, no or nothing" in capsys.readouterr().err


def test_stems_are_found_whatever_their_case_and_junk_is_passed_over(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    data = make_data(tmp_path / "data", seconds=4.0)
    assert run() == 0
    before = (tmp_path / "audit.csv").read_bytes()
    for folder in ("__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN"):
        (data / folder).mkdir()
    for name in ("vocals", "drums", "bass"):
        (data / "b" / f"{name}.wav").rename(data / "b" / f"{name.upper()}.WAV")
    assert run() == 0
    assert (tmp_path / "audit.csv").read_bytes() == before
    (data / "b" / "other.wav").rename(data / "b" / "other.mp3")
    (data / "c" / "Bass.WAV").write_bytes((data / "c" / "bass.wav").read_bytes())
    capsys.readouterr()
    assert run() == 1
    assert capsys.readouterr().err.splitlines() == [
        "failed: b/other: is missing (there is other.mp3, expected .wav or .flac)",
        "failed: c/bass: is there twice (Bass.WAV, bass.wav), expected one file",
    ]


def test_marks_survive_another_form_of_accents_and_are_not_lost_to_another_encoding(
    tmp_path: Path, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    make_data(tmp_path / "data", ("a", "Motörhead", "c"), seconds=4.0)
    assert run() == 0
    path = tmp_path / "audit.csv"
    rows = [{**row, "keep": "yes" if row["track"] == "Motörhead" else ""} for row in table(path)]
    stem_table.write(path, COLUMNS, rows)
    marked = path.read_bytes()
    path.write_bytes(unicodedata.normalize("NFD", marked.decode()).encode())
    assert path.read_bytes() != marked
    assert run() == 0
    assert path.read_bytes() == marked
    capsys.readouterr()
    path.write_bytes(marked.decode().encode("cp1252"))
    assert run() == 2
    assert "audit.csv: is not UTF-8: save it as CSV UTF-8 (it names 'Mot\\udcf6rhead/" in capsys.readouterr().err
    assert path.read_bytes() == marked.decode().encode("cp1252")


def test_refusals_change_no_file(
    tmp_path: Path, model: BandModel, run: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    make_data(tmp_path / "data", seconds=1.0)
    make_data(tmp_path / "more", seconds=1.0)
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "bare" / "track").mkdir(parents=True)
    (tmp_path / "scores.csv").write_text("track,sdr\nsong,3\n")
    (tmp_path / "taken.jsonl").write_text("a poem\n")
    model.source_order = ["vocals"]
    assert run() == 2
    assert "bands: separates vocals alone, expected a model of several instruments" in capsys.readouterr().err
    model.source_order = ["vocals", "drums", "bass", "other"]
    before = digests(tmp_path)
    for options, message in (
        (["--data_path", tmp_path / "none"], "none: cannot be read (No such file or directory), expected a folder of tracks"),
        (
            ["--data_path", tmp_path / "empty"],
            "empty: no tracks there, expected folders that each hold a wav or flac",
        ),
        (["--data_path", tmp_path / "bare"], "its tracks hold no stems, expected vocals.wav, drums.wav, bass.wav, other.wav"),
        (["--data_path", tmp_path / "data", tmp_path / "more"], "two tracks of one name; audit one folder at a time"),
        (["--out", tmp_path / "audit.txt"], "audit.txt: expected the name of a .csv file in a folder that exists"),
        (["--out", tmp_path / "new" / "audit.csv"], "expected the name of a .csv file in a folder that exists"),
        (["--out", tmp_path / "scores.csv"], "is not replaced, as it is no audit's"),
        (["--out", tmp_path / "taken.csv"], "taken.jsonl: line 1 is not a line of a journal"),
        (["--report", tmp_path / "page.txt"], "page.txt: expected the name of an .html file"),
        (["--report", tmp_path / "data" / "page.html"], "lies among the songs of"),
    ):
        assert run(*options) == 2, options
        assert message in " ".join(capsys.readouterr().err.split()), options
    for options, message in (
        (["--model", "A"], "name the data with --data-path and a model with --model, or tables"),
        (["--data_path", "x"], "name the data with --data-path and a model with --model, or tables"),
        (["--from-training", "x.csv", "--model", "A"], "leave --model out"),
        (["--from-training", "x.csv", "--report", "x.html"], "leave --report out"),
        (["--data_path", "x", "--model", "A", "--embed"], "--embed puts audio into the page that --report names"),
        (["--data_path", "x", "--model", "A", "--seconds", "0"], "'0' is not a whole number of 1 or more"),
    ):
        with pytest.raises(SystemExit) as left:
            audit.main(options)
        assert left.value.code == 2
        assert message in capsys.readouterr().err
    assert digests(tmp_path) == before
    assert model.separated == []


def test_the_audit_with_a_real_separator_agrees_with_its_outputs(
    tmp_path: Path, make_song: Callable[..., Path], run_python: Callable[..., object]
) -> None:
    data, out = tmp_path / "data", tmp_path / "audit.csv"
    for number, name in enumerate(("bass", "drums", "other", "vocals")):
        make_song(data / "a" / f"{name}.wav", 0.1, seed=number)
    options = ["--seeds", "0", "--overlap", "1", "--device", "cpu"]
    page = tmp_path / "page.html"
    arguments = ["--data_path", data, "--model", GOLDEN / "separation_A", "--out", out, "--report", page, "--suspects", "2"]
    result = run_python("-m", "my_submission", "audit", *arguments, *options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == [f"table: {out}", f"report: {page}"]
    model = Separator(GOLDEN / "separation_A", seeds=[0], overlap=1, device="cpu")
    rows = {row["instrument"]: row for row in table(out)}
    for own, name in enumerate(model.source_order):
        file = AudioFile(data / "a" / f"{name}.wav")
        stem = np.concatenate(list(file.blocks()), axis=1)
        outputs = np.concatenate(list(model.separate(file, share_residual=False)), axis=2)
        energies = np.square(outputs, dtype=np.float64).sum(axis=(1, 2))
        sdr = 10 * np.log10(np.square(stem).sum() / np.square(stem - outputs[own]).sum())
        margin = 10 * np.log10(energies[own] / np.delete(energies, own).max())
        assert float(rows[name]["self_sdr"]) == pytest.approx(sdr, abs=1e-3)
        assert float(rows[name]["margin_db"]) == pytest.approx(margin, abs=1e-3)
    shown = Page(page)
    assert shown.heads == [f"a / {row['instrument']}" for row in table(out)[:2]]
    assert len([file for file in shown.files() if file.suffix == ".flac" and file.is_file()]) == 2 * 3
    assert not list(tmp_path.rglob("*.partial"))
