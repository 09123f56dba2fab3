"""Tracks on disk: folders of folders, each of which holds the stems of a song.

    tracks = find_tracks(["data/train"], "vocals.wav and drums.wav")    # only the folders; a TrackError if there are none
    tracks[0].find("vocals")                                            # Path("data/train/song/Vocals.WAV")

Each command opens the stems it needs, since each asks for something else: training for certain instruments, corrupt for all.
All of them find stems in the same way: upper and lower case are the same, and files that systems and archivers add are left
out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import some

SUFFIXES = (".wav", ".flac")  # of stems
MIXTURE = "mixture"  # the file of a track that is no stem, without its suffix

# Files and folders that systems add, in lower case: macOS, Windows, Linux, Synology, QNAP.
JUNK = (
    *("__macosx", "icon\r", "network trash folder", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"),
    *("lost+found", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "@recently-snapshot"),
)


def is_junk(name: str) -> bool:
    """Return whether a name is hidden, or one that a system or an archiver adds: never a track, a stem or a checkpoint."""
    return name.startswith(".") or name.lower() in JUNK


def same_form(name: str) -> str:
    """Return one form for all spellings of a name: lower case, and accents composed (macOS writes them decomposed)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


class TrackError(UserError):
    """A folder of tracks, or a track in it, that cannot be used."""


@dataclass(frozen=True)
class Track:
    """A folder of stems. The stems that were opened have one length."""

    folder: Path
    stems: dict[str, AudioFile] = field(default_factory=dict)  # instrument -> file, those opened, in the order asked for
    dropped: frozenset[str] = frozenset()  # instruments whose stem is not drawn from in training

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def num_samples(self) -> int:
        """Length of the stems, samples per channel."""
        return next(iter(self.stems.values())).num_samples

    @cached_property
    def sounding(self) -> tuple[str, ...]:
        """Instruments whose stem is not silent throughout. Reads each stem up to its first nonzero block; raises AudioError."""
        return tuple(name for name, stem in self.stems.items() if any(block.any() for block in stem.blocks()))

    @property
    def paths(self) -> list[Path]:
        """Every wav and flac of the folder by name, junk left out. Raises TrackError."""
        return [path for path in self._files() if path.suffix.lower() in SUFFIXES]

    @property
    def mixtures(self) -> list[Path]:
        """The files of the mixture, usually one or none. Raises TrackError."""
        return self.paths_of(MIXTURE)

    def paths_of(self, instrument: str) -> list[Path]:
        """Return the files of an instrument by name, usually one or none. Raises TrackError."""
        return [path for path in self.paths if same_form(path.stem) == same_form(instrument)]

    def find(self, instrument: str) -> Path | str:
        """Return the file of an instrument, or say why there is not exactly one. Raises TrackError."""
        paths = self.paths_of(instrument)
        if len(paths) == 1:
            return paths[0]
        if paths:
            return f"is there twice ({', '.join(path.name for path in paths)}), expected one file"
        found = self.in_other_formats(instrument)
        return f"is missing{f' (there is {some(found)}, expected .wav or .flac)' if found else ''}"

    def in_other_formats(self, instrument: str) -> list[str]:
        """Return the names of files that look like the instrument, but are neither wav nor flac. Raises TrackError."""
        names = [path.name for path in self._files() if path.suffix.lower() not in SUFFIXES]
        return [name for name in names if same_form(name.partition(".")[0].strip()) == same_form(instrument)]

    def _files(self) -> list[Path]:
        """Return everything in the folder by name, junk left out. Raises TrackError."""
        try:
            files = [path for path in self.folder.iterdir() if not is_junk(path.name)]
        except OSError as error:
            raise TrackError(f"{self.folder}: cannot be read ({error.strerror}), expected a folder of stems") from error
        return sorted(files, key=lambda path: path.name)


def track_folders(data: Path) -> list[Path]:
    """Return the folders in a folder by name, junk left out. Raises OSError."""
    return sorted(path for path in data.iterdir() if path.is_dir() and not is_junk(path.name))


def find_tracks(folders: Iterable[str | Path], contents: str) -> list[Track]:
    """Return the tracks of one or several folders: in the folders' order, by name within each, junk left out.

    No file is opened, so `stems` is empty. `contents` names, for the error message, the files each track has to hold.

    Raises TrackError for a folder that cannot be read or holds no track.
    """
    tracks = []
    for folder in map(Path, folders):
        try:
            found = track_folders(folder)
        except OSError as error:
            raise TrackError(f"{folder}: cannot be read ({error.strerror}), expected a folder of tracks") from error
        if not found:
            raise TrackError(f"{folder}: no tracks there, expected folders that each hold {contents}")
        tracks += [Track(path) for path in found]
    return tracks
