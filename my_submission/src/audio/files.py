"""Audio in and out: beside stem_writer.py, the only place that reads or writes audio files.

A `AudioStream` is read in blocks [C, n] of float32, so that a song of any length fits.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError

Block = NDArray[np.float32]

BLOCK = 1 << 16  # samples read at a time
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff")
SUBTYPES = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}
BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}


class AudioError(UserError):
    """An audio file, or an array of audio, that cannot be used."""


class AudioStream(Protocol):
    """Audio of a known length that can be read in blocks [C, n], once or again."""

    name: str
    sample_rate: int  # Hz
    channels: int
    num_samples: int  # samples per channel

    def blocks(self) -> Iterator[Block]:
        """The audio from its beginning, [C, n] at a time."""
        ...


class AudioFile:
    """A file that libsndfile reads: wav, flac, mp3, ogg, opus, aiff and more.

    Raises AudioError, naming the file: here for one that is missing, no audio, empty or cut off as far as its header tells;
    while reading for the rest of the file missing, and for NaN or infinite samples.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = str(path)
        with self._open() as file:
            self.sample_rate, self.channels, self.num_samples = file.samplerate, file.channels, file.frames
            self.subtype = file.subtype  # of its samples, as libsndfile calls it: PCM_16
            _refuse_truncated(file, self.path)
        if self.num_samples == 0:
            raise AudioError(f"{self.name}: holds no audio, expected at least one sample")

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.num_samples / self.sample_rate

    def blocks(self) -> Iterator[Block]:
        """The audio from its beginning, [C, n] at a time."""
        position = 0
        with self._open() as file:
            while position < self.num_samples:
                try:
                    block = file.read(BLOCK, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError:
                    block = np.empty((0, self.channels), np.float32)
                if len(block) == 0:
                    found, expected = position / self.sample_rate, self.num_samples / self.sample_rate
                    raise _truncated(self.path, f"{found:.2f} s can be read of the {expected:.2f} s its header promises")
                _refuse_not_finite(block, self.name, position / self.sample_rate)
                position += len(block)
                yield np.ascontiguousarray(block.T)

    def chunk(self, start: int, samples: int) -> Block:
        """The audio from sample `start` on, [C, n]: `samples` of it, fewer where the file ends."""
        samples = min(samples, self.num_samples - start)
        with self._open() as file:
            try:
                file.seek(start)
                block = file.read(samples, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                block = np.empty((0, self.channels), np.float32)
        if len(block) < samples:
            raise _truncated(self.path, f"the {samples} samples from {start / self.sample_rate:.2f} s on cannot be read")
        _refuse_not_finite(block, self.name, start / self.sample_rate)
        return np.ascontiguousarray(block.T)

    def _open(self) -> soundfile.SoundFile:
        if self.path.is_dir():
            raise AudioError(f"{self.name}: is a folder, expected an audio file")
        try:
            return soundfile.SoundFile(self.path)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: headerless .raw wants to be told its format
            if not self.path.exists():
                raise AudioError(f"{self.name}: no such file") from error
            if self.path.stat().st_size == 0:
                raise AudioError(f"{self.name}: is an empty file, expected audio") from error
            reason = getattr(error, "error_string", "no header").rstrip(".")
            raise AudioError(
                f"{self.name}: is not audio that libsndfile can read ({reason}); expected wav, flac, mp3, ogg, opus or aiff"
            ) from error


class AudioArray:
    """An array [n, C], or [n] for mono, as a AudioStream. Raises AudioError for what is no audio."""

    def __init__(self, array: NDArray[Any], sample_rate: int, name: str = "the mixture") -> None:
        array = np.asarray(array)
        if array.ndim not in (1, 2) or not np.issubdtype(array.dtype, np.floating):
            raise AudioError(
                f"{name}: found {array.dtype} of shape {list(array.shape)}, expected floating point of shape "
                "[samples, channels]"
            )
        if array.size == 0:
            raise AudioError(f"{name}: holds no audio, expected at least one sample")
        self.array = array.reshape(len(array), -1)
        self.name, self.sample_rate = name, sample_rate
        self.num_samples, self.channels = self.array.shape

    def blocks(self) -> Iterator[Block]:
        """The audio from its beginning, [C, n] at a time."""
        for position in range(0, self.num_samples, BLOCK):
            block = self.array[position : position + BLOCK].astype(np.float32)
            _refuse_not_finite(block, self.name, position / self.sample_rate)
            yield np.ascontiguousarray(block.T)


def _refuse_not_finite(block: NDArray[Any], name: str, seconds: float) -> None:
    """`block` [n, C] begins at `seconds`."""
    if not np.isfinite(block).all():
        raise AudioError(f"{name}: holds NaN or infinite samples (near {seconds:.2f} s), expected finite audio")


def _truncated(path: Path, found: str) -> AudioError:
    return AudioError(f"{path}: is cut off: {found}; fetch or export the file again")


def _refuse_truncated(file: soundfile.SoundFile, path: Path) -> None:
    """Find the cut where libsndfile would quietly read what is left (wav, aiff, ogg); the others fail while reading."""
    unknown = 0x7FFFFFFF - 0x10000  # a size a program writes that streams and cannot know better
    for promised, found in re.findall(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE):
        if int(found) < int(promised) < unknown:
            raise _truncated(path, f"{found} bytes of audio lie behind a header that promises {promised}")
    match = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", file.extra_info)
    if match and int(match[1]) < int(match[2]):
        raise _truncated(path, f"{match[1]} samples lie behind a header that promises {match[2]}")
    if file.format == "OGG" and not _has_last_ogg_page(path):
        raise _truncated(path, "the page that ends an Ogg stream is missing")


def _has_last_ogg_page(path: Path) -> bool:
    """Whether the last page is there whole and carries the end-of-stream flag, as RFC 3533 has it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 17)))  # a page has 64 KiB at most
        tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS\0")) :]
    segments = page[26] if len(page) > 26 else 0
    return len(page) >= 27 + segments + sum(page[27 : 27 + segments]) and bool(page[5] & 4)


def read(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """A whole file: (float32 [n, C], sample rate in Hz). Raises AudioError."""
    file, position = AudioFile(path), 0
    array = np.empty((file.num_samples, file.channels), np.float32)
    for block in file.blocks():
        array[position : position + block.shape[1]] = block.T
        position += block.shape[1]
    return array, file.sample_rate


def readable_seconds(paths: Iterable[Path]) -> float:
    """How much audio files hold; what cannot be read counts nothing, and is reported when its turn comes."""
    seconds = 0.0
    for path in paths:
        with contextlib.suppress(AudioError):
            seconds += AudioFile(path).seconds
    return seconds


def write(path: str | Path, array: NDArray[Any], sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write [n, C] as wav, atomically. What goes past +-1 clips, except in FLOAT."""
    path = Path(path)
    channels = 1 if array.ndim == 1 else array.shape[1]
    try:
        with atomic_file(path) as partial, create(partial, sample_rate, channels, len(array), "wav", subtype) as file:
            file.write(array)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); is the disk full?") from error


def copied(source: AudioStream, path: Path, container: str = "flac", subtype: str = "PCM_16") -> Iterator[Block]:
    """The blocks of a source, each of them written to `path` too as it passes by. Raises AudioError."""
    try:
        with create(path, source.sample_rate, source.channels, source.num_samples, container, subtype) as file:
            for block in source.blocks():
                file.write(block.T)
                yield block
        if container == "wav" and subtype == "FLOAT":
            _forget_time(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); is the disk full?") from error


def _forget_time(path: Path) -> None:
    """Zero the time of writing that libsndfile puts into a float wav, so that the same samples are the same bytes."""
    with path.open("r+b") as file:
        place = file.read(256).partition(b"data")[0].find(b"PEAK")  # name, size, version, time: four bytes each
        if place >= 0:
            file.seek(place + 12)
            file.write(bytes(4))


def create(path: Path, sample_rate: int, channels: int, num_samples: int, container: str, subtype: str) -> soundfile.SoundFile:
    """A file to write `num_samples` samples into. Raises AudioError."""
    large = num_samples * channels * BYTES[subtype] > 0xFFFF0000  # past what a wav's 32-bit sizes can say
    form = "RF64" if large and container == "wav" else container.upper()
    try:
        return soundfile.SoundFile(path, "w", sample_rate, channels, subtype, format=form)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path.parent}: cannot be written to ({error.error_string})") from error
