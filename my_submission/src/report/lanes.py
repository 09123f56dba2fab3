"""What a page shows of a track, and the files that one of its lanes is made of: audio to play and two pictures.

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
ESTIMATES, MIXTURE = "estimates", "mixture"  # whose scores they are, beside names like "seed 0"


@dataclass(frozen=True)
class Track:
    """One song of a page, and the files that it consists of."""

    name: str
    mixture: Path
    estimates: dict[str, Path]  # instrument -> file
    references: dict[str, Path] = field(default_factory=dict)
    sdr: dict[str, float] = field(default_factory=dict)  # of the estimates, dB by instrument; empty where not scored
    compared: dict[str, dict[str, float]] = field(default_factory=dict)  # the same of others: "seed 0" -> ...
    separation_seconds: float | None = None

    @property
    def seconds(self) -> float:
        """Duration of the mixture."""
        return AudioFile(self.mixture).seconds

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Whose -> dB by instrument, the estimates' first; empty where the track was not scored."""
        return {ESTIMATES: self.sdr, **self.compared} if self.sdr else {}


@dataclass(frozen=True)
class Lane:
    """One thing to listen to; its files are named from the page's folder of files."""

    kind: str  # mixture, estimate or reference; stem, where whether it is the truth is the question
    instrument: str  # empty for the mixture
    audio: str
    waveform: str
    spectrogram: str

    @property
    def name(self) -> str:
        """As it is called on the page."""
        return f"{self.instrument}, {self.kind}" if self.instrument else self.kind


def count_lanes(track: Track) -> int:
    """How many lanes `make_lanes` is going to make."""
    return 1 + len(track.estimates) + len(track.references)


def make_lanes(track: Track, folder: Path, below: str, on_lane: Callable[[], object]) -> list[Lane]:
    """Write the files of a track's lanes into `folder`/`below`: an estimate and its reference share their scales.

    Raises what `write_lanes` raises.
    """
    instruments = list(dict.fromkeys([*track.estimates, *track.references]))
    groups = [{("mixture", ""): track.mixture}, *(_pair(track, name) for name in instruments)]
    return write_lanes(groups, track.seconds, folder, below, on_lane)


def write_lanes(
    groups: Sequence[Mapping[tuple[str, str], Path]], seconds: float, folder: Path, below: str, on_lane: Callable[[], object]
) -> list[Lane]:
    """Write lanes into `folder`/`below`, no audio ever being in memory as a whole: groups of (kind, instrument) -> file.

    The lanes of a group share the height of their waveforms and the colours of their spectrograms.

    Raises AudioError for a file that cannot be read or written, OSError for pictures that cannot be written.
    """
    (folder / below).mkdir()
    lanes: list[Lane] = []
    for files in groups:
        drawn = []
        for (kind, instrument), path in files.items():
            number = len(lanes) + len(drawn)
            stem = f"{below}/{number}_{slug(instrument + '_' + kind if instrument else kind)}"
            lane = Lane(kind, instrument, f"{stem}.flac", f"{stem}_waveform.png", f"{stem}_spectrogram.png")
            drawn.append((lane, _draw(path, folder / lane.audio, seconds)))
            on_lane()
        peak, top = (max(getattr(pictures, name) for _, pictures in drawn) for name in ("peak", "top"))
        for lane, pictures in drawn:
            (folder / lane.waveform).write_bytes(pictures.waveform(peak, COLOURS[lane.kind]))
            (folder / lane.spectrogram).write_bytes(pictures.spectrogram(top))
            lanes.append(lane)
    return lanes


def slug(name: str) -> str:
    """A name in letters that every file system and every URL takes as they are; not unique."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", name)[:60]


def _pair(track: Track, instrument: str) -> dict[tuple[str, str], Path]:
    """(kind, instrument) -> file, of what is there of an instrument."""
    files = {("estimate", instrument): track.estimates, ("reference", instrument): track.references}
    return {lane: paths[instrument] for lane, paths in files.items() if instrument in paths}


def _draw(path: Path, copy: Path, seconds: float) -> Pictures:
    """Read a file once: for its copy as 16-bit FLAC, and for its pictures."""
    source = AudioFile(path)
    pictures = Pictures(source.sample_rate, seconds)
    for block in tee_to_file(source, copy):
        pictures.add(block)
    pictures.finish()
    return pictures
