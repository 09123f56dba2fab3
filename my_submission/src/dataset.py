"""Training data: folders of tracks, and chunks of stems from different tracks, mixed at random.

    tracks = find_tracks(["data/SDXDB23_LabelNoise"], config)      # or a DatasetError that lists all that is wrong
    sources = RandomMixes(tracks, config, seed=0)[index].sources   # [S, C, T]; their sum is the mixture

A track is a folder that holds one wav or flac per instrument. What sample `index` of a seed is depends on nothing else:
not on workers, ranks, or where a run was interrupted; step n of a run takes the samples from n * batch_size on.

Random mixing of sources is from Uhlich et al., "Improving music source separation based on deep neural networks through
data augmentation and network blending" (ICASSP 2017).
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from my_submission.src.audio.files import AudioError, AudioFile, Block
from my_submission.src.audio.tracks import SUFFIXES, track_folders
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config

TRIES = 100  # draws for a chunk that is loud enough; the loudest of them is taken where none is
PROBES = 8  # places where a stem is looked at, to tell that it is not silent
PROBE = 2048  # samples


class DatasetError(UserError):
    """Training data that cannot be used."""


@dataclass(frozen=True)
class Track:
    """A folder of stems of one length."""

    folder: Path
    stems: tuple[AudioFile, ...]  # in the order of training.instruments
    dropped: frozenset[str] = frozenset()  # instruments whose stem here is not drawn from

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def num_samples(self) -> int:
        """Length, samples."""
        return self.stems[0].num_samples


def find_tracks(
    folders: Iterable[str | Path], config: Config, *, skip_bad_tracks: bool = False, silence_is_bad: bool = True
) -> list[Track]:
    """The tracks of one or several folders: in the folders' order, by name within each, hidden ones left out.

    Only headers are read, and of every stem a few samples, the first of them in its middle, until one is not zero. A
    stem is read on only where all of those are zeros, and no further than its first sample that is not.

    Raises DatasetError with every problem of every track; with skip_bad_tracks they become a warning, and an error only
    where no track is left.
    """
    folders = [Path(folder) for folder in folders]
    candidates = [path for folder in folders for path in _subfolders(folder)]
    if not candidates:
        names = ", ".join(f"{name}.wav" for name in config.training.instruments)
        raise DatasetError(f"{_listed(folders)}: no tracks there, expected folders that each hold {names} (or .flac)")
    with ThreadPoolExecutor(8) as pool:  # most of the time goes into waiting for the disk
        results = list(pool.map(lambda path: _open_track(path, config, silence_is_bad), candidates))
    tracks = [result for result in results if isinstance(result, Track)]
    problems = [f"  {path}: {result}" for path, result in zip(candidates, results, strict=True) if isinstance(result, str)]
    report = f"{_listed(folders)}: {len(problems)} of {len(candidates)} tracks cannot be used:\n" + "\n".join(problems)
    if problems and skip_bad_tracks and tracks:
        warnings.warn(f"{report}\ngoing on without them", stacklevel=2)
    elif problems:
        advice = "mend them, or leave them out with --skip_bad_tracks" if tracks else "mend them, or name another folder"
        raise DatasetError(f"{report}\n{advice}")
    return tracks


def _subfolders(folder: Path) -> list[Path]:
    try:
        return track_folders(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read ({error.strerror}), expected a folder of tracks") from error


def _open_track(folder: Path, config: Config, silence_is_bad: bool) -> Track | str:
    """The track in a folder, or all that is wrong with it."""
    stems: list[AudioFile] = []
    problems: list[str] = []
    for name in config.training.instruments:
        paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").exists()]
        if len(paths) != 1:
            problems.append(f"{name} is there twice, as wav and as flac" if paths else f"{name} is missing")
            continue
        try:
            stem = AudioFile(paths[0])
            problems += _wrong(stem, config)
            if silence_is_bad and _is_silent(stem):
                problems.append(f"{stem.path.name} is silent throughout")
            stems.append(stem)
        except AudioError as error:
            problems.append(str(error).replace(f"{folder}/", ""))
    if len({stem.num_samples for stem in stems}) > 1:
        lengths = ", ".join(f"{stem.path.name} {stem.num_samples}" for stem in stems)
        problems.append(f"stems of different length ({lengths} samples)")
    return "; ".join(problems) if problems else Track(folder, tuple(stems))


def _wrong(stem: AudioFile, config: Config) -> list[str]:
    rate, channels = config.audio.sample_rate, config.audio.num_channels
    wrong = []
    if stem.sample_rate != rate:
        wrong.append(f"{stem.path.name} is at {stem.sample_rate} Hz, expected {rate}")
    if stem.channels != channels:
        found = "is mono" if stem.channels == 1 else f"has {stem.channels} channels"
        wrong.append(f"{stem.path.name} {found}, expected {channels} channels")
    return wrong


def _is_silent(stem: AudioFile) -> bool:
    """Whether every sample is zero. That an ordinary stem is not shows at the first place looked at, or the second."""
    places = [stem.num_samples * (2 * i + 1) // (2 * PROBES) for i in range(PROBES)]
    for place in sorted(places, key=lambda place: abs(place - stem.num_samples // 2)):
        if stem.read(place, PROBE).any():
            return False
    return not any(block.any() for block in stem.blocks())


class Sample(NamedTuple):
    """Chunks and where they are from; a batch of them has an axis B in front."""

    sources: Tensor  # [S, C, T]
    tracks: Tensor  # [S], int64: for each source, which of the tracks


class RandomMixes(Dataset):
    """Sample `index`: for each instrument a chunk [C, T] from a track of its own, [S, C, T] in all.

    An instrument is drawn from the tracks that have not dropped it, of which there must be one. A chunk whose mean absolute
    value is under audio.min_mean_abs is drawn again; after TRIES draws the loudest of them is taken, so that data quieter
    than the config expects trains all the same. A track shorter than a chunk is followed by zeros. With training.same_song,
    that share of the samples is one place of one track that has dropped nothing, as it is; training.gain_db gives every
    chunk a gain. A file that cannot be read gives the message, a str: that goes through a worker process as it is.
    """

    def __init__(self, tracks: Sequence[Track], config: Config, seed: int) -> None:
        self.tracks, self.seed = list(tracks), seed
        self.audio, self.training, self.instruments = config.audio, config.training, config.training.instruments
        numbered = list(enumerate(self.tracks))
        self.pools = [[i for i, track in numbered if name not in track.dropped] for name in self.instruments]  # to draw from
        self.whole = [i for i, track in numbered if not track.dropped]

    def __getitem__(self, index: int) -> Sample | str:
        stems = range(len(self.instruments))
        rngs = [np.random.default_rng([self.seed, index, stem]) for stem in (*stems, len(stems))]  # the last is the sample's
        try:
            if rngs[-1].random() < self.training.same_song:
                track, start = self._place(rngs[-1], self.whole)
                drawn = [(track, self._read(track, start, stem)) for stem in stems]
            else:
                drawn = [self._draw(rngs[stem], stem) for stem in stems]
        except AudioError as error:
            return str(error)
        tracks, chunks = zip(*drawn, strict=True)
        if self.training.gain_db is not None:
            gains = [10 ** (rngs[stem].uniform(*self.training.gain_db) / 20) for stem in stems]
            chunks = [np.float32(gain) * chunk for gain, chunk in zip(gains, chunks, strict=True)]
        return Sample(torch.from_numpy(np.stack(chunks)), torch.tensor(tracks))

    def _draw(self, rng: np.random.Generator, stem: int) -> tuple[int, Block]:
        """A track, and a chunk [C, T] of its instrument at place `stem`, loud enough to learn from."""
        loudest, level = None, -1.0
        for _ in range(TRIES):
            track, start = self._place(rng, self.pools[stem])
            chunk = self._read(track, start, stem)
            mean_abs = float(np.abs(chunk).mean(dtype=np.float64))
            if mean_abs >= self.audio.min_mean_abs:
                return track, chunk
            if mean_abs > level:
                loudest, level = (track, chunk), mean_abs
        warnings.warn(
            f"{self.instruments[stem]}: {TRIES} chunks drawn in a row were quieter than audio.min_mean_abs = "
            f"{self.audio.min_mean_abs}; the loudest of them is trained on",
            stacklevel=2,
        )
        return loudest

    def _place(self, rng: np.random.Generator, pool: Sequence[int]) -> tuple[int, int]:
        """One of the tracks in `pool`, and where in it a chunk begins."""
        track = pool[rng.integers(len(pool))]
        return track, int(rng.integers(max(self.tracks[track].num_samples - self.audio.chunk_size, 0) + 1))

    def _read(self, track: int, start: int, stem: int) -> Block:
        samples = self.audio.chunk_size
        chunk = self.tracks[track].stems[stem].read(start, samples)
        return np.pad(chunk, ((0, 0), (0, samples - chunk.shape[1])))


def share_of(batch_size: int, rank: int, ranks: int) -> range:
    """Which items of a batch are a rank's: as many as any other's, or one more."""
    return range(batch_size * rank // ranks, batch_size * (rank + 1) // ranks)


@dataclass(frozen=True)
class _Order:
    """The samples of every step, for a rank; the data loader draws from it."""

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
) -> Iterator[Sample]:
    """This rank's share of the batch of every step, read by `workers` processes, or by this one where 0: [b, S, C, T], [b, S].

    Raises DatasetError for a file that can no longer be read, and for a worker that was killed.
    """
    loader = DataLoader(
        mixes,
        batch_sampler=_Order(steps, batch_size, share_of(batch_size, rank, ranks)),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin,
        worker_init_fn=_ignore_signals,
        generator=torch.Generator(),  # of the seeds of workers, which nothing here uses: leave the global one alone
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                raise DatasetError(f"{batch}\nthe same command goes on from the last save once the file is as it was")
            yield batch
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = str(error).split("\n")[0].rstrip(".")
        raise DatasetError(f"{reason}: out of memory? Take fewer --num_workers; the same command goes on") from error


def _collate(samples: list[Sample | str]) -> Sample | str:
    reason = next((sample for sample in samples if isinstance(sample, str)), None)
    return reason or Sample(*map(torch.stack, zip(*samples, strict=True)))


def _ignore_signals(_: int) -> None:
    # Ctrl-C and a batch system's SIGTERM reach every process of a run; the one that trains decides when the workers end
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _listed(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
