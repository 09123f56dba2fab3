"""The files of a downloaded archive: a zip file, or the folder that a browser unpacked it into.

    with open_archive(Path("mdx_AB.zip")) as archive:
        archive.files                                   # {"modelA/config.yaml": Member(...), ...}
        with archive.unpacking("modelA/config.yaml") as file:
            file.read()

One folder around everything is taken off, and files that systems and archivers add are left out. Nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from my_submission.src.audio.tracks import is_junk
from my_submission.src.challenge.published import DOWNLOAD
from my_submission.src.checkpoint import CheckpointError

ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags of a member: encrypted, strongly encrypted, names encrypted

# the errors by which zipfile reports damage; a damaged name is a UnicodeDecodeError, which is a ValueError
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, OverflowError, struct.error)


@dataclass(frozen=True)
class Member:
    """A file of the archive: its name there, its size when it is unpacked, and how to open it."""

    name: str
    size: int  # bytes
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Archive:
    """The files of an archive by their path in it, such as modelA/config.yaml."""

    path: Path
    files: dict[str, Member]

    @contextlib.contextmanager
    def unpacking(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for reading; raise CheckpointError if it turns out to be damaged."""
        try:
            with self.files[path].open() as file:
                yield file
        except DAMAGE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(f"{self.path}: {path} is damaged ({reason}); download the archive again") from error


@contextlib.contextmanager
def open_archive(path: Path, tops: Collection[str]) -> Iterator[Archive]:
    """Open a zip file or a folder for reading.

    Args:
        path: the zip file or the folder.
        tops: names of the folders that are expected in it. A single other folder around them is taken off.

    Raises CheckpointError for anything else, for paths that reach outside, and for links and encrypted files.
    """
    if path.is_dir():
        yield Archive(path, _without_wrapper(_files_of_folder(path), tops))
        return
    with _open_zip(path) as opened:
        yield Archive(path, _without_wrapper(_files_of_zip(opened, path), tops))


def _files_of_folder(folder: Path) -> dict[str, Member]:
    files: dict[str, Member] = {}
    pending = [folder]
    while pending:
        try:
            entries = sorted(path for path in pending.pop().iterdir() if not is_junk(path.name))
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be read ({error.strerror})") from error
        for path in entries:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise CheckpointError(f"{folder}: {name!r} is a link or a device, expected plain files")
            if path.is_dir():
                pending.append(path)
            else:
                files[name] = Member(name, path.stat().st_size, lambda path=path: path.open("rb"))  # type: ignore[misc]
    return files


def _files_of_zip(opened: zipfile.ZipFile, archive: Path) -> dict[str, Member]:
    files: dict[str, Member] = {}
    for info in opened.infolist():
        path = PurePosixPath(info.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
            raise CheckpointError(f"{archive}: {info.filename!r} reaches outside its folder; this is not the published archive")
        if info.is_dir() or any(map(is_junk, path.parts)):
            continue
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & ENCRYPTED:
            raise CheckpointError(f"{archive}: {info.filename!r} is a link or encrypted, expected plain files")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(f"{archive}: {info.filename!r} is packed in an unusual way; pack it again with zip")
        if str(path) in files:
            raise CheckpointError(f"{archive}: holds {info.filename!r} twice")
        files[str(path)] = Member(info.filename, info.file_size, lambda info=info: opened.open(info))  # type: ignore[misc]
    return files


def _without_wrapper(files: dict[str, Member], tops: Collection[str]) -> dict[str, Member]:
    """Take off the folder around everything, if there is one and it holds some of `tops`."""
    parts = [path.split("/") for path in files]
    around = {first for first, *_ in parts}
    if len(around) != 1 or around & set(tops) or not any(len(names) > 2 and names[1] in tops for names in parts):
        return files
    return {path.partition("/")[2]: member for path, member in files.items()}


def _open_zip(archive: Path) -> zipfile.ZipFile:
    if not archive.is_file():
        raise CheckpointError(f"{archive}: no such file; download it from {DOWNLOAD}")
    try:
        return zipfile.ZipFile(archive)
    except OSError as error:
        raise CheckpointError(f"{archive}: cannot be read ({error.strerror})") from error
    except DAMAGE as error:
        with archive.open("rb") as file:
            head = file.read(512).lstrip().lower()
        if head.startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(
                f"{archive}: is a web page, not the archive: Google Drive asks before it hands out a file too large for its "
                f"virus scan. Open {DOWNLOAD} in a browser, choose 'Download anyway', and install the file that comes"
            ) from error
        size = archive.stat().st_size
        raise CheckpointError(
            f"{archive}: is no zip archive, or cut off or damaged ({size} bytes are there); download it again"
        ) from error
