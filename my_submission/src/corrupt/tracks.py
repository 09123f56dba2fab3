"""The clean tracks that faults are put into."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import SUFFIXES, track_folders
from my_submission.src.corrupt import CorruptError

MIXTURE = "mixture"


@dataclass(frozen=True)
class Track:
    """A folder of clean stems of one length, rate and number of channels."""

    folder: Path
    stems: dict[str, AudioFile]  # by instrument, in the order of their names
    mixtures: tuple[Path, ...]  # what is no stem, and copied
    sounding: tuple[str, ...]  # instruments that are not silent throughout

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def files(self) -> list[Path]:
        """Everything that OUT is to have, too."""
        return [*self.mixtures, *(stem.path for stem in self.stems.values())]


def find_tracks(data: Path) -> list[Track]:
    """The tracks of a folder by name, hidden ones left out. Of every stem the header is read, and on to its first sound.

    Raises CorruptError for the first that cannot be used, AudioError for a file that is no audio.
    """
    try:
        folders = track_folders(data)
        if not folders:
            raise CorruptError(f"{data}: no tracks there, expected folders that each hold two or more wav or flac stems")
        return [_open_track(folder) for folder in folders]
    except OSError as error:
        raise CorruptError(f"{error.filename}: cannot be read ({error.strerror}), expected a folder of tracks") from error


def _open_track(folder: Path) -> Track:
    """The track in a folder. What is neither wav nor flac is no stem, and is passed over."""
    paths = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    mixtures = tuple(sorted(path for path in paths if path.stem == MIXTURE))
    paths = sorted((path for path in paths if path not in mixtures), key=lambda path: path.name)
    found = ", ".join(path.name for path in paths) or "none"
    if len(paths) < 2:
        raise CorruptError(f"{folder}: too few stems ({found}), expected two or more wav or flac files beside the mixture")
    if len({path.stem for path in paths}) < len(paths):
        raise CorruptError(f"{folder}: an instrument is there twice ({found}), expected one file for each")
    joined = next((path for path in paths if "+" in path.stem), None)
    if joined is not None:
        raise CorruptError(f"{joined}: has a + in its name, which is what joins names in the table; rename it")
    stems = {path.stem: AudioFile(path) for path in paths}
    _refuse_misfits(folder, stems)
    sounding = tuple(name for name, stem in stems.items() if any(block.any() for block in stem.blocks()))
    if len(sounding) < 2:  # nobody could be heard in another's stem
        silent = f"{len(stems) - len(sounding)} of {len(stems)} stems are silent throughout"
        raise CorruptError(f"{folder}: {silent}, expected two or more that are not; leave the track out")
    return Track(folder, stems, mixtures, sounding)


def _refuse_misfits(folder: Path, stems: dict[str, AudioFile]) -> None:
    for attribute, what in (("num_samples", "samples"), ("sample_rate", "Hz"), ("channels", "channels")):
        values = {stem.path.name: getattr(stem, attribute) for stem in stems.values()}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{name} {value}" for name, value in values.items())
            raise CorruptError(f"{folder}: its stems do not fit together ({found} {what}), expected the same in each")


def fingerprint(tracks: Sequence[Track]) -> str:
    """What tells these tracks from others, as far as names and sizes do."""
    facts = [[track.name, *([path.name, path.stat().st_size] for path in track.files)] for track in tracks]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
