"""The share of every stem that the loss's mask left out over a training; stems with wrong labels have the highest shares.

    tally = MaskTally(tracks, config)
    tally.add(drawn, kept)                          # after every batch
    tally.write(Path("masked.csv"))                 # track,instrument,chunks,masked

The first steps count too. Their masks say little about the labels, because the network knows nothing yet, but these steps are
few and affect all stems alike.
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


class MaskTally:
    """Counts, for every track and source, the chunks drawn and the sum of their shares left out: two arrays [tracks, S]."""

    def __init__(self, tracks: Sequence[Track], config: Config) -> None:
        self.tracks, self.sources = tracks, config.source_order
        self.places = [config.training.instruments.index(name) for name in config.source_order]
        self.chunks = np.zeros((len(tracks), len(self.sources)), np.int64)
        self.masked = np.zeros((len(tracks), len(self.sources)))

    def add(self, drawn: Sequence[Sequence[int]], kept: Sequence[Sequence[float]]) -> None:
        """Count the items of a batch.

        Args:
            drawn: [b, instruments], the index of the track that each instrument's chunk comes from.
            kept: [b, S], the share of each source's errors that the mask kept.
        """
        places = (np.asarray(drawn)[:, self.places], np.arange(len(self.sources)))  # [b, S] and [S]
        np.add.at(self.chunks, places, 1)  # unlike +=, this counts a stem that occurs twice in the batch twice
        np.add.at(self.masked, places, 1 - np.asarray(kept))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the sums, for a saved state."""
        return {"chunks": torch.tensor(self.chunks), "masked": torch.tensor(self.masked)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the result of `state_dict` for the same tracks."""
        self.chunks, self.masked = state["chunks"].numpy().copy(), state["masked"].numpy().copy()

    def write(self, path: Path) -> None:
        """Write the table, the highest shares first. Stems never drawn come last and have no share.

        Raises TableError if the file cannot be written.
        """
        sums: dict[tuple[str, str], np.ndarray] = {}  # one entry for a track that was named twice
        for track, chunks, masked in zip(_names(self.tracks), self.chunks, self.masked, strict=True):
            for name, *numbers in zip(self.sources, chunks, masked, strict=True):
                sums[track, name] = sums.get((track, name), 0) + np.array(numbers)
        shares = {stem: masked / chunks if chunks else None for stem, (chunks, masked) in sums.items()}
        order = sorted(((1.0 if share is None else -share, stem) for stem, share in shares.items()))
        rows = [
            {"track": track, "instrument": name, "chunks": int(sums[track, name][0]), "masked": shares[track, name]}
            for _, (track, name) in order
        ]
        stem_table.write(path, ("track", "instrument", "chunks", "masked"), rows)


def _names(tracks: Sequence[Track]) -> list[str]:
    """Return the shortest names that tell the tracks apart: `track`, `data folder/track` or the whole path."""
    folders = [track.folder.resolve() for track in tracks]
    for names in ([f.name for f in folders], [f"{f.parent.name}/{f.name}" for f in folders]):
        if len(set(names)) == len(set(folders)):
            return names
    return [str(folder) for folder in folders]
