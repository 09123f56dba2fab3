"""MSST's procedure: against its definition in one piece, over many sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from my_submission.src.family.msst import msst
from tests.test_overlap_add import in_blocks


def reference(signal: Tensor, process: object, chunk: int, overlap: int) -> Tensor:
    """The procedure as MSST's users know it: the whole song padded, every chunk cut out, filled up and added."""
    length, hop, fade = signal.shape[-1], chunk // overlap, chunk // 10
    border = chunk - hop
    padded = signal.numpy()
    reflected = length > 2 * border and overlap > 1
    if reflected:
        padded = np.pad(padded, ((0, 0), (border, border)), mode="reflect")
    total, coverage = np.zeros_like(padded), np.zeros_like(padded)
    starts = list(range(0, padded.shape[1], hop))
    for start in starts:
        part = padded[:, start : start + chunk]
        size = part.shape[1]
        if size < chunk:
            mode = "reflect" if size > chunk // 2 else "constant"
            part = np.pad(part, ((0, 0), (0, chunk - size)), mode=mode)
        weights = np.ones(chunk)
        if overlap > 1:
            if start > 0:
                weights[:fade] = np.linspace(0, 1, fade)
            if start < starts[-1]:
                weights[chunk - fade :] = np.linspace(1, 0, fade)
        result = process(torch.from_numpy(part.copy())[None])[0].numpy()
        total[:, start : start + size] += (weights * result)[:, :size]
        coverage[:, start : start + size] += weights[:size]
    answer = np.divide(total, coverage, out=np.zeros_like(total), where=coverage > 0)
    return torch.from_numpy(answer[:, border : border + length] if reflected else answer)


def scramble(chunks: Tensor) -> Tensor:
    """A process in which every sample of the answer depends on its place and on its neighbours."""
    ramp = torch.linspace(0.5, 1.5, chunks.shape[-1], dtype=chunks.dtype)
    return chunks * ramp + 0.3 * chunks.flip(-1)


block_sizes = st.lists(st.integers(0, 90), min_size=1, max_size=5).filter(any)


@settings(max_examples=200, deadline=None)
@given(st.integers(4, 60), st.integers(1, 9), st.integers(1, 5), block_sizes, st.data())
def test_the_answer_is_the_definitions(
    chunk: int, overlap: int, batch_size: int, sizes: list[int], data: st.DataObject
) -> None:
    overlap = min(overlap, chunk)
    length = data.draw(st.integers(1, 10 * chunk))
    signal = torch.rand(2, length, generator=torch.Generator().manual_seed(length), dtype=torch.float64)
    pieces = list(msst(in_blocks(signal, sizes), scramble, chunk=chunk, overlap=overlap, batch_size=batch_size))
    assert torch.equal(torch.cat([piece for piece, _ in pieces], -1), signal)
    found = torch.cat([piece for _, piece in pieces], -1)
    torch.testing.assert_close(found, reference(signal, scramble, chunk, overlap), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overlap", [1, 2, 3, 4])
def test_the_buffers_do_not_grow_with_the_song(overlap: int) -> None:
    sizes = []

    def process(chunks: Tensor) -> Tensor:
        return chunks.clone()

    for length in (1000, 20000):
        signal = torch.rand(1, length)
        sizes.append(max(piece.shape[-1] for piece, _ in msst(in_blocks(signal, [50]), process, chunk=60, overlap=overlap)))
    assert sizes[0] == sizes[1]


def test_an_empty_signal_gives_nothing() -> None:
    assert list(msst([torch.zeros(2, 0)], scramble, chunk=16, overlap=4)) == []
