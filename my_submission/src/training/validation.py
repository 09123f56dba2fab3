"""Validation: the global SDR of a training run's weights on songs that it does not train on.

    validation = Validation("data/valid", config, device=torch.device("cuda"), precision="fp16")
    validation.scores(trainer.ema.state_dict())         # {"vocals": 6.1, ...}, dB, the mean over songs

The songs go through a Separator on a folder, as a user's songs do, but with less overlap, which is faster. A track is a
folder of stems, as in training. Its mixture is mixture.wav (or .flac); without such a file it is the sum of the stems.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from my_submission.src import audio
from my_submission.src.audio.files import AudioArray, AudioFile, AudioStream
from my_submission.src.audio.tracks import SUFFIXES, Track, TrackError
from my_submission.src.checkpoint import save_checkpoint
from my_submission.src.config import Config
from my_submission.src.dataset import open_tracks
from my_submission.src.evaluation.metrics import global_sdr
from my_submission.src.separator import Separator
from my_submission.src.training.distributed import World

OVERLAP = 2  # chunks that cover each sample; the published separation has 8 and takes four times as long


class Validation:
    """The songs of a folder, ready to be separated and scored. Several processes share them.

    Args:
        folder: holds a folder for each track.
        config: the config of the network.
        device: where to separate.
        precision: fp16, bf16, tf32 or fp32.
        world: the processes of the run (default: this one alone).

    Raises TrackError, with every problem, for a folder that cannot be used.
    """

    def __init__(
        self, folder: str | Path, config: Config, *, device: torch.device, precision: str, world: World | None = None
    ) -> None:
        self.config, self.device, self.precision, self.world = config, device, precision, world or World()
        self.tracks = open_tracks([folder], config, silence_is_bad=False)
        self.mixtures = [_mixture_file(track) for track in self.tracks]

    def scores(self, state: dict[str, Tensor], stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Return the mean global SDR of each source, dB, for a network with these weights.

        Return None if `stop()` becomes true on any rank. It is called after every batch of chunks.
        """
        with tempfile.TemporaryDirectory(prefix="validation-") as name:
            folder = Path(name)
            (folder / "config.yaml").write_text(yaml.safe_dump(self.config.as_dict()), encoding="utf-8")
            save_checkpoint(state, folder / "average.ckpt")
            separator = Separator(
                folder,
                device=str(self.device),
                precision=self.precision,
                overlap=min(OVERLAP, self.config.inference_chunk_size),
            )
        shares = self.world.gather(self._scores_of_this_rank(separator, stop))
        if None in shares:
            return None
        songs = [song for share in shares for song in share]
        return {name: float(np.mean([song[name] for song in songs])) for name in separator.source_order}

    def _scores_of_this_rank(self, separator: Separator, stop: Callable[[], bool]) -> list[dict[str, float]] | None:
        """Return the scores of each of this rank's songs, or None if `stop()` ended the separation."""
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
    """Return a track's mixture.wav or .flac, or None if it has none. Raises DatasetError if it does not fit the stems."""
    paths = (track.folder / f"mixture{suffix}" for suffix in SUFFIXES)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
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
