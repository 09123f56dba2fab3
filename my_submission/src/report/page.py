"""One page of what came of separating songs: scores, pictures, and players that can be switched while they play.

    tracks = [Track("song", Path("song/mixture.wav"), estimates={"vocals": Path("out/song/vocals.wav")})]
    write_page("report.html", tracks, title="One song")

It opens from disk and asks for nothing on a network. Audio (16-bit FLAC) and pictures lie beside report.html in the folder
report_audio, which belongs to the page and is replaced with it; embedded, they are in the page itself.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from tqdm import tqdm

from my_submission.src.common.errors import UserError
from my_submission.src.evaluation.results import INSTRUMENTS, Result, score_files
from my_submission.src.report import markup
from my_submission.src.report.lanes import MIXTURE, Track, count_lanes, make_lanes, slug
from my_submission.src.report.players import FILE_MARK

__all__ = [
    "ReportError",
    "Track",
    "add_options",
    "check_options",
    "check_path",
    "evaluated_tracks",
    "write_page",
    "write_with_files",
]

MARKER = "made_with_the_page.txt"  # a folder of files that holds this may be replaced
TYPES = {".flac": "audio/flac", ".png": "image/png"}
PIECE = 3 << 18  # bytes put into a page at a time; a multiple of 3, so that base64 goes on without padding


class ReportError(UserError):
    """A page that cannot be written."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that commands write a page by."""
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a page to look at and listen to: FILE.html")
    parser.add_argument("--embed", action="store_true", help="put audio and pictures into that page, not beside it")


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that mean nothing together, as a parser does."""
    if options.embed and not options.report:
        parser.error("--embed puts audio into the page that --report names, and no page is asked for")


def check_path(page: Path, embed: bool = False, apart_from: Sequence[Path] = ()) -> None:
    """Refuse, before anything is computed, a page that could not be written or would overwrite something else.

    `apart_from`: folders where it must not lie, because its audio would be taken for songs there.

    Raises ReportError.
    """
    if page.suffix.lower() not in (".html", ".htm") or page.is_dir() or not page.absolute().parent.is_dir():
        raise ReportError(f"--report {page}: expected the name of an .html file in a folder that exists")
    for folder in [] if embed else apart_from:
        if folder.resolve() in page.resolve().parents:
            raise ReportError(f"--report {page}: lies among the songs of {folder}; expected a place elsewhere")
    beside = _files_folder(page)
    if not embed and _is_taken(beside):
        raise ReportError(
            f"--report {page}: its audio goes to {beside}, where something else is; move that, or name another page"
        )


def evaluated_tracks(results: Sequence[Result], data: Path, predictions: Path) -> list[Track]:
    """The tracks of an evaluation."""
    tracks = []
    for result in results:
        folder, found = data / result.track, predictions / result.track
        there = [name for name in INSTRUMENTS if (folder / f"{name}.wav").is_file()]
        tracks.append(
            Track(
                result.track,
                folder / "mixture.wav",
                estimates={name: found / f"{name}.wav" for name in INSTRUMENTS},
                references={name: folder / f"{name}.wav" for name in there},
                sdr=result.sdr,
                compared=result.members,
                separation_seconds=result.separation_seconds,
            )
        )
    return tracks


def write_page(
    path: str | Path,
    tracks: Sequence[Track],
    *,
    title: str,
    facts: Mapping[str, object] | None = None,
    failed: Mapping[str, str] | None = None,
    embed: bool = False,
) -> None:
    """Write the page and its folder of files, both or none, in memory that does not depend on the length of the songs.

    Where a track was scored, the scores of its mixture, taken as the estimate of every instrument, are computed too.

    Args:
        path: of the page, ending in .html.
        tracks: what it shows, in this order.
        title: its heading.
        facts: what made it: name -> value.
        failed: tracks that it cannot show -> why.
        embed: put audio and pictures into the page.

    Raises ReportError, AudioError and MetricError, what was there before being left as it was.
    """

    def make(files: Path) -> str:
        compared = [_with_mixture_scores(track) for track in tracks]
        with tqdm(total=sum(map(count_lanes, tracks)), desc="page", unit="lane", leave=False, disable=None) as bar:
            lanes = [
                make_lanes(track, files, f"{number:03d}_{slug(track.name)}", bar.update)
                for number, track in enumerate(tracks, 1)
            ]
        return markup.page(title, compared, lanes, facts or {}, failed or {})

    write_with_files(Path(path), make, embed)


def write_with_files(page: Path, make: Callable[[Path], str], embed: bool) -> None:
    """Write a page and its folder of files, both or none.

    `make` is given a folder to fill and returns the page's HTML, in which names of files there stand between FILE_MARKs.

    Raises ReportError and what `make` raises, what was there before being left as it was.
    """
    check_path(page, embed)
    folder = _files_folder(page)
    partial, scratch = (place.with_name(f".{place.name}.partial") for place in (page, folder))
    try:
        shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
        scratch.mkdir()
        (scratch / MARKER).write_text(f"Audio and pictures of {page.name!a}, replaced or removed with it.\n")
        _write(partial, make(scratch), scratch, None if embed else folder.name)
        with _in_place(scratch, folder, embed):
            partial.replace(page)
    except OSError as error:
        raise ReportError(f"{page}: cannot be written ({error.strerror or error}); is the disk full?") from error
    finally:
        partial.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _files_folder(page: Path) -> Path:
    return page.with_name(f"{page.stem}_audio")


def _is_taken(folder: Path) -> bool:
    """Whether there is something that is no page's."""
    if not folder.is_dir():
        return folder.exists() or folder.is_symlink()
    return not (folder / MARKER).is_file() and any(folder.iterdir())


def _with_mixture_scores(track: Track) -> Track:
    """The track, compared with its mixture too, if it was scored."""
    if not track.sdr:
        return track
    scores = {name: score_files(track.references[name], track.mixture) for name in track.sdr}
    return dataclasses.replace(track, compared={**track.compared, MIXTURE: scores})


def _write(page: Path, html: str, files: Path, beside: str | None) -> None:
    """Write the page, the places of its files filled in: names below the folder `beside`, or the files themselves."""
    with page.open("w", encoding="utf-8", newline="\n") as out:
        for index, piece in enumerate(html.split(FILE_MARK)):  # text, file, text, ...
            if index % 2 == 0:
                out.write(piece)
            elif beside is not None:
                out.write(quote(f"{beside}/{piece}", errors="surrogateescape"))
            else:
                out.writelines(_data_url(files / piece))


def _data_url(path: Path) -> Iterator[str]:
    yield f"data:{TYPES[path.suffix]};base64,"
    with path.open("rb") as file:
        while data := file.read(PIECE):
            yield base64.b64encode(data).decode("ascii")


@contextlib.contextmanager
def _in_place(scratch: Path, folder: Path, embed: bool) -> Iterator[None]:
    """Put the folder of files in its place while the page is; what was there before comes back if that fails."""
    former = folder.with_name(f".{folder.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if folder.exists() and not _is_taken(folder):
        folder.rename(former)
    try:
        if not embed:
            scratch.rename(folder)
        yield
    except BaseException:
        if not embed and not _is_taken(folder):
            shutil.rmtree(folder, ignore_errors=True)
        if former.exists():
            former.rename(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)
