"""The separate command, in this process and in real ones."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from torch import Tensor

from my_submission.src import separate
from my_submission.src.audio.files import AudioError, AudioFile
from my_submission.src.audio.songs import find_songs
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.common import cli
from my_submission.src.ensemble import Ensemble
from my_submission.src.evaluation.results import INSTRUMENTS
from my_submission.src.separator import Demo
from tests.helpers.paths import GOLDEN, ROOT

MODEL = GOLDEN / "separation_A"
STEMS = ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]

Song = Callable[..., Path]


def listing(folder: Path) -> list[str]:
    """Return every file in a folder and below, including hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command in this process; return its exit status, output and errors."""
    status = cli.run(separate.main, [*map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


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


def test_an_interrupt_leaves_whole_songs_and_nothing_half_written(make_song: Song, tmp_path: Path) -> None:
    make_song(tmp_path / "in" / "a.wav", seconds=0.05)
    make_song(tmp_path / "in" / "b.wav", seconds=60)
    command = [sys.executable, "-u", "-m", "my_submission", "separate", str(tmp_path / "in"), "--model", str(MODEL)]
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if "a.wav ->" in line:
            break
    while not list(out.glob(".*.partial")):
        pass
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert [path.name for path in out.iterdir()] == ["a"]
    assert listing(out / "a") == STEMS


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
        ([song, "--model", "nowhere"], "nowhere: no such model, expected A, B, demo, a folder with a config"),
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
