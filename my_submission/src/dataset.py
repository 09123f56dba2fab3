"""Training data: tracks with the config's instruments, and chunks of their stems, mixed at random.

    tracks = open_tracks(["data/SDXDB23_LabelNoise"], config)      # or a TrackError that lists every problem
    sources = RandomMixes(tracks, config, seed=0)[index].sources   # [S, C, T]; their sum is the mixture

A track is a folder that holds one wav or flac per instrument. A sample depends on its seed and its index alone: not on
workers, ranks, or where a run was interrupted. Step n of a run takes the samples from n * batch_size on.

Random mixing of sources is from Uhlich et al., "Improving music source separation based on deep neural networks through
data augmentation and network blending" (ICASSP 2017).
"""

from __future__ import annotations

import signal
import traceback
import warnings
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from my_submission.src.audio.augment import at_speed, augment, draw_length
from my_submission.src.audio.files import AudioError, AudioFile, Block
from my_submission.src.audio.tracks import Track, TrackError, find_tracks
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config

TRIES = 100  # draws for a chunk that is loud enough; if none is, the loudest of them is taken
PROBES = 8  # places at which a stem is checked for sound before it is read whole
PROBE = 2048  # samples


class DatasetError(UserError):
    """Training data that can no longer be read."""


def open_tracks(
    folders: Iterable[str | Path], config: Config, *, skip_bad_tracks: bool = False, silence_is_bad: bool = True
) -> list[Track]:
    """Return the tracks of one or several folders, with the stems of training.instruments in that order.

    Only headers are read, and for silence a few samples of each stem: the first probe is in its middle, and later ones are
    read only while all before are zero. Only if all probes are zero is the stem read on, up to its first nonzero block.

    Args:
        folders: folders of tracks; their order is kept, and within each the tracks go by name.
        config: names the instruments, the sample rate and the number of channels that the stems must have.
        skip_bad_tracks: warn about tracks with problems and leave them out, instead of raising an error (default: False).
        silence_is_bad: whether a stem that is silent throughout is a problem (default: True). Validation allows it.

    Raises TrackError with every problem of every track, or, with skip_bad_tracks, if no track is left.
    """
    places = [Path(folder) for folder in folders]
    candidates = find_tracks(places, f"{', '.join(f'{name}.wav' for name in config.training.instruments)} (or .flac)")
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        results = list(pool.map(lambda track: _open_stems(track, config, silence_is_bad), candidates))
    tracks = [result for result in results if isinstance(result, Track)]
    bad = [(track, result) for track, result in zip(candidates, results, strict=True) if isinstance(result, str)]
    if not bad:
        return tracks
    report = f"{', '.join(map(str, places))}: {len(bad)} of {len(candidates)} tracks cannot be used:"
    report = "\n".join([report, *(f"  {track.folder}: {problems}" for track, problems in bad)])
    if not (skip_bad_tracks and tracks):
        advice = "leave them out with --skip-bad-tracks" if tracks else "name another folder"
        raise TrackError(f"{report}\nfix them, or {advice}")
    warnings.warn(f"{report}\ngoing on without them", stacklevel=2)
    return tracks


def _open_stems(track: Track, config: Config, silence_is_bad: bool) -> Track | str:
    """Return the track with its stems opened, or all its problems in words."""
    stems: dict[str, AudioFile] = {}
    problems: list[str] = []
    for name in config.training.instruments:
        try:
            path = track.find(name)
        except TrackError as error:  # so would be all others
            return str(error).removeprefix(f"{track.folder}: ")
        if isinstance(path, str):
            problems.append(f"{name} {path}")
            continue
        try:
            stem = AudioFile(path)
            problems += _format_problems(stem, config)
            if silence_is_bad and _is_silent(stem):
                problems.append(f"{stem.path.name} is silent throughout")
            stems[name] = stem
        except AudioError as error:
            problems.append(str(error).replace(f"{track.folder}/", ""))
    if len({stem.num_samples for stem in stems.values()}) > 1:
        lengths = ", ".join(f"{stem.path.name} {stem.num_samples}" for stem in stems.values())
        problems.append(f"stems of different length ({lengths} samples)")
    return "; ".join(problems) if problems else replace(track, stems=stems)


def _format_problems(stem: AudioFile, config: Config) -> list[str]:
    """Return the differences from the config's sample rate and number of channels, in words."""
    rate, channels = config.audio.sample_rate, config.audio.num_channels
    problems = []
    if stem.sample_rate != rate:
        problems.append(f"{stem.path.name} is at {stem.sample_rate} Hz, expected {rate}")
    if stem.channels != channels:
        found = "is mono" if stem.channels == 1 else f"has {stem.channels} channels"
        problems.append(f"{stem.path.name} {found}, expected {channels} channels")
    return problems


def _is_silent(stem: AudioFile) -> bool:
    """Return whether every sample is zero. Most stems that are not silent show it at the first or second probe."""
    starts = [stem.num_samples * (2 * i + 1) // (2 * PROBES) for i in range(PROBES)]
    for start in sorted(starts, key=lambda start: abs(start - stem.num_samples // 2)):
        if stem.read(start, PROBE).any():
            return False
    return not any(block.any() for block in stem.blocks())


class Sample(NamedTuple):
    """Chunks, and the tracks they are from. A batch of samples has an axis B in front."""

    sources: Tensor  # [S, C, T]
    tracks: Tensor  # [S], int64: the index of each source's track


class RandomMixes(Dataset):
    """Random mixes: sample `index` has, for each instrument, a chunk [C, T] of a randomly drawn track; [S, C, T] in all.

    An instrument is drawn from the tracks that have not dropped it; there must be at least one. A chunk whose mean absolute
    value is below audio.min_mean_abs is drawn again. After TRIES draws the loudest of them is taken, so that training also
    works on data that is quieter than the config expects. A track shorter than a chunk is padded with zeros.

    A fraction training.same_song of the samples takes all chunks from the same place of one track that has dropped nothing.
    training.gain_db gives every chunk a random gain. audio/augment.py has the other changes. Their random numbers are drawn
    apart: a sample's tracks and places do not depend on them, except on training.speed, which takes longer or shorter chunks.

    If a file cannot be read, the sample is the error message, a str, because a str passes through a worker process unchanged.
    """

    def __init__(self, tracks: Sequence[Track], config: Config, seed: int) -> None:
        self.tracks, self.seed = list(tracks), seed
        self.audio, self.training, self.instruments = config.audio, config.training, config.training.instruments
        numbered = list(enumerate(self.tracks))
        self.pools = [[i for i, track in numbered if name not in track.dropped] for name in self.instruments]  # to draw from
        self.whole = [i for i, track in numbered if not track.dropped]

    def __getitem__(self, index: int) -> Sample | str:
        stems = range(len(self.instruments))
        rngs = [np.random.default_rng([self.seed, index, stem]) for stem in (*stems, len(stems))]  # the last: for the sample
        changes = [np.random.default_rng([self.seed, index, len(stems) + 1 + number]) for number in range(len(stems) + 1)]
        length = draw_length(self.audio.chunk_size, self.training, changes[-1])
        try:
            if rngs[-1].random() < self.training.same_song:
                track, start = self._draw_place(rngs[-1], self.whole, length)
                drawn = [(track, self._read(track, start, stem, length)) for stem in stems]
            else:
                drawn = [self._draw_chunk(rngs[stem], stem, length) for stem in stems]
        except AudioError as error:
            return str(error)
        tracks, chunks = [track for track, _ in drawn], [chunk for _, chunk in drawn]
        if self.training.gain_db is not None:
            gains = [10 ** (rngs[stem].uniform(*self.training.gain_db) / 20) for stem in stems]
            chunks = [np.float32(gain) * chunk for gain, chunk in zip(gains, chunks, strict=True)]
        if self.training.speed is not None:
            chunks = [at_speed(chunk, self.audio.chunk_size) for chunk in chunks]
        sources = np.stack(chunks)
        if self.training.augments:
            sources = augment(sources, self.training, self.audio.sample_rate, changes)
        return Sample(torch.from_numpy(sources), torch.tensor(tracks))

    def _draw_chunk(self, rng: np.random.Generator, stem: int, length: int) -> tuple[int, Block]:
        """Return the index of a track, and a chunk [C, length] of its stem number `stem`, if possible a loud one."""
        drawn: list[tuple[int, Block]] = []  # the loudest chunk so far
        level = -1.0
        for _ in range(TRIES):
            track, start = self._draw_place(rng, self.pools[stem], length)
            chunk = self._read(track, start, stem, length)
            mean_abs = float(np.abs(chunk).mean(dtype=np.float64))
            if mean_abs >= self.audio.min_mean_abs:
                return track, chunk
            if mean_abs > level:
                drawn, level = [(track, chunk)], mean_abs
        warnings.warn(
            f"{self.instruments[stem]}: {TRIES} chunks drawn in a row were quieter than audio.min_mean_abs = "
            f"{self.audio.min_mean_abs}; the loudest of them is trained on",
            stacklevel=2,
        )
        return drawn[0]

    def _draw_place(self, rng: np.random.Generator, pool: Sequence[int], length: int) -> tuple[int, int]:
        """Return the index of a track in `pool`, and the sample at which a chunk of it begins."""
        track = pool[int(rng.integers(len(pool)))]
        return track, int(rng.integers(max(self.tracks[track].num_samples - length, 0) + 1))

    def _read(self, track: int, start: int, stem: int, length: int) -> Block:
        """Return the chunk [C, length] that begins at sample `start`, padded with zeros."""
        chunk = self.tracks[track].stems[self.instruments[stem]].read(start, length)
        return np.pad(chunk, ((0, 0), (0, length - chunk.shape[1])))


def share_of(batch_size: int, rank: int, ranks: int) -> range:
    """Return the items of a batch that belong to a rank. The ranks' numbers of items differ by one at most."""
    return range(batch_size * rank // ranks, batch_size * (rank + 1) // ranks)


@dataclass(frozen=True)
class _Order:
    """A batch sampler: the indices of a rank's samples, step by step."""

    steps: range
    batch_size: int
    share: range

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            yield [step * self.batch_size + item for item in self.share]

    def __len__(self) -> int:
        return len(self.steps)


def batches(
    mixes: RandomMixes, steps: range, batch_size: int, *, rank: int = 0, ranks: int = 1, workers: int = 0, pin: bool = False
) -> Generator[Sample, None, None]:
    """Yield this rank's share of each step's batch: sources [b, S, C, T] and tracks [b, S].

    Args:
        mixes: the samples.
        steps: the steps to yield, such as range(1000, 2000) for a run that goes on from step 1000.
        batch_size: samples per step over all ranks; ranks that share a batch get the items of `share_of`.
        rank: the number of this process (default: 0).
        ranks: the number of processes that train together (default: 1).
        workers: processes that read files; 0, the default, reads in this process. More of them hide slow disks.
        pin: whether to put batches into pinned memory, for faster copies to a GPU (default: False).

    Raises DatasetError for a file that can no longer be read, and for a worker that was killed.
    """
    loader = DataLoader(
        mixes,
        batch_sampler=_Order(steps, batch_size, share_of(batch_size, rank, ranks)),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # seeds the workers; without it, the global generator would advance
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                raise DatasetError(f"{batch}\nthe same command goes on from the last save once the file is as it was")
            yield batch
    except Exception as error:
        # The frames of the traceback hold the loader. Its workers ignore signals, and the end of the process waits for them.
        traceback.clear_frames(error.__traceback__)
        if "DataLoader worker (pid" not in str(error):  # an error of the worker's own code
            raise
        reason = str(error).split("\n")[0].rstrip(".")
        raise DatasetError(f"{reason}: out of memory? Take fewer --num-workers; the same command goes on") from error


def _collate(samples: list[Sample | str]) -> Sample | str:
    """Stack samples to a batch; if one of them is an error message, return it instead."""
    reason = next((sample for sample in samples if isinstance(sample, str)), None)
    return reason or Sample(*map(torch.stack, zip(*samples, strict=True)))


def _ignore_signals(_: int) -> None:
    # Ctrl-C and a batch system's SIGTERM reach every process of a run; the training process decides when its workers end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
