"""A streaming chunker: blocks of any size in, finished samples out, in order, exactly as many as came in.

Chunks of `chunk` samples start at every multiple of `hop = chunk // overlap`. The first one starts `chunk - hop` samples before
the signal, so that the first sample is covered as often as any other. Outside the signal there are zeros.

    signal             0-------------------------------------n
    chunk 0      [zeros----|--]
    chunk 1          [zeros|------]            each chunk is processed and added up where it
    chunk 2              [-|----------]        belongs; every sample is divided by the number
    ...                    |                   of chunks that cover it
                           first finished sample: once chunk `overlap - 1` is done

Memory is one buffer of a batch of chunks in and one out, for a signal of any length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def _rectangular(chunk: int) -> None:
    """Weigh all samples equally, without a multiplication."""


def _hann(chunk: int) -> Tensor:
    """Return a Hann window [chunk], taken between its zeros: every weight is above 0."""
    place = (torch.arange(chunk, dtype=torch.float64) + 0.5) / chunk
    return torch.sin(math.pi * place).square().float()


def _trapezoid(chunk: int) -> Tensor:
    """Return ones with a linear fade over a sixteenth of the chunk at both ends [chunk]; every weight is above 0."""
    fade = (torch.arange(chunk, dtype=torch.float64) + 0.5) / (chunk / 16)
    return torch.minimum(fade, fade.flip(0)).clamp(max=1).float()


# name -> function from the samples of a chunk to `overlap_add`'s window; all but rectangular avoid steps at the chunks' ends
WINDOWS: dict[str, Callable[[int], Tensor | None]] = {
    "rectangular": _rectangular,
    "hann": _hann,
    "trapezoid": _trapezoid,
}


def overlap_add(
    blocks: Iterable[Tensor],
    process: Callable[[Tensor], Tensor],
    *,
    chunk: int,
    overlap: int,
    batch_size: int = 1,
    window: Tensor | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run `process` over overlapping chunks of a signal that comes in blocks.

    Args:
        blocks: consecutive blocks [C, n] of one signal; n may vary and may be 0.
        process: maps [B, C, chunk] to [B, ..., chunk], on any device; B is at most batch_size.
        chunk: samples of a chunk.
        overlap: chunks that cover each sample, 1 up to chunk; more chunks take more time and smooth the seams. If it does
            not divide chunk, some samples are covered by one chunk more; each sample is divided by its actual coverage.
        batch_size: chunks that are processed together (default: 1). It changes neither the result nor the order of additions.
        window: [chunk], above 0: the weight of each sample of a chunk (default: all ones).

    Yields:
        (signal, processed): [C, n] as it came in and [..., n] for the same samples.
    """
    if not 1 <= overlap <= chunk:
        raise ValueError(f"overlap is {overlap}, expected 1 up to the chunk's {chunk} samples")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected 1 or more")
    hop = chunk // overlap
    buffer: Tensor | None = None  # [C, chunk + (batch_size - 1) * hop]: the next batch's samples
    filled = chunk - hop  # samples of the buffer that hold the signal, or the zeros before it
    start = -filled  # where the buffer begins in the signal
    accumulator = _Accumulator(chunk, hop, window)

    for block in blocks:
        if buffer is None:
            buffer = block.new_zeros(block.shape[0], chunk + (batch_size - 1) * hop)
        while block.shape[-1] > 0:
            part, block = block[:, : buffer.shape[-1] - filled], block[:, buffer.shape[-1] - filled :]  # noqa: PLW2901
            buffer[:, filled : filled + part.shape[-1]] = part
            filled += part.shape[-1]
            if filled == buffer.shape[-1]:
                finished = accumulator.add(process(_chunks(buffer, chunk, hop)))
                yield from _within(buffer, finished, start, start + filled)
                step = batch_size * hop
                buffer[:, :-step] = buffer[:, step:].clone()
                filled, start = filled - step, start + step

    if buffer is None or start + filled == 0:  # the signal is empty
        return
    end = start + filled
    while filled > 0:  # the chunks that begin inside the signal and end behind it
        buffer[:, filled:] = 0
        batch = min(batch_size, -(-filled // hop))
        finished = accumulator.add(process(_chunks(buffer, chunk, hop)[:batch]))
        yield from _within(buffer, finished, start, end)
        step = min(batch * hop, filled)
        buffer[:, : filled - step] = buffer[:, step:filled].clone()
        filled, start = filled - step, start + step


def _chunks(buffer: Tensor, chunk: int, hop: int) -> Tensor:
    """Return overlapping views [B, C, chunk] of a buffer [C, chunk + (B - 1) * hop]."""
    return buffer.unfold(-1, chunk, hop).movedim(1, 0)


def _within(buffer: Tensor, finished: Tensor, start: int, end: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the finished samples, which begin at `start`, cut to the signal from 0 to `end`; nothing if none is inside."""
    inside = slice(max(0, -start), min(finished.shape[-1], end - start))
    if inside.start < inside.stop:
        yield buffer[:, inside].clone(), finished[..., inside]


class _Accumulator:
    """Add up weighted chunks, hop by hop, and divide each sample by the weights of the chunks that cover it."""

    def __init__(self, chunk: int, hop: int, window: Tensor | None) -> None:
        self.chunk, self.hop, self.window = chunk, hop, window
        self.total: Tensor | None = None  # [..., chunk - hop]: begun but not finished
        self.coverage = torch.zeros(chunk - hop)

    def add(self, processed: Tensor) -> Tensor:
        """Take the next chunks [B, ..., chunk]; return the samples [..., B * hop] that no later chunk touches."""
        batch = processed.shape[0]
        total = processed.new_zeros(*processed.shape[1:-1], self.chunk + (batch - 1) * self.hop)
        coverage = torch.zeros(total.shape[-1])
        if self.total is not None:
            total[..., : self.chunk - self.hop] = self.total
        coverage[: self.chunk - self.hop] = self.coverage
        weights = None if self.window is None else self.window.to(processed.device)
        for index, chunk in enumerate(processed):  # one after the other: the same sums for every batch size
            begin = index * self.hop
            total[..., begin : begin + self.chunk] += chunk if weights is None else chunk * weights
            coverage[begin : begin + self.chunk] += 1 if self.window is None else self.window
        done = batch * self.hop
        self.total, self.coverage = total[..., done:].clone(), coverage[done:].clone()
        finished = coverage[:done]
        assert finished.min() > 0, "a sample that no chunk covers"
        return total[..., :done] / finished.to(total.device)
