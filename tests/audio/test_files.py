"""Audio files: formats, refusals, and folders of stems that are written completely or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src import audio
from my_submission.src.audio.files import AudioArray, AudioError, AudioFile
from my_submission.src.audio.stem_writer import StemWriter
from tests.helpers.dead import leave_dead

FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "flac": {"subtype": "PCM_24"},
    "mp3": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {"subtype": "PCM_24"},
}


def read_all(stream: audio.AudioStream) -> np.ndarray:
    return np.concatenate(list(stream.blocks()), axis=1)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_is_read_to_its_end(make_song: Callable[..., Path], tmp_path: Path, suffix: str) -> None:
    rate = 48000 if suffix == "opus" else 44100
    path = make_song(tmp_path / f"song.{suffix}", seconds=2.5, rate=rate, **FORMATS[suffix])
    file = AudioFile(path)
    assert (file.sample_rate, file.channels) == (rate, 2)
    samples = read_all(file)
    assert samples.shape == (2, file.num_samples)
    assert file.seconds == pytest.approx(2.5, abs=0.05)
    assert samples.dtype == np.float32
    assert 0.05 < np.sqrt(np.mean(samples**2)) < 0.15


@pytest.mark.parametrize("suffix", [*FORMATS, "rf64"])
@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_file_that_is_cut_off_is_refused(make_song: Callable[..., Path], tmp_path: Path, suffix: str, share: float) -> None:
    how = FORMATS.get(suffix, {"format": "RF64", "subtype": "PCM_16"})
    path = make_song(tmp_path / f"song.{suffix}", seconds=4, rate=48000, **how)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(AudioError, match=rf"song\.{suffix}: is cut off: .*; fetch or export the file again"):
        read_all(AudioFile(path))


def test_a_wav_that_was_written_into_a_pipe_is_read(make_song: Callable[..., Path], tmp_path: Path) -> None:
    path = make_song(tmp_path / "streamed.wav")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # sizes that ffmpeg writes into a pipe
    path.write_bytes(data)
    assert read_all(AudioFile(path)).shape == (2, 13230)


def test_a_file_without_audio_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("la la la")
    (tmp_path / "empty.wav").touch()
    (tmp_path / "x.raw").write_bytes(bytes(100))
    soundfile.write(tmp_path / "no_samples.wav", np.zeros((0, 2)), 44100)
    for name, message in {
        "text.wav": "is not audio that libsndfile can read",
        "empty.wav": "is an empty file, expected audio",
        "x.raw": "is not audio that libsndfile can read",
        "no_samples.wav": "holds no audio, expected at least one sample",
        "missing.wav": "no such file",
        ".": "is a folder, expected an audio file",
    }.items():
        with pytest.raises(AudioError, match=message) as caught:
            AudioFile(tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_with_their_time(tmp_path: Path, bad: float) -> None:
    samples = np.zeros((3 * 44100, 2), np.float32)
    samples[2 * 44100, 1] = bad
    soundfile.write(tmp_path / "bad.wav", samples, 44100, subtype="FLOAT")
    for stream in (AudioFile(tmp_path / "bad.wav"), AudioArray(samples, 44100, "an array")):
        with pytest.raises(AudioError, match=r"holds NaN or infinite samples \(near 1\.49 s\)"):
            read_all(stream)


def test_an_array_is_a_stream() -> None:
    array = np.random.default_rng(0).standard_normal((audio.BLOCK + 5, 2))
    np.testing.assert_array_equal(read_all(AudioArray(array, 44100)), array.T.astype(np.float32))
    assert AudioArray(array[:, 0], 44100).channels == 1
    for wrong in (np.zeros((2, 2, 2)), np.zeros(3, np.int16), np.float64(1)):
        with pytest.raises(AudioError, match="expected floating point of shape"):
            AudioArray(wrong, 44100)
    with pytest.raises(AudioError, match="holds no audio"):
        AudioArray(np.zeros((0, 2)), 44100)


def test_a_written_file_reads_back(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (100_000, 2)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 44100, "FLOAT")
    again, rate = audio.read(tmp_path / "a.wav")
    np.testing.assert_array_equal(again, samples)
    assert rate == 44100
    assert soundfile.info(tmp_path / "a.wav").subtype == "FLOAT"
    with pytest.raises(AudioError, match="cannot be written"):
        audio.write(tmp_path / "nowhere" / "a.wav", samples, 44100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


@pytest.mark.parametrize(("container", "subtype", "step"), [("wav", "PCM_16", 2**-15), ("flac", "PCM_24", 2**-23)])
def test_integer_stems_share_one_gain_only_if_they_would_clip(
    tmp_path: Path, container: str, subtype: str, step: float
) -> None:
    stems = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 2, 5000)).astype(np.float32)
    for peak, gain in ((0.9, 1.0), (2.0, 0.5)):
        stems[1, 0, 4000] = peak
        with StemWriter(tmp_path / f"{peak}", ["a", "b"], 44100, 2, 5000, container, subtype) as writer:
            for block in np.array_split(stems, 3, axis=-1):
                writer.write(block)
        assert writer.gain == gain
        for name, stem in zip("ab", stems, strict=True):
            path = tmp_path / f"{peak}" / f"{name}.{container}"
            assert soundfile.info(path).subtype == subtype
            np.testing.assert_allclose(audio.read(path)[0].T, gain * stem, rtol=0, atol=(0.51 if gain == 1 else 1.01) * step)


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("loud", [0, 3, 9])  # number of the first block with samples beyond 1
def test_samples_written_before_the_first_peak_get_the_gain_too(tmp_path: Path, container: str, loud: int) -> None:
    stems = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 2, 10 * 1000)).astype(np.float32)
    stems[0, 1, loud * 1000 + 500] = 1.6
    stems[1, 0, 9900] = -2.5  # the highest peak sets the gain
    with StemWriter(tmp_path / "song", ["a", "b"], 8000, 2, 10 * 1000, container, "PCM_16") as writer:
        for number, block in enumerate(np.split(stems, 10, axis=-1)):
            waiting = sorted(path.name for path in (writer.partial / "rest").iterdir())
            assert waiting == (["a.wav", "b.wav"] if number > loud else [])  # otherwise nothing is written twice
            writer.write(block)
    assert writer.gain == 1 / 2.5
    assert sorted(path.name for path in (tmp_path / "song").iterdir()) == [f"a.{container}", f"b.{container}"]
    for name, stem in zip("ab", stems, strict=True):
        # samples before the peak are rounded twice: when they are written, and when the gain is applied
        np.testing.assert_allclose(
            audio.read(tmp_path / "song" / f"{name}.{container}")[0].T, stem / 2.5, rtol=0, atol=(0.5 / 2.5 + 0.51) / 2**15
        )


def test_float_stems_keep_their_level(tmp_path: Path) -> None:
    stems = np.random.default_rng(0).uniform(-4, 4, (1, 1, 5000)).astype(np.float32)
    with StemWriter(tmp_path / "song", ["a"], 44100, 1, 5000, "wav", "FLOAT") as writer:
        writer.write(stems)
    assert writer.gain == 1
    np.testing.assert_array_equal(audio.read(tmp_path / "song" / "a.wav")[0].T, stems[0])


def test_a_folder_of_stems_is_complete_or_absent(tmp_path: Path) -> None:
    block = np.zeros((2, 1, 10), np.float32)
    with pytest.raises(RuntimeError, match="stop"), StemWriter(tmp_path / "x" / "y", ["a", "b"], 8000, 1, 20) as writer:
        writer.write(block)
        assert not (tmp_path / "x" / "y").exists()
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []

    leave_dead(tmp_path)
    (tmp_path / "song").mkdir()
    (tmp_path / "song" / "notes.txt").write_text("mine")
    (tmp_path / "song" / "a.wav").write_text("old")
    with StemWriter(tmp_path / "song", ["a", "b"], 8000, 1, 10) as writer:
        writer.write(block)
    assert [path.name for path in tmp_path.iterdir()] == ["song"]
    assert sorted(path.name for path in (tmp_path / "song").iterdir()) == ["a.wav", "b.wav", "notes.txt"]
    assert audio.read(tmp_path / "song" / "a.wav")[0].shape == (10, 1)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match="cannot be made"), StemWriter(tmp_path / "file" / "song", ["a"], 8000, 1, 1):
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits a file's size as Linux does")
def test_a_full_disk_leaves_nothing(tmp_path: Path, run_python: Callable[..., object]) -> None:
    program = f"""
import resource, signal, numpy, sys
from my_submission.src.audio import AudioError
from my_submission.src.audio.stem_writer import StemWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with StemWriter({str(tmp_path / "song")!r}, ["a"], 44100, 1, 10**6) as writer:
        for _ in range(100):
            writer.write(numpy.zeros((1, 1, 10_000), "float32"))
except AudioError as error:
    sys.exit(f"caught: {{error}}")
"""
    result = run_python("-c", program)
    assert "cannot be written" in result.stderr and "caught" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_wav_too_large_for_its_header_becomes_rf64(tmp_path: Path) -> None:
    four_hours = 4 * 3600 * 44100
    for num_samples, form in ((1000, "WAV"), (four_hours, "RF64")):
        with audio.create(tmp_path / "a.wav", 44100, 2, num_samples, "wav", "FLOAT"):
            pass
        assert soundfile.info(tmp_path / "a.wav").format == form
