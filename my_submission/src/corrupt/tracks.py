"""The clean tracks that faults are put into."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track, TrackError, find_tracks


def open_clean_tracks(data: Path) -> list[Track]:
    """Return the tracks of a folder by name, each with all its stems by name. Junk is left out.

    Of every stem the header is read, and its audio up to the first sound.

    Raises TrackError for the first track that cannot be used, AudioError for a file that is no audio.
    """
    return [_open_stems(track) for track in find_tracks([data], "two or more wav or flac stems")]


def _open_stems(track: Track) -> Track:
    """Return the track with its stems opened. Files that are neither wav nor flac are ignored."""
    folder, mixtures = track.folder, track.mixtures
    paths = [path for path in track.paths if path not in mixtures]
    if len(paths) < 2:
        found = ", ".join(path.name for path in paths) or "none"
        raise TrackError(f"{folder}: too few stems ({found}), expected two or more wav or flac files besides the mixture")
    for path in paths:
        twins = track.paths_of(path.stem)
        if len(twins) > 1:
            found = ", ".join(twin.name for twin in twins)
            raise TrackError(f"{folder}: an instrument is there twice ({found}), expected one file for each")
    joined = next((path for path in paths if "+" in path.stem), None)
    if joined is not None:
        raise TrackError(f"{joined}: has a + in its name, which joins names in the table; rename it")
    track = dataclasses.replace(track, stems={path.stem: AudioFile(path) for path in paths})
    _refuse_misfits(track)
    if len(track.sounding) < 2:  # no stem could be heard in another
        silent = f"{len(track.stems) - len(track.sounding)} of {len(track.stems)} stems are silent throughout"
        raise TrackError(f"{folder}: {silent}, expected two or more that are not; leave the track out")
    return track


def _refuse_misfits(track: Track) -> None:
    """Refuse stems that differ in length, sample rate or number of channels."""
    for attribute, unit in (("num_samples", "samples"), ("sample_rate", "Hz"), ("channels", "channels")):
        values = {stem.path.name: getattr(stem, attribute) for stem in track.stems.values()}
        if len(set(values.values())) > 1:
            found = ", ".join(f"{name} {value}" for name, value in values.items())
            raise TrackError(f"{track.folder}: its stems do not fit together ({found} {unit}), expected the same in each")


def files_of(track: Track) -> list[Path]:
    """Return the files of a track that the output has too: mixtures and stems."""
    return [*track.mixtures, *(stem.path for stem in track.stems.values())]


def fingerprint(tracks: Sequence[Track]) -> str:
    """Return a hash of the tracks' names and their files' names and sizes, to tell whether they were changed."""
    facts = [[track.name, *([path.name, path.stat().st_size] for path in files_of(track))] for track in tracks]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
