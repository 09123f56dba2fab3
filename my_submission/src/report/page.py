"""A page of separated songs: scores, pictures, and players that can be switched while they play.

    songs = [Song("song", Path("song/mixture.wav"), estimates={"vocals": Path("out/song/vocals.wav")})]
    write_page("report.html", songs, title="One song")

The page opens from disk and needs no network. Its audio (16-bit FLAC) and pictures lie next to report.html in the folder
report_audio, which belongs to the page and is replaced with it. With embed=True they are in the page itself.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import errno
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from my_submission.src.common.atomic import hidden_folder
from my_submission.src.common.errors import UserError
from my_submission.src.common.locks import exclusive
from my_submission.src.evaluation.results import INSTRUMENTS, Result, reference_files, score_files
from my_submission.src.report import markup
from my_submission.src.report.lanes import MIXTURE, Song, count_lanes, make_lanes, slug
from my_submission.src.report.players import FILE_MARK

MARKER = "made_with_the_page.txt"  # a folder that holds this file belongs to a page and may be replaced
TYPES = {".flac": "audio/flac", ".png": "image/png"}
PIECE = 3 << 18  # bytes embedded at a time; a multiple of 3, so that base64 needs no padding between pieces


class ReportError(UserError):
    """A page that cannot be written."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that writes a page."""
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page with scores, pictures and players: FILE.html (default: none)"
    )
    parser.add_argument(
        "--embed", action="store_true", help="put audio and pictures into the page itself (default: into a folder next to it)"
    )


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse --embed without --report as a usage error of the parser."""
    if options.embed and not options.report:
        parser.error("--embed puts audio into the page that --report names, and no page is asked for")


def check_path(page: Path, embed: bool = False, apart_from: Sequence[Path] = ()) -> None:
    """Raise ReportError for a page that cannot be written or would overwrite something else, before anything is computed.

    `apart_from` names folders of songs: the page's audio would be taken for songs there.
    """
    for path in (page, _files_folder(page)):
        try:
            path.lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise ReportError(f"--report {page}: the name is too long; choose a shorter one") from error
    if page.suffix.lower() not in (".html", ".htm") or page.is_dir() or not page.absolute().parent.is_dir():
        raise ReportError(f"--report {page}: expected the name of an .html file in a folder that exists")
    for folder in [] if embed else apart_from:
        if folder.resolve() in page.resolve().parents:
            raise ReportError(f"--report {page}: lies among the songs of {folder}; expected a place elsewhere")
    files = _files_folder(page)
    if not embed and _is_taken(files):
        raise ReportError(
            f"--report {page}: its audio goes to {files}, where something else is; move that, or name another page"
        )


def evaluated_songs(results: Sequence[Result], data: Path, predictions: Path) -> list[Song]:
    """Return the songs of an evaluation of the dataset `data`, with the stems that lie in `predictions`."""
    songs = []
    for result in results:
        folder, found = data / result.track, predictions / result.track
        songs.append(
            Song(
                result.track,
                folder / "mixture.wav",
                estimates={name: found / f"{name}.wav" for name in INSTRUMENTS},
                references=reference_files(folder),
                sdr=result.sdr,
                compared=result.members,
                separation_seconds=result.separation_seconds,
            )
        )
    return songs


def write_page(
    path: str | Path,
    songs: Sequence[Song],
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    failed: Mapping[str, str] | None = None,
    embed: bool = False,
) -> None:
    """Write the page and its folder of files, both or none, in constant memory.

    For scored songs, the scores of the mixture, taken as the estimate of every instrument, are computed and shown too.

    Args:
        path: of the page, ending in .html.
        songs: in the order of the page.
        title: heading of the page.
        facts: settings shown at the end: name -> value (default: none).
        failed: song -> why it is not on the page (default: none).
        embed: put audio and pictures into the page, to send it as a single file (default: into a folder next to it).

    Raises ReportError, AudioError and MetricError; a page that was there before is then left untouched.
    """

    def make(files: Path) -> str:
        compared = [_with_mixture_scores(song) for song in songs]
        with tqdm(total=sum(map(count_lanes, songs)), desc="page", unit="lane", leave=False, disable=None) as bar:
            lanes = [
                make_lanes(song, files, f"{number:03d}_{slug(song.name)}", bar.update) for number, song in enumerate(songs, 1)
            ]
        return markup.page(title, compared, lanes, facts or {}, failed or {})

    write_with_files(Path(path), make, embed)


def write_with_files(page: Path, make: Callable[[Path], str], embed: bool) -> None:
    """Write a page and its folder of files, both or none.

    `make` gets a folder, fills it with files and returns the page's HTML, in which their names stand between FILE_MARKs.

    Raises ReportError and everything that `make` raises; a page that was there before is then left untouched.
    """
    check_path(page, embed)
    folder = _files_folder(page)
    try:
        with hidden_folder(page.parent) as hidden:
            partial, files = hidden / "page", hidden / "files"
            files.mkdir()
            (files / MARKER).write_text(f"Audio and pictures of {page.name!a}, replaced or removed with it.\n")
            _write(partial, make(files), files, None if embed else folder.name)
            with exclusive(page.parent), _in_place(files, folder, hidden / "former", embed):
                partial.replace(page)
    except OSError as error:
        raise ReportError(f"{page}: cannot be written ({error.strerror or error}); is the disk full?") from error


def _files_folder(page: Path) -> Path:
    return page.with_name(f"{page.stem}_audio")


def _is_taken(folder: Path) -> bool:
    """Return whether something is there that belongs to no page."""
    if not folder.is_dir():
        return folder.exists() or folder.is_symlink()
    return not (folder / MARKER).is_file() and any(folder.iterdir())


def _with_mixture_scores(song: Song) -> Song:
    """Return a scored song with its mixture among the compared estimates; return any other song as it is."""
    if not song.sdr:
        return song
    scores = {name: score_files(song.references[name], song.mixture) for name in song.sdr}
    return dataclasses.replace(song, compared={**song.compared, MIXTURE: scores})


def _write(page: Path, html: str, files: Path, folder: str | None) -> None:
    """Write the page; replace the marked names by links into `folder`, or, if it is None, by the files themselves.

    A file is embedded where it is first named; its other mentions, which are links to download it, become empty.
    """
    embedded: set[str] = set()
    with page.open("w", encoding="utf-8", newline="\n") as out:
        for index, piece in enumerate(html.split(FILE_MARK)):  # text, file, text, ...
            if index % 2 == 0:
                out.write(piece)
            elif folder is not None:
                out.write(quote(f"{folder}/{piece}", errors="surrogateescape"))
            elif piece not in embedded:
                embedded.add(piece)
                out.writelines(_data_url(files / piece))


def _data_url(path: Path) -> Iterator[str]:
    yield f"data:{TYPES[path.suffix]};base64,"
    with path.open("rb") as file:
        while data := file.read(PIECE):
            yield base64.b64encode(data).decode("ascii")


@contextlib.contextmanager
def _in_place(files: Path, folder: Path, former: Path, embed: bool) -> Iterator[None]:
    """Move the folder of files to its final place around the same move of the page; put the former one back on an error."""
    if folder.exists() and not _is_taken(folder):
        folder.rename(former)
    try:
        if not embed:
            files.rename(folder)
        yield
    except BaseException:
        if not embed and not _is_taken(folder):
            shutil.rmtree(folder, ignore_errors=True)
        if former.exists():
            former.rename(folder)
        raise
