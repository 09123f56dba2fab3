"""The procedure of Music-Source-Separation-Training (MSST), in constant memory: reflected borders and a trapezoid window.

Most public checkpoints of this architecture are used, and scored, with that program. It differs from the published procedure
(overlap_add.py) in three points, C being a chunk's samples, H = C // overlap and B = C - H:

    * A chunk's weights rise over its first C // 10 samples, from exactly 0 to exactly 1, and fall likewise at its end.
    * Before and behind the song stands its reflection, B samples long, instead of zeros. The one chunk that reaches beyond
      the reflection sees that reflected once more.
    * A song of 2 B samples at most has no samples before it. Each chunk is filled up by its own reflection, or by zeros if it
      holds no more than C // 2 samples. The first chunk does not rise and the last one does not fall.

With overlap 1, MSST leaves zeros where chunks meet. Here all weights are 1 then, and the third rule holds for any length.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from my_submission.src.overlap_add import Padded, check_grid, slide


def msst(
    blocks: Iterable[Tensor],
    process: Callable[[Tensor], Tensor],
    *,
    chunk: int,
    overlap: int,
    batch_size: int = 1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Run `process` over overlapping chunks of a signal as MSST does; arguments and yields are those of `overlap_add`."""
    check_grid(chunk, overlap, batch_size)
    hop = chunk // overlap
    border = chunk - hop
    if overlap == 1:
        yield from _side_by_side(blocks, process, chunk, batch_size)
        return
    rest = iter(blocks)
    head = _take(rest, 2 * border + 1)
    if head is None:
        return
    if head.shape[-1] <= 2 * border:
        yield head, _short(head, process, chunk, hop, batch_size)
        return
    padded = Padded(
        itertools.chain([head], rest),
        before=lambda first: first[:, 1 : border + 1].flip(-1),
        behind=lambda tail: _reflection(tail, border, hop),
        keep=border + 1,
    )
    yield from padded.cut(slide(padded, process, chunk, hop, batch_size, trapezoid(chunk)), border)


def trapezoid(chunk: int, rise: bool = True, fall: bool = True) -> Tensor:
    """Return MSST's weights [chunk]: 1, but for a rise from 0 over the first tenth and a fall to 0 over the last."""
    window, fade = torch.ones(chunk), chunk // 10
    if rise:
        window[:fade] = torch.linspace(0, 1, fade)
    if fall:
        window[chunk - fade :] = torch.linspace(1, 0, fade)
    return window


def _take(blocks: Iterator[Tensor], samples: int) -> Tensor | None:
    """Take blocks until that many samples are there, or the signal ends; return them in one piece, None if there are none."""
    taken: list[Tensor] = []
    length = 0
    while length < samples and (block := next(blocks, None)) is not None:
        taken.append(block)
        length += block.shape[-1]
    return torch.cat(taken, dim=-1) if length > 0 else None


def _side_by_side(
    blocks: Iterable[Tensor], process: Callable[[Tensor], Tensor], chunk: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Process chunks that do not overlap; yield what `msst` yields."""
    rest = iter(blocks)
    carried: list[Tensor] = []  # what the last batch has left over
    while True:
        batch = _take(itertools.chain(carried, rest), chunk * batch_size)
        if batch is None:
            return
        batch, left = batch[:, : chunk * batch_size], batch[:, chunk * batch_size :]
        carried = [left]
        processed = process(torch.stack([_filled(part, chunk) for part in batch.split(chunk, dim=-1)]))
        yield batch, torch.cat(list(processed), dim=-1)[..., : batch.shape[-1]]


def _reflection(tail: Tensor, border: int, hop: int) -> Tensor:
    """Return what stands behind a signal that ends with `tail` [C, border + 1]: its reflection, and a reflection of that."""
    behind = tail[:, :border].flip(-1)
    again = torch.cat([tail, behind], dim=-1)[:, -hop:-1].flip(-1)  # the last sample is not repeated
    return torch.cat([behind, again], dim=-1)


def _filled(part: Tensor, chunk: int) -> Tensor:
    """Fill a chunk's samples [C, n] up to `chunk`: by their reflection, or by zeros if they are few."""
    missing = chunk - part.shape[-1]
    if part.shape[-1] > chunk // 2:
        return torch.cat([part, part[:, -missing - 1 : -1].flip(-1)], dim=-1) if missing else part
    return torch.nn.functional.pad(part, (0, missing))


def _short(signal: Tensor, process: Callable[[Tensor], Tensor], chunk: int, hop: int, batch_size: int) -> Tensor:
    """Process a signal [C, n] of at most two borders in one piece: return [..., n]."""
    samples = signal.shape[-1]
    starts = range(0, samples, hop)
    chunks = torch.stack([_filled(signal[:, start : start + chunk], chunk) for start in starts])
    total: Tensor | None = None
    coverage = torch.zeros(samples + chunk)
    for first in range(0, len(starts), batch_size):
        for index, processed in enumerate(process(chunks[first : first + batch_size]), first):
            window = trapezoid(chunk, rise=index > 0, fall=index < len(starts) - 1)
            if total is None:
                total = processed.new_zeros(*processed.shape[:-1], samples + chunk)
            begin = starts[index]
            total[..., begin : begin + chunk] += processed * window.to(processed.device)
            coverage[begin : begin + chunk] += window
    assert total is not None
    assert coverage[:samples].min() > 0, "a sample that no chunk covers"
    return total[..., :samples] / coverage[:samples].to(total.device)
