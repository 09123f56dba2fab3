"""Faults put into clean tracks: the files hold exactly the faults that the table lists."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import files as audio
from tests.helpers.corrupt import NAMES, make_data, make_track, run, solve, table, verify, whole
from tests.helpers.paths import digests


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.7, 1.0])
def test_label_noise_agrees_with_the_table(rate: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", tracks=8), tmp_path / "deep" / "out"
    before = digests(data)
    status, printed, _ = run(capsys, "labelnoise", data, out, "--rate", rate, "--seed", 2)
    rows = verify(data, out)
    kinds = Counter(row["kind"] for row in rows if row["wrong"] == "yes")
    listed = f" ({', '.join(f'{kinds[kind]} {kind}' for kind in sorted(kinds))})" if kinds else ""
    assert (status, sum(kinds.values())) == (0, round(rate * 32))
    assert printed == f"{out}: {sum(kinds.values())} of 32 stems wrong{listed}, in 8 tracks; truth.csv says which\n"
    assert set(kinds) == {0.0: set(), 0.3: {"add", "move", "swap"}, 0.7: {"add", "move", "swap"}, 1.0: {"swap"}}[rate]
    assert digests(data) == before
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*(f"track {number}" for number in range(8)), "corrupt.jsonl", "truth.csv"]
    )
    for row in rows:  # solve for the instruments in each stem, without knowing the kind
        clean = {name: whole(data / row["track"] / f"{name}.wav") for name in NAMES}
        found = solve(whole(out / row["track"] / f"{row['instrument']}.wav"), clean)
        assert sorted(name for name, share in found.items() if share > 0.2) == sorted(row["holds"].split("+"))
        assert all(share > 0.2 or abs(share) < 0.05 for share in found.values())


def test_swap_and_move_keep_the_sum_and_the_mixture_is_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", tracks=12), tmp_path / "out"
    assert run(capsys, "labelnoise", data, out, "--rate", 0.5)[0] == 0
    rows, kept = table(out), Counter()
    for folder in sorted(out.glob("track*")):
        assert (folder / "mixture.wav").read_bytes() == (data / folder.name / "mixture.wav").read_bytes()
        kinds = {row["kind"] for row in rows if row["track"] == folder.name}
        before, after = (sum(whole(parent / folder.name / f"{name}.wav") for name in NAMES) for parent in (data, out))
        assert np.array_equal(before, after) == ("add" not in kinds)
        kept.update(kinds if "add" not in kinds else [])
    assert kept["swap"]
    assert kept["move"]


def test_moves_leave_enough_on_both_sides_and_do_not_click(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "in"
    for number in range(40):  # a stem that sounds in its second fifth only, and a steady one
        folder = make_track(data / f"{number:02}", names=(), frames=0)
        steady, short = np.full(8000, 0.25), np.zeros(8000)
        short[1600:3200] = 0.5
        soundfile.write(folder / "steady.wav", steady, 8000, "FLOAT")
        soundfile.write(folder / "short.wav", short, 8000, "FLOAT")
    assert run(capsys, "labelnoise", data, tmp_path / "out", "--rate", 0.3)[0] == 0
    moves = [row for row in table(tmp_path / "out") if row["kind"] in ("move", "moved-away")]
    assert len({row["from_s"] for row in moves}) > 4
    for row in moves:
        assert 1 / 3 - 1e-4 <= float(row["to_s"]) - float(row["from_s"]) <= 2 / 3 + 1e-4
        sound = soundfile.read(tmp_path / "out" / row["track"] / f"{row['instrument']}.wav")[0]
        clicks = np.abs(np.diff(sound))
        clicks[[1599, 3199]] = 0  # the short stem's own clicks
        assert clicks.max() <= 0.5 / 80 + 1e-6  # a fade of ten milliseconds
        if row["instrument"] == "short" and row["kind"] == "moved-away":
            assert 0.1 - 0.06 <= np.square(sound).sum() / (1600 * 0.25) <= 0.9 + 0.06  # give or take a fade


def test_a_stem_too_brief_to_be_divided_is_added_instead_of_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        folder = make_track(tmp_path / "in" / f"{number:02}", names=(), frames=0)
        for name, place in (("one", 1000), ("two", 2000)):
            sound = np.zeros(4800)
            sound[place] = 0.5
            soundfile.write(folder / f"{name}.wav", sound, 8000)
    assert run(capsys, "labelnoise", tmp_path / "in", tmp_path / "out", "--rate", 0.3)[0] == 0
    kinds = Counter(row["kind"] for row in verify(tmp_path / "in", tmp_path / "out"))
    assert set(kinds) == {"clean", "swap", "add"}
    assert kinds["swap"] + kinds["add"] == 24


def test_bleeding_agrees_with_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in"), tmp_path / "out"
    before = digests(data)
    status, printed, _ = run(capsys, "bleeding", data, out, "--rate", 0.4, "--level", -6, -3, "--seed", 5)
    assert (status, digests(data)) == (0, before)
    assert printed == f"{out}: 8 of 20 stems wrong (8 bleeding), in 5 tracks; truth.csv says which\n"
    for row in verify(data, out):
        if row["kind"] == "bleeding":
            assert row["holds"].split("+") == [row["instrument"], *(name for name in NAMES if name != row["instrument"])]
            assert -6 <= float(row["level_db"]) <= -3


def test_delay_level_and_cutoff_of_bleeding_can_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out, rate = tmp_path / "in", tmp_path / "out", 44100
    make_track(data / "track", ("left", "right"), frames=2 * rate, rate=rate, channels=1, subtype="FLOAT")
    assert run(capsys, "bleeding", data, out, "--rate", 1, "--seed", 11)[0] == 0
    for row, other in zip(table(out), ("right", "left"), strict=True):
        clean, source = (soundfile.read(data / "track" / f"{name}.wav")[0] for name in (row["instrument"], other))
        stem = soundfile.read(out / "track" / f"{row['instrument']}.wav")[0]
        residual = stem - clean
        spectra = np.fft.rfft(residual), np.fft.rfft(source)
        delay = np.argmax(np.fft.irfft(spectra[0] * spectra[1].conj()))
        assert delay == round(float(row["delay_ms"]) * rate / 1000)
        frequencies = np.fft.rfftfreq(len(source), 1 / rate)
        cutoff = float(row["cutoff_hz"])
        for low, high, level in ((50, cutoff - 1200, 0), (cutoff - 20, cutoff + 20, -6)):
            band = (frequencies > low) & (frequencies < high)
            powers = [np.square(np.abs(spectrum[band])).sum() for spectrum in spectra]
            found = 10 * math.log10(powers[0] / powers[1])
            assert found == pytest.approx(float(row["level_db"]) + level, abs=0.1 if level == 0 else 0.5)
        above = frequencies > cutoff + 2000
        assert np.square(np.abs(spectra[0][above])).mean() < 1e-4 * np.square(np.abs(spectra[0][~above])).mean()


@pytest.mark.parametrize("kind", ["labelnoise", "bleeding"])
def test_the_block_size_does_not_change_the_files(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "in"
    make_track(data / "long", frames=audio.BLOCK + 5000, channels=1, rate=44100)
    make_track(data / "track", ("a", "b", "c", "d", "e"), channels=1, rate=44100)
    for block, out in ((audio.BLOCK, tmp_path / "out"), (701, tmp_path / "small")):
        monkeypatch.setattr(audio, "BLOCK", block)
        assert run(capsys, kind, data, out, "--rate", 0.55, "--seed", 3)[0] == 0
        rows = verify(data, out)
    assert {row["kind"] for row in rows} >= ({"move", "add"} if kind == "labelnoise" else {"bleeding"})
    assert digests(tmp_path / "small") == digests(tmp_path / "out")


def test_stems_that_would_clip_are_turned_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", level=0.4), tmp_path / "out"
    assert run(capsys, "labelnoise", data, out, "--rate", 0.6, "--seed", 0)[0] == 0
    turned = [row for row in verify(data, out) if row["gain"] != "1"]
    assert {row["kind"] for row in turned} == {"add", "move"}
    assert all(0.5 < float(row["gain"]) < 1 for row in turned)
    floating = make_track(tmp_path / "floating" / "track", level=0.5, subtype="FLOAT")
    assert run(capsys, "bleeding", floating.parent, tmp_path / "loud", "--rate", 1, "--level", 0, 0)[0] == 0
    assert all(row["gain"] == "1" for row in table(tmp_path / "loud"))
    assert max(np.abs(audio.read(path)[0]).max() for path in (tmp_path / "loud" / "track").iterdir()) > 1
