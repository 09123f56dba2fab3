"""Copies to a device and back: every block, in order, whole; and beside the device's work where it has streams.

A CPU's streams do nothing, so that what is said to a GPU's can be followed here; whether copies run meanwhile, only a GPU can
tell.
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
    """As if the CPU had streams and memory of its own."""
    monkeypatch.setattr(transfer, "_copies_beside", lambda device: True)


def pieces(said: list[str]) -> Iterator[Tensor]:
    """Three pieces of different size; says when each is computed."""
    for i in range(3):
        said.append(f"computed {i}")
        yield torch.full((2, i + 1), float(i))


def test_where_memory_is_shared_nothing_is_copied_or_delayed() -> None:
    block, said = torch.arange(6.0).reshape(2, 3), []
    assert next(to_device([block], CPU)) is block
    for array in to_host(pieces(said), CPU):
        said.append(f"came {array[0, 0]:.0f}")
    assert said == ["computed 0", "came 0", "computed 1", "came 1", "computed 2", "came 2"]


@pytest.mark.usefixtures("streams")
def test_a_piece_comes_once_the_next_has_been_computed() -> None:
    said: list[str] = []
    for array in to_host(pieces(said), CPU):
        said.append(f"came {array[0, 0]:.0f}")
        assert array.shape == (2, array[0, 0] + 1)
    assert said == ["computed 0", "computed 1", "came 0", "computed 2", "came 1", "came 2"]
    assert list(to_host([], CPU)) == []


@pytest.mark.usefixtures("streams")
def test_blocks_go_up_in_order_as_they_are() -> None:
    mono = torch.arange(5.0)[None].expand(2, -1)  # channels that share their memory
    blocks = [mono, torch.zeros(2, 0), torch.ones(2, 3)]
    for block, there in zip(blocks, to_device(blocks, CPU), strict=True):
        assert torch.equal(block, there)
        assert there.data_ptr() != block.data_ptr() or there.numel() == 0


@pytest.mark.usefixtures("streams")
def test_an_error_of_the_source_comes_through() -> None:
    def failing() -> Iterator[Tensor]:
        yield torch.zeros(2, 1)
        raise OSError("the disk is gone")

    for copies in (to_device, to_host):
        with pytest.raises(OSError, match="the disk is gone"):
            list(copies(failing(), CPU))


def test_stems_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    song = AudioArray(0.1 * np.random.default_rng(0).standard_normal((9001, 2)), 44100)
    separator = Separator(GOLDEN / "separation_A", batch_size=2)
    shared = separator.separate_array(song)
    monkeypatch.setattr(transfer, "_copies_beside", lambda device: True)
    np.testing.assert_array_equal(separator.separate_array(song), shared)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_nothing_is_overwritten_on_its_way() -> None:
    device = torch.device("cuda")
    blocks = [torch.randn(2, 1 << 20) for _ in range(20)]
    computed = (block * 2 for block in to_device(blocks, device))
    for block, array in zip(blocks, to_host(computed, device), strict=True):
        np.testing.assert_array_equal(array, 2 * block.numpy())
