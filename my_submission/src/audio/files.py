"""Read and write audio files. Only this module, lossy.py and stem_writer.py do.

An `AudioStream` is read in blocks [C, n] of float32, so that a song of any length fits into memory.
"""

from __future__ import annotations

import contextlib
import re
import stat
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from my_submission.src.audio import ffmpeg
from my_submission.src.audio.parts import (
    PLACEHOLDER,
    SLACK,
    CutOffError,
    DamagedError,
    OtherFormatError,
    Part,
    find_parts,
    native_name,
)
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError

Block = NDArray[np.float32]

BLOCK = 1 << 16  # samples per channel that are read at a time

# The formats that can be written. A new one is a new container here.
SUBTYPES = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}  # container -> libsndfile's subtypes
BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}  # subtype -> bytes per sample, where they are constant

# The files that are looked for in a folder: all formats above, and others that libsndfile reads.
_READ = "mp3 mp2 ogg oga opus aif aiff aifc caf w64 rf64 bwf wave au snd"
SUFFIXES = tuple(dict.fromkeys(f".{name}" for name in (*SUBTYPES, *_READ.split())))


class AudioError(UserError):
    """An audio file, or an array of audio, cannot be used."""


class AudioStream(Protocol):
    """Audio of a known length that can be read in blocks [C, n], more than once."""

    name: str
    sample_rate: int  # Hz
    channels: int
    num_samples: int  # samples per channel

    def blocks(self) -> Iterator[Block]:
        """Yield the audio from its beginning in blocks [C, n]."""
        ...


class AudioFile:
    """An audio file that libsndfile can read: wav, flac, mp3, ogg, opus, aiff and more; others are read through ffmpeg.

    Songs that were joined in one file are read one after the other. Where a header does not tell the length for certain,
    frames are counted, or the file is decoded once. An mp3 loses the delay and padding that its encoder noted; without such
    a note it loses the 529 samples of the decoder's delay.

    Raises AudioError, which names the file. The constructor raises it if the file is missing, empty or not audio, or if it is
    cut off. Reading raises it where the file is damaged, and for NaN or infinite samples. Warns of odd headers.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = str(path)
        self.parts = self._find_parts()
        self.lengths: list[int] = []  # samples per channel of each part
        for part in self.parts:
            self._add(part)
        self.num_samples = sum(self.lengths)
        if self.num_samples == 0:
            raise AudioError(f"{self.name}: holds no audio, expected at least one sample")

    def _find_parts(self) -> list[Part]:
        try:
            mode = self.path.stat().st_mode
            if stat.S_ISDIR(mode):
                raise AudioError(f"{self.name}: is a folder, expected an audio file")
            if not stat.S_ISREG(mode):  # before it is opened, which may take for ever
                raise AudioError(f"{self.name}: is a pipe or a device, expected a file; write the audio to a file first")
            return self._readable(find_parts(self.path))
        except OtherFormatError as error:
            return self._piped(error)
        except FileNotFoundError as error:
            raise AudioError(f"{self.name}: no such file") from error
        except OSError as error:
            raise AudioError(f"{self.name}: cannot be read ({error.strerror})") from error
        except CutOffError as error:
            raise _truncated(self.path, str(error)) from error
        except DamagedError as error:
            raise AudioError(f"{self.name}: {error}") from error

    def _readable(self, parts: list[Part]) -> list[Part]:
        """Return the parts, or ffmpeg's if it knows a format that libsndfile does not."""
        if parts == [Part()] and ffmpeg.is_there():
            try:
                parts[0].open(self.path).close()
            except (soundfile.LibsndfileError, TypeError):
                with contextlib.suppress(DamagedError):  # libsndfile's message is the better one then
                    return [ffmpeg.probe(self.path)]
        return parts

    def _piped(self, error: OtherFormatError) -> list[Part]:
        """Return the part that ffmpeg reads of a format that libsndfile does not."""
        if not ffmpeg.is_there():
            advice = (
                f"install ffmpeg, and it is read through that, or convert it elsewhere: ffmpeg -i {self.path.name} song.wav"
            )
            raise AudioError(f"{self.name}: {error}, which libsndfile cannot read; {advice}") from error
        try:
            return [ffmpeg.probe(self.path)]
        except DamagedError as reason:
            raise AudioError(f"{self.name}: {error}, and {reason}; fetch or export the file again") from reason

    def _add(self, part: Part) -> None:
        """Take note of a part's rate, channels and length."""
        with self._open(part) as file:
            form = (file.samplerate, file.channels)
            if not self.lengths:
                self.sample_rate, self.channels = form
                self.subtype = file.subtype  # of its samples, by libsndfile's name: PCM_16
            elif form != (self.sample_rate, self.channels):
                found = f"{self.sample_rate} Hz with {self.channels} channels, then {form[0]} Hz with {form[1]}"
                raise AudioError(f"{self.name}: its songs differ ({found}), expected one format; cut it into its songs")
            if not part.pieces:
                _refuse_truncated(file, self.path)
            length = file.frames if part.is_certain else _count(file)
            if part.is_promised and length < file.frames:
                raise self._cut_off_at(length, file.frames)
        self.lengths.append(length)
        if part.note:
            warnings.warn(f"{self.name}: {part.note}", stacklevel=1)  # one place, so that each is shown once

    @property
    def seconds(self) -> float:
        """Duration, seconds."""
        return self.num_samples / self.sample_rate

    def blocks(self) -> Iterator[Block]:
        """Yield the audio from its beginning in blocks [C, n]."""
        position = 0
        for part, length in zip(self.parts, self.lengths, strict=True):
            end = position + length
            with self._open(part) as file:
                while position < end:
                    block = _read(file, min(BLOCK, end - position))
                    if len(block) == 0:
                        raise self._cut_off_at(position, self.num_samples)
                    _refuse_not_finite(block, self.name, position / self.sample_rate)
                    position += len(block)
                    yield np.ascontiguousarray(block.T)

    def read(self, start: int, num_samples: int) -> Block:
        """Return the audio from sample `start` on, [C, n]. n is `num_samples`, or less at the end of the file."""
        num_samples = max(0, min(num_samples, self.num_samples - start))
        pieces, begin = [np.empty((0, self.channels), np.float32)], 0
        for part, length in zip(self.parts, self.lengths, strict=True):
            first, last = max(0, start - begin), min(length, start + num_samples - begin)
            if first < last:
                with self._open(part) as file:
                    pieces.append(_read(file, last - first, first))
            begin += length
        block = np.concatenate(pieces) if len(pieces) > 2 else pieces[-1]
        if len(block) < num_samples:
            raise _truncated(self.path, f"the {num_samples} samples from {start / self.sample_rate:.2f} s on cannot be read")
        _refuse_not_finite(block, self.name, start / self.sample_rate)
        return np.ascontiguousarray(block.T)

    @contextlib.contextmanager
    def _open(self, part: Part) -> Iterator[soundfile.SoundFile]:
        """Open a part for the block. Raises AudioError, also for ffmpeg's errors in the block."""
        try:
            file = part.open(self.path)
        except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a .raw file has no header
            reason = getattr(error, "error_string", "no header").rstrip(".")
            raise AudioError(
                f"{self.name}: is not audio that libsndfile can read ({reason}); expected wav, flac, mp3, ogg, opus or aiff"
            ) from error
        except OSError as error:  # it is gone since
            raise AudioError(f"{self.name}: cannot be read ({error.strerror})") from error
        with file:
            try:
                yield file
            except DamagedError as error:
                raise AudioError(f"{self.name}: {error}") from error

    def _cut_off_at(self, found: int, expected: int) -> AudioError:
        """Return the error for a file of which `found` samples can be read."""
        rate = self.sample_rate
        return _truncated(self.path, f"{found / rate:.2f} s can be read of the {expected / rate:.2f} s its header promises")


def _read(file: soundfile.SoundFile, num_samples: int, start: int | None = None) -> NDArray[np.float32]:
    """Return samples [n, C] from `start` on, or from where the file stands; n is 0 if they cannot be read."""
    try:
        if start is not None:
            file.seek(start)
        return file.read(num_samples, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        return np.empty((0, file.channels), np.float32)


def _count(file: soundfile.SoundFile) -> int:
    """Return the number of samples per channel that decoding gives."""
    length = 0
    while samples := len(_read(file, BLOCK)):
        length += samples
    return length


class AudioArray:
    """An array [n, C], or [n] for mono, as an AudioStream. Raises AudioError if the array is not audio."""

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
        """Yield the audio from its beginning in blocks [C, n]."""
        for position in range(0, self.num_samples, BLOCK):
            block = self.array[position : position + BLOCK].astype(np.float32)
            _refuse_not_finite(block, self.name, position / self.sample_rate)
            yield np.ascontiguousarray(block.T)


def _refuse_not_finite(block: NDArray[Any], name: str, seconds: float) -> None:
    """Raise AudioError if the block [n, C], which begins at `seconds`, holds NaN or infinite samples."""
    if not np.isfinite(block).all():
        raise AudioError(f"{name}: holds NaN or infinite samples (near {seconds:.2f} s), expected finite audio")


def _truncated(path: Path, found: str) -> AudioError:
    """Return the error for a file that is cut off; `found` says how this shows."""
    return AudioError(f"{path}: is cut off: {found}; fetch or export the file again")


def _refuse_truncated(file: soundfile.SoundFile, path: Path) -> None:
    """Raise AudioError for a cut that only libsndfile's log reports: of an AIFF, and of an RF64."""
    for promised, found in re.findall(r"^\s*(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE):
        if int(found) + SLACK < int(promised) < PLACEHOLDER:
            raise _truncated(path, f"{found} bytes of audio lie behind a header that promises {promised}")
    match = re.search(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", file.extra_info)
    if match and int(match[1]) < int(match[2]):
        raise _truncated(path, f"{match[1]} samples lie behind a header that promises {match[2]}")


def is_integer(subtype: str) -> bool:
    """Whether a subtype's samples are integers, which clip beyond +-1."""
    return subtype.startswith("PCM_")


def read(path: str | Path) -> tuple[NDArray[np.float32], int]:
    """Return a whole file: (float32 [n, C], sample rate in Hz). Raises AudioError."""
    file, position = AudioFile(path), 0
    array = np.empty((file.num_samples, file.channels), np.float32)
    for block in file.blocks():
        array[position : position + block.shape[1]] = block.T
        position += block.shape[1]
    return array, file.sample_rate


def readable_seconds(paths: Iterable[Path]) -> float:
    """Return the total duration of the files in seconds. A file that cannot be read counts as 0."""
    seconds = 0.0
    for path in paths:
        with contextlib.suppress(AudioError):
            seconds += AudioFile(path).seconds
    return seconds


def write(path: str | Path, array: NDArray[Any], sample_rate: int, subtype: str = "PCM_16") -> None:
    """Write a wav file, atomically. Raises AudioError.

    Args:
        path: the file; an existing one is replaced.
        array: floating point, [n, C] or [n].
        sample_rate: Hz.
        subtype: libsndfile's name of the sample format (default: PCM_16). All but FLOAT clip samples beyond +-1.
    """
    path = Path(path)
    channels = 1 if array.ndim == 1 else array.shape[1]
    try:
        with atomic_file(path) as partial, create(partial, sample_rate, channels, len(array), "wav", subtype) as file:
            file.write(array)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); is the disk full?") from error


def tee_to_file(stream: AudioStream, path: Path, container: str = "flac", subtype: str = "PCM_16") -> Iterator[Block]:
    """Yield a stream's blocks, and write each of them to a file too. Raises AudioError.

    Args:
        stream: the audio to read.
        path: the file to write.
        container: a key of SUBTYPES (default: flac).
        subtype: one of the container's subtypes (default: PCM_16).
    """
    try:
        with create(path, stream.sample_rate, stream.channels, stream.num_samples, container, subtype) as file:
            for block in stream.blocks():
                file.write(block.T)
                yield block
        if container == "wav" and subtype == "FLOAT":
            _clear_timestamp(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({error}); is the disk full?") from error


def _clear_timestamp(path: Path) -> None:
    """Zero the timestamp that libsndfile puts into a float wav, so that equal samples give equal files."""
    with path.open("r+b") as file:
        place = file.read(256).partition(b"data")[0].find(b"PEAK")  # name, size, version, timestamp: four bytes each
        if place >= 0:
            file.seek(place + 12)
            file.write(bytes(4))


def create(path: Path, sample_rate: int, channels: int, num_samples: int, container: str, subtype: str) -> soundfile.SoundFile:
    """Open a file for writing. Raises AudioError.

    Args:
        path: the file; an existing one is replaced.
        sample_rate: Hz.
        channels: number of channels.
        num_samples: samples per channel that will be written. A wav of 4 GB or more becomes an RF64.
        container: a key of SUBTYPES.
        subtype: one of the container's subtypes.
    """
    # the sizes in a wav's header have 32 bits
    large = container == "wav" and num_samples * channels * BYTES[subtype] > 0xFFFF0000
    form = "RF64" if large else container.upper()
    try:
        return soundfile.SoundFile(native_name(path), "w", sample_rate, channels, subtype, format=form)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path.parent}: cannot be written to ({error.error_string})") from error
