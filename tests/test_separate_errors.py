"""Songs that cannot be separated, names that cannot be printed, and other things that must not end a batch."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.base_separator import BaseSeparator
from tests.helpers.paths import ROOT
from tests.helpers.separation import MODEL, STEMS, Song, listing, run


def test_good_songs_are_separated_and_bad_ones_are_named(
    make_song: Song, run_python: Callable[..., object], tmp_path: Path
) -> None:
    good = make_song(tmp_path / "good.mp3", seconds=0.2)
    mono = make_song(tmp_path / "mono.flac", seconds=0.1, channels=1)
    cut = make_song(tmp_path / "cut.wav", seconds=0.2)
    cut.write_bytes(cut.read_bytes()[:9000])
    surround = make_song(tmp_path / "surround.wav", seconds=0.1, channels=3)
    (tmp_path / "text.mp3").write_text("la la la")
    (tmp_path / "nothing.wav").touch()
    soundfile.write(tmp_path / "nan.wav", np.full((5000, 2), np.nan), 44100, subtype="FLOAT")
    songs = [cut, good, tmp_path / "text.mp3", surround, tmp_path / "nothing.wav", tmp_path / "nan.wav", mono, "missing.ogg"]
    result = run_python("-m", "my_submission", "separate", *songs, "--model", MODEL, "--out", tmp_path / "out", "--seeds", "0")

    assert result.returncode == 2
    assert "8 songs, 0.5 s of audio" in result.stdout
    assert f"model {MODEL}: seeds 0 on cpu in fp32, overlap 8 -> {tmp_path / 'out'}" in result.stdout
    assert listing(tmp_path / "out") == [f"{name}/{stem}" for name in ("good", "mono") for stem in STEMS]
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    for name, message in {
        "cut.wav": "is cut off",
        "text.mp3": "is not audio that libsndfile can read",
        "surround.wav": "has 3 channels, expected 1 or 2",
        "nothing.wav": "is an empty file",
        "nan.wav": "holds NaN or infinite samples",
        "missing.ogg": "no such file",
    }.items():
        assert any(name in line and message in line for line in errors), name
    assert len(errors) == 6
    assert "6 of 8 songs failed" in result.stderr
    assert "Traceback" not in result.stderr

    for name, frames, channels in (("good", soundfile.info(good).frames, 2), ("mono", 4410, 1)):
        for stem in STEMS:
            info = soundfile.info(tmp_path / "out" / name / stem)
            assert (info.frames, info.channels, info.samplerate, info.subtype) == (frames, channels, 44100, "PCM_16")


def test_a_song_that_cannot_be_written_costs_no_other(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = StemWriter._finish

    def finish(writer: StemWriter) -> None:
        if writer.folder.name == "b":
            raise OSError("no space left")
        whole(writer)

    monkeypatch.setattr(StemWriter, "_finish", finish)
    songs = [make_song(tmp_path / f"{name}.wav", seconds=0.05) for name in "abc"]
    out = tmp_path / "out"
    status, printed, err = run(capsys, *songs, "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", out)
    assert status == 2
    assert err.splitlines() == [
        f"error: {songs[1]}: {out / 'b'}: cannot be written (no space left); is the disk full?",
        "1 of 3 songs failed",
    ]
    assert [line.split(" -> ")[0] for line in printed.splitlines()[-2:]] == [str(songs[0]), str(songs[2])]
    assert listing(out) == [f"{name}/{stem}" for name in "ac" for stem in STEMS]


@pytest.mark.parametrize("failing", ["a", "c"])  # the last one too
@pytest.mark.parametrize("step", ["open", "separate", "write", "finish"])
@pytest.mark.parametrize("error", [MemoryError("none left"), OSError(5, "Input/output error"), RuntimeError("a bug")])
def test_no_error_of_a_song_is_lost(
    make_song: Song,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failing: str,
    step: str,
    error: Exception,
) -> None:
    owner, name = {
        "open": (AudioFile, "__init__"),
        "separate": (BaseSeparator, "separate_to_folder"),
        "write": (StemWriter, "write"),
        "finish": (StemWriter, "_finish"),
    }[step]
    whole = getattr(owner, name)

    def broken(self: object, *arguments: object, **options: object) -> object:
        path = arguments[0] if step in ("open", "separate") else self.folder
        if Path(path).stem == failing and sys._getframe(1).f_code.co_name != "readable_seconds":
            raise error
        return whole(self, *arguments, **options)

    monkeypatch.setattr(owner, name, broken)
    songs = {name: make_song(tmp_path / f"{name}.wav", seconds=0.05) for name in "abc"}
    out = tmp_path / "out"
    status, printed, err = run(capsys, *songs.values(), "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", out)
    assert status == 2
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {songs[failing]}: ")
    assert str(error.args[-1]) in errors[0]
    assert ("Traceback" in err) == isinstance(error, RuntimeError)  # which only a fault of the program raises
    assert "1 of 3 songs failed" in err
    others = sorted(set("abc") - {failing})
    assert [line.split(" -> ")[0] for line in printed.splitlines()[-2:]] == [str(songs[name]) for name in others]
    assert listing(out) == [f"{name}/{stem}" for name in others for stem in STEMS]


def test_a_song_of_absurd_level_is_named(make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = make_song(tmp_path / "good.wav", seconds=0.05)
    absurd = tmp_path / "absurd.wav"
    soundfile.write(absurd, np.random.default_rng(0).standard_normal((3000, 2)) * 1e37, 44100, subtype="FLOAT")
    command = (good, absurd, "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", tmp_path / "out")
    status, _, err = run(capsys, *command)
    assert status == 2
    assert err.startswith(f"error: {absurd}: {MODEL}: the networks gave NaN or infinite samples")
    assert listing(tmp_path / "out") == [f"good/{stem}" for stem in STEMS]


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    song = make_song(tmp_path / "song.wav", seconds=0.05)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "song").write_text("precious")
    status, _, err = run(capsys, song, "--model", MODEL, "--out", tmp_path / "out")
    assert (status, (tmp_path / "out" / "song").read_text()) == (2, "precious")
    assert err == f"error: {song}: {tmp_path / 'out' / 'song'}: is a file, expected the place of a folder for the stems\n"


def test_without_soxr_the_message_says_what_to_install(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    song = make_song(tmp_path / "song.wav", seconds=0.05, rate=48000)
    status, _, err = run(capsys, song, "--model", MODEL, "--out", tmp_path / "out")
    assert status == 2
    assert "is at 48000 Hz, expected 44100 Hz; to have it resampled: pip install soxr" in err
    assert not (tmp_path / "out").exists()


def test_usage_errors_are_two_lines_and_status_2(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    song = make_song(tmp_path / "song.wav", seconds=0.05)
    (tmp_path / "silent").mkdir()
    for arguments, message in [
        ([song, "--model", "nowhere"], "nowhere: no such model, expected A, B, demo or a folder"),
        ([song, "--model", "silent"], "silent/config.yaml: cannot be read"),
        ([song, "--model", MODEL, "--seeds", "5"], "has no checkpoint of seed 5; there are 0, 1, 2"),
        ([song, "--model", MODEL, "--device", "cuda:99"], "device cuda:99 is not available here"),
        ([song, "--model", MODEL, "--precision", "fp16", "--device", "cpu"], "precision fp16 is for GPUs"),
        ([song, "--model", MODEL, "--overlap", "9999"], "overlap is 9999, expected up to the 1984 samples of a chunk"),
        (["silent"], "silent: holds no audio, expected files ending in .wav"),
        ([song, make_song(tmp_path / "b" / "song.flac", seconds=0.05)], "would both be written to separated/song"),
    ]:
        status, _, err = run(capsys, *arguments)
        assert status == 2, arguments
        assert message in err, arguments
        assert len(err.splitlines()) == 1, arguments
    for arguments, message in [
        ([], "the following arguments are required: FILE_OR_FOLDER"),
        ([song, "--overlap", "0"], "'0' is not a whole number of 1 or more"),
        ([song, "--seeds", "0;1"], "'0;1' is not a list of seeds like 0,1,2"),
        ([song, "--format", "flac", "--subtype", "FLOAT"], "--format flac has no --subtype FLOAT: PCM_16, PCM_24"),
        ([song, "--sub", "FLOAT"], "unrecognized arguments: --sub FLOAT"),
    ]:
        with pytest.raises(SystemExit) as left:
            run(capsys, *arguments)
        err = capsys.readouterr().err
        assert left.value.code == 2
        assert message in err, arguments
        assert len(err.splitlines()) == 2, arguments
    assert not (tmp_path / "separated").exists()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_no_name_ends_a_batch(make_song: Song, run_python: Callable[..., object], tmp_path: Path, encoding: str) -> None:
    names = ["a", "esc\x1b[31m", "new\nline", "日本", "z"]
    for name in names:
        make_song(tmp_path / "in" / "cut.wav", seconds=0.05)
        (tmp_path / "in" / "cut.wav").rename(tmp_path / "in" / f"{name}.wav")
    (tmp_path / "in" / "bad\x1b[31m\n.wav").write_text("no audio")
    command = ("-m", "my_submission", "separate", tmp_path / "in", "--model", MODEL, "--seeds", "0", "--overlap", "1")
    for times in range(2):
        result = run_python(*command, "--out", tmp_path / "out", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert result.returncode == 2
        assert len(result.stdout.splitlines()) == 2 + len(names)
        assert result.stdout.count("is done already") == times * len(names)
        assert "\x1b" not in result.stdout + result.stderr
        assert "new\\nline" in result.stdout
        errors = result.stderr.splitlines()
        assert len(errors) == 2
        assert errors[0].startswith("error: '")
        assert "bad\\x1b[31m\\n.wav" in errors[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names that are not UTF-8")
def test_names_that_are_not_utf_8_are_as_good_as_others(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(b"caf\xe9")
    (tmp_path / odd).mkdir()
    for name, level in (("a", 0.1), ("loud", 1.0)):  # the loud one needs a gain
        make_song(tmp_path / f"{name}.wav", seconds=0.05, level=level).rename(tmp_path / odd / f"{name} {odd}.wav")
    command = (tmp_path / odd, "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", tmp_path / f"out {odd}")
    status, printed, err = run(capsys, *command, "--report", tmp_path / f"page {odd}.html")
    assert (status, err) == (0, "")
    assert "all stems -" in printed
    assert printed.isascii()
    assert listing(tmp_path / f"out {odd}") == [f"{name} {odd}/{stem}" for name in ("a", "loud") for stem in STEMS]
    assert b"caf\\udce9" in (tmp_path / f"page {odd}.html").read_bytes()


def test_a_reader_that_has_gone_leaves_whole_songs(make_song: Song, tmp_path: Path) -> None:
    for name in "ab":
        make_song(tmp_path / "in" / f"{name}.wav", seconds=0.05)
    words = [sys.executable, "-m", "my_submission", "separate", str(tmp_path / "in"), "--model", str(MODEL), "--overlap", "1"]
    line = f"{shlex.join([*words, '--out', str(tmp_path / 'out')])} | head -n 1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.stdout == "2 songs, 0.1 s of audio\n"
    assert result.stderr == ""
    assert result.returncode in (141, 0)
    files = listing(tmp_path / "out")
    assert [Path(name).name for name in files] == STEMS * (len(files) // 4)
