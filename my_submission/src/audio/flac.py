"""FLAC streams: find the number of samples where the header does not tell it.

A recorder or a pipe writes 0 for the total, since it cannot know it yet. The last frame's number tells it.
The format is that of RFC 9639.
"""

from __future__ import annotations

from my_submission.src.audio.splice import Data

MARK = b"fLaC\0\0\0\x22"  # the beginning of a stream: its name, and the head of a STREAMINFO block of 34 bytes
LARGEST = 1 << 21  # bytes that a frame has at most, generously
SIZES = {1: 192, **{code: 576 << code - 2 for code in range(2, 6)}, **{code: 256 << code - 8 for code in range(8, 16)}}


def stream_total(data: Data, at: int) -> int:
    """Return the total of samples that the STREAMINFO of the stream at `at` ("fLaC") tells; 0: unknown."""
    return int.from_bytes(data[at + 21 : at + 26], "big") & (1 << 36) - 1


def set_total(head: bytes, total: int) -> bytes:
    """Return the beginning of a stream ("fLaC" and STREAMINFO) with another total of samples."""
    word = int.from_bytes(head[21:26], "big") >> 36 << 36 | total
    return head[:21] + word.to_bytes(5, "big") + head[26:]


def count_samples(data: Data, at: int, end: int) -> int | None:
    """Return the samples of the stream at `at` whose last frame ends at `end`; None if no whole frame ends there."""
    block_size = int.from_bytes(data[at + 8 : at + 10], "big")  # the smallest: that of all frames, if the size is fixed
    place, tries = end, 3
    while tries and (place := data.rfind(b"\xff", max(at, end - LARGEST), place)) > 0:
        samples = _read_frame(data, place, end, block_size)
        if samples is not None:
            if _crc16(data[place : end - 2]) == int.from_bytes(data[end - 2 : end], "big"):
                return samples
            tries -= 1  # a header by chance within the frame, or no frame ends at `end`
    return None


def may_be_joined(data: Data, at: int, end: int) -> bool:
    """Return whether there are more bytes than frames of the largest size can take: further streams may follow."""
    block_size, largest = (int.from_bytes(data[at + place : at + place + size], "big") for place, size in ((8, 2), (15, 3)))
    frames = -(-stream_total(data, at) // max(1, block_size))
    return largest == 0 or end - at > frames * largest


def _read_frame(data: Data, at: int, end: int, block_size: int) -> int | None:
    """Return the number of samples up to the end of the frame whose header stands at `at`; None if there is no header."""
    if data[at + 1 : at + 2] not in (b"\xf8", b"\xf9") or at + 16 > end:
        return None
    code, rate = data[at + 2] >> 4, data[at + 2] & 15
    number, size = _coded_number(data, at + 4)
    place = at + 4 + size
    if code == 0 or rate == 15 or number is None:
        return None
    extra = {6: 1, 7: 2}.get(code, 0)
    samples = int.from_bytes(data[place : place + extra], "big") + 1 if extra else SIZES[code]
    place += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
    if _crc8(data[at:place]) != data[place]:
        return None
    return (number if data[at + 1] & 1 else number * block_size) + samples


def _coded_number(data: Data, at: int) -> tuple[int | None, int]:
    """Return the number coded like UTF-8 at a position, and its bytes."""
    first = data[at]
    if first < 0x80:
        return first, 1
    size = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= size <= 7:
        return None, 1
    number = first & (1 << 7 - size) - 1
    for byte in data[at + 1 : at + size]:
        if byte >> 6 != 2:
            return None, size
        number = number << 6 | byte & 63
    return number, size


def _table(bits: int, polynomial: int) -> list[int]:
    """Return the remainders of all bytes by a polynomial."""
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> bits - 1 else 0)) & (1 << bits) - 1
        table.append(value)
    return table


CRC8, CRC16 = _table(8, 0x07), _table(16, 0x8005)


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value = CRC8[value ^ byte]
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value = value << 8 & 0xFFFF ^ CRC16[value >> 8 ^ byte]
    return value
