"""MPEG audio (mp3): find the songs in a file and count their frames.

libsndfile takes an mp3's length from its Xing tag, or guesses it from the first frame's bit rate. A guess cuts songs off or
promises samples that are not there; of several songs joined in one file the tag knows only the first. So this module reads all
frame headers, and gives every song a tag with its true number of frames.

Headers are those of ISO 11172-3 and 13818-3; LAME's source defines the Xing, Info and LAME tags.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from my_submission.src.audio.splice import Data, Piece

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz by version: MPEG 1, 2, 2.5
KBITS = {  # kbit/s by (MPEG 1, layer), for the header's values 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
CONFIRM = 3  # frames in a row that tell audio from chance
RESERVOIR = 511  # bytes that a frame's audio can begin before the frame, at most
SEARCH = 1 << 16  # bytes without a frame at the beginning, after which a file is not MPEG audio


@dataclass(frozen=True)
class Header:
    """The header of one frame."""

    version: int  # 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    layer: int
    sample_rate: int  # Hz
    channels: int
    size: int  # bytes of the whole frame
    side: int  # bytes of side information, behind which a Xing tag stands

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """What all frames of a song share."""
        return self.version, self.layer, self.sample_rate, self.channels

    @property
    def samples(self) -> int:
        """Samples per channel."""
        return 384 if self.layer == 1 else 576 if self.layer == 3 and self.version != 3 else 1152


def read_header(data: Data, at: int) -> Header | None:
    """Return the frame header at a position; None if there is none, or one of a free bit rate."""
    if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    second, third, fourth = data[at + 1 : at + 4]
    version, layer, bits, rate = second >> 3 & 3, 4 - (second >> 1 & 3), third >> 4, third >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    first, mono, padding = version == 3, fourth >> 6 == 3, third >> 1 & 1
    hertz, bit_rate = RATES[version][rate], 1000 * KBITS[first, layer if first else min(layer, 2)][bits - 1]
    if layer == 1:
        size = (12 * bit_rate // hertz + padding) * 4
    else:
        size = (72 if layer == 3 and not first else 144) * bit_rate // hertz + padding
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Header(version, layer, hertz, 1 if mono else 2, size, side)


@dataclass
class Song:
    """The frames of one song: all of one kind."""

    header: Header
    begin: int  # where the first frame begins in the file
    tag: bytes | None = None  # the frame of a Xing or Info tag that tells a number of frames
    promised: int | None = None  # that number
    ranges: list[tuple[int, int]] = field(default_factory=list)  # of the file: frames of audio, without gaps between them
    frames: int = 0
    cut: int = 0  # bytes of a last, incomplete frame

    def append(self, begin: int, end: int) -> None:
        """Append a frame of audio."""
        if self.ranges and self.ranges[-1][1] == begin:
            self.ranges[-1] = (self.ranges[-1][0], end)
        else:
            self.ranges.append((begin, end))
        self.frames += 1

    @property
    def is_cut_off(self) -> bool:
        """Whether frames are missing that the tag promises. Some encoders count the tag itself as a frame."""
        return self.promised is not None and self.frames < self.promised - 1

    @property
    def seconds(self) -> float:
        """Duration of the frames in the file."""
        return self.frames * self.header.samples / self.header.sample_rate

    @property
    def promised_seconds(self) -> float:
        """Duration by the tag."""
        return (self.promised or 0) * self.header.samples / self.header.sample_rate

    def is_regular(self, data: Data) -> bool:
        """Return whether the frame count tells the length: no gaps, and a first frame that needs no earlier one."""
        return len(self.ranges) == 1 and self.header.layer == 3 and _reach(data, self.ranges[0][0], self.header) == 0

    def pieces(self, data: Data) -> list[Piece]:
        """Return the song as a file of its own, whose tag tells the number of frames."""
        if self.header.layer != 3:
            return list(self.ranges)
        audio = [piece for begin, end in self.ranges for piece in _decodable(data, begin, end)]
        return [self._new_tag(data) if self.tag is None else self._correct_tag(), *audio]

    def _correct_tag(self) -> bytes:
        """Return the tag with the number of frames in it, and without a padding that belongs to another last frame."""
        assert self.tag is not None
        if self.promised == self.frames:
            return self.tag
        tag, at = bytearray(self.tag), 4 + self.header.side
        flags = struct.unpack_from(">I", tag, at + 4)[0]
        struct.pack_into(">I", tag, at + 8, self.frames)
        lame = at + 12  # behind the flags and the frames stand bytes, a table of contents and a quality, if the flags say so
        if flags & 2:
            size = len(tag) + sum(end - begin for begin, end in self.ranges)
            struct.pack_into(">I", tag, lame, size & 0xFFFFFFFF)
            lame += 4
        lame += 100 * (flags >> 2 & 1) + 4 * (flags >> 3 & 1)
        if len(tag) >= lame + 24:  # the 12 bits of the delay stay, those of the padding become 0
            tag[lame + 22] &= 0xF0
            tag[lame + 23] = 0
        return bytes(tag)

    def _new_tag(self, data: Data) -> bytes:
        """Make the tag's frame. It has the highest bit rate, since the lowest leaves no room for a tag."""
        first = self.ranges[0][0]
        frame = bytearray([0xFF, data[first + 1] | 1, (data[first + 2] & 0x0C) | 0xE0, data[first + 3]])
        header = read_header(bytes(frame), 0)
        assert header is not None
        frame += bytes(header.size - 4)
        size = header.size + sum(end - begin for begin, end in self.ranges)
        frame[4 + header.side : 20 + header.side] = b"Xing" + struct.pack(">III", 3, self.frames, size)
        return bytes(frame)


def _reach(data: Data, at: int, header: Header) -> int:
    """Return how many bytes before the frame at `at` its audio begins: in the bit reservoir, the space of earlier frames."""
    main = at + (4 if data[at + 1] & 1 else 6)  # two bytes of a checksum may follow the header
    if main + 2 > len(data):
        return 0
    return data[main] << 1 | data[main + 1] >> 7 if header.version == 3 else data[main]


def _decodable(data: Data, begin: int, end: int) -> list[Piece]:
    """Return a range of frames, in which those that reach back to before the range are silenced."""
    pieces: list[Piece] = []
    at, reservoir = begin, 0
    while at < end and reservoir < RESERVOIR and (header := read_header(data, at)) is not None:
        head = (4 if data[at + 1] & 1 else 6) + header.side
        if _reach(data, at, header) > reservoir and head <= header.size:
            # a decoder hands on only the bytes that a frame itself reaches back to: it reaches for all there are
            reach = (reservoir << 7 if header.version == 3 else min(reservoir, 255) << 8).to_bytes(2, "big")
            pieces += [(begin, at), data[at : at + head - header.side] + reach + bytes(header.side - 2)]
            begin = at + head  # the rest of the frame may belong to the next one
        reservoir += max(0, header.size - head)
        at += header.size
    return [*(piece for piece in pieces if isinstance(piece, bytes) or piece[0] < piece[1]), (begin, end)]


def find_songs(data: Data, begin: int = 0, end: int | None = None) -> list[Song]:
    """Return the songs among data[begin:end], one after the other; an empty list if that is not MPEG audio."""
    end = len(data) if end is None else end
    songs: list[Song] = []
    at = _next_frame(data, begin, min(end, begin + SEARCH), end)
    while at is not None and (header := read_header(data, at)) is not None:
        songs.append(Song(header, at))
        at = _read_song(data, songs[-1], end)
    return [song for song in songs if song.frames]


def _read_song(data: Data, song: Song, end: int) -> int | None:
    """Append all frames from song.begin on; return where the next song begins."""
    at = song.begin + _read_tag(data, song)
    while at < end:
        header = read_header(data, at)
        if header is None or header.kind != song.header.kind:
            place = _next_frame(data, at, end, end)
            if place is None:
                return None
            at, header = place, read_header(data, place)
            if header is None or header.kind != song.header.kind:
                return at
        if song.frames and _is_tag(data, at, header):
            return at
        if at + header.size > end:
            song.cut = end - at
            return None
        song.append(at, at + header.size)
        at += header.size
    return None


def _is_tag(data: Data, at: int, header: Header) -> bool:
    place = at + 4 + header.side
    return header.layer == 3 and (data[place : place + 4] in (b"Xing", b"Info") or data[at + 36 : at + 40] == b"VBRI")


def _read_tag(data: Data, song: Song) -> int:
    """Take note of a tag in the song's first frame; return the bytes of that frame if it is no audio."""
    at, header = song.begin, song.header
    if not _is_tag(data, at, header) or at + header.size > len(data):
        return 0
    place = at + 4 + header.side
    if data[at + 36 : at + 40] == b"VBRI":
        song.promised = int.from_bytes(data[at + 50 : at + 54], "big")
    elif data[place + 7] & 1 and place + 12 <= at + header.size:
        song.promised = int.from_bytes(data[place + 8 : place + 12], "big")
        song.tag = data[at : at + header.size]
    return header.size


def _next_frame(data: Data, at: int, last: int, end: int) -> int | None:
    """Return the first position from `at` up to `last` where frames of one kind follow each other, up to `end`."""
    while 0 <= at < last:
        if data[at : at + 3] == b"ID3" and at + 10 <= len(data):
            skipped = at + id3_size(data, at)
            last, at = max(last, min(end, skipped + SEARCH)), skipped
            continue
        if _confirmed(data, at, end):
            return at
        tag = data.find(b"ID3", at + 1, last)
        at = data.find(b"\xff", at + 1, last)
        if tag >= 0 and (at < 0 or tag < at):
            at = tag
    return None


def _confirmed(data: Data, at: int, end: int) -> bool:
    """Return whether CONFIRM frames of one kind begin here, or fewer that reach the end."""
    first = header = read_header(data, at)
    for _ in range(CONFIRM - 1):
        if header is None or first is None or header.kind != first.kind:
            return False
        at += header.size
        if at == end:
            return True
        header = read_header(data, at)
    return header is not None and first is not None and header.kind == first.kind


def id3_size(data: Data, at: int = 0) -> int:
    """Return the bytes of the ID3v2 tag at a position, 0 if there is none."""
    if data[at : at + 3] != b"ID3" or at + 10 > len(data):
        return 0
    a, b, c, d = data[at + 6 : at + 10]
    footer = 10 if data[at + 5] & 0x10 else 0
    return 10 + footer + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | (d & 127))
