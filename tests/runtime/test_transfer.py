"""Copies to a device and back: every block arrives complete and in order, and copies overlap with the device's computation.

Streams of a CPU do nothing, so these tests run the code for a GPU without one. Only a GPU shows whether copies overlap.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from my_submission.src.audio.files import AudioArray
from my_submission.src.runtime import transfer
from my_submission.src.runtime.transfer import to_device, to_host
from my_submission.src.separator import Separator
from tests.helpers.paths import GOLDEN

CPU = torch.device("cpu")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat the CPU as a device with a copy stream and its own memory."""
    monkeypatch.setattr(transfer, "_has_copy_stream", lambda device: True)


def computed_blocks(events: list[str]) -> Iterator[Tensor]:
    """Yield three blocks of different sizes, and record when each is computed."""
    for i in range(3):
        events.append(f"computed {i}")
        yield torch.full((2, i + 1), float(i))


def test_on_a_cpu_nothing_is_copied_or_delayed() -> None:
    block, events = torch.arange(6.0).reshape(2, 3), []
    assert next(to_device([block], CPU)) is block
    for array in to_host(computed_blocks(events), CPU):
        events.append(f"came {array[0, 0]:.0f}")
    assert events == ["computed 0", "came 0", "computed 1", "came 1", "computed 2", "came 2"]


@pytest.mark.usefixtures("streams")
def test_a_block_arrives_when_the_next_has_been_computed() -> None:
    events: list[str] = []
    for array in to_host(computed_blocks(events), CPU):
        events.append(f"came {array[0, 0]:.0f}")
        assert array.shape == (2, array[0, 0] + 1)
    assert events == ["computed 0", "computed 1", "came 0", "computed 2", "came 1", "came 2"]
    assert list(to_host([], CPU)) == []


@pytest.mark.usefixtures("streams")
def test_blocks_reach_the_device_in_order_and_unchanged() -> None:
    mono = torch.arange(5.0)[None].expand(2, -1)  # channels that share their memory
    blocks = [mono, torch.zeros(2, 0), torch.ones(2, 3)]
    for block, on_device in zip(blocks, to_device(blocks, CPU), strict=True):
        assert torch.equal(block, on_device)
        assert on_device.data_ptr() != block.data_ptr() or on_device.numel() == 0


@pytest.mark.usefixtures("streams")
def test_an_error_of_the_blocks_is_raised() -> None:
    def failing() -> Iterator[Tensor]:
        yield torch.zeros(2, 1)
        raise OSError("the disk is gone")

    for copies in (to_device, to_host):
        with pytest.raises(OSError, match="the disk is gone"):
            list(copies(failing(), CPU))


def test_stems_are_the_same_with_and_without_a_copy_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    song = AudioArray(0.1 * np.random.default_rng(0).standard_normal((9001, 2)), 44100)
    separator = Separator(GOLDEN / "separation_A", batch_size=2)
    expected = separator.separate_array(song)
    monkeypatch.setattr(transfer, "_has_copy_stream", lambda device: True)
    np.testing.assert_array_equal(separator.separate_array(song), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_no_block_is_overwritten_before_it_is_copied() -> None:
    device = torch.device("cuda")
    blocks = [torch.randn(2, 1 << 20) for _ in range(20)]
    computed = (block * 2 for block in to_device(blocks, device))
    for block, array in zip(blocks, to_host(computed, device), strict=True):
        np.testing.assert_array_equal(array, 2 * block.numpy())
