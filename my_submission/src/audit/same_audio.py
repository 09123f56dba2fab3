"""Find tracks that hold the same audio under different names, so that no network judges a song that it has heard.

    find_same([track, copy, other])        # [["a song", "its copy"], ["another"]]

Two tracks are the same if a stem of one is a stem of the other, of any instrument: a copy may have other labels. Stems are
compared at 16 places, by the correlation of their samples. So format, bit depth and gain do not matter. A copy of another
length, speed or sample rate, or with other silence before it, is not found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.files import AudioFile
from my_submission.src.audio.tracks import Track

PLACES = 16  # of a stem, evenly spread
PLACE = 256  # samples
SAME = 0.98  # correlation from which two stems count as the same
ROWS = 1024  # stems that are compared with all others at a time


def find_same(tracks: Sequence[Track]) -> list[list[str]]:
    """Return the names of the tracks in groups of the same audio, mostly of one; both in the order of `tracks`.

    The tracks' stems are open and their names differ. Raises AudioError.
    """
    stems = [(number, stem) for number, track in enumerate(tracks) for stem in track.stems.values()]
    with ThreadPoolExecutor(8) as pool:  # most of the time is spent waiting for the disk
        probes = list(pool.map(lambda pair: _probe(pair[1]), stems))
    by_length: dict[int, list[int]] = defaultdict(list)
    for index, (_, stem) in enumerate(stems):
        if probes[index].any():
            by_length[stem.num_samples].append(index)
    leader = list(range(len(tracks)))

    def find(number: int) -> int:
        while leader[number] != number:
            number = leader[number]
        return number

    for members in by_length.values():
        vectors = np.stack([probes[index] for index in members])  # [N, PLACES * PLACE], each of length 1
        for start in range(0, len(members), ROWS):
            for row, column in np.argwhere(vectors[start : start + ROWS] @ vectors.T > SAME):
                a, b = find(stems[members[start + row]][0]), find(stems[members[column]][0])
                leader[max(a, b)] = min(a, b)
    groups: dict[int, list[str]] = {}
    for number, track in enumerate(tracks):
        groups.setdefault(find(number), []).append(track.name)
    return list(groups.values())


def _probe(stem: AudioFile) -> NDArray[np.float32]:
    """Return the samples at PLACES of a stem, mono, as a vector of length 1; zeros if it is silent there."""
    last = max(0, stem.num_samples - PLACE)
    vector = np.zeros((PLACES, PLACE), np.float32)
    for row, place in zip(vector, np.linspace(0, last, PLACES + 2)[1:-1], strict=True):
        piece = stem.read(int(place), PLACE).mean(axis=0)
        row[: len(piece)] = piece
    norm = float(np.linalg.norm(vector))
    return vector.ravel() / norm if norm > 0 else vector.ravel()
