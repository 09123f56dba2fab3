"""Find the songs to separate, and the folder for the stems of each.

    found = find_songs([Path("music"), Path("song.mp3")], out=Path("separated"), stems=[("vocals", "other")])
    found.jobs          # [Job(path=Path("music/album/a.wav"), folder=Path("separated/album/a")), ...]

A folder stands for the songs in it and below. Links to folders are followed, and each folder is searched once. Hidden files,
folders that systems leave behind and the command's own stems are passed over.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from my_submission.src.audio import ffmpeg
from my_submission.src.audio.files import SUFFIXES, AudioError
from my_submission.src.audio.layout import DEFAULT, Layout
from my_submission.src.audio.lossy import CONTAINERS
from my_submission.src.audio.tracks import is_junk
from my_submission.src.common.text import shown

# Formats of audio, alone or in a film, that libsndfile does not read, and ffmpeg does.
_OTHER = "3gp aac ac3 alac amr ape asf dff dsf dts eac3 m4a m4b m4p m4r mka mkv mov mp4 mpc oma ra shn spx tak tta webm wma wv"
OTHER_SUFFIXES = frozenset(f".{name}" for name in _OTHER.split())


@dataclass(frozen=True)
class Job:
    """One song to separate."""

    path: Path
    folder: Path  # for its stems


@dataclass
class Found:
    """The songs of all inputs, and the files and folders that were passed over although they may hold more."""

    jobs: list[Job] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)  # audio that only ffmpeg reads, which is not there
    closed: list[str] = field(default_factory=list)  # folders that cannot be listed, and why


def find_songs(
    inputs: Sequence[Path],
    out: Path,
    stems: Sequence[Collection[str]],
    *,
    layout: Layout = Layout(),  # noqa: B008  # it is immutable
    written: Collection[str] = (),
    container: str = "wav",
    overwrite: bool = False,
    marker: str | None = None,
) -> Found:
    """Return a job for every song of the inputs. Its folder below `out` is the song's name, or its path below the input folder.

    A folder does not stand for this command's own output in it. These are files named like stems in the folder of another
    song's job, or where the layout puts another song's stems, or in another folder with the name of a song if all stems are
    there. To separate them, name the files.

    Args:
        inputs: files and folders.
        out: folder for the stems. It may be one of the inputs, or lie above or below one.
        stems: sets of stems that belong together: their names, without suffix.
        layout: the places of the stems' files (default: in the song's folder).
        written: names of the stems that will be written (default: none).
        container: suffix of their files (default: wav).
        overwrite: whether files that are there will be replaced (default: no).
        marker: name of a file that marks folders to pass over (default: none).

    Raises AudioError for a folder without songs, two songs that would share a folder or a file, and a song that would be
    replaced.
    """
    found = Found()
    listed: list[tuple[Job, bool]] = []  # (job, whether the song is itself an input)
    for path in inputs:
        if path.is_dir():
            songs = _songs_below(path, marker, found)
            listed += [(_job(song, out, song.relative_to(path).parent), False) for song in songs]
        else:
            listed.append((_job(path, out, Path()), True))
    own = _own_stems([job for job, _ in listed], stems, layout)
    jobs: dict[Path, Job] = {}
    for job, is_input in listed:
        if job.path in own and not is_input:
            continue
        other = jobs.setdefault(job.folder, job)
        if _real(other.path) != _real(job.path):
            raise _shared(other, job, job.folder)
    found.jobs = list(jobs.values())
    files = _refuse_shared([(job, list(layout.files(job.folder, written, container).values())) for job in found.jobs])
    if overwrite:
        _refuse_replaced(found.jobs, files)
    return found


def _shared(one: Job, other: Job, place: Path) -> AudioError:
    advice = "separate them with another --out each"
    return AudioError(f"{shown(one.path)} and {shown(other.path)} would both be written to {shown(place)}; {advice}")


def _refuse_shared(jobs: Sequence[tuple[Job, Sequence[Path]]]) -> dict[Path, Job]:
    """Return file -> job. Raise AudioError if two files have one place, or one lies where another needs a folder."""
    files: dict[Path, Job] = {}
    for job, paths in jobs:
        for path in paths:
            if path in files:
                raise _shared(files[path], job, path)
            files[path] = job
    for path, job in files.items():
        for folder in path.parents:
            if folder in files:
                raise _shared(files[folder], job, folder)
    return files


def passed_over(found: Found) -> list[str]:
    """Return a line for each kind of thing that was passed over."""
    lines = [f"{reason}; its songs are passed over" for reason in found.closed]
    if found.unreadable:
        count, names = len(found.unreadable), [shown(path.name) for path in found.unreadable]
        files = f"{count} audio {'file is' if count == 1 else 'files are'} passed over, which libsndfile cannot read"
        more = ", ..." if count > 3 else ""
        lines.append(
            f"{files}: {', '.join(names[:3])}{more}; {'it is' if count == 1 else 'they are'} read if ffmpeg is installed"
        )
    return lines


def _job(song: Path, out: Path, below: Path) -> Job:
    name = song.stem if song.stem.strip(".") else song.name  # "...mp3" has the stem ".."
    return Job(song, out / below / name)


def _songs_below(top: Path, marker: str | None, found: Found) -> list[Path]:
    """Return the songs in a folder and below by path, and note in `found` the files and folders that are passed over.

    Raises AudioError if there is none.
    """
    here = Found()
    files = [path for files in _folders_below(top, marker, here) for path in files]
    suffixes = {*SUFFIXES, *(OTHER_SUFFIXES if ffmpeg.is_there() else ())}
    songs = sorted(path for path in files if path.suffix.lower() in suffixes)
    here.unreadable = sorted(path for path in files if path.suffix.lower() in OTHER_SUFFIXES - suffixes)
    if not songs:
        nothing = f"{shown(top)}: holds no audio, expected files ending in {' '.join(SUFFIXES)}"
        raise AudioError("; ".join([nothing, *passed_over(here)]))
    found.unreadable += here.unreadable
    found.closed += here.closed
    return songs


def _folders_below(top: Path, marker: str | None, found: Found) -> Iterator[list[Path]]:
    """Yield the visible files of a folder and of each folder below it. Linked folders come last."""
    seen: set[Path] = set()
    folders, links = deque([top]), deque[Path]()
    while folders or links:
        folder = folders.popleft() if folders else links.popleft()
        place = _real(folder)
        is_loop = folder != top and place in (*_real(top).parents, *_real(folder.parent).parents)
        if place in seen or is_loop:
            continue
        seen.add(place)
        try:
            entries = sorted(entry for entry in folder.iterdir() if not is_junk(entry.name))
            files = [entry for entry in entries if entry.is_file()]
            below = [entry for entry in entries if entry.is_dir()]
        except OSError as error:
            reason = f"{shown(folder)}: cannot be read ({error.strerror})"
            if folder == top:
                raise AudioError(f"{reason}, expected a folder of songs") from error
            found.closed.append(reason)
            continue
        if marker not in [path.name for path in files]:
            yield files
            for path in below:
                (links if path.is_symlink() else folders).append(path)


def _own_stems(jobs: Sequence[Job], stems: Sequence[Collection[str]], layout: Layout) -> set[Path]:
    """Return the songs that are stems of another song; see `find_songs`."""
    all_stems = {stem for together in stems for stem in together}
    names = {f"{stem}.{container}" for stem in all_stems for container in CONTAINERS}
    by_folder = {_real(job.folder): job.path for job in jobs}
    by_name: dict[str, list[Path]] = {}
    for job in jobs:
        by_name.setdefault(job.folder.name, []).append(job.path)
    by_place: dict[Path, list[Path]] = {}
    for job in jobs if layout.template != DEFAULT else ():
        folder = _real(job.folder.parent) / job.folder.name
        for container in CONTAINERS:
            for path in layout.files(folder, all_stems, container).values():
                by_place.setdefault(path, []).append(job.path)

    @functools.cache
    def has_all(folder: Path) -> bool:
        sets = (
            [folder / f"{stem}.{container}" for stem in together]
            for together in stems
            for container in CONTAINERS
            if len(together) > 1
        )
        return any(all(path.is_file() for path in paths) for paths in sets)

    def owners(song: Path) -> set[Path]:
        folder = _real(song.parent)
        found = list(by_place.get(folder / song.name, []))
        if song.name in names:
            named = by_name.get(song.parent.name, []) if has_all(folder) else []
            found += [by_folder[folder]] if folder in by_folder else named
        return {*found} - {song}

    owned = {job.path: owners(job.path) for job in jobs}
    known = {song for song, its_owners in owned.items() if not its_owners}  # from these on, stems of stems are found too
    found: set[Path] = set()
    while new := {song for song, its_owners in owned.items() if song not in found and its_owners & known}:
        found |= new
        known = new
    return found  # without songs that own each other in a circle


def _refuse_replaced(jobs: Sequence[Job], files: Mapping[Path, Job]) -> None:
    """Raise AudioError if a job's stems would replace a song; `files` are all that will be written."""
    real = functools.cache(_real)
    owners = {real(path.parent) / path.name: job.path for path, job in files.items()}
    for job in jobs:
        owner = owners.get(_real(job.path))
        if owner is not None:
            advice = "name another --out, or leave --overwrite out"
            raise AudioError(f"{shown(job.path)}: would be replaced by a stem of {shown(owner)}; {advice}")


def _real(path: Path) -> Path:
    """Return the path without links; unlike Path.resolve, links that form a loop are no error."""
    return Path(os.path.realpath(path))
