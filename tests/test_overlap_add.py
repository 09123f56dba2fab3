"""The streaming chunker, over many sizes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from my_submission.src.overlap_add import WINDOWS, overlap_add

CHUNK = 24


def in_blocks(signal: Tensor, sizes: list[int]) -> Iterator[Tensor]:
    """Cut the signal into blocks of these sizes, in turn; a size may be 0."""
    position = turn = 0
    while position < signal.shape[-1]:
        size = sizes[turn % len(sizes)]
        yield signal[:, position : position + size]
        position, turn = position + size, turn + 1


def run(signal: Tensor, process: object, sizes: list[int], **how: object) -> tuple[Tensor, Tensor]:
    pieces = list(overlap_add(in_blocks(signal, sizes), process, chunk=CHUNK, **how))
    return torch.cat([a for a, _ in pieces], -1), torch.cat([b for _, b in pieces], -1)


def reference(signal: Tensor, overlap: int, process: object, window: Tensor | float = 1) -> Tensor:
    """Apply the definition in one piece: add up all chunks that touch the signal, divide by the actual coverage."""
    hop, samples = CHUNK // overlap, signal.shape[-1]
    padded = torch.nn.functional.pad(signal, (CHUNK - hop, 2 * CHUNK))
    total, coverage = torch.zeros_like(padded), torch.zeros_like(padded)
    for begin in range(0, CHUNK - hop + samples, hop):
        total[:, begin : begin + CHUNK] += window * process(padded[None, :, begin : begin + CHUNK])[0]
        coverage[:, begin : begin + CHUNK] += window
    inside = slice(CHUNK - hop, CHUNK - hop + samples)
    return total[:, inside] / coverage[:, inside]


lengths = st.integers(1, 5 * CHUNK)
block_sizes = st.lists(st.integers(0, 3 * CHUNK), min_size=1, max_size=5).filter(any)


@settings(max_examples=300, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 5), block_sizes)
def test_the_identity_returns_the_signal(samples: int, overlap: int, batch_size: int, sizes: list[int]) -> None:
    signal = torch.arange(1.0, 2 * samples + 1).reshape(2, samples)
    mixture, result = run(signal, lambda chunks: chunks, sizes, overlap=overlap, batch_size=batch_size)
    assert torch.equal(mixture, signal)
    torch.testing.assert_close(result, signal, rtol=1e-6, atol=0)


@settings(max_examples=300, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 5), block_sizes)
def test_neither_batch_size_nor_blocks_change_the_result(samples: int, overlap: int, batch_size: int, sizes: list[int]) -> None:
    signal = torch.rand(1, samples, generator=torch.Generator().manual_seed(samples))
    ramp = torch.linspace(0.5, 1.5, CHUNK)  # depends on the place in the chunk, so that a misplaced chunk shows

    def process(chunks: Tensor) -> Tensor:
        return chunks.flip(-1) * ramp

    _, result = run(signal, process, sizes, overlap=overlap, batch_size=batch_size)
    _, plain = run(signal, process, [samples], overlap=overlap, batch_size=1)
    assert torch.equal(result, plain)
    torch.testing.assert_close(result, reference(signal, overlap, process), rtol=1e-5, atol=1e-6)


@settings(max_examples=200, deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 5), block_sizes)
def test_a_window_weighs_both_the_sum_and_the_coverage(samples: int, overlap: int, batch_size: int, sizes: list[int]) -> None:
    signal = torch.rand(1, samples, generator=torch.Generator().manual_seed(samples))
    ramp, window = torch.linspace(0.5, 1.5, CHUNK), torch.hann_window(CHUNK + 2, periodic=False)[1:-1]
    how = {"overlap": overlap, "batch_size": batch_size, "window": window}
    _, same = run(signal, lambda chunks: chunks, sizes, **how)
    torch.testing.assert_close(same, signal, rtol=1e-5, atol=1e-6)
    _, result = run(signal, lambda chunks: chunks * ramp, sizes, **how)
    expected = reference(signal, overlap, lambda chunks: chunks * ramp, window)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overlap", [1, 5, 8, CHUNK])
@pytest.mark.parametrize("samples", [CHUNK - 1, CHUNK, 3 * CHUNK])
def test_no_chunk_lies_outside_the_signal(samples: int, overlap: int) -> None:
    begun = []

    def process(chunks: Tensor) -> Tensor:
        assert chunks.shape[0] <= 2
        begun.extend(chunks[:, 0, -1].tolist())
        return chunks

    run(torch.ones(1, samples), process, [7], overlap=overlap, batch_size=2)
    hop = CHUNK // overlap
    assert len(begun) == -(-(samples + CHUNK - hop) // hop)


def test_results_may_have_more_axes_and_an_empty_signal_gives_nothing() -> None:
    signal = torch.rand(2, 100)
    _, stems = run(signal, lambda chunks: torch.stack([chunks, 2 * chunks, -chunks], 1), [9], overlap=4, batch_size=3)
    torch.testing.assert_close(stems, torch.stack([signal, 2 * signal, -signal]))
    assert list(overlap_add([], lambda chunks: chunks, chunk=8, overlap=2)) == []
    assert list(overlap_add([torch.zeros(2, 0)], lambda chunks: chunks, chunk=8, overlap=2)) == []


def test_the_caller_may_keep_and_change_the_pieces() -> None:
    signal = torch.rand(1, 500)
    pieces = []
    for mixture, result in overlap_add(signal.split(11, -1), lambda chunks: chunks, chunk=CHUNK, overlap=3, batch_size=2):
        result.add_(1)  # must not reach later samples
        pieces.append(mixture)
    assert torch.equal(torch.cat(pieces, -1), signal)


@pytest.mark.parametrize(("overlap", "batch_size"), [(0, 1), (CHUNK + 1, 1), (1, 0)])
def test_impossible_settings_are_refused(overlap: int, batch_size: int) -> None:
    with pytest.raises(ValueError, match="expected 1"):
        list(overlap_add([torch.ones(1, 5)], lambda chunks: chunks, chunk=CHUNK, overlap=overlap, batch_size=batch_size))


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_positive_and_symmetric(name: str) -> None:
    window = WINDOWS[name](CHUNK)
    if window is not None:
        assert window.shape == (CHUNK,)
        assert window.min() > 0
        torch.testing.assert_close(window, window.flip(0))


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 17, 1984, 260_096])
def test_windows_of_any_length_return_the_signal(name: str, chunk: int) -> None:
    window, overlap = WINDOWS[name](chunk), min(chunk, 3)
    signal = torch.rand(1, 2 * chunk + 1, generator=torch.Generator().manual_seed(chunk))
    pieces = overlap_add([signal], lambda chunks: chunks, chunk=chunk, overlap=overlap, window=window)
    torch.testing.assert_close(torch.cat([result for _, result in pieces], -1), signal, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(WINDOWS) - {"rectangular"}))
@pytest.mark.parametrize("overlap", [2, 3, 4, 8])
def test_a_window_leaves_no_step_where_a_chunk_begins_or_ends(name: str, overlap: int) -> None:
    chunk, samples = 4096, 5 * 4096

    def largest_step(window: Tensor | None) -> float:
        levels = iter(torch.arange(100) == overlap + 2)  # one chunk inside the signal is 1, the others are 0
        pieces = overlap_add(
            [torch.zeros(1, samples)],
            lambda chunks: next(levels) + torch.zeros_like(chunks),
            chunk=chunk,
            overlap=overlap,
            window=window,
        )
        return float(torch.cat([result for _, result in pieces], -1).diff().abs().max())

    assert largest_step(WINDOWS["rectangular"](chunk)) > 0.1
    assert largest_step(WINDOWS[name](chunk)) < 0.01


def test_the_trapezoid_is_flat_but_for_its_ends() -> None:
    window = WINDOWS["trapezoid"](1600)
    assert window is not None
    torch.testing.assert_close(window[:100], (torch.arange(100) + 0.5) / 100)
    assert (window[100:-100] == 1).all()
