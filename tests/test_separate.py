"""The separate command, in this process and in real ones."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch import Tensor

from my_submission.src.audio import ffmpeg
from my_submission.src.audio.files import AudioError, AudioFile
from my_submission.src.audio.songs import find_songs
from my_submission.src.common import cli
from my_submission.src.ensemble import Ensemble
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.separator import Demo
from tests.helpers.paths import ROOT
from tests.helpers.separation import MODEL, STEMS, Song, listing, run


def test_fast_is_one_seed_and_overlap_2_unless_told_otherwise() -> None:
    parser = cli.Parser()
    cli.add_ensemble_options(parser)

    def chosen(*words: str) -> tuple[object, object]:
        options = cli.ensemble_options(parser.parse_args(words))
        return options["seeds"], options["overlap"]

    assert chosen() == (None, None)
    assert chosen("--fast") == ([0], 2)
    assert chosen("--fast", "--seeds", "1,2") == ([1, 2], 2)
    assert chosen("--fast", "--overlap", "4") == ([0], 4)


def test_the_demo_says_what_it_is(
    make_song: Song, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Demo, "default_folder", small_model)
    status, printed, _ = run(capsys, make_song(tmp_path / "song.wav"), "--model", "demo", "--out", tmp_path / "out", "--fast")
    assert status == 0
    assert "note: the demo has learned from synthetic songs only" in printed
    assert "python -m my_submission install mdx_AB.zip" in printed
    assert "model demo: seeds 0 on cpu in fp32, overlap 2 ->" in printed


def test_torchrun_shares_the_songs_and_a_failure_stops_no_other_rank(make_song: Song, tmp_path: Path) -> None:
    make_song(tmp_path / "in" / "b.wav", seconds=2)
    (tmp_path / "in" / "a.wav").write_text("not a song")  # the first rank fails at once
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "my_submission", "separate"]
    options = [str(tmp_path / "in"), "--model", str(MODEL), "--seeds", "0", "--out", str(tmp_path / "out")]
    result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode != 0
    assert "2 songs, 2.0 s of audio, shared by 2 processes" in result.stdout
    assert "1 of 2 songs failed" in result.stderr
    assert listing(tmp_path / "out") == [f"b/{stem}" for stem in STEMS]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_whole_songs_and_nothing_half_written(
    make_song: Song, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    make_song(tmp_path / "in" / "a.wav", seconds=0.05)
    for name in "bc":  # c is decoded ahead
        make_song(tmp_path / "in" / f"{name}.flac", seconds=60)
    command = [sys.executable, "-u", "-m", "my_submission", "separate", str(tmp_path / "in"), "--model", str(MODEL)]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "a.wav ->" in line:
            break
    while not list(out.glob(".*.partial")):
        time.sleep(0.01)
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert time.monotonic() - began < 15  # about a second on an idle machine
    assert "Traceback" not in err
    assert [path.name for path in out.iterdir()] == ["a"]
    assert listing(out / "a") == STEMS


@pytest.mark.parametrize("out", [".", "music", "music/album"])
def test_the_stems_may_go_among_the_songs(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("song.wav", "album/other.wav"):
        make_song(tmp_path / "music" / name, seconds=0.05)
    (tmp_path / "music" / "film.m4a").touch()
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    command = ("music", "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", out)
    status, printed, err = run(capsys, *command)
    assert (status, printed.count(" -> ")) == (0, 3)  # one is the model's line
    assert (
        err
        == "warning: 1 audio file is passed over, which libsndfile cannot read: film.m4a; it is read if ffmpeg is installed\n"
    )
    files = listing(tmp_path)
    assert len([name for name in files if Path(name).name in STEMS]) == 8 + 1
    for more in ((), ("--format", "flac"), ("--overwrite",)):
        status, printed, _ = run(capsys, *command, *more)
        assert status == 0
        assert "2 songs, 0.1 s of audio" in printed
        assert printed.count("is done already") == (0 if more else 2)
    assert len(listing(tmp_path)) == len(files) + 8  # the flac files


def test_a_page_among_the_songs_brings_no_new_songs(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_song(tmp_path / "song.wav", seconds=0.05)
    command = (tmp_path, "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", tmp_path)
    for _ in range(2):
        status, printed, _ = run(capsys, *command, "--report", tmp_path / "page.html")
        assert status == 0
        assert printed.startswith("1 song, ")
    assert (tmp_path / "page_audio").is_dir()


def test_the_next_song_is_decoded_while_one_is_separated(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = {name: threading.Event() for name in "ab"}
    blocks, separated = AudioFile.blocks, Ensemble.estimate

    def decode(song: AudioFile) -> Iterator[np.ndarray]:
        decoded[song.path.stem].set()
        yield from blocks(song)

    def separate_chunks(ensemble: Ensemble, chunks: Tensor) -> Tensor:
        assert decoded["b"].wait(60), "b waits for a"
        return separated(ensemble, chunks)

    monkeypatch.setattr(AudioFile, "blocks", decode)
    monkeypatch.setattr(Ensemble, "estimate", separate_chunks)
    songs = [make_song(tmp_path / f"{name}.wav", seconds=0.05) for name in "ab"]
    assert run(capsys, *songs, "--model", MODEL, "--seeds", "0", "--overlap", "1", "--out", tmp_path / "out")[0] == 0


def test_separated_songs_are_skipped(make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    song = make_song(tmp_path / "song.wav", seconds=0.05)
    command = (song, "--model", MODEL, "--seeds", "0", "--out", tmp_path / "out", "--overlap", "1")
    assert run(capsys, *command)[0] == 0
    bass = tmp_path / "out" / "song" / "bass.wav"
    bass.write_text("precious")
    status, out, _ = run(capsys, *command)
    assert (status, bass.read_text()) == (0, "precious")
    assert "is done already" in out
    (tmp_path / "out" / "song" / "drums.wav").unlink()
    status, _, err = run(capsys, *command)
    assert (status, bass.read_text()) == (2, "precious")
    assert "holds vocals.wav of another run; --overwrite replaces it" in err
    assert run(capsys, *command, "--overwrite")[0] == 0
    assert soundfile.info(bass).frames == 2205


def test_stems_keep_rate_and_proportion_and_do_not_clip(
    make_song: Song, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("soxr")
    song = make_song(tmp_path / "loud.wav", seconds=0.1, rate=48000, level=1)
    command = (song, "--model", MODEL, "--seeds", "0", "--overlap", "2")
    status, out, _ = run(capsys, *command, "--out", tmp_path / "int", "--format", "flac", "--subtype", "PCM_24")
    assert status == 0
    assert re.search(r"all stems -\d+\.\d dB, or PCM_24 would clip", out)
    status, out, _ = run(capsys, *command, "--out", tmp_path / "float", "--subtype", "FLOAT")
    assert status == 0
    assert "would clip" not in out
    peaks, gains = [], []
    for stem in ("bass", "drums", "other", "vocals"):
        floating, rate = soundfile.read(tmp_path / "float" / "loud" / f"{stem}.wav")
        integer, _ = soundfile.read(tmp_path / "int" / "loud" / f"{stem}.flac")
        assert (rate, len(floating), len(integer)) == (48000, 4800, 4800)
        peaks.append(np.abs(integer).max())
        gains.append((integer * floating).sum() / (floating**2).sum())
    assert max(peaks) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(gains, gains[0], rtol=1e-4)


def test_folders_stand_for_the_audio_below_them(make_song: Song, tmp_path: Path) -> None:
    folder = tmp_path / "music"
    for name in ("a.wav", "album/b.FLAC", ".hidden/c.wav", ".d.wav", "out/a/bass.wav"):
        make_song(folder / name.replace("FLAC", "flac"), seconds=0.01)
    shutil.move(folder / "album" / "b.flac", folder / "album" / "b.FLAC")
    (folder / "cover.jpg").touch()
    jobs = find_songs([folder, folder / "a.wav"], folder / "out", [INSTRUMENTS]).jobs
    assert [(job.path, job.folder) for job in jobs] == [
        (folder / "a.wav", folder / "out" / "a"),
        (folder / "album" / "b.FLAC", folder / "out" / "album" / "b"),
    ]
    assert find_songs([Path("...mp3")], tmp_path, [INSTRUMENTS]).jobs[0].folder == tmp_path / "...mp3"
    with pytest.raises(AudioError, match="would both be written to"):
        find_songs([Path("x/song.mp3"), Path("y/song.mp3")], tmp_path, [INSTRUMENTS])


def test_the_main_command_lists_its_subcommands(run_python: Callable[..., object]) -> None:
    result = run_python(
        "-c",
        """
import sys
from my_submission.__main__ import main
assert main(["--help"]) == 0
assert main([]) == 2 and main(["dance"]) == 2
assert "torch" not in sys.modules
""",
    )
    assert result.returncode == 0, result.stderr
    assert "separate songs into stems" in result.stdout
    assert result.stderr.startswith("error: 'dance' is no command, expected one of: separate, ")
