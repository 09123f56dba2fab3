"""The songs of a page, and the files of each of their lanes: audio to play and two pictures.

A lane is one thing to listen to: the mixture, the estimate of an instrument, or its reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from my_submission.src.audio.files import AudioFile, tee_to_file
from my_submission.src.report.pictures import Pictures

COLOURS = {  # on white and on black
    "mixture": (128, 136, 147),
    "estimate": (66, 130, 196),
    "reference": (43, 150, 118),
    "stem": (128, 136, 147),
}
ESTIMATES, MIXTURE = "estimates", "mixture"  # keys of Song.scores, like "seed 0"


@dataclass(frozen=True)
class Song:
    """One song of a page: its files and its scores."""

    name: str
    mixture: Path
    estimates: dict[str, Path]  # instrument -> file
    references: dict[str, Path] = field(default_factory=dict)
    sdr: dict[str, float] = field(default_factory=dict)  # instrument -> SDR of its estimate, dB; empty if not scored
    compared: dict[str, dict[str, float]] = field(default_factory=dict)  # the same for other estimates: "seed 0" -> ...
    separation_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Duration of the mixture."""
        return AudioFile(self.mixture).seconds

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Estimates -> instrument -> SDR, dB. The page's own estimates come first; empty if the song was not scored."""
        return {ESTIMATES: self.sdr, **self.compared} if self.sdr else {}

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of separation per second of audio, if the separation was timed."""
        return None if self.separation_seconds is None else self.separation_seconds / self.seconds


@dataclass(frozen=True)
class Lane:
    """One thing to listen to; the names of its files are relative to the page's folder of files."""

    kind: str  # mixture, estimate or reference; an audit's page has stem instead, as that may be wrong
    instrument: str  # empty for the mixture
    audio: str
    waveform: str
    spectrogram: str
    num_bytes: int  # of the audio

    @property
    def name(self) -> str:
        """The lane's name on the page."""
        return f"{self.instrument}, {self.kind}" if self.instrument else self.kind


def count_lanes(song: Song) -> int:
    """Return the number of lanes that `make_lanes` writes."""
    return 1 + len(song.estimates) + len(song.references)


def make_lanes(song: Song, folder: Path, below: str, on_lane: Callable[[], object]) -> list[Lane]:
    """Write the files of a song's lanes into `folder`/`below`. An estimate and its reference share their scales.

    Args:
        song: the files to draw and to copy.
        folder: the page's folder of files.
        below: name of the song's folder in it; must not exist.
        on_lane: called after each lane, for a progress bar.

    Raises everything that `write_lanes` raises.
    """
    instruments = list(dict.fromkeys([*song.estimates, *song.references]))
    groups = [{("mixture", ""): song.mixture}, *(_pair(song, name) for name in instruments)]
    return write_lanes(groups, song.seconds, folder, below, on_lane)


def write_lanes(
    groups: Sequence[Mapping[tuple[str, str], Path]], seconds: float, folder: Path, below: str, on_lane: Callable[[], object]
) -> list[Lane]:
    """Write the files of lanes into `folder`/`below`, in constant memory.

    Args:
        groups: each maps (kind, instrument) -> audio file. The lanes of a group share the height of their waveforms and the
            colours of their spectrograms.
        seconds: duration that the pictures show, the same for all lanes.
        folder: the page's folder of files.
        below: name of a folder in it; must not exist.
        on_lane: called after each lane, for a progress bar.

    Raises AudioError for a file that cannot be read or written, OSError for pictures that cannot be written.
    """
    (folder / below).mkdir()
    lanes: list[Lane] = []
    for files in groups:
        drawn: list[tuple[Lane, Pictures]] = []
        for (kind, instrument), path in files.items():
            number = len(lanes) + len(drawn)
            stem = f"{below}/{number}_{slug(instrument + '_' + kind if instrument else kind)}"
            pictures = _draw(path, audio := folder / f"{stem}.flac", seconds)
            names = (f"{stem}.flac", f"{stem}_waveform.png", f"{stem}_spectrogram.png")
            drawn.append((Lane(kind, instrument, *names, audio.stat().st_size), pictures))
            on_lane()
        peak, top = (max(getattr(pictures, name) for _, pictures in drawn) for name in ("peak", "top"))
        for lane, pictures in drawn:
            (folder / lane.waveform).write_bytes(pictures.waveform(peak, COLOURS[lane.kind]))
            (folder / lane.spectrogram).write_bytes(pictures.spectrogram(top))
            lanes.append(lane)
    return lanes


def slug(name: str) -> str:
    """Return a name in characters that are valid in every file system and URL; two names may become equal."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name)[:60]


def file_name(song: str, lane: Lane) -> str:
    """Return the name under which a lane's audio is saved: readable, and valid in every file system."""
    return f"{_readable(song)} - {_readable(f'{lane.instrument} {lane.kind}'.strip())}.flac"


def _readable(name: str) -> str:
    """Return a name without characters that a file system or a terminal may take amiss, in at most 100 bytes of UTF-8."""
    safe = "".join("_" if c in '<>:"/\\|?*' or not c.isprintable() else c for c in name)
    return safe.encode()[:100].decode(errors="ignore").strip(" .") or "_"


def _pair(song: Song, instrument: str) -> dict[tuple[str, str], Path]:
    """Return (kind, instrument) -> file for the estimate and the reference of an instrument, if they are there."""
    files = {("estimate", instrument): song.estimates, ("reference", instrument): song.references}
    return {lane: paths[instrument] for lane, paths in files.items() if instrument in paths}


def _draw(path: Path, copy: Path, seconds: float) -> Pictures:
    """Copy a file as 16-bit FLAC and draw its pictures, reading it once."""
    stream = AudioFile(path)
    pictures = Pictures(stream.sample_rate, seconds)
    for block in tee_to_file(stream, copy):
        pictures.add(block)
    pictures.finish()
    return pictures
