"""What a model makes of a stem by itself, window by window: sums of squares, from which every score is computed.

    energies = measure(separator, AudioFile("song/bass.wav"), own=2, seconds=10.0)      # [W, 2 + S], W windows

Column 0 is the energy of the stem, column 1 that of what its own output lacks or adds, the others those of all outputs in
the order of separator.source_order; energy is the mean square times the duration in seconds. Nothing else is kept: memory does
not depend on the length of the stem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.files import AudioStream, Block

if TYPE_CHECKING:
    from my_submission.src.separator import Separator

STEM, DISTORTION, OUTPUTS = 0, 1, slice(2, None)  # columns


def measure(separator: Separator, stem: AudioStream, own: int, seconds: float) -> NDArray[np.float64]:
    """Separate a stem as if it were a mixture and add up squares in windows of so many seconds, the last being shorter.

    `own` is the index of the stem's instrument among the separator's sources. What the outputs lack of the stem is left
    where it is: half of it added to `other`, as in separating songs, would look as if every stem held some of that.

    Raises AudioError and SeparationError.
    """
    length = max(1, round(seconds * stem.sample_rate))
    energies = np.zeros((-(-stem.num_samples // length), 2 + len(separator.source_order)))
    position = 0
    for truth, outputs in _in_step(stem.blocks(), separator.separate(stem, share_residual=False), length):
        row = energies[position // length]
        row[STEM] += _energy(truth)
        row[DISTORTION] += _energy(truth - outputs[own])
        row[OUTPUTS] += [_energy(output) for output in outputs]
        position += truth.shape[1]
    return energies / (stem.sample_rate * stem.channels)


def _in_step(stem: Iterator[Block], separated: Iterator[Block], length: int) -> Iterator[tuple[Block, Block]]:
    """The same samples of both, [C, n] and [S, C, n], never across the end of a window of `length` samples."""
    truth: Block | None = None
    left = length  # samples of the window
    for outputs in separated:
        while outputs.shape[-1] > 0:
            if truth is None or truth.shape[-1] == 0:
                truth = next(stem)
            samples = min(left, truth.shape[-1], outputs.shape[-1])
            yield truth[:, :samples], outputs[..., :samples]
            truth, outputs = truth[:, samples:], outputs[..., samples:]  # noqa: PLW2901
            left = left - samples or length


def _energy(signal: Block) -> float:
    return float(np.sum(np.square(signal), dtype=np.float64))
