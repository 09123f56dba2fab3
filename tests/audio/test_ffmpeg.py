"""Songs that libsndfile cannot read, through ffmpeg."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import ffmpeg
from my_submission.src.audio.files import AudioError, AudioFile, read
from my_submission.src.audio.prefetch import ReadAhead
from my_submission.src.audio.songs import find_songs, passed_over
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.skipif(not ffmpeg.is_there(), reason="ffmpeg and ffprobe are not installed")

RATE = 44100
Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that converts a tone of 440 Hz with ffmpeg."""

    def convert(name: str, *arguments: str, seconds: float = 2.0, rate: int = RATE, channels: int = 2) -> Path:
        wav, path = tmp_path / "tone.wav", tmp_path / name
        tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
        soundfile.write(wav, np.repeat(tone[:, None], channels, axis=1), rate, subtype="FLOAT")
        subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", wav, *arguments, f"file:{path}"], check=True)
        return path

    return convert


@pytest.mark.parametrize(
    ("name", "lossless"), [("a.m4a", False), ("a.wma", False), ("a.aac", False), ("a.mka", False), ("a.wv", True)]
)
def test_it_is_decoded_at_its_own_rate_and_channels(make: Make, name: str, lossless: bool) -> None:
    path = make(name, rate=48000, channels=2)
    file = AudioFile(path)
    audio, rate = read(path)
    assert (rate, file.channels, len(audio)) == (48000, 2, file.num_samples)
    assert abs(file.num_samples - 96000) <= (0 if lossless else 4096)
    spectrum = np.abs(np.fft.rfft(audio[5000:53000, 0]))
    assert spectrum.argmax() == 440  # 1 Hz bins
    np.testing.assert_array_equal(file.read(30000, 500), audio[30000:30500].T)


def test_an_m4a_has_the_length_and_place_of_its_song(make: Make) -> None:
    audio, _ = read(make("a.m4a", "-b:a", "256k"))
    tone, _ = read(make("a.wav"))
    assert len(audio) >= len(tone)
    assert abs(audio[4000:60000] - tone[4000:60000]).max() < 0.02


def test_mono_stays_mono_and_the_sound_of_a_film_is_read(make: Make, tmp_path: Path) -> None:
    film = ["-f", "lavfi", "-i", "testsrc=d=1:s=32x32", "-shortest"]
    assert AudioFile(make("mono.m4a", channels=1)).channels == 1
    assert AudioFile(make("film.mp4", *film)).num_samples > 40000
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=1:s=32x32", tmp_path / "mute.mp4"], check=True)
    with pytest.raises(AudioError, match=r"mute.mp4: is MP4 .* by its content, and holds no audio that ffmpeg can read"):
        AudioFile(tmp_path / "mute.mp4")


def test_of_several_streams_the_first_is_read_with_a_warning(make: Make, tmp_path: Path) -> None:
    song = make("a.m4a")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", song, "-i", song, "-map", "0", "-map", "1", tmp_path / "two.m4a"], check=True
    )
    with pytest.warns(UserWarning, match="two.m4a: holds 2 audio streams; the first is read"):
        AudioFile(tmp_path / "two.m4a")


@pytest.mark.parametrize("name", ["-i.m4a", "http:x.m4a", "a b'$(x).m4a", "%d.m4a", "named.mp3"])
def test_no_name_is_taken_for_an_option_or_an_address(
    make: Make, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("plain.m4a").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert AudioFile(name).num_samples > 80000


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_a_name_need_not_be_utf8(make: Make, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.m4a"))
    make("plain.m4a").rename(path)
    assert AudioFile(path).num_samples > 80000


@pytest.mark.parametrize("name", ["a.m4a", "a.wma", "a.mka", "a.aac"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_cut_off_file_is_refused(make: Make, name: str, share: float) -> None:
    path = make(name, *(["-movflags", "+faststart"] if name == "a.m4a" else []), seconds=6)
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])
    with pytest.raises(AudioError, match=r"is cut off|is damaged: ffmpeg cannot decode it \(") as caught:
        AudioFile(path)
    assert len(str(caught.value).splitlines()) == 1


def test_text_is_still_no_audio(tmp_path: Path) -> None:
    for name in ("text.mp3", "list.m4a", "list.m3u8"):
        (tmp_path / name).write_text("#EXTM3U\nfile:///etc/hostname\nhttp://example.org/a.mp3\n")
        with pytest.raises(AudioError, match="is not audio that libsndfile can read"):
            AudioFile(tmp_path / name)


def test_without_ffmpeg_one_line_says_how_to_convert(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("a.m4a")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(AudioError, match=r"libsndfile cannot read; install ffmpeg, .* ffmpeg -i a.m4a song.wav"):
        AudioFile(path)


def test_folders_are_searched_for_such_files_if_ffmpeg_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.M4A", "c.wma", "d.txt"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()

    def search() -> tuple[list[str], list[str]]:
        found = find_songs([tmp_path / "in"], tmp_path / "out", [])
        return [job.path.name for job in found.jobs], passed_over(found)

    assert search() == (["a.wav", "b.M4A", "c.wma"], [])
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    songs, (line,) = search()
    assert songs == ["a.wav"]
    assert (
        line
        == "2 audio files are passed over, which libsndfile cannot read: b.M4A, c.wma; they are read if ffmpeg is installed"
    )


def test_a_reader_that_stops_early_ends_the_process(make: Make) -> None:
    file = AudioFile(make("a.wv", seconds=60))
    blocks = file.blocks()
    next(blocks)
    (process,) = ffmpeg._running
    blocks.close()
    assert process.poll() is not None
    ahead = ReadAhead(file)
    next(ahead.blocks())
    del ahead
    gc.collect()
    deadline = time.monotonic() + 20
    while ffmpeg._running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not ffmpeg._running


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_process(make: Make, number: int) -> None:
    path = make("a.wv", seconds=60)
    script = f"""
import signal
import time
from my_submission.src.audio import ffmpeg
from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.prefetch import ReadAhead
from my_submission.src.common import cli

def main(_):
    ahead = ReadAhead(AudioFile({str(path)!r}))
    next(ahead.blocks())
    print(*[process.pid for process in ffmpeg._running], flush=True)
    time.sleep(60)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background of a shell ignores it
raise SystemExit(cli.run(main, []))
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    (child,) = map(int, process.stdout.readline().split())
    process.send_signal(number)
    assert process.wait(30) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
