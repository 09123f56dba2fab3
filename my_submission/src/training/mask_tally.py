"""How much of every stem the loss's mask left out over a training: what the labels have wrong comes first.

    tally = MaskTally(tracks, config)
    tally.add(drawn, kept)                          # each batch
    tally.write(table_path("runs/A", seed=0))       # track,instrument,chunks,masked

The first steps count too. In them the network knows nothing, and what is left out has little to do with the labels: they are
few, and put the same blur on every stem.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from my_submission.src.audio.tracks import Track
from my_submission.src.common import stem_table
from my_submission.src.config import Config


def table_path(folder: str | Path, seed: int) -> Path:
    """Where a seed's table is."""
    return Path(folder) / f"masked_seed{seed}.csv"


class MaskTally:
    """For every track, and every source that the network estimates: chunks drawn, and the sum of the shares left out."""

    def __init__(self, tracks: Sequence[Track], config: Config) -> None:
        self.tracks, self.sources = tracks, config.source_order
        self.places = [config.training.instruments.index(name) for name in config.source_order]
        self.chunks = np.zeros((len(tracks), len(self.sources)), np.int64)
        self.masked = np.zeros((len(tracks), len(self.sources)))

    def add(self, drawn: Sequence[Sequence[int]], kept: Sequence[Sequence[float]]) -> None:
        """Items of a batch: which track each instrument's chunk is from [b, instruments], the share of it kept [b, S]."""
        places = (np.asarray(drawn)[:, self.places], np.arange(len(self.sources)))  # [b, S] and [S]
        np.add.at(self.chunks, places, 1)  # unlike +=, this counts a stem twice that is there twice
        np.add.at(self.masked, places, 1 - np.asarray(kept))

    def state_dict(self) -> dict[str, Tensor]:
        """The sums, for a saved state."""
        return {"chunks": torch.tensor(self.chunks), "masked": torch.tensor(self.masked)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave for the same tracks."""
        self.chunks, self.masked = state["chunks"].numpy().copy(), state["masked"].numpy().copy()

    def write(self, path: Path) -> None:
        """The table: the stems that the mask left out most come first, those never drawn last, without a share.

        Raises TableError where it cannot be written.
        """
        sums: dict[tuple[str, str], np.ndarray] = {}  # a track that is there twice is one
        for track, chunks, masked in zip(_names(self.tracks), self.chunks, self.masked, strict=True):
            for name, *numbers in zip(self.sources, chunks, masked, strict=True):
                sums[track, name] = sums.get((track, name), 0) + np.array(numbers)
        rows = [
            {"track": track, "instrument": name, "chunks": int(chunks), "masked": masked / chunks if chunks else None}
            for (track, name), (chunks, masked) in sums.items()
        ]
        rows.sort(key=lambda row: (1 if row["masked"] is None else -row["masked"], row["track"], row["instrument"]))
        stem_table.write(path, ("track", "instrument", "chunks", "masked"), rows)


def _names(tracks: Sequence[Track]) -> list[str]:
    """The tracks' names; with that of the data folder, or with all folders, where two tracks of one name are told apart so."""
    folders = [track.folder.resolve() for track in tracks]
    for names in ([f.name for f in folders], [f"{f.parent.name}/{f.name}" for f in folders]):
        if len(set(names)) == len(set(folders)):
            return names
    return [str(folder) for folder in folders]
