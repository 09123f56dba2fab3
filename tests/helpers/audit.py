"""Shared by the audit's tests: a tone for each instrument, and a model that separates them by frequency bands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from my_submission.src.audio.files import AudioStream, Block

RATE = 8000
BANDS = {"vocals": (800, 1600), "drums": (1600, 4001), "bass": (0, 300), "other": (300, 800)}  # Hz
TONES = {"vocals": 1000, "drums": 2000, "bass": 100, "other": 500}  # Hz


class BandModel:
    """Separates by frequency, with a Separator's streaming interface. Its blocks differ in size from those it reads."""

    note, sample_rate = "", RATE

    def __init__(self, folder: Path, sources: tuple[str, ...] = tuple(BANDS)) -> None:
        self.folder, self.source_order = folder, list(sources)
        folder.mkdir(exist_ok=True)
        (folder / "config.yaml").write_text("bands")
        self.separated: list[str] = []  # names of the streams whose separation has begun
        self.on_progress: Callable[[int], object] = lambda samples: None
        self.on_begin: Callable[[], object] = lambda: None

    def settings(self) -> dict[str, str]:
        return {"the model's folder": str(self.folder), "config.yaml": (self.folder / "config.yaml").read_text()}

    def separate(self, source: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        assert not share_residual  # else every stem would seem to contain `other`
        self.on_begin()
        self.separated.append(source.name)
        for block in source.blocks():
            spec = np.fft.rfft(block)
            hertz = np.fft.rfftfreq(block.shape[1], 1 / RATE)
            bands = [(low <= hertz) & (hertz < high) for low, high in (BANDS[name] for name in self.source_order)]
            stems = np.stack([np.fft.irfft(spec * band, block.shape[1]) for band in bands]).astype(np.float32)
            for start in range(0, stems.shape[-1], 30011):
                yield stems[..., start : start + 30011]


def tone(instrument: str, seconds: float, level: float = 0.2) -> np.ndarray:
    """Return the instrument's tone [n, 1]."""
    return level * np.sin(2 * np.pi * TONES[instrument] * np.arange(round(seconds * RATE)) / RATE)[:, None]


def write_track(folder: Path, stems: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for name, stem in stems.items():
        soundfile.write(folder / f"{name}.wav", stem, RATE, subtype="FLOAT")


def make_data(folder: Path, names: tuple[str, ...] = ("a", "b", "c"), seconds: float = 24.0) -> Path:
    """Write three tracks. In the first, vocals and bass are swapped; in the second, drums hold other from 6 s to 12 s, which is
    silent there; in the third, other is silent throughout, and drums add a little bass.
    """
    tones = {name: tone(name, seconds) for name in BANDS}
    first, second, third = names
    write_track(folder / first, {**tones, "vocals": tones["bass"], "bass": tones["vocals"]})
    moved, left = tones["drums"].copy(), tones["other"].copy()
    stretch = slice(6 * RATE, 12 * RATE)
    moved[stretch] += 2 * left[stretch]
    left[stretch] = 0
    write_track(folder / second, {**tones, "drums": moved, "other": left})
    write_track(folder / third, {**tones, "other": 0 * tones["other"], "drums": tones["drums"] + 0.1 * tones["bass"]})
    return folder
