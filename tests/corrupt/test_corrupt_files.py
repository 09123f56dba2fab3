"""The files that corrupt writes: reproducible by seed, in the tracks' own formats, and complete after interruptions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from my_submission.src.audio import files as audio
from my_submission.src.corrupt import command as corrupt
from tests.helpers.corrupt import make_data, make_track, run, spy_on_tracks, table, verify
from tests.helpers.dead import leave_dead
from tests.helpers.paths import digests


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["labelnoise", "bleeding"]), st.floats(0.1, 1), st.integers(0, 1000))
def test_the_seed_alone_determines_the_files(
    tmp_path_factory: pytest.TempPathFactory, kind: str, rate: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("seed")
    data = make_data(folder / "in", tracks=3, frames=1500, subtype="PCM_24")
    backwards = shutil.copytree(data, folder / "elsewhere")
    iterdir = Path.iterdir
    others = {f"other{i}": seed + i for i in range(1, 4)}  # one of them may draw the same faults by chance
    runs = [(data, "out", seed), (backwards, "again", seed), *((data, out, other) for out, other in others.items())]
    for source, out, of_seed in runs:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "iterdir", lambda path, turn=out == "again": sorted(iterdir(path), reverse=turn))
            assert corrupt.main([kind, str(source), str(folder / out), f"--rate={rate}", f"--seed={of_seed}"]) == 0
    verify(data, folder / "out", bits=24)
    assert digests(folder / "again") == digests(folder / "out")
    assert len({(folder / out / "truth.csv").read_bytes() for out in ("out", *others)}) > 1


@pytest.mark.parametrize(("subtype", "bits"), [("PCM_16", 16), ("PCM_24", 24)])
def test_flac_stays_flac(subtype: str, bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = make_data(tmp_path / "in", suffix=".flac", subtype=subtype, level=0.3), tmp_path / "out"
    assert run(capsys, "labelnoise", data, out, "--rate", 0.6, "--seed", 1)[0] == 0
    rows = verify(data, out, bits, ".flac")
    assert {row["kind"] for row in rows} == {"clean", "swap", "add", "move", "moved-away"}
    infos = [soundfile.info(path) for path in out.glob("*/*.flac")]
    assert {(info.format, info.subtype, info.frames, info.channels) for info in infos} == {("FLAC", subtype, 3000, 2)}


def test_the_files_of_a_track_keep_their_different_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
        loud = 8 if name == "c.WAV" else 1  # beyond the range of integer formats
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


def test_float_files_do_not_hold_the_time_of_writing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_track(tmp_path / "in" / "track", subtype="FLOAT")
    assert run(capsys, "bleeding", tmp_path / "in", tmp_path / "out", "--rate", 1)[0] == 0
    for path in (tmp_path / "out" / "track").iterdir():
        peak = path.read_bytes().partition(b"data")[0].partition(b"PEAK")[2]
        assert peak[8:12] == bytes(4)  # size, version, time
        assert np.abs(soundfile.read(path)[0]).max() > 0.2


@pytest.mark.parametrize("module", ["shutil", "audio"])
def test_an_interrupted_run_continues(
    module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(tmp_path / "in", level=0.4)
    command = ("labelnoise", data, tmp_path / "out", "--rate", 0.8, "--seed", 4)
    assert run(capsys, *command[:2], tmp_path / "whole", *command[3:])[0] == 0

    def stop(*arguments: object) -> object:
        if begun[-1:] == ["track 3"]:
            raise KeyboardInterrupt
        return original(*arguments)

    owner, name = (shutil, "copyfile") if module == "shutil" else (audio, "create")
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, stop)
    begun = spy_on_tracks(monkeypatch)
    assert run(capsys, *command)[0] == 130
    monkeypatch.undo()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["corrupt.jsonl", "track 0", "track 1", "track 2"]
    leave_dead(tmp_path / "out")
    before = (tmp_path / "out" / "track 1" / "bass.wav").stat().st_mtime_ns
    assert "in 5 tracks, 3 there already; truth" in run(capsys, *command)[1]
    assert (tmp_path / "out" / "track 1" / "bass.wav").stat().st_mtime_ns == before
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    assert "in 5 tracks, 5 there already; truth" in run(capsys, *command)[1]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_the_command_runs_in_a_process(tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    data, out = make_data(tmp_path / "in", tracks=1), tmp_path / "out"
    result = run_python("-m", "my_submission", "corrupt", "labelnoise", data, out, "--rate", "0.25")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{out}: 1 of 4 stems wrong (1 ")
    verify(data, out)
