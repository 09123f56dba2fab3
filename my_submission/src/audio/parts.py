"""Find the audio in a file: its songs, each as a file that libsndfile reads whole.

Headers lie: a stream did not know its length, a recorder crashed, a file was cut off, or several were joined. `find_parts`
reads what the format's own structure tells (frames, pages, chunks), and gives every song a header that is right.

    for part in find_parts(Path("song.mp3")):
        file = part.open(path)                   # a soundfile.SoundFile
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

import soundfile

from my_submission.src.audio import flac, mpeg
from my_submission.src.audio.splice import Data, Piece, Splice

SLACK = 64  # bytes that a WAV header may promise too many: some writers count the header, some the padding
PLACEHOLDER = 0x7FFF0000 - 4096  # bytes from which on a WAV's size is that of a stream, which did not know better
CONTAINERS = {  # first bytes -> name of formats that libsndfile does not read
    b"ftyp": "MP4 (m4a, mp4, mov)",
    b"\x30\x26\xb2\x75": "ASF (wma, wmv)",
    b"\x1a\x45\xdf\xa3": "Matroska (mka, webm)",
}


class DamagedError(Exception):
    """A file that lacks a part of its audio, or holds none that can be read: what was found, for a message."""


class CutOffError(DamagedError):
    """A file that was cut off: how this shows."""


class OtherFormatError(DamagedError):
    """A file in a format that libsndfile does not read, and ffmpeg does."""


@dataclass(frozen=True)
class Part:
    """One song of a file."""

    pieces: tuple[Piece, ...] = ()  # what libsndfile is to read; the file as it is if empty
    is_certain: bool = True  # whether libsndfile knows the length; otherwise decoding tells it
    is_promised: bool = False  # whether decoding must give the length that libsndfile knows: a header promises it
    note: str = ""  # what is odd about it, for a warning

    def open(self, path: Path) -> soundfile.SoundFile:
        """Open the part of the file at `path`. Raises what soundfile raises, and OSError."""
        if self.pieces:
            return soundfile.SoundFile(Splice(path, self.pieces))
        return soundfile.SoundFile(native_name(path))


def native_name(path: Path) -> str | bytes:
    """Return a path as libsndfile takes it. On POSIX that is bytes, since names need not be UTF-8."""
    return str(path) if sys.platform == "win32" else os.fsencode(path)


def find_parts(path: Path) -> list[Part]:
    """Return the songs of a file, in their order; a format not known here is one song. Raises DamagedError and OSError."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise DamagedError("is an empty file, expected audio")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            head = data[mpeg.id3_size(data) :][:64] if data[:3] == b"ID3" else data[:64]
            if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
                return _wav_parts(data)
            if head[:4] == b"fLaC":
                return _flac_parts(data)
            if head[:4] == b"OggS":
                return _ogg_parts(data)
            kind = CONTAINERS.get(head[4:8]) or CONTAINERS.get(head[:4])
            if kind:
                raise OtherFormatError(f"is {kind} by its content")
            if head[:4] in (b"FORM", b"RF64", b"RIFX", b"riff", b"caff", b".snd"):
                return [Part()]
            return _mpeg_parts(data, 0, len(data)) or [Part()]


def _mpeg_parts(data: Data, begin: int, end: int) -> list[Part]:
    parts = []
    for song in mpeg.find_songs(data, begin, end):
        if song.is_cut_off:
            raise CutOffError(f"{song.seconds:.2f} s are there of the {song.promised_seconds:.2f} s its header promises")
        note = "ends within a frame, and may be cut off; all that is whole is read" if song.cut else ""
        parts.append(Part(tuple(song.pieces(data)), song.is_regular(data), note=note))
    return parts


def _wav_parts(data: Data) -> list[Part]:
    """A WAV's data chunk ends where the file ends, if its size is off by little or was never known."""
    place, layout, frame = 12, 0, 1
    while place + 8 <= len(data):
        name, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if name == b"data":
            break
        if name == b"fmt " and size >= 16 and place + 24 <= len(data):
            layout, frame = struct.unpack_from("<H", data, place + 8)[0], struct.unpack_from("<H", data, place + 20)[0]
        place += 8 + size + size % 2
    else:
        return [Part()]
    begin, there = place + 8, len(data) - place - 8
    if layout in (0x50, 0x55):  # MPEG audio in a WAV
        return _mpeg_parts(data, begin, min(len(data), begin + size)) or [Part()]
    if size == 0 and there >= max(frame, 8) and not _are_chunks(data, begin):
        there -= there % max(1, frame)
        head = bytearray(data[:begin])
        struct.pack_into("<I", head, 4, begin - 8 + there)
        struct.pack_into("<I", head, place + 4, there)
        note = "its header promises no audio, as if the recorder had crashed; all that follows is read"
        return [Part((bytes(head), (begin, begin + there)), note=note)]
    if size <= there:
        return [Part()]
    if size >= PLACEHOLDER:
        return [Part(note="its header does not know the length, as that of a stream; all that is there is read")]
    if size - there <= SLACK:
        return [Part(note=f"its header promises {size} bytes of audio, and {there} are there; all of them are read")]
    raise CutOffError(f"{there} bytes of audio lie behind a header that promises {size}")


def _are_chunks(data: Data, place: int) -> bool:
    """Return whether chunks follow each other from here to the end."""
    while place + 8 <= len(data) and data[place : place + 4].isalnum():
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return place in (len(data), len(data) + 1)


def _flac_parts(data: Data) -> list[Part]:
    begin = mpeg.id3_size(data)
    end = len(data) - (128 if data[-128:-125] == b"TAG" else 0)
    counted = flac.count_samples(data, begin, end)
    if counted == flac.stream_total(data, begin) and not flac.may_be_joined(data, begin, end):
        return [Part()]
    starts = [begin]
    while (start := data.find(flac.MARK, starts[-1] + 1)) > 0:
        starts.append(start)
    return [_flac_part(data, *place) for place in zip(starts, [*starts[1:], end], strict=True)]


def _flac_part(data: Data, begin: int, end: int) -> Part:
    total, counted = flac.stream_total(data, begin), flac.count_samples(data, begin, end)
    if counted is None and total == 0:
        raise CutOffError("its last frame is not whole, and its header does not tell the length")
    if counted is not None and counted < total:
        raise CutOffError(f"{counted} samples are there of the {total} its header promises")
    if counted is None or counted == total:  # an unknown tag may follow the last frame
        return Part(((begin, end),), is_certain=counted is not None, is_promised=True)
    head = flac.set_total(bytes(data[begin : begin + 42]), counted)
    return Part((head, (begin + 42, end)))


def _ogg_parts(data: Data) -> list[Part]:
    """Split a chain of Ogg streams (RFC 3533): a page that begins a stream, after one that does not, begins a song."""
    starts, place, end, is_head, flags = [], 0, 0, False, 0
    while 0 <= place <= len(data) - 27:
        if data[place : place + 5] != b"OggS\0":
            place = data.find(b"OggS\0", place + 1)
            continue
        flags, segments = data[place + 5], data[place + 26]
        if flags & 2 and not is_head:
            starts.append(place)
        is_head = bool(flags & 2)
        end = place + 27 + segments + sum(data[place + 27 : place + 27 + segments])
        place = end
    if not flags & 4 or end > len(data):
        raise CutOffError("the page that ends an Ogg stream is missing")
    if len(starts) < 2:
        return [Part()]
    return [Part(((begin, end),)) for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]
