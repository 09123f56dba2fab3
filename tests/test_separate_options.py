"""The separate command's choices: stems, names, formats, and what it reports to scripts."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import soundfile
import torch
import yaml

from my_submission.src import separate
from my_submission.src.audio import ffmpeg, lossy
from my_submission.src.common import cli
from my_submission.src.ensemble import Ensemble
from tests.helpers.paths import GOLDEN

FOUR = ["--model", GOLDEN / "separation_A", "--seeds", "0", "--overlap", "1"]
TARGET = ["--model", GOLDEN / "family" / "single_target"]  # similarity; the other name is difference

Song = Callable[..., Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its exit status, output and errors."""
    try:
        status = cli.run(separate.main, [*map(str, arguments)])
    except SystemExit as left:
        status = left.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def listing(folder: Path) -> list[str]:
    """Return every file in a folder and below, including hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def read(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0]


def test_two_stems_sum_to_the_mixture(make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song = make_song(tmp_path / "song.wav", seconds=0.2, subtype="FLOAT")
    out = tmp_path / "out"
    command = [song, *FOUR, "--subtype", "FLOAT"]
    assert run(capsys, *command, "--out", tmp_path / "all")[0] == 0
    for name, files in {"VOCALS": ("vocals", "instrumental"), "drums": ("drums", "no_drums")}.items():
        assert run(capsys, *command, "--out", out / name, "--two-stems", name)[0] == 0
        assert listing(out / name) == sorted(f"song/{file}.wav" for file in files)
        stem, rest = (read(out / name / "song" / f"{file}.wav") for file in files)
        np.testing.assert_array_equal(stem, read(tmp_path / "all" / "song" / f"{files[0]}.wav"))
        np.testing.assert_array_equal(rest, read(song) - stem)


@pytest.mark.parametrize("rate", [44100, 22050])
def test_a_model_of_one_of_two_instruments_gives_both(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate: int
) -> None:
    if rate != 44100:
        pytest.importorskip("soxr")
    song = make_song(tmp_path / "song.wav", seconds=0.2, rate=rate, channels=1, subtype="FLOAT")
    command = [song, *TARGET, "--subtype", "FLOAT", "--out"]
    assert run(capsys, *command, tmp_path / "out")[0] == 0
    assert listing(tmp_path / "out") == ["song/difference.wav", "song/similarity.wav"]
    target, rest = (read(tmp_path / "out" / "song" / f"{name}.wav") for name in ("similarity", "difference"))
    assert target.any()
    np.testing.assert_allclose(target + rest, read(song), atol=1e-6)
    assert run(capsys, *command, tmp_path / "one", "--stems", "Difference")[0] == 0
    assert listing(tmp_path / "one") == ["song/difference.wav"]
    np.testing.assert_array_equal(read(tmp_path / "one" / "song" / "difference.wav"), rest)


def test_only_the_chosen_stems_are_written_and_then_the_song_is_done(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_song(tmp_path / "in" / "song.wav", seconds=0.05)
    command = [tmp_path / "in", *FOUR, "--out", tmp_path / "in", "--stems", "BASS,Vocals"]
    assert run(capsys, *command)[0] == 0
    assert listing(tmp_path / "in") == ["song.wav", "song/bass.wav", "song/vocals.wav"]
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert "1 song," in out
    assert "is done already" in out


def test_wrong_choices_are_refused_before_any_work(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    song, other = make_song(tmp_path / "song.wav", seconds=0.05), make_song(tmp_path / "b.wav", seconds=0.05)
    monkeypatch.setattr(separate.command, "open_separator", lambda *_: pytest.fail("the model was loaded"))
    monkeypatch.chdir(tmp_path)
    for arguments, message, lines in [
        (["--stems", "bass,piano"], "piano is no stem of this model, expected of: vocals, drums, bass, other", 1),
        (["--stems", ""], "an empty name is no stem of this model", 1),
        (["--two-stems", "piano"], "piano is no stem of this model, expected of: vocals, drums, bass, other", 1),
        (["--filename", "{song}"], "--filename '{song}': lacks {stem}", 1),
        (["--filename", "../{stem}"], "--filename '../{stem}': has a part that is no name", 1),
        (["--filename", "/{stem}"], "--filename '/{stem}': is absolute", 1),
        (["--filename", "{artist}/{stem}"], "has no field {artist}; expected a name such as {song}/{stem}", 1),
        (["--json", "nowhere/x.json"], "--json nowhere/x.json: expected the name of a file in a folder that exists", 1),
        (["--json", song], "is a song or a stem; expected another name", 1),
        (["--json", "separated/song/bass.wav"], "expected the name of a file", 1),
        (["--stems", "bass", "--two-stems", "bass"], "not allowed with argument --stems", 2),
        (["--format", "mp3", "--subtype", "PCM_16"], "--format mp3 has no --subtype PCM_16: it is lossy", 2),
        (["--bitrate", "128"], "--format wav has no --bitrate, which is for mp3 and opus", 2),
        (["--format", "ogg", "--bitrate", "128"], "--format ogg has no --bitrate", 2),
        (["--format", "mp3", "--quality", "5"], "--format mp3 has no --quality, which is for ogg", 2),
        (["--format", "mp3", "--bitrate", "100"], "--bitrate 100 is none that mp3 has here, expected 64, 80, ", 2),
        (["--format", "opus", "--bitrate", "600"], "--bitrate 600 is none that opus has here, expected 12 to 512 kbit/s", 2),
        (["--format", "ogg", "--quality", "nan"], "'nan' is not a number from 0 to 10", 2),
    ]:
        status, _, err = run(capsys, song, *FOUR, *arguments)
        assert status == 2, arguments
        assert message in err, arguments
        assert len(err.splitlines()) == lines, arguments
    status, _, err = run(capsys, song, other, *FOUR, "--filename", "{stem}")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "song.wav and " in err
    assert "b.wav would both be written to separated/vocals.wav" in err
    monkeypatch.setattr(lossy.soundfile, "available_formats", lambda: {})
    status, _, err = run(capsys, song, *FOUR, "--format", "mp3")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "cannot write it; update it" in err
    assert not (tmp_path / "separated").exists()


@pytest.mark.parametrize("template", ["{song} - {stem}", "{stem}/{song}", "{model}/{song}.{stem}", "{stem}"])
def test_any_layout_is_written_found_done_and_replaced(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str
) -> None:
    folder = tmp_path / "in"
    make_song(folder / "album" / "a song.wav", seconds=0.05)
    command = [
        folder,
        *FOUR,
        "--out",
        folder,
        "--stems",
        "bass,drums",
        "--filename",
        template,
        "--json",
        tmp_path / "done.json",
    ]
    assert run(capsys, *command)[0] == 0
    names = [template.format(song="a song", stem=stem, model="separation_A") for stem in ("bass", "drums")]
    expected = sorted(["album/a song.wav", *(f"album/{name}.wav" for name in names)])
    assert listing(folder) == expected
    status, out, _ = run(capsys, *command)  # the stems lie among the songs, and are none
    assert status == 0
    assert "1 song," in out
    assert "is done already" in out
    first = folder / "album" / f"{names[0]}.wav"
    first.write_text("precious")
    assert run(capsys, *command)[0] == 0
    assert first.read_text() == "precious"
    second = folder / "album" / f"{names[1]}.wav"
    second.unlink()
    status, _, err = run(capsys, *command)
    assert status == 2
    assert f"holds {first.name} of another run; --overwrite replaces it" in err
    assert run(capsys, *command, "--overwrite")[0] == 0
    assert listing(folder) == expected
    assert soundfile.info(first).frames == 2205


@pytest.mark.parametrize("container", lossy.LOSSY)
def test_lossy_stems_are_written_and_shown_on_the_page(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], container: str
) -> None:
    if container == "opus":
        pytest.importorskip("soxr")
    song = make_song(tmp_path / "song.wav", seconds=0.5, level=1)
    page = tmp_path / "a page.html"
    status, out, _ = run(
        capsys, song, *FOUR, "--format", container, "--out", tmp_path / "out", "--two-stems", "bass", "--report", page
    )
    assert status == 0
    assert listing(tmp_path / "out") == [f"song/bass.{container}", f"song/no_bass.{container}"]
    assert f"dB, or {container} would clip" in out
    for path in (tmp_path / "out").rglob("*.*"):
        info = soundfile.info(path)
        rate = 48000 if container == "opus" else 44100
        assert (info.samplerate, info.frames) == (rate, rate // 2)
    link = out.splitlines()[-1].removeprefix("open: file://")
    assert Path(unquote(link)) == page
    assert "no_bass" in page.read_text()


def test_the_json_file_tells_what_became_of_each_song(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xf0\x9f\x8e\xb5\n.wav")
    good = make_song(tmp_path / "good.wav", seconds=0.1, level=1)
    shutil.copy(good, odd)
    bad = tmp_path / "bad.wav"
    bad.write_text("not a song")
    done = tmp_path / "done.json"
    command = [good, bad, odd, *FOUR, "--out", tmp_path / "out", "--json", done, "--stems", "bass"]
    assert run(capsys, *command)[0] == 2
    text = done.read_bytes()
    text.decode("ascii")
    report = json.loads(text)
    first, second, third = report["songs"]
    assert (report["model"], report["seeds"], report["format"]) == (str(GOLDEN / "separation_A"), "0", "wav")
    assert (first["path"], first["status"], first["error"]) == (str(good), "separated", None)
    assert (first["seconds"], first["sample_rate"]) == (0.1, 44100)
    assert first["stems"] == {"bass": str(tmp_path / "out" / "good" / "bass.wav")}
    assert 0 < first["gain"] <= 1
    assert first["seconds_taken"] > 0
    assert (second["status"], second["stems"], second["gain"]) == ("failed", {}, None)
    assert second["error"].startswith(f"{bad}: is not audio")
    assert third["path"] == odd
    assert Path(third["stems"]["bass"]).is_file()
    assert run(capsys, *command)[0] == 2
    again = json.loads(done.read_bytes())["songs"]
    assert [song["status"] for song in again] == ["done already", "failed", "done already"]
    assert (again[0]["stems"], again[0]["seconds"]) == (first["stems"], 0.1)


def test_an_interrupt_leaves_the_json_file_of_the_songs_before(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    songs = [make_song(tmp_path / f"{name}.wav", seconds=0.05) for name in "abc"]
    calls = itertools.count()
    estimate = Ensemble.estimate

    def interrupted(ensemble: Ensemble, chunks: torch.Tensor) -> torch.Tensor:
        if (tmp_path / "out" / "a").exists() and next(calls) == 0:
            raise KeyboardInterrupt
        return estimate(ensemble, chunks)

    monkeypatch.setattr(Ensemble, "estimate", interrupted)
    command = [*FOUR, "--out", tmp_path / "out", "--json", tmp_path / "done.json"]
    assert run(capsys, *songs, *command)[0] == 130
    states = [song["status"] for song in json.loads((tmp_path / "done.json").read_text())["songs"]]
    assert states[0] == "separated"
    assert states[-1] == "not done"


def test_with_torchrun_one_json_file_holds_all_songs(make_song: Song, tmp_path: Path) -> None:
    for name in "ab":
        make_song(tmp_path / "in" / f"{name}.wav", seconds=0.05)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "my_submission", "separate"]
    options = [tmp_path / "in", *FOUR, "--out", tmp_path / "out", "--json", tmp_path / "done.json"]
    result = subprocess.run([*command, *map(str, options)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    songs = json.loads((tmp_path / "done.json").read_text())["songs"]
    assert [(Path(song["path"]).name, song["status"]) for song in songs] == [("a.wav", "separated"), ("b.wav", "separated")]


@pytest.mark.skipif(not ffmpeg.is_there(), reason="ffmpeg and ffprobe are not installed")
def test_songs_of_a_folder_are_read_through_ffmpeg(make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = make_song(tmp_path / "song.wav", seconds=0.3)
    (tmp_path / "in").mkdir()
    subprocess.run(["ffmpeg", "-v", "error", "-i", wav, tmp_path / "in" / "song.m4a"], check=True)
    (tmp_path / "in" / "bad.wma").write_bytes(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(100))
    page = tmp_path / "page.html"
    status, _, err = run(capsys, tmp_path / "in", *FOUR, "--out", tmp_path / "out", "--two-stems", "bass", "--report", page)
    assert status == 2
    assert [line for line in err.splitlines() if line.startswith("error: ")] == err.splitlines()[:1]
    assert "bad.wma: is ASF (wma, wmv) by its content, and holds no audio that ffmpeg can read" in err
    assert listing(tmp_path / "out") == ["song/bass.wav", "song/no_bass.wav"]
    assert page.exists()


def test_the_config_can_be_named(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], small_model: Path
) -> None:
    tree = yaml.safe_load((small_model / "config.yaml").read_text())
    (small_model / "config.yaml").rename(small_model / "a.yaml")
    tree["training"]["instruments"] = ["w", "x", "y", "z"]
    (small_model / "b.yaml").write_text(yaml.safe_dump(tree))
    command = [
        make_song(tmp_path / "song.wav", seconds=0.05),
        "--model",
        small_model,
        "--seeds",
        "0",
        "--out",
        tmp_path / "out",
    ]
    status, _, err = run(capsys, *command)
    assert status == 2
    assert "name the right one with --config" in err
    assert run(capsys, *command, "--config", small_model / "b.yaml", "--stems", "x")[0] == 0
    assert listing(tmp_path / "out") == ["song/x.wav"]
