"""How a faulty stem sounds: made of the clean ones, block by block, and rounded as its file is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from my_submission.src import audio
from my_submission.src.audio.files import BYTES, SUBTYPES, AudioFile, Block
from my_submission.src.corrupt.faults import Fault, filter_reach
from my_submission.src.corrupt.tracks import Track

RAMP = 0.01  # seconds in which a part leaves one stem for another, so that neither clicks

Sound = NDArray[np.float64]  # a block [C, n]


class FaultyStem:
    """A stem with a fault, as a Source of audio: made of the clean stems each time it is read."""

    def __init__(self, track: Track, name: str, fault: Fault) -> None:
        self.fault, self.clean = fault, track.stems[name]
        self.others = [track.stems[other] for other in fault.others]
        self.name, self.subtype, self.step = self.clean.name, _subtype(self.clean), _step(self.clean)
        self.sample_rate, self.channels, self.num_samples = self.clean.sample_rate, self.clean.channels, self.clean.num_samples
        self.gain = 1.0
        self.peak = 0.0  # of what was read last

    def write_to(self, path: Path) -> None:
        """Write the stem in the format of the clean one; in whole numbers with the gain below 1 that it may need.

        Nearly no stem does, and those are written twice: only the whole of it tells its peak. Raises AudioError.
        """
        self._write(path)
        highest = 1 - self.step
        if self.step and self.peak > highest:
            self.gain = float(f"{0.9999 * highest / self.peak:.6g}")  # the table's digits, rounded up at most a millionth
            self._write(path)

    def _write(self, path: Path) -> None:
        for _ in audio.tee_to_file(self, path, path.suffix.lower()[1:], self.subtype):
            pass

    def blocks(self) -> Iterator[Block]:
        """The audio from its beginning, [C, n] at a time, in steps of what its file can hold, but not clipped."""
        self.peak = 0.0
        for sound in self._sound():
            block = _rounded(self.gain * sound, self.step)
            self.peak = max(self.peak, float(block.max()), float(-block.min()) - self.step)  # there is one step more below 0
            yield block.astype(np.float32)

    def _sound(self) -> Iterator[Sound]:
        if self.fault.kind == "swap":
            yield from _sum(self.others)
        else:
            for own, foreign in zip(self.clean.blocks(), self._foreign(), strict=True):
                yield own + foreign

    def _foreign(self) -> Iterator[Sound]:
        """What is added to the clean stem."""
        if self.fault.kind == "add":
            return _sum(self.others)
        if self.fault.kind == "move":
            return _stretch(self.others[0], self.fault)
        if self.fault.kind == "moved-away":
            return (-block for block in _stretch(self.clean, self.fault))
        return heard(_sum(self.others), self.sample_rate, self.fault)


def _subtype(stem: AudioFile) -> str:
    """What a faulty stem is written as: as the clean one, or as what comes next to it of what audio.py writes."""
    container = stem.path.suffix.lower()[1:]
    if stem.subtype in SUBTYPES[container]:
        return stem.subtype
    return "FLOAT" if container == "wav" and stem.subtype in ("PCM_32", "DOUBLE") else "PCM_16"


def _step(stem: AudioFile) -> float:
    """The least difference between two samples of a stem's file; 0 for floating point."""
    return 0.0 if _subtype(stem) == "FLOAT" else 2.0 ** (1 - 8 * BYTES[_subtype(stem)])


def _rounded(block: Sound, step: float) -> Sound:
    # here and not in libsndfile, which rounds down in a wav and to the nearest in a flac
    return step * np.round(block / step) if step else block


def _sum(stems: Sequence[AudioFile]) -> Iterator[Sound]:
    for blocks in zip(*(stem.blocks() for stem in stems), strict=True):
        yield np.sum(blocks, axis=0, dtype=np.float64)


def _stretch(stem: AudioFile, fault: Fault) -> Iterator[Sound]:
    """A part within the fault's stretch, faded in and out at its ends; zeros elsewhere.

    Rounded before it is added to one stem and taken from another, so that the sum of the two is what it was.
    """
    start, stop = (round(seconds * stem.sample_rate) for seconds in (fault.from_s, fault.to_s))
    ramp = max(1, min(round(RAMP * stem.sample_rate), (stop - start) // 2))
    position = 0
    for block in stem.blocks():
        places = position + np.arange(block.shape[1])
        share = np.clip(np.minimum(places - start, stop - places) / ramp, 0, 1)
        yield _rounded(share * block, _step(stem))
        position += block.shape[1]


def heard(blocks: Iterator[Sound], rate: int, fault: Fault) -> Iterator[Sound]:
    """Sound as someone else's microphone hears it: through a low-pass (a windowed sinc), late, and quieter.

    The filter's own delay is part of delay_ms, and level_db is what becomes of low frequencies.
    """
    reach, delay = filter_reach(rate), round(fault.delay_ms * rate / 1000)
    taps = np.sinc(2 * fault.cutoff_hz / rate * np.arange(-reach, reach + 1)) * np.hanning(2 * reach + 3)[1:-1]
    taps *= 10 ** (fault.level_db / 20) / taps.sum()
    past = None
    for block in blocks:
        samples = block.shape[1]
        if past is None:
            past = np.zeros((block.shape[0], delay + reach))
        known = np.concatenate([past, block], axis=1)
        yield np.stack([np.convolve(channel[: samples + 2 * reach], taps, "valid") for channel in known])
        past = known[:, samples:]
