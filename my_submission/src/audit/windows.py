"""Measure the outputs of a model for a single stem, window by window. Every score is computed from these energies.

    energies = measure(separator, AudioFile("song/bass.wav"), own=2, seconds=10.0)      # [W, 2 + S], W windows

Column 0 is the energy of the stem. Column 1 is the energy of the difference between the stem and its own output. The other
columns are the energies of all outputs, in the order of separator.source_order. Energy is the mean square times the duration in
seconds. Nothing else is kept, so memory does not depend on the length of the stem.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.files import AudioStream, Block

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator

STEM, DISTORTION, OUTPUTS = 0, 1, slice(2, None)  # columns


def measure(separator: BaseSeparator, stem: AudioStream, own: int, seconds: float) -> NDArray[np.float64]:
    """Separate a stem as if it were a mixture, and sum its squares in windows; return the energies [W, 2 + S].

    The residual is not distributed: the usual half for `other` would make every stem seem to contain `other`.

    Args:
        separator: the model.
        stem: the audio.
        own: index of the stem's instrument in separator.source_order.
        seconds: length of a window; the last one may be shorter. Shorter windows find shorter faults, but vary more.

    Raises AudioError and SeparationError.
    """
    length = max(1, round(seconds * stem.sample_rate))
    energies = np.zeros((-(-stem.num_samples // length), 2 + len(separator.source_order)))
    position = 0
    for truth, outputs in _aligned(stem.blocks(), separator.separate(stem, share_residual=False), length):
        row = energies[position // length]
        row[STEM] += _energy(truth)
        row[DISTORTION] += _energy(truth - outputs[own])
        row[OUTPUTS] += [_energy(output) for output in outputs]
        position += truth.shape[1]
    return energies / (stem.sample_rate * stem.channels)


def _aligned(stem: Iterator[Block], separated: Iterator[Block], length: int) -> Iterator[tuple[Block, Block]]:
    """Yield the same samples of both, [C, n] and [S, C, n], cut so that none cross the end of a window of `length` samples."""
    truth: Block | None = None
    left = length  # samples until the window ends
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
