"""The stems of a data set: each folder of tracks holds a folder for each track, and that a wav or flac for each instrument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from my_submission.src.audio.tracks import SUFFIXES, track_folders
from my_submission.src.audit import AuditError
from my_submission.src.common.text import shown


@dataclass(frozen=True)
class Stem:
    """One instrument of one track."""

    track: str
    instrument: str
    path: Path

    @property
    def name(self) -> str:
        """As it is called in messages, on one line."""
        return shown(f"{self.track}/{self.instrument}")


def find_tracks(folders: Sequence[Path]) -> list[Path]:
    """The tracks of the folders, by name within each, hidden ones left out.

    Raises AuditError for a folder that cannot be read or holds no track, and for two tracks of one name, which a table of
    stems could not tell apart.
    """
    tracks: dict[str, Path] = {}
    for folder in folders:
        try:
            found = track_folders(folder)
        except OSError as error:
            raise AuditError(f"{folder}: cannot be read ({error.strerror}), expected a folder of tracks") from error
        if not found:
            raise AuditError(f"{folder}: holds no tracks, expected a folder for each, with a wav or flac for each instrument")
        for path in found:
            other = tracks.setdefault(path.name, path)
            if other is not path:
                raise AuditError(f"{other} and {path}: two tracks of one name; audit one folder at a time, or rename one")
    return list(tracks.values())


def find_stems(tracks: Sequence[Path], instruments: Sequence[str]) -> tuple[list[Stem], dict[str, str]]:
    """The stems of tracks, and why others cannot be audited: name of a stem -> reason.

    Raises AuditError where there is none.
    """
    stems, failed = [], {}
    for track in tracks:
        for instrument in instruments:
            paths = [path for suffix in SUFFIXES if (path := track / f"{instrument}{suffix}").is_file()]
            stem = Stem(track.name, instrument, paths[0] if paths else track / f"{instrument}.wav")
            if len(paths) == 1:
                stems.append(stem)
            else:
                failed[stem.name] = "is there twice, as wav and as flac" if paths else "no such file, as wav or as flac"
    if not stems:
        names = ", ".join(f"{name}.wav" for name in instruments)
        raise AuditError(f"{tracks[0].parent}: its tracks hold no stems, expected {names} (or .flac) in each")
    return stems, failed
