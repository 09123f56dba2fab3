"""A file made of pieces of another: audio as libsndfile reads it whole, without a copy on the disk.

    with Splice("song.mp3", [b"a corrected header", (4096, 1_000_000)]) as file:
        soundfile.SoundFile(file)

A piece is either bytes that replace a damaged part, or a range (start, end) of the file at `path`.
"""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

Data = bytes | mmap.mmap  # a whole file
Piece = bytes | tuple[int, int]


class Splice(io.RawIOBase):
    """A read-only, seekable binary file that holds the pieces one after the other. Raises OSError."""

    def __init__(self, path: str | Path, pieces: Sequence[Piece]) -> None:
        self._file = io.FileIO(path)  # closed by close()
        self._pieces: list[tuple[int, int, Piece]] = []  # begin, end, piece
        self._position = self._size = 0
        for piece in pieces:
            size = len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]
            self._pieces.append((self._size, self._size + size, piece))
            self._size += size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the beginning, the position or the end; return the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the stub's type has no name
        """Fill the buffer from the position on; return the number of bytes, fewer only at the end."""
        view, done = memoryview(buffer).cast("B"), 0
        for begin, end, piece in self._pieces:
            while begin <= self._position < end and done < len(view):
                offset = self._position - begin
                wanted = view[done : done + end - self._position]
                if isinstance(piece, bytes):
                    wanted[:] = piece[offset : offset + len(wanted)]
                    count = len(wanted)
                else:
                    self._file.seek(piece[0] + offset)
                    count = self._file.readinto(wanted)
                if not count:
                    return done
                done += count
                self._position += count
        return done

    def close(self) -> None:
        """Close the file at `path`."""
        self._file.close()
        super().close()
