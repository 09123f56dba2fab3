"""Parse a page and its pictures."""

from __future__ import annotations

import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from my_submission.src.report.pictures import SHADES


class Page(HTMLParser):
    """A parsed page: the rows of its tables, the names of its tracks, the files it loads or offers, and its tags."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.rows, self.heads, self.sources, self.tags, self.text = path, [], [], [], set(), ""
        self.downloads: list[tuple[str, str]] = []  # name under which it is saved, link
        self.cell: list[str] | None = None
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td", "h3", "caption"):
            self.cell = []
        if "download" in (found := dict(attributes)):
            self.downloads.append((found["download"], found["href"]))
            return
        self.sources += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            self.rows[-1].append("".join(self.cell))
        if tag == "h3":
            self.heads.append("".join(self.cell))
        if tag in ("th", "td", "h3", "caption"):
            self.cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cell is not None:
            self.cell.append(data)

    def scores(self) -> dict[str, dict[str, list[float]]]:
        """Return song -> name of a row -> the numbers of the row."""
        songs: dict[str, dict[str, list[float]]] = {}
        for row in self.rows[1:]:
            if len(row) == 1:
                rows = songs.setdefault(row[0], {})
            else:
                rows[row[0]] = [float(cell.replace("−", "-")) for cell in row[1:]]
        return songs

    def files(self) -> list[Path]:
        """Return the files on disk that the page loads."""
        return [self.path.parent / unquote(source) for source in self.sources if not source.startswith("data:")]


def decode(png: bytes) -> np.ndarray:
    """Return the indices [rows, columns] of a PNG with a palette, after checking every checksum."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, chunks = 8, {}
    while position < len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        data = png[position + 8 : position + 8 + length]
        assert struct.unpack_from(">I", png, position + 8 + length)[0] == zlib.crc32(kind + data)
        chunks[kind] = data
        position += 12 + length
    columns, rows, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 3, 0, 0, 0]
    assert len(chunks[b"PLTE"]) == 3 * SHADES
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(rows, columns + 1)
    assert (lines[:, 0] == 0).all()
    return lines[:, 1:]
