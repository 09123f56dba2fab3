"""Data for the tests of corrupt, and the expected content of the files it writes."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.common import cli
from my_submission.src.corrupt import command as corrupt

COLUMNS = ["track", "instrument", "wrong", "kind", "holds", "level_db", "cutoff_hz", "delay_ms", "from_s", "to_s", "gain"]
NAMES = ("bass", "drums", "keys", "vocals")
Row = dict[str, str]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its exit status, output and errors."""
    status = cli.run(corrupt.main, [*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def spy_on_tracks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the name of every track that the command begins to write."""
    begun: list[str] = []
    original = corrupt.atomic_folder

    def noting(folder: Path) -> contextlib.AbstractContextManager[Path]:
        begun.append(folder.name)
        return original(folder)

    monkeypatch.setattr(corrupt, "atomic_folder", noting)
    return begun


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
    """Write stems of noise, seeded by the names of track and stem."""
    folder.mkdir(parents=True)
    for name in names:
        seed = list(f"{folder.name}/{name}".encode())
        noise = level * np.random.default_rng(seed).standard_normal((frames, channels))
        soundfile.write(folder / f"{name}{suffix}", noise.clip(-0.9, 0.9), rate, subtype)
    return folder


def make_data(data: Path, tracks: int = 5, **how: object) -> Path:
    """Write a dataset: tracks with a mixture that is not audio, and files and folders that are no tracks."""
    for number in range(tracks):
        folder = make_track(data / f"track {number}", **how)
        (folder / "mixture.wav").write_bytes(b"not audio, which corrupt does not notice")
    (data / ".hidden").mkdir()
    (data / ".hidden" / "bass.wav").touch()
    (data / "readme.txt").touch()
    return data


def table(out: Path) -> list[Row]:
    """Return the rows of truth.csv."""
    with (out / "truth.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        assert reader.fieldnames == COLUMNS
        return list(reader)


def whole(path: Path, bits: int = 16) -> np.ndarray:
    """Return a file's samples [n, C] as integers."""
    return soundfile.read(path, dtype="int32", always_2d=True)[0].astype(np.int64) >> (32 - bits)


def low_pass(row: Row, rate: int) -> np.ndarray:
    """Return the taps of a row's bleeding: a sinc in a Hann window of one millisecond to either side, delayed by delay_ms."""
    reach, delay = rate // 1000, float(row["delay_ms"]) * rate / 1000
    assert delay == pytest.approx(round(delay), abs=5e-3)  # six digits
    time = np.arange(-reach, reach + 1)
    cutoff = float(row["cutoff_hz"]) / rate
    taps = np.sin(2 * np.pi * cutoff * time) / np.where(time == 0, 1, np.pi * time)
    taps[reach] = 2 * cutoff
    taps *= np.cos(np.pi * time / (2 * (reach + 1))) ** 2
    return np.concatenate([np.zeros(round(delay) - reach), taps / taps.sum()])


def expected(row: Row, rows: list[Row], clean: dict[str, np.ndarray], rate: int) -> np.ndarray:
    """Return the expected content of a stem before its gain, computed in one piece; `clean` are integers."""
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
    """Assert that each file of OUT agrees with truth.csv, to the last bit if it has no gain; return the rows."""
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
    """Return the amount of each instrument in a stem, by least squares."""
    matrix = np.stack([sound.ravel() for sound in clean.values()], axis=1).astype(float)
    return dict(zip(clean, np.linalg.lstsq(matrix, stem.ravel().astype(float), rcond=None)[0], strict=True))
