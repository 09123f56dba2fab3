"""Compute faulty stems from the clean ones, block by block, rounded to the resolution of their files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from my_submission.src import audio
from my_submission.src.audio.files import BYTES, SUBTYPES, AudioFile, Block
from my_submission.src.audio.tracks import Track
from my_submission.src.corrupt.faults import Fault, filter_reach

RAMP = 0.01  # seconds of fade at both ends of a move, so that neither stem clicks

Sound = NDArray[np.float64]  # a block [C, n]


class FaultyStem:
    """A stem with a fault, as an AudioStream: computed from the clean stems each time it is read."""

    def __init__(self, track: Track, name: str, fault: Fault) -> None:
        self.fault, self.clean = fault, track.stems[name]
        self.others = [track.stems[other] for other in fault.others]
        self.name, self.subtype, self.step = self.clean.name, _subtype(self.clean), _step(self.clean)
        self.sample_rate, self.channels, self.num_samples = self.clean.sample_rate, self.clean.channels, self.clean.num_samples
        self.gain = 1.0
        self.peak = 0.0  # of the blocks read last

    def write_to(self, path: Path) -> None:
        """Write the stem in the format of the clean one, with a gain if it would clip, which floating point never does.

        The peak is known only after the whole stem was computed, so the few stems that need a gain are written twice.

        Raises AudioError.
        """
        self._write(path)
        highest = 1 - self.step
        if self.step and self.peak > highest:
            self.gain = float(f"{0.9999 * highest / self.peak:.6g}")  # rounded as in the table, at most a millionth up
            self._write(path)

    def _write(self, path: Path) -> None:
        for _ in audio.tee_to_file(self, path, path.suffix.lower()[1:], self.subtype):
            pass

    def blocks(self) -> Iterator[Block]:
        """Yield the audio from its beginning in blocks [C, n], rounded to the resolution of its file, but not clipped."""
        self.peak = 0.0
        for sound in self._sound():
            block = _quantize(self.gain * sound, self.step)
            below = float(-block.min()) - self.step  # integers reach one step further below 0 than above it
            self.peak = max(self.peak, float(block.max()), below)
            yield block.astype(np.float32)

    def _sound(self) -> Iterator[Sound]:
        """Yield the stem with its fault, before gain and rounding."""
        if self.fault.kind == "swap":
            yield from _sum(self.others)
        else:
            for own, foreign in zip(self.clean.blocks(), self._foreign(), strict=True):
                yield own + foreign

    def _foreign(self) -> Iterator[Sound]:
        """Yield the sound that is added to the clean stem."""
        if self.fault.kind == "add":
            return _sum(self.others)
        if self.fault.kind == "move":
            return _moved_part(self.others[0], self.fault)
        if self.fault.kind == "moved-away":
            return (-block for block in _moved_part(self.clean, self.fault))
        return bleed(_sum(self.others), self.sample_rate, self.fault)


def _subtype(stem: AudioFile) -> str:
    """Return the subtype a faulty stem is written in: the clean stem's or, if we do not write that, the nearest one."""
    container = stem.path.suffix.lower()[1:]
    if stem.subtype in SUBTYPES[container]:
        return stem.subtype
    return "FLOAT" if container == "wav" and stem.subtype in ("PCM_32", "DOUBLE") else "PCM_16"


def _step(stem: AudioFile) -> float:
    """Return the smallest difference between two samples of a stem's file; 0 for floating point."""
    return 0.0 if _subtype(stem) == "FLOAT" else 2.0 ** (1 - 8 * BYTES[_subtype(stem)])


def _quantize(block: Sound, step: float) -> Sound:
    """Round a block to multiples of `step`; leave it as it is if `step` is 0."""
    # rounded here, because libsndfile rounds down in a wav and to the nearest value in a flac
    return step * np.round(block / step) if step else block


def _sum(stems: Sequence[AudioFile]) -> Iterator[Sound]:
    """Yield the sum of stems of one track."""
    for blocks in zip(*(stem.blocks() for stem in stems), strict=True):
        yield np.sum(blocks, axis=0, dtype=np.float64)


def _moved_part(stem: AudioFile, fault: Fault) -> Iterator[Sound]:
    """Yield the part of a stem inside the fault's stretch, faded in and out; zeros outside.

    The part is rounded before it is added to one stem and subtracted from another, so that the sum of the two stays the same.
    """
    assert fault.from_s is not None, "with_stretches sets the stretch of every move"
    assert fault.to_s is not None
    start, stop = (round(seconds * stem.sample_rate) for seconds in (fault.from_s, fault.to_s))
    ramp = max(1, min(round(RAMP * stem.sample_rate), (stop - start) // 2))
    position = 0
    for block in stem.blocks():
        places = position + np.arange(block.shape[1])
        share = np.clip(np.minimum(places - start, stop - places) / ramp, 0, 1)
        yield _quantize(share * block, _step(stem))
        position += block.shape[1]


def bleed(blocks: Iterator[Sound], rate: int, fault: Fault) -> Iterator[Sound]:
    """Yield sound as a distant microphone picks it up: through a low-pass (a windowed sinc), delayed and quieter.

    The fault's delay_ms includes the filter's own delay. Its level_db is the gain at low frequencies.
    """
    assert fault.level_db is not None, "a fault of bleeding has a level, a cutoff and a delay"
    assert fault.cutoff_hz is not None
    assert fault.delay_ms is not None
    reach, delay = filter_reach(rate), round(fault.delay_ms * rate / 1000)
    taps = np.sinc(2 * fault.cutoff_hz / rate * np.arange(-reach, reach + 1)) * np.hanning(2 * reach + 3)[1:-1]
    taps *= 10 ** (fault.level_db / 20) / taps.sum()
    past: Sound | None = None  # [C, delay + reach], the samples before the block
    for block in blocks:
        samples = block.shape[1]
        if past is None:
            past = np.zeros((block.shape[0], delay + reach))
        known: Sound = np.concatenate([past, block], axis=1)
        yield np.stack([np.convolve(channel[: samples + 2 * reach], taps, "valid") for channel in known])
        past = known[:, samples:]
