"""Validation: the global SDR of a training run's weights on songs that it does not train on.

    validation = Validation("data/valid", config, device=torch.device("cuda"), precision="fp16")
    validation.scores(trainer.ema.state_dict())         # {"vocals": 6.1, ...}, dB, the mean over songs

The songs go through a Separator on a folder, as a user's songs do, but with less overlap, which is faster. A track is a
folder of stems, as in training. Its mixture is mixture.wav (or .flac); without such a file it is the sum of the stems.
Nothing is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from my_submission.src import audio
from my_submission.src.audio.files import AudioArray, AudioError, AudioFile, AudioStream
from my_submission.src.audio.tracks import MIXTURE, Track, TrackError
from my_submission.src.common.errors import UserError
from my_submission.src.config import Config
from my_submission.src.dataset import open_tracks
from my_submission.src.evaluation.metrics import global_sdr
from my_submission.src.separator import Separator
from my_submission.src.training.distributed import World

OVERLAP = 2  # chunks that cover each sample; the published separation has 8 and takes four times as long


class ValidationError(UserError):
    """The songs could not be separated and scored this time."""


class Validation:
    """The songs of a folder, ready to be separated and scored. Several processes share them.

    Args:
        folder: holds a folder for each track.
        config: the config of the network.
        device: where to separate.
        precision: fp16, bf16, tf32 or fp32.
        world: the processes of the run (default: this one alone).
        skip_bad_tracks: warn about tracks with problems and leave them out, instead of raising an error (default: False).

    Raises TrackError, with every problem, for a folder that cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        config: Config,
        *,
        device: torch.device,
        precision: str,
        world: World | None = None,
        skip_bad_tracks: bool = False,
    ) -> None:
        self.config, self.device, self.precision, self.world = config, device, precision, world or World()
        self.tracks = open_tracks([folder], config, skip_bad_tracks=skip_bad_tracks, silence_is_bad=False)
        self.mixtures = self._open_mixtures(skip_bad_tracks)

    def scores(self, state: dict[str, Tensor], stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Return the mean global SDR of each source, dB, for a network with these weights.

        Return None if `stop()` becomes true on any rank. It is called after every batch of chunks.

        Raises ValidationError on all ranks if anything fails on one of them. The songs themselves are left as they were, so
        the next validation may succeed.
        """
        share: list[dict[str, float]] | str | None
        try:
            share = self._scores_of_this_rank(state, stop)
        except UserError as error:
            share = " ".join(str(error).split())
        except Exception as error:  # no failure of a validation, such as a full memory, may end a training of days
            share = f"{type(error).__name__}: {' '.join(str(error).split())}"
        shares = self.world.gather(share)
        reasons = [share for share in shares if isinstance(share, str)]
        if reasons:
            raise ValidationError(reasons[0])
        if None in shares:
            return None
        songs = [song for share in shares for song in share]
        return {name: float(np.mean([song[name] for song in songs])) for name in self.config.source_order}

    def _open_mixtures(self, skip_bad_tracks: bool) -> list[AudioFile | None]:
        """Return the tracks' mixtures. With skip_bad_tracks, leave out the tracks whose mixture cannot be used, and warn."""
        mixtures, tracks, problems = [], [], []
        for track in self.tracks:
            try:
                mixtures.append(_mixture_file(track))
                tracks.append(track)
            except (AudioError, TrackError) as error:
                problems.append(str(error))
        if problems and not (skip_bad_tracks and tracks):
            raise TrackError("\n".join(problems))
        for problem in problems:
            warnings.warn(f"{problem}; validating without this track", stacklevel=3)
        self.tracks = tracks
        return mixtures

    def _scores_of_this_rank(self, state: dict[str, Tensor], stop: Callable[[], bool]) -> list[dict[str, float]] | None:
        """Return the scores of each of this rank's songs, or None if `stop()` ended the separation."""
        separator = Separator.of_state(
            self.config,
            state,
            "the network in training",
            device=str(self.device),
            precision=self.precision,
            overlap=min(OVERLAP, self.config.inference_chunk_size),
        )
        songs = []
        for index in range(self.world.rank, len(self.tracks), self.world.size):
            song = self._scores_of(index, separator, stop)
            if song is None:
                return None
            songs.append(song)
        return songs

    def _scores_of(self, index: int, separator: Separator, stop: Callable[[], bool]) -> dict[str, float] | None:
        """Return the scores of a song, or None if `stop()` ended its separation."""
        track, mixture = self.tracks[index], self.mixtures[index]
        source = mixture or AudioArray(_sum_of_stems(track), separator.sample_rate, str(track.folder))
        estimates = _separate(separator, source, stop)
        if estimates is None:
            return None
        return {
            name: global_sdr(audio.read(track.stems[name].path)[0], estimate)
            for name, estimate in zip(separator.source_order, estimates, strict=True)
        }


def _separate(separator: Separator, mixture: AudioStream, stop: Callable[[], bool]) -> NDArray[np.float32] | None:
    """Return the estimates [S, n, C], or None as soon as `stop()` is true."""
    estimates = np.empty((len(separator.source_order), mixture.num_samples, mixture.channels), np.float32)
    done = 0  # samples
    for block in separator.separate(mixture):  # [S, C, samples of a batch of chunks]
        if stop():
            return None
        samples = block.shape[2]
        estimates[:, done : done + samples] = block.swapaxes(1, 2)
        done += samples
    return estimates


def _mixture_file(track: Track) -> AudioFile | None:
    """Return a track's mixture.wav or .flac, or None if it has none. Raises TrackError if it does not fit the stems."""
    if not track.mixtures:
        return None
    path = track.find(MIXTURE)
    if isinstance(path, str):
        raise TrackError(f"{track.folder}: the mixture {path}")
    mixture, stem = AudioFile(path), next(iter(track.stems.values()))
    found, expected = ((file.num_samples, file.channels, file.sample_rate) for file in (mixture, stem))
    if found != expected:
        raise TrackError(
            f"{path}: has (samples, channels, Hz) {found}, but the stems next to it {expected}; replace it, or delete it to "
            "have the stems added up"
        )
    return mixture


def _sum_of_stems(track: Track) -> NDArray[np.float32]:
    """Return the sum of all stems, [n, C]."""
    stems = list(track.stems.values())
    total = np.zeros((track.num_samples, stems[0].channels), np.float32)
    for stem in stems:
        total += audio.read(stem.path)[0]
    return total
