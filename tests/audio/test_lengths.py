"""Lengths that headers do not tell, or tell wrongly: every sample arrives, or an error comes before the work."""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import ffmpeg, flac, mpeg
from my_submission.src.audio.files import AudioError, AudioFile
from my_submission.src.audio.splice import Splice

RATE = 44100
DELAY = 529  # samples of an mp3 decoder's delay

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a song that is louder, and takes more bits, towards its end; `tmp_path`/name."""

    def write(name: str, seconds: float = 3, rate: int = RATE, channels: int = 2, **how: object) -> Path:
        times = np.arange(round(seconds * rate)) / rate
        noise = np.random.default_rng(0).standard_normal((len(times), channels)) * 0.1 * (times / seconds)[:, None] ** 2
        song = 0.2 * np.sin(2 * np.pi * 110 * times)[:, None] + noise
        soundfile.write(tmp_path / name, song, rate, **how)
        return tmp_path / name

    return write


def read_all(path: Path) -> int:
    """Return the number of samples, which must be what the header's reading has promised and what random access gives."""
    file = AudioFile(path)
    blocks = np.concatenate(list(file.blocks()), axis=1)
    assert blocks.shape == (file.channels, file.num_samples)
    middle = file.num_samples // 2
    tail = file.read(middle, file.num_samples)
    assert tail.shape[1] == file.num_samples - middle
    if path.suffix != ".mp3":  # a seek in an mp3 starts with an empty bit reservoir
        np.testing.assert_array_equal(tail, blocks[:, middle:])
    return file.num_samples


def frames_of(path: Path) -> tuple[bytes, bytes, int]:
    """An mp3's tag frame, its audio frames and how many samples they hold."""
    data = path.read_bytes()
    (song,) = mpeg.find_songs(data)
    (begin, end), tag = song.ranges[0], song.tag
    assert tag is not None
    return tag, data[begin:end], song.frames * song.header.samples


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (44100, 1), (48000, 2), (22050, 2), (16000, 1), (8000, 1)])
def test_an_mp3_without_a_tag_is_read_whole(make: Make, tmp_path: Path, mode: str, rate: int, channels: int) -> None:
    path = make("song.mp3", rate=rate, channels=channels, bitrate_mode=mode, compression_level=0.3)
    _, frames, samples = frames_of(path)
    assert read_all(path) == 3 * rate
    bare = tmp_path / "bare.mp3"
    bare.write_bytes(frames)
    assert read_all(bare) == samples - DELAY


def test_tags_and_covers_around_an_mp3_are_passed_over(make: Make, tmp_path: Path) -> None:
    _, frames, samples = frames_of(make("song.mp3", bitrate_mode="VARIABLE"))
    cover = os.urandom(100_000).replace(b"\xff", b"\xfe") + b"\xff\xfb\x90\x64" * 3
    size = len(cover)
    id3v2 = b"ID3\3\0\0" + bytes((size >> shift & 127) for shift in (21, 14, 7, 0)) + cover
    id3v1 = b"TAG" + bytes(125)
    for name, data in (
        ("v2", id3v2 + frames),
        ("twice", id3v2 + id3v2 + frames),
        ("v1", frames + id3v1),
        ("zeros", bytes(5000) + frames),
        ("all", id3v2 + bytes(700) + frames + id3v1 + b"APETAGEX" + bytes(24)),
    ):
        path = tmp_path / f"{name}.mp3"
        path.write_bytes(data)
        assert read_all(path) == samples - DELAY, name


def test_songs_joined_in_one_file_are_read_one_after_the_other(make: Make, tmp_path: Path) -> None:
    first, second = make("a.mp3", seconds=2), make("b.mp3", seconds=3)
    vorbis, other = make("a.ogg", seconds=2), make("b.ogg", seconds=1)
    long, short = make("a.flac", seconds=2), make("b.flac", seconds=1)
    for paths, seconds in (
        ((first, second), 5),
        ((first, first), 4),
        ((vorbis, other), 3),
        ((long, short), 3),
        ((long, long), 4),
    ):
        joined = tmp_path / f"joined{paths[0].suffix}"
        joined.write_bytes(b"".join(path.read_bytes() for path in paths))
        assert read_all(joined) == seconds * RATE, paths
        parts = [np.concatenate(list(AudioFile(path).blocks()), axis=1) for path in paths]
        np.testing.assert_array_equal(np.concatenate(list(AudioFile(joined).blocks()), axis=1), np.concatenate(parts, axis=1))


def test_joined_songs_of_two_formats_are_refused(make: Make, tmp_path: Path) -> None:
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(make("a.mp3").read_bytes() + make("b.mp3", rate=22050).read_bytes())
    with pytest.raises(AudioError, match=r"joined.mp3: its songs differ \(44100 Hz with 2 channels, then 22050 Hz with 2\)"):
        AudioFile(joined)


def test_an_mp3_whose_tag_promises_more_is_cut_off_before_it_is_read(make: Make, tmp_path: Path) -> None:
    data = make("song.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"cut.mp3: is cut off: 1\.\d\d s are there of the 3\.0\d s its header promises"):
        AudioFile(tmp_path / "cut.mp3")


def test_an_mp3_with_more_than_its_tag_promises_is_read_whole(make: Make, tmp_path: Path) -> None:
    tag, frames, samples = frames_of(make("song.mp3"))
    (tmp_path / "more.mp3").write_bytes(tag + frames + frames)
    assert 2 * samples - 1152 - DELAY <= read_all(tmp_path / "more.mp3") <= 2 * samples


def test_an_mp3_that_begins_or_ends_within_a_frame_is_read_and_said_to_be_odd(
    make: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, frames, samples = frames_of(make("song.mp3", bitrate_mode="VARIABLE"))
    (tmp_path / "radio.mp3").write_bytes(frames[200:-200])
    with pytest.warns(UserWarning, match=r"radio.mp3: ends within a frame"):
        assert samples - 4 * 1152 < read_all(tmp_path / "radio.mp3") < samples
    at = 0
    while at < 20000 and (header := mpeg.read_header(frames, at)) is not None:
        at += header.size
    (tmp_path / "junk.mp3").write_bytes(frames[:at] + b"junk" * 75 + frames[at:])
    assert samples - 4 * 1152 < read_all(tmp_path / "junk.mp3") < samples
    assert capfd.readouterr().err == ""  # libmpg123 prints a line for a frame that lacks an earlier one


def test_an_mp3_inside_a_wav_is_read_whole(make: Make, tmp_path: Path) -> None:
    _, frames, samples = frames_of(make("song.mp3", bitrate_mode="VARIABLE"))
    layout = struct.pack("<HHIIHHHHIHHH", 0x55, 2, RATE, 16000, 1, 0, 12, 1, 2, 417, 1, 1393)
    body = b"WAVEfmt " + struct.pack("<I", len(layout)) + layout + b"data" + struct.pack("<I", len(frames)) + frames
    (tmp_path / "song.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert read_all(tmp_path / "song.wav") == samples - DELAY


def without_total(path: Path) -> bytes:
    """A flac as a pipe leaves it: 0 as the total of samples."""
    return flac.set_total(path.read_bytes(), 0)


@pytest.mark.parametrize("extra", [1, 4095, 4096, 4097])
def test_a_flac_of_unknown_length_is_counted(make: Make, tmp_path: Path, extra: int) -> None:
    data = without_total(make("song.flac", seconds=(2 * RATE + extra) / RATE))
    piped = tmp_path / "piped.flac"
    for tail in (b"", b"TAG" + bytes(125)):
        piped.write_bytes(data + tail)
        assert read_all(piped) == 2 * RATE + extra
    piped.write_bytes(data + data)
    assert read_all(piped) == 2 * (2 * RATE + extra)


def test_a_flac_that_is_cut_off_is_refused_before_it_is_read(make: Make, tmp_path: Path) -> None:
    whole = make("song.flac")
    for name, data in (("known", whole.read_bytes()), ("unknown", without_total(whole))):
        for size in (len(data) // 2, len(data) - 1):
            (tmp_path / f"{name}.flac").write_bytes(data[:size])
            with pytest.raises(AudioError, match="is cut off"):
                AudioFile(tmp_path / f"{name}.flac")


def test_junk_behind_a_flac_costs_no_sample(make: Make, tmp_path: Path) -> None:
    (tmp_path / "junk.flac").write_bytes(make("song.flac").read_bytes() + os.urandom(500))
    assert read_all(tmp_path / "junk.flac") == 3 * RATE


def with_size(path: Path, size: int) -> bytes:
    """A wav whose data chunk has another size in its header."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    return bytes(data)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_whose_size_is_off_is_read_to_its_end_and_said_to_be_odd(make: Make, tmp_path: Path, subtype: str) -> None:
    whole = make("song.wav", subtype=subtype)
    data = whole.read_bytes()
    size = struct.unpack_from("<I", data, data.index(b"data") + 4)[0]
    sizes = {
        "its header promises no audio": [0],
        f"its header promises {size + 2} bytes of audio, and {size} are there": [size + 2],
        f"its header promises {size + 36} bytes of audio": [size + 36],
        "its header does not know the length": [0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0x7FFF0000 - 36],
    }
    for message, values in sizes.items():
        for value in values:
            path = tmp_path / f"size{value}.wav"
            path.write_bytes(with_size(whole, value))
            with pytest.warns(UserWarning, match=f"{path.name}: {message}"):
                assert read_all(path) == 3 * RATE
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_all(whole) == 3 * RATE


def test_a_wav_that_holds_chunks_but_no_audio_is_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 2)), RATE)
    data = (tmp_path / "empty.wav").read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    (tmp_path / "empty.wav").write_bytes(data)
    with pytest.raises(AudioError, match="holds no audio"):
        AudioFile(tmp_path / "empty.wav")


@pytest.mark.parametrize(
    ("head", "kind"),
    [(b"\0\0\0\x20ftypM4A ", "MP4"), (b"\x30\x26\xb2\x75\x8e\x66", "ASF"), (b"\x1a\x45\xdf\xa3", "Matroska")],
)
def test_a_container_under_another_name_is_said_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, head: bytes, kind: str
) -> None:
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    (tmp_path / "song.mp3").write_bytes(head + os.urandom(5000))
    with pytest.raises(AudioError, match=f"is {kind} .* by its content, .*install ffmpeg, .* ffmpeg -i song.mp3 song.wav"):
        AudioFile(tmp_path / "song.mp3")
    assert capfd.readouterr().err == ""


def test_pipes_and_devices_are_refused_before_they_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path / "pipe.wav", Path("/dev/null")):
        with pytest.raises(AudioError, match="is a pipe or a device, expected a file"):
            AudioFile(path)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_need_not_be_utf8(make: Make, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    make("song.wav").rename(path)
    assert read_all(path) == 3 * RATE


def test_a_splice_reads_like_the_file_it_stands_for(tmp_path: Path) -> None:
    data = os.urandom(1000)
    (tmp_path / "file").write_bytes(data)
    expected = b"head" + data[10:500] + b"" + data[700:1000] + b"tail"
    with Splice(tmp_path / "file", [b"head", (10, 500), b"", (700, 1000), b"tail"]) as splice:
        assert splice.read() == expected
        assert splice.seek(0, os.SEEK_END) == len(expected)
        for start in (0, 3, 4, 400, 494, 495, 790, 798):
            splice.seek(start)
            assert splice.read(300) == expected[start : start + 300]
            assert splice.tell() == min(start + 300, len(expected))
        with pytest.raises(ValueError, match="negative position"):
            splice.seek(-1)
