"""The stems of a dataset: folders of tracks, with a wav or flac for each instrument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from my_submission.src.audio.tracks import Track, TrackError, find_tracks
from my_submission.src.audit import AuditError
from my_submission.src.common.text import shown


@dataclass(frozen=True)
class StemName:
    """One instrument of one track."""

    track: str
    instrument: str

    @property
    def key(self) -> tuple[str, str]:
        """Track and instrument, which identify the stem in a table."""
        return self.track, self.instrument

    @property
    def name(self) -> str:
        """The stem's name in messages, on one line."""
        return shown(*self.key)


@dataclass(frozen=True)
class Stem(StemName):
    """A stem's file."""

    path: Path


def find_distinct_tracks(folders: Sequence[Path]) -> list[Track]:
    """Return the tracks of the folders, by name within each, junk left out.

    Raises TrackError for a folder that cannot be read or holds no track, AuditError for two tracks of the same name, which a
    table of stems could not tell apart.
    """
    tracks: dict[str, Track] = {}
    for track in find_tracks(folders, "a wav or flac for each instrument"):
        other = tracks.setdefault(track.name, track)
        if other is not track:
            raise AuditError(
                f"{other.folder} and {track.folder}: two tracks of one name; audit one folder at a time, or rename one"
            )
    return list(tracks.values())


def find_stems(tracks: Sequence[Track], instruments: Sequence[str]) -> tuple[list[Stem], dict[str, str]]:
    """Return the stems of the tracks, and the stems that cannot be audited: name -> reason.

    Raises AuditError if there is no stem at all.
    """
    stems, failed = [], {}
    for track in tracks:
        for instrument in instruments:
            try:
                path = track.find(instrument)
            except TrackError as error:
                path = str(error)
            if isinstance(path, Path):
                stems.append(Stem(track.name, instrument, path))
            else:
                failed[shown(track.name, instrument)] = path
    if not stems:
        names = ", ".join(f"{name}.wav" for name in instruments)
        first, reason = next(iter(failed.items()))
        raise AuditError(
            f"{tracks[0].folder.parent}: its tracks hold no stems, expected {names} (or .flac) in each; {first} {reason}"
        )
    return stems, failed
