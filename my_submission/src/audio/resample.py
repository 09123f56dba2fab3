"""Resample audio block by block, and bring it to an exact length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.common.errors import UserError


class ResampleError(UserError):
    """Audio has another sample rate than expected, and soxr is not installed."""


def resample(blocks: Iterable[Block], from_rate: int, to_rate: int) -> Iterator[Block]:
    """Resample blocks [C, n] from one rate in Hz to another with soxr. If the rates are equal, yield the blocks unchanged.

    The output has about to_rate / from_rate times the samples of the input; `fix_length` makes the number exact.

    Raises ResampleError if soxr is needed and not installed.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    try:
        import soxr
    except ImportError as error:
        raise ResampleError(
            f"the audio is at {from_rate} Hz, expected {to_rate} Hz; to have it resampled: pip install soxr"
        ) from error
    blocks = iter(blocks)
    block = next(blocks, None)
    if block is None:
        return
    resampler = soxr.ResampleStream(from_rate, to_rate, block.shape[0], dtype="float32", quality="VHQ")
    for following in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block.T)).T
        block = following
    yield resampler.resample_chunk(np.ascontiguousarray(block.T), last=True).T


def there_and_back(audio: AudioStream, rate: int, process: Callable[[Iterator[Block]], Iterator[Block]]) -> Iterator[Block]:
    """Process audio at another rate: resample it, process it, and resample the outcome back to the audio's rate and length.

    Args:
        audio: any audio.
        rate: the rate of `process`, Hz.
        process: maps blocks [C, n] to blocks [..., n], as many samples in all.

    Raises ResampleError, and all that reading the audio and `process` raise.
    """
    samples = max(1, round(audio.num_samples * rate / audio.sample_rate))
    processed = process(fix_length(samples, resample(audio.blocks(), audio.sample_rate, rate)))
    if audio.sample_rate == rate:
        yield from processed
        return
    first = next(processed)
    axes = first.shape[:-1]
    flat = (piece.reshape(math.prod(axes), -1) for piece in itertools.chain([first], processed))
    for piece in fix_length(audio.num_samples, resample(flat, rate, audio.sample_rate)):
        yield piece.reshape(*axes, -1)


def fix_length(num_samples: int, blocks: Iterable[Block]) -> Iterator[Block]:
    """Cut blocks [..., n], or pad them with zeros, to `num_samples` samples in total."""
    block = None
    for block in blocks:
        if num_samples > 0 and block.shape[-1] > 0:
            yield block[..., :num_samples]
        num_samples -= min(num_samples, block.shape[-1])
    if num_samples > 0 and block is not None:
        yield np.zeros((*block.shape[:-1], num_samples), np.float32)
