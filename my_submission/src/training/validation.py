"""How well the weights of a training run separate songs that it does not train on, in global SDR.

    validation = Validation("data/valid", config, device="cuda", precision="fp16")
    validation.scores(trainer.ema.state_dict())         # {"vocals": 6.1, ...}, dB, the mean over songs

It goes through a Separator on a folder, as any user's song does; only the chunks overlap less, which is quicker. A track is
a folder of stems as in training; its mixture is mixture.wav (or .flac) where there is one, and the sum of the stems elsewhere.
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
from my_submission.src.audio.files import AudioArray, AudioFile
from my_submission.src.audio.tracks import SUFFIXES, Track, TrackError
from my_submission.src.checkpoint import save_checkpoint
from my_submission.src.config import Config
from my_submission.src.dataset import open_tracks
from my_submission.src.evaluation.metrics import global_sdr
from my_submission.src.separator import Separator
from my_submission.src.training.distributed import World

OVERLAP = 2  # chunks that cover each sample; the published separation has 8, and takes four times as long


class Validation:
    """The songs of a folder. With several processes, each separates its share of them.

    Raises TrackError, with every problem, for a folder that cannot be used.
    """

    def __init__(
        self, folder: str | Path, config: Config, *, device: torch.device, precision: str, world: World | None = None
    ) -> None:
        self.config, self.device, self.precision, self.world = config, device, precision, world or World()
        self.tracks = open_tracks([folder], config, silence_is_bad=False)
        self.mixtures = [_mixture_file(track) for track in self.tracks]

    def scores(self, state: dict[str, Tensor], stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Global SDR of each instrument, dB, with a network of these weights; None where `stop` asked to leave."""
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
        separator.on_progress = lambda _: _leave_if(stop())
        mine = range(self.world.rank, len(self.tracks), self.world.size)
        try:
            found = [self._scores_of(index, separator) for index in mine]
        except _AskedToLeaveError:
            found = None
        everyones = self.world.gather(found)
        if None in everyones:
            return None
        songs = [song for share in everyones for song in share]
        return {name: float(np.mean([song[name] for song in songs])) for name in separator.source_order}

    def _scores_of(self, index: int, separator: Separator) -> dict[str, float]:
        track, mixture = self.tracks[index], self.mixtures[index]
        source = mixture or AudioArray(_sum_of_stems(track), separator.sample_rate, str(track.folder))
        estimates = separator.separate_array(source)  # [S, n, C]
        return {
            name: global_sdr(audio.read(track.stems[name].path)[0], estimate)
            for name, estimate in zip(separator.source_order, estimates, strict=True)
        }


class _AskedToLeaveError(Exception):
    """Ends a separation in its middle."""


def _leave_if(asked: bool) -> None:
    if asked:
        raise _AskedToLeaveError


def _mixture_file(track: Track) -> AudioFile | None:
    """mixture.wav or .flac of a track, if it has one."""
    paths = (track.folder / f"mixture{suffix}" for suffix in SUFFIXES)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        return None
    mixture, stem = AudioFile(path), next(iter(track.stems.values()))
    found, expected = ((file.num_samples, file.channels, file.sample_rate) for file in (mixture, stem))
    if found != expected:
        raise TrackError(
            f"{path}: has (samples, channels, Hz) {found}, but the stems beside it {expected}; replace it, or delete it to "
            "have the stems added up"
        )
    return mixture


def _sum_of_stems(track: Track) -> NDArray[np.float32]:
    """[n, C]."""
    stems = list(track.stems.values())
    total = np.zeros((track.num_samples, stems[0].channels), np.float32)
    for stem in stems:
        total += audio.read(stem.path)[0]
    return total
