"""Tracks on disk: folders of folders, each of which holds the stems of a song.

    tracks = find_tracks(["data/train"], "vocals.wav and drums.wav")    # only the folders; a TrackError if there are none
    tracks[0].paths_of("vocals")                                        # [Path("data/train/song/vocals.wav")]

Each command opens the stems it needs, since each asks for something else: training for certain instruments, corrupt for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.common.errors import UserError

SUFFIXES = (".wav", ".flac")  # of stems
MIXTURE = "mixture"  # the file of a track that is no stem, without its suffix


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
        """Every wav and flac of the folder by name, hidden ones left out. Raises TrackError."""
        try:
            files = [path for path in self.folder.iterdir() if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise TrackError(f"{self.folder}: cannot be read ({error.strerror}), expected a folder of stems") from error
        return sorted((path for path in files if not path.name.startswith(".")), key=lambda path: path.name)

    @property
    def mixtures(self) -> list[Path]:
        """The files of the mixture, usually one or none. Raises TrackError."""
        return [path for path in self.paths if path.stem == MIXTURE]

    def paths_of(self, instrument: str) -> list[Path]:
        """Return the files of an instrument: one, none, or two if it exists both as wav and as flac."""
        paths = (self.folder / f"{instrument}{suffix}" for suffix in SUFFIXES)
        return [path for path in paths if path.exists()]


def track_folders(data: Path) -> list[Path]:
    """Return the folders in a folder by name, hidden ones left out. Raises OSError."""
    return sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))


def find_tracks(folders: Iterable[str | Path], contents: str) -> list[Track]:
    """Return the tracks of one or several folders: in the folders' order, by name within each, hidden ones left out.

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
