"""Faults put into clean tracks: as many as were asked for, and what the table says of them is what is heard."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src import audio, cli, corrupt
from my_submission.src.corruption import CorruptError, faults
from my_submission.src.corruption.faults import Settings, draw_faults
from my_submission.src.corruption.tracks import Track

COLUMNS = ["track", "instrument", "wrong", "kind", "holds", "level_db", "cutoff_hz", "delay_ms", "from_s", "to_s", "gain"]
NAMES = ("bass", "drums", "keys", "vocals")
Row = dict[str, str]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command in this process: status, output, errors."""
    status = cli.run(corrupt.main, [*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def make_track(
    folder: Path,
    names: tuple[str, ...] = NAMES,
    frames: int = 3000,
    rate: int = 8000,
    channels: int = 2,
    level: float = 0.1,
    suffix: str = ".wav",
    subtype: str = "PCM_16",
) -> Path:
    """Stems of noise, different ones by the names of track and stem."""
    folder.mkdir(parents=True)
    for name in names:
        seed = list(f"{folder.name}/{name}".encode())
        noise = level * np.random.default_rng(seed).standard_normal((frames, channels))
        soundfile.write(folder / f"{name}{suffix}", noise.clip(-0.9, 0.9), rate, subtype)
    return folder


def make_data(data: Path, tracks: int = 5, **how: object) -> Path:
    """A data set, with a mixture beside the stems that is not quite their sum, and things that are no tracks."""
    for number in range(tracks):
        folder = make_track(data / f"track {number}", **how)
        (folder / "mixture.wav").write_bytes(b"not even audio, which matters to nobody here")
    (data / ".hidden").mkdir()
    (data / ".hidden" / "bass.wav").touch()
    (data / "readme.txt").touch()
    return data


def digests(folder: Path) -> dict[str, str]:
    """Every file in a folder and below, the hidden ones too -> a hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(out: Path) -> list[Row]:
    with (out / "truth.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def whole(path: Path, bits: int = 16) -> np.ndarray:
    """A file's samples [n, C] in whole numbers."""
    return soundfile.read(path, dtype="int32", always_2d=True)[0].astype(np.int64) >> (32 - bits)


def low_pass(row: Row, rate: int) -> np.ndarray:
    """The taps of bleeding, by the table: a sinc within a Hann window of one millisecond to either side, late by delay_ms."""
    reach, delay = rate // 1000, float(row["delay_ms"]) * rate / 1000
    assert delay == pytest.approx(round(delay), abs=5e-3)  # six digits
    time = np.arange(-reach, reach + 1)
    cutoff = float(row["cutoff_hz"]) / rate
    taps = np.sin(2 * np.pi * cutoff * time) / np.where(time == 0, 1, np.pi * time)
    taps[reach] = 2 * cutoff
    taps *= np.cos(np.pi * time / (2 * (reach + 1))) ** 2
    return np.concatenate([np.zeros(round(delay) - reach), taps / taps.sum()])


def expected(row: Row, rows: list[Row], clean: dict[str, np.ndarray], rate: int) -> np.ndarray:
    """What a stem is to hold, by the table, in one piece and before its gain; `clean` in units that are rounded to."""
    name, kind = row["instrument"], row["kind"]
    others = [other for other in row["holds"].split("+") if other != name]
    if kind == "clean":
        return clean[name]
    if kind == "swap":
        return clean[row["holds"]]
    if kind == "add":
        return clean[name] + clean[others[0]]
    if kind == "bleeding":
        taps = 10 ** (float(row["level_db"]) / 20) * low_pass(row, rate)
        total = sum(clean[other] for other in others)
        return clean[name] + np.stack([np.convolve(channel, taps)[: len(total)] for channel in total.T], axis=1)
    start, stop = (round(float(row[key]) * rate) for key in ("from_s", "to_s"))
    ramp = min(rate // 100, (stop - start) // 2)
    share = np.zeros((len(clean[name]), 1))
    share[start:stop] = 1
    share[start : start + ramp, 0] = np.arange(ramp) / ramp
    share[stop - ramp : stop, 0] = np.arange(ramp, 0, -1) / ramp
    if kind == "move":
        return clean[name] + np.round(share * clean[others[0]])
    assert kind == "moved-away"
    assert any(other["kind"] == "move" and other["from_s"] == row["from_s"] for other in rows)
    return clean[name] - np.round(share * clean[name])


def verify(data: Path, out: Path, bits: int = 16, suffix: str = ".wav") -> list[Row]:
    """That each file of OUT is what truth.csv says, to the last bit where nothing had to be turned down."""
    rows = table(out)
    folders = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    stems = [(folder.name, path.stem) for folder in folders for path in sorted(folder.iterdir()) if path.stem != "mixture"]
    assert [(row["track"], row["instrument"]) for row in rows] == stems
    for folder in folders:
        assert sorted(path.name for path in (out / folder.name).iterdir()) == sorted(path.name for path in folder.iterdir())
        clean = {path.stem: whole(path, bits) for path in folder.iterdir() if path.stem != "mixture"}
        of_track = [row for row in rows if row["track"] == folder.name]
        rate = soundfile.info(next(folder.glob(f"[!m]*{suffix}"))).samplerate
        for row in of_track:
            path = out / folder.name / f"{row['instrument']}{suffix}"
            wanted, gain = expected(row, of_track, clean, rate), float(row["gain"])
            assert row["wrong"] == ("no" if row["kind"] in ("clean", "moved-away") else "yes")
            assert np.abs(whole(path, bits) - gain * wanted).max() <= (0.501 if gain < 1 or row["kind"] == "bleeding" else 0)
            assert gain == 1 or gain * np.abs(wanted).max() == pytest.approx(2 ** (bits - 1), rel=2e-4)
            if row["kind"] == "clean":
                assert path.read_bytes() == (folder / path.name).read_bytes()
    return rows


def solve(stem: np.ndarray, clean: dict[str, np.ndarray]) -> dict[str, float]:
    """How much of each instrument is in a stem, by least squares."""
    matrix = np.stack([sound.ravel() for sound in clean.values()], axis=1).astype(float)
    return dict(zip(clean, np.linalg.lstsq(matrix, stem.ravel().astype(float), rcond=None)[0], strict=True))


# How many


def fake_track(number: int, stems: int, silent: int) -> Track:
    """A track whose last stems are silent, as far as drawing faults looks at it."""
    names = [f"stem{i}" for i in range(stems)]
    return Track(
        Path(f"track{number}"), {name: SimpleNamespace(sample_rate=44100) for name in names}, (), tuple(names[: stems - silent])
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(2, 7), st.integers(0, 3)), min_size=1, max_size=12),
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 0.95, 1.0])),
    st.sampled_from(["labelnoise", "bleeding"]),
    st.integers(0, 2**40),
)
def test_every_rate_is_kept_exactly(sizes: list[tuple[int, int]], rate: float, kind: str, seed: int) -> None:
    tracks = [fake_track(number, stems, min(silent, stems - 2)) for number, (stems, silent) in enumerate(sizes)]
    count = 0
    for track, drawn in zip(tracks, draw_faults(tracks, Settings(kind, rate, seed)), strict=True):
        rows = {name: fault.row(track.name, name, 1.0) for name, fault in drawn.items()}
        count += sum(row["wrong"] == "yes" for row in rows.values())
        assert set(drawn) <= set(track.stems)
        losers = []
        for name, fault in drawn.items():
            assert fault.kind in (["bleeding"] if kind == "bleeding" else ["swap", "add", "move", "moved-away"])
            assert set(fault.others) <= set(track.sounding) - {name}  # what is heard, sounds
            assert fault.kind == "bleeding" or len(fault.others) == (fault.kind != "moved-away")
            if fault.kind == "swap":
                assert drawn[fault.others[0]] == faults.Fault("swap", (name,))
            if fault.kind == "move":
                assert drawn[fault.others[0]].kind == "moved-away"
                losers.append(fault.others[0])
        assert sorted(losers) == sorted(name for name, fault in drawn.items() if fault.kind == "moved-away")
    assert count == round(rate * sum(len(track.stems) for track in tracks))


def test_kinds_are_drawn_evenly_and_near_a_rate_of_1_swaps_come_first() -> None:
    tracks = [fake_track(number, 4, 0) for number in range(300)]
    kinds = Counter(fault.kind for drawn in draw_faults(tracks, Settings("labelnoise", 0.1, 0)) for fault in drawn.values())
    assert min(kinds["swap"] / 2, kinds["add"], kinds["move"]) > 20
    assert kinds["moved-away"] == kinds["move"]
    odd = [fake_track(number, 5, 0) for number in range(20)]
    kinds = Counter(fault.kind for drawn in draw_faults(odd, Settings("labelnoise", 1.0, 0)) for fault in drawn.values())
    assert kinds == {"swap": 80, "add": 20}


def test_bleeding_is_drawn_within_its_bounds() -> None:
    tracks = [fake_track(number, 4, 0) for number in range(100)]
    drawn = draw_faults(tracks, Settings("bleeding", 1.0, 3, (-12.0, -6.0)))
    for name, low, high in (("level_db", -12, -6), ("cutoff_hz", 2000, 8000), ("delay_ms", 1 - 1e-2, 15 + 1e-2)):
        values = [getattr(fault, name) for of_track in drawn for fault in of_track.values()]
        assert len(values) == 400
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high >= max(values) > high - 0.1 * (high - low)
        assert len(set(values)) > 200


# What is heard


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.7, 1.0])
def test_label_noise_is_what_the_table_says(rate: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    for row in rows:  # who is heard, found without knowing the kind
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
    for number in range(40):  # a part that sounds in the second fifth only, a part that is steady
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
        clicks[[1599, 3199]] = 0  # the short part's own
        assert clicks.max() <= 0.5 / 80 + 1e-6  # in ten milliseconds from nothing to all
        if row["instrument"] == "short" and row["kind"] == "moved-away":
            assert 0.1 - 0.06 <= np.square(sound).sum() / (1600 * 0.25) <= 0.9 + 0.06  # a ramp more or less


def test_a_part_too_brief_to_be_divided_is_added_instead(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_bleeding_is_what_the_table_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in"), tmp_path / "out"
    before = digests(data)
    status, printed, _ = run(capsys, "bleeding", data, out, "--rate", 0.4, "--level", -6, -3, "--seed", 5)
    assert (status, digests(data)) == (0, before)
    assert printed == f"{out}: 8 of 20 stems wrong (8 bleeding), in 5 tracks; truth.csv says which\n"
    for row in verify(data, out):
        if row["kind"] == "bleeding":
            assert row["holds"].split("+") == [row["instrument"], *(name for name in NAMES if name != row["instrument"])]
            assert -6 <= float(row["level_db"]) <= -3


def test_bleeding_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
def test_blocks_do_not_matter(
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


def test_what_would_clip_is_turned_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", level=0.4), tmp_path / "out"
    assert run(capsys, "labelnoise", data, out, "--rate", 0.6, "--seed", 0)[0] == 0
    turned = [row for row in verify(data, out) if row["gain"] != "1"]
    assert {row["kind"] for row in turned} == {"add", "move"}
    assert all(0.5 < float(row["gain"]) < 1 for row in turned)
    floating = make_track(tmp_path / "floating" / "track", level=0.5, subtype="FLOAT")
    assert run(capsys, "bleeding", floating.parent, tmp_path / "loud", "--rate", 1, "--level", 0, 0)[0] == 0
    assert all(row["gain"] == "1" for row in table(tmp_path / "loud"))
    assert max(np.abs(audio.read(path)[0]).max() for path in (tmp_path / "loud" / "track").iterdir()) > 1


# Files


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["labelnoise", "bleeding"]), st.floats(0.1, 1), st.integers(0, 1000))
def test_the_seed_says_it_all(tmp_path_factory: pytest.TempPathFactory, kind: str, rate: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("seed")
    data = make_data(folder / "in", tracks=3, frames=1500, subtype="PCM_24")
    backwards = shutil.copytree(data, folder / "elsewhere")
    iterdir = Path.iterdir
    for source, out, of_seed in ((data, "out", seed), (backwards, "again", seed), (data, "other", seed + 1)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda path, turn=out == "again": sorted(iterdir(path), reverse=turn))
            assert corrupt.main([kind, str(source), str(folder / out), f"--rate={rate}", f"--seed={of_seed}"]) == 0
    verify(data, folder / "out", bits=24)
    assert digests(folder / "again") == digests(folder / "out")
    assert (folder / "other" / "truth.csv").read_bytes() != (folder / "out" / "truth.csv").read_bytes()


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_flac_stays_flac(subtype: str, bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", suffix=".flac", subtype=subtype, level=0.3), tmp_path / "out"
    assert run(capsys, "labelnoise", data, out, "--rate", 0.6, "--seed", 1)[0] == 0
    rows = verify(data, out, bits, ".flac")
    assert {row["kind"] for row in rows} == {"clean", "swap", "add", "move", "moved-away"}
    infos = [soundfile.info(path) for path in out.glob("*/*.flac")]
    assert {(info.format, info.subtype, info.frames, info.channels) for info in infos} == {("FLAC", subtype, 3000, 2)}


def test_formats_of_a_track_may_differ_and_each_file_keeps_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = make_track(tmp_path / "in" / "track", names=(), frames=0), tmp_path / "out" / "track"
    files = {
        "a.wav": ("PCM_U8", "PCM_16"),
        "b.flac": ("PCM_24", "PCM_24"),
        "c.WAV": ("FLOAT", "FLOAT"),
        "d.wav": ("DOUBLE", "FLOAT"),
        "e.wav": ("PCM_32", "FLOAT"),
        "f.flac": ("PCM_S8", "PCM_16"),
    }
    rng = np.random.default_rng(0)
    for name, (subtype, _) in files.items():
        loud = 8 if name == "c.WAV" else 1  # beyond what whole numbers hold
        soundfile.write(folder / name, loud * rng.uniform(-0.4, 0.4, (2000, 1)), 8000, subtype)
    assert run(capsys, "labelnoise", folder.parent, out.parent, "--rate", 1)[0] == 0
    rows = {row["instrument"]: row for row in table(out.parent)}
    clean = {path.stem: audio.read(path)[0] for path in folder.iterdir()}
    for name, (_, subtype) in files.items():
        row = rows[Path(name).stem]
        assert soundfile.info(out / name).subtype == subtype
        assert row["kind"] == "swap"
        found = audio.read(out / name)[0]
        np.testing.assert_allclose(found, float(row["gain"]) * clean[row["holds"]], atol=2.0**-16 * 1.01)
        assert (row["gain"] != "1") == (row["holds"] == "c")


def test_float_files_do_not_tell_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_track(tmp_path / "in" / "track", subtype="FLOAT")
    assert run(capsys, "bleeding", tmp_path / "in", tmp_path / "out", "--rate", 1)[0] == 0
    for path in (tmp_path / "out" / "track").iterdir():
        peak = path.read_bytes().partition(b"data")[0].partition(b"PEAK")[2]
        assert peak[8:12] == bytes(4)  # size, version, time
        assert np.abs(soundfile.read(path)[0]).max() > 0.2


@pytest.mark.parametrize("module", ["shutil", "audio"])
def test_an_interrupted_run_goes_on(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "in", level=0.4)
    command = ("labelnoise", data, tmp_path / "out", "--rate", 0.8, "--seed", 4)
    assert run(capsys, *command[:2], tmp_path / "whole", *command[3:])[0] == 0

    def stop(*arguments: object) -> object:
        places = [*map(str, arguments[:2])]
        if any(".track 3.partial" in place for place in places):
            raise KeyboardInterrupt
        return original(*arguments)

    owner, name = (shutil, "copyfile") if module == "shutil" else (audio, "create")
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, stop)
    assert run(capsys, *command)[0] == 130
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corrupt.jsonl", "track 0", "track 1", "track 2"]
    (tmp_path / "out" / ".track 4.partial").mkdir()  # of a run that was killed
    (tmp_path / "out" / ".track 4.partial" / "left.wav").touch()
    before = (tmp_path / "out" / "track 1" / "bass.wav").stat().st_mtime_ns
    assert "in 5 tracks, 3 there already; truth" in run(capsys, *command)[1]
    assert (tmp_path / "out" / "track 1" / "bass.wav").stat().st_mtime_ns == before
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert "in 5 tracks, 5 there already; truth" in run(capsys, *command)[1]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_the_command_in_a_process(tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    data, out = make_data(tmp_path / "in", tracks=1), tmp_path / "out"
    result = run_python("-m", "my_submission", "corrupt", "labelnoise", data, out, "--rate", "0.25")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out}: 1 of 4 stems wrong (1 ")
    verify(data, out)


# Refusals


def refused(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """The message of a command that is refused in one or two lines."""
    status, printed, errors = run(capsys, *command)
    assert (status, printed) == (2, "")
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in errors
    return lines[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", 1.01], "rate is 1.01, expected 0 to 1"),
        (["--rate", -0.1], "rate is -0.1, expected 0 to 1"),
        (["--rate", "nan"], "rate is nan, expected 0 to 1"),
        (["--rate", 0.5, "--seed", -1], "seed is -1, expected 0 or more"),
        (["--rate", 0.5, "--level", -3, -6], "level is -3 to -6 dB, expected the lower one first and none above 0"),
        (["--rate", 0.5, "--level", -3, 1], "level is -3 to 1 dB, expected the lower one first and none above 0"),
        (["--rate", 0.5, "--level", "nan", 0], "level is nan to 0 dB, expected the lower one first and none above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    arguments: list[object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, "bleeding", tmp_path / "in", tmp_path / "out", *arguments) == message
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(CorruptError, match="kind is 'noise', expected labelnoise or bleeding"):
        Settings("noise", 0.5, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["labelnoise", "--rate", "1", "--level", "-9", "-3"], "--level is of bleeding; labelnoise has none"),
        (["bleeding"], "the following arguments are required: --rate"),
        (["echo", "--rate", "1"], "argument kind: invalid choice: 'echo'"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.run(corrupt.main, [arguments[0], str(tmp_path / "in"), str(tmp_path / "out"), *arguments[1:]])
    assert stopped.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def spoil(what: str, data: Path) -> str:
    """Make a data set one that is refused; give the message, after the data set's path."""
    track = data / "track 1"
    if what == "missing":
        shutil.rmtree(data)
        message = ": cannot be read (No such file or directory), expected a folder of tracks"
    elif what == "no tracks":
        for folder in data.glob("track*"):
            shutil.rmtree(folder)
        message = ": no tracks there, expected folders that each hold two or more wav or flac stems"
    elif what == "one stem":
        for name in NAMES[1:]:
            (track / f"{name}.wav").rename(track / f"{name}.mp3")
        message = "/track 1: too few stems (bass.wav), expected two or more wav or flac files beside the mixture"
    elif what == "twice":
        soundfile.write(track / "bass.flac", np.zeros(3000), 8000)
        names = "bass.flac, bass.wav, drums.wav, keys.wav, vocals.wav"
        message = f"/track 1: an instrument is there twice ({names}), expected one file for each"
    elif what == "plus":
        (track / "bass.wav").rename(track / "bass+drums.wav")
        message = "/track 1/bass+drums.wav: has a + in its name, which is what joins names in the table; rename it"
    elif what == "silent":
        for name in NAMES[1:]:
            soundfile.write(track / f"{name}.wav", np.zeros((3000, 2)), 8000)
        message = "/track 1: 3 of 4 stems are silent throughout, expected two or more that are not; leave the track out"
    else:
        assert what == "text"
        (track / "keys.wav").write_text("la la la")
        message = "/track 1/keys.wav: is not audio that libsndfile can read"
    return message


@pytest.mark.parametrize("what", ["missing", "no tracks", "one stem", "twice", "plus", "silent", "text"])
def test_tracks_that_cannot_be_used_are_refused(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "in", tracks=3)
    message = spoil(what, data)
    before = digests(tmp_path)
    assert refused(capsys, "labelnoise", data, tmp_path / "deep" / "out", "--rate", 0.5).startswith(f"{data}{message}")
    assert digests(tmp_path) == before
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize(
    ("frames", "rate", "channels", "others", "found"),
    [(2999, 8000, 2, "3000", "2999 {} samples"), (3000, 8001, 2, "8000", "8001 {} Hz"), (3000, 8000, 1, "2", "1 {} channels")],
)
def test_stems_that_do_not_fit_together_are_refused(
    frames: int, rate: int, channels: int, others: str, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(tmp_path / "in", tracks=1)
    soundfile.write(data / "track 0" / "keys.wav", np.ones((frames, channels)), rate)
    value, _, unit = found.partition(" {} ")
    listed = f"bass.wav {others}, drums.wav {others}, keys.wav {value}, vocals.wav {others} {unit}"
    message = f"{data / 'track 0'}: its stems do not fit together ({listed}), expected the same in each"
    assert refused(capsys, "bleeding", data, tmp_path / "out", "--rate", 0.5) == message
    assert not (tmp_path / "out").exists()


def test_a_place_among_the_clean_tracks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "deep" / "in", tracks=2)
    elsewhere = make_track(tmp_path / "elsewhere" / "track 2")
    (data / "track 2").symlink_to(elsewhere)
    (tmp_path / "link").symlink_to(data)
    before = digests(tmp_path)
    for out, found in (
        (data, data),
        (tmp_path / "deep", data),
        (data / "out", data),
        (tmp_path / "link", data),
        (tmp_path / "link" / "track 0" / "out", data),
        (elsewhere / "out", elsewhere),
        (elsewhere.parent, elsewhere),
    ):
        message = f"{out}: is, holds or lies in {found}, expected a place apart from the clean tracks"
        assert refused(capsys, "bleeding", data, out, "--rate", 0.5) == message
    assert digests(tmp_path) == before


def test_what_is_there_is_not_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", tracks=2), tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").touch()
    command = ("labelnoise", data, out, "--rate", 0.5)
    message = f"{out}: holds diary.txt already, expected an empty folder or a name that is free"
    assert refused(capsys, *command) == message
    (out / "corrupt.jsonl").write_text("[]\n")
    assert refused(capsys, *command) == message.replace("diary.txt", "corrupt.jsonl")
    file = out / "diary.txt"
    assert refused(capsys, *command[:2], file, *command[3:]) == f"{file}: is a file, expected a folder or a name that is free"
    below = file / "out"
    assert refused(capsys, *command[:2], below, *command[3:]) == f"{below}: cannot be written (Not a directory)"
    assert sorted(digests(out)) == ["corrupt.jsonl", "diary.txt"]

    shutil.rmtree(out)
    assert run(capsys, *command)[0] == 0
    before = digests(out)
    other = refused(capsys, "bleeding", data, out, "--rate", 0.25, "--seed", 0)
    assert other == (
        f"{out}: was made with other settings (kind was labelnoise, is bleeding; rate was 0.5, is 0.25); "
        "delete it, or name another OUT"
    )
    assert "(seed was 0, is 1);" in refused(capsys, *command, "--seed", 1)
    (data / "track 1").rename(data / "track one")
    assert "(the tracks of IN were others);" in refused(capsys, *command)
    (data / "track one").rename(data / "track 1")
    assert digests(out) == before
    (out / "track 0" / "keys.wav").unlink()
    advice = "delete the folder, and the same command makes it"
    assert refused(capsys, *command) == f"{out / 'track 0'}: is there already, but lacks keys.wav; {advice}"
    shutil.rmtree(out / "track 0")
    journal = (out / "corrupt.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line).get("track") for line in journal[1:]] == ["track 0", "track 1"]
    (out / "corrupt.jsonl").write_text("".join(journal[:2]))
    assert refused(capsys, *command) == f"{out / 'track 1'}: is there already, but is not in corrupt.jsonl; {advice}"
    shutil.rmtree(out / "track 1")
    assert run(capsys, *command)[0] == 0
    assert {**digests(out), "corrupt.jsonl": ""} == {**before, "corrupt.jsonl": ""}


@pytest.mark.parametrize("function", ["copyfile", "create"])
@pytest.mark.parametrize("at", [0, 2])
def test_a_full_disk_leaves_whole_tracks_or_nothing(
    function: str, at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = make_data(tmp_path / "in"), tmp_path / "deep" / "out"

    def fail(*arguments: object) -> object:
        if any(f".track {at}.partial" in str(argument) for argument in arguments[:2]):
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    owner = shutil if function == "copyfile" else audio
    original = getattr(owner, function)
    monkeypatch.setattr(owner, function, fail)
    message = refused(capsys, "bleeding", data, out, "--rate", 0.5, "--seed", 8)
    assert str(out) in message
    assert "cannot be written (" in message
    assert "No space left on device" in message
    if at == 0:
        assert not (tmp_path / "deep").exists()
    else:
        assert sorted(path.name for path in out.iterdir()) == ["corrupt.jsonl", "track 0", "track 1"]


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_track(tmp_path / "in" / "track")
    soundfile.write(tmp_path / "in" / "track" / "bass.wav", np.full((3000, 2), np.nan), 8000, "FLOAT")
    message = refused(capsys, "bleeding", tmp_path / "in", tmp_path / "out", "--rate", 1)
    assert "bass.wav: holds NaN or infinite samples (near 0.00 s), expected finite audio" in message
    assert not (tmp_path / "out").exists()
