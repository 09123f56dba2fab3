"""Another sample rate, block by block, and exactly as many samples as should come out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from my_submission.src.common.errors import UserError

Block = NDArray[np.float32]


class ResampleError(UserError):
    """Audio at another rate, without what resamples it."""


def resample(blocks: Iterable[Block], source_rate: int, target_rate: int) -> Iterator[Block]:
    """Blocks [C, n] at another rate, with soxr; as they are where the rates are equal.

    About target_rate / source_rate as many samples come out: see `fix_length`.

    Raises ResampleError where soxr is needed and not installed.
    """
    if source_rate == target_rate:
        yield from blocks
        return
    try:
        import soxr
    except ImportError as error:
        raise ResampleError(
            f"the audio is at {source_rate} Hz, expected {target_rate} Hz; to have it resampled: pip install soxr"
        ) from error
    blocks = iter(blocks)
    block = next(blocks, None)
    if block is None:
        return
    stream = soxr.ResampleStream(source_rate, target_rate, block.shape[0], dtype="float32", quality="VHQ")
    for following in itertools.chain(blocks, [None]):
        yield stream.resample_chunk(np.ascontiguousarray(block.T), last=following is None).T
        block = following


def fix_length(num_samples: int, blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks [..., n] cut, or filled up with zeros, to `num_samples` samples in all."""
    block = None
    for block in blocks:
        if num_samples > 0 and block.shape[-1] > 0:
            yield block[..., :num_samples]
        num_samples -= min(num_samples, block.shape[-1])
    if num_samples > 0 and block is not None:
        yield np.zeros((*block.shape[:-1], num_samples), np.float32)
