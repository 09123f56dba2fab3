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
    check_grid(chunk, overlap, batch_size)
    hop = chunk // overlap
    padded = Padded(blocks, before=lambda block: block.new_zeros(block.shape[0], chunk - hop), behind=_zeros(chunk - 1))
    yield from padded.cut(slide(padded, process, chunk, hop, batch_size, window), chunk - hop)


def check_grid(chunk: int, overlap: int, batch_size: int) -> None:
    """Raise ValueError for an overlap or a batch size that is out of range."""
    if not 1 <= overlap <= chunk:
        raise ValueError(f"overlap is {overlap}, expected 1 up to the chunk's {chunk} samples")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, expected 1 or more")


def _zeros(samples: int) -> Callable[[Tensor], Tensor]:
    return lambda tail: tail.new_zeros(tail.shape[0], samples)


class Padded:
    """Blocks of a signal with samples put before and behind it.

    Args:
        blocks: consecutive blocks [C, n].
        before: makes the samples before the signal [C, b] from its first block with samples.
        behind: makes those behind it from the last `keep` samples of the signal, fewer if it is shorter.
        keep: samples to keep for `behind` (default: 1).
    """

    def __init__(
        self,
        blocks: Iterable[Tensor],
        before: Callable[[Tensor], Tensor],
        behind: Callable[[Tensor], Tensor],
        keep: int = 1,
    ) -> None:
        self.blocks, self.before, self.behind, self.keep = blocks, before, behind, keep
        self.length: int | None = None  # samples of the signal, known once it has ended

    def __iter__(self) -> Iterator[Tensor]:
        tail: Tensor | None = None
        length = 0
        for block in self.blocks:
            if block.shape[-1] == 0:
                continue
            if tail is None:
                yield self.before(block)
            tail = block if tail is None or block.shape[-1] >= self.keep else torch.cat([tail, block], dim=-1)
            tail = tail[:, -self.keep :].clone()
            length += block.shape[-1]
            yield block
        self.length = length
        if tail is not None:
            yield self.behind(tail)

    def cut(self, pieces: Iterable[tuple[Tensor, Tensor]], before: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Take away the `before` samples before the signal, and those behind it, from pieces ([C, n], [..., n])."""
        position = -before
        for padded, processed in pieces:
            end = processed.shape[-1] if self.length is None else self.length - position
            inside = slice(max(0, -position), min(processed.shape[-1], end))
            position += processed.shape[-1]
            if inside.start < inside.stop:
                yield padded[:, inside].clone(), processed[..., inside]


def slide(
    blocks: Iterable[Tensor],
    process: Callable[[Tensor], Tensor],
    chunk: int,
    hop: int,
    batch_size: int,
    window: Tensor | None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run `process` over all chunks that lie wholly in a signal, and add them up.

    Args:
        blocks: consecutive blocks [C, n]; the first chunk begins with the first sample, the others each `hop` samples later.
        process: maps [B, C, chunk] to [B, ..., chunk].
        chunk: samples of a chunk.
        hop: samples from the beginning of a chunk to that of the next.
        batch_size: chunks that are processed together.
        window: [chunk], the weight of each sample; None: all ones.

    Yields:
        (samples, processed): [C, n] and [..., n], n a multiple of hop; after the last chunk, the samples before its last
        chunk - hop ones.
    """
    buffer: Tensor | None = None  # [C, chunk + (batch_size - 1) * hop]: the next batch's samples
    filled = 0  # samples of the buffer that hold the signal
    accumulator = _Accumulator(chunk, hop, window)
    for block in blocks:
        if buffer is None:
            buffer = block.new_zeros(block.shape[0], chunk + (batch_size - 1) * hop)
        while block.shape[-1] > 0:
            part, block = block[:, : buffer.shape[-1] - filled], block[:, buffer.shape[-1] - filled :]  # noqa: PLW2901
            buffer[:, filled : filled + part.shape[-1]] = part
            filled += part.shape[-1]
            if filled == buffer.shape[-1]:
                yield buffer, accumulator.add(process(_chunks(buffer, chunk, hop)))
                step = batch_size * hop
                buffer[:, :-step] = buffer[:, step:].clone()
                filled -= step
    if buffer is not None and filled >= chunk:
        batch = (filled - chunk) // hop + 1
        yield buffer, accumulator.add(process(_chunks(buffer, chunk, hop)[:batch]))


def _chunks(buffer: Tensor, chunk: int, hop: int) -> Tensor:
    """Return overlapping views [B, C, chunk] of a buffer [C, chunk + (B - 1) * hop]."""
    return buffer.unfold(-1, chunk, hop).movedim(1, 0)


class _Accumulator:
    """Add up weighted chunks, hop by hop, and divide each sample by the weights of the chunks that cover it."""

    def __init__(self, chunk: int, hop: int, window: Tensor | None) -> None:
        self.chunk, self.hop, self.window = chunk, hop, window
        self.total: Tensor | None = None  # [..., chunk - hop]: begun but not finished
        self.coverage = torch.zeros(chunk - hop)
        self.before = chunk - hop  # samples before the signal that are still to come

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
        before = min(self.before, done)
        self.before -= before
        finished[:before].clamp_(min=1e-9)  # these may have no weight, and are cut away
        assert finished.min() > 0, "a sample that no chunk covers"
        return total[..., :done] / finished.to(total.device)
