"""Reading ahead and writing behind give the same blocks and files as without threads, and raise errors in their place."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from my_submission.src.audio import prefetch as prefetch_module
from my_submission.src.audio import stem_writer
from my_submission.src.audio.files import BLOCK, AudioArray, AudioError, AudioFile
from my_submission.src.audio.prefetch import READ_AHEAD, WRITE_BEHIND, ReadAhead, WriteBehind, prefetch
from my_submission.src.audio.stem_writer import StemWriter

Song = Callable[..., Path]


def test_items_come_in_order_and_an_error_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise AudioError("cut off")

    found = []
    with pytest.raises(AudioError, match="cut off"):
        found.extend(prefetch(items(), 3))  # extend keeps the items before the error
    assert found == list(range(5))


def test_no_more_items_are_fetched_than_the_depth() -> None:
    fetched = []
    items = prefetch((fetched.append(n) or n for n in range(100)), 3)
    for n in range(10):
        assert next(items) == n
        assert len(fetched) <= n + 1 + 3
    items.close()
    assert len(fetched) <= 14
    assert list(items) == []


def test_closing_waits_for_the_thread() -> None:
    def items() -> Iterator[int]:
        yield 0
        begun.set()
        time.sleep(0.2)
        done.set()

    begun, done = threading.Event(), threading.Event()
    few = prefetch(items(), 1)
    next(few)
    assert begun.wait(60)
    few.close()
    assert done.is_set()


@pytest.mark.parametrize("error", [MemoryError("no memory"), KeyboardInterrupt(), SystemExit(3), RuntimeError("cut off")])
def test_an_error_of_any_kind_is_raised_once(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield 0
        raise error

    few = prefetch(items(), 3)
    assert next(few) == 0
    with pytest.raises(type(error)) as found:
        next(few)
    assert found.value is error
    assert list(few) == []


def test_a_slow_disk_does_not_keep_the_process(run_python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    program = """
import threading, time
from my_submission.src.audio.prefetch import prefetch

def items():
    yield 0
    started.set()
    time.sleep(60)

started = threading.Event()
few = prefetch(items(), 2)
assert next(few) == 0
started.wait()
begun = time.monotonic()
few.close()
print(time.monotonic() - begun)
"""
    begun = time.monotonic()
    result = run_python("-c", program)
    assert float(result.stdout) < 5
    assert time.monotonic() - begun < 30
    assert result.stderr == ""


@pytest.mark.parametrize("end", ["close", "del"])
def test_the_source_is_closed_with_its_iterator(end: str) -> None:
    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.set()

    closed = threading.Event()
    few = prefetch(items(), 1)
    next(few)
    if end == "close":
        few.close()
    del few
    assert closed.wait(60)


def test_a_stream_is_decoded_before_its_blocks_are_asked_for() -> None:
    class Watched(AudioArray):
        def blocks(self) -> Iterator[np.ndarray]:
            for number, block in enumerate(super().blocks(), 1):
                if number == READ_AHEAD:
                    full.set()
                yield block

    full = threading.Event()
    audio = np.random.default_rng(0).standard_normal(((READ_AHEAD + 3) * BLOCK + 7, 1)).astype(np.float32)
    stream = ReadAhead(Watched(audio, 8000))
    assert full.wait(60)
    for _ in range(2):  # the second time from the beginning again
        np.testing.assert_array_equal(np.concatenate(list(stream.blocks()), axis=1), audio.T)


def test_a_file_that_is_damaged_fails_at_the_damage(make_song: Song, tmp_path: Path) -> None:
    whole = make_song(tmp_path / "song.flac", seconds=20)
    cut = tmp_path / "damaged.flac"
    data = bytearray(whole.read_bytes())
    data[len(data) // 2 : len(data) * 3 // 4] = bytes(len(data) // 4)
    cut.write_bytes(data)
    blocks = []
    with pytest.raises(AudioError, match="is cut off"):
        blocks.extend(ReadAhead(AudioFile(cut)).blocks())
    assert 0 < len(blocks) < 20 * 44100 / BLOCK


def stems(count: int, level: float = 0.5) -> np.ndarray:
    """Return blocks [count, S, C, n] of two stems."""
    return np.random.default_rng(1).uniform(-level, level, (count, 2, 1, 1000)).astype(np.float32)


def test_files_equal_those_of_the_plain_writer(tmp_path: Path) -> None:
    blocks = stems(9, level=1.5)  # beyond 1: the gain is known only at the end
    with StemWriter(tmp_path / "plain", ["a", "b"], 8000, 1, 9000) as plain:
        for block in blocks:
            plain.write(block)
    with WriteBehind(StemWriter(tmp_path / "behind", ["a", "b"], 8000, 1, 9000)) as behind:
        for block in blocks:
            behind.write(block)
    assert behind.wait() == plain.gain < 1
    for name in ("a.wav", "b.wav"):
        assert (tmp_path / "behind" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_the_writer_is_at_most_a_few_blocks_behind(tmp_path: Path) -> None:
    class Slow(StemWriter):
        def write(self, block: np.ndarray) -> None:
            assert may_continue.wait(60)
            super().write(block)

    may_continue = threading.Event()
    blocks = stems(WRITE_BEHIND + 1)
    with WriteBehind(Slow(tmp_path / "out", ["a", "b"], 8000, 1, 1000 * len(blocks))) as behind:
        for block in blocks[:WRITE_BEHIND]:
            behind.write(block)  # returns before anything is written
        held_up = threading.Thread(target=behind.write, args=(blocks[WRITE_BEHIND],))
        held_up.start()
        held_up.join(0.2)
        assert held_up.is_alive()
        may_continue.set()
        held_up.join(60)
    behind.wait()
    assert soundfile.info(tmp_path / "out" / "a.wav").frames == 1000 * len(blocks)


@pytest.mark.parametrize("failing", [0, 4])  # the first block, and the last one, which fails after all blocks were handed over
def test_a_block_that_cannot_be_written_leaves_nothing(tmp_path: Path, failing: int) -> None:
    class Full(StemWriter):
        count = 0

        def write(self, block: np.ndarray) -> None:
            if self.count == failing:
                raise AudioError("is the disk full?")
            self.count += 1
            super().write(block)

    def write_all() -> None:
        with WriteBehind(Full(tmp_path / "new" / "out", ["a", "b"], 8000, 1, 5000)) as behind:
            for block in stems(5):
                behind.write(block)
        behind.wait()

    with pytest.raises(AudioError, match="is the disk full"):
        write_all()
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_the_block_does_not_hide_that_of_the_disk(tmp_path: Path) -> None:
    class Full(StemWriter):
        def write(self, block: np.ndarray) -> None:
            raise AudioError("is the disk full?")

    with (
        pytest.warns(UserWarning, match="is the disk full"),
        pytest.raises(AudioError, match="NaN"),
        WriteBehind(Full(tmp_path / "out", ["a", "b"], 8000, 1, 5000)) as behind,
    ):
        behind.write(stems(1)[0])
        behind.writes[0].exception()  # waits
        raise AudioError("NaN")
    assert list(tmp_path.iterdir()) == []


def test_a_stop_ends_a_long_gain_pass_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(samples: np.ndarray, subtype: str) -> np.ndarray:
        passes.set()
        time.sleep(0.2)
        return rounded(samples, subtype)

    monkeypatch.setattr(prefetch_module, "PATIENCE", 0.1)
    rounded, passes = stem_writer._rounded, threading.Event()
    blocks = stems(1, level=1.5)
    with WriteBehind(StemWriter(tmp_path / "out", ["a", "b"], 8000, 1, 100 * BLOCK)) as behind:
        behind.write(np.tile(blocks[0], 100 * BLOCK // 1000 + 1)[..., : 100 * BLOCK])
        behind.writes[0].result()
        monkeypatch.setattr(stem_writer, "_rounded", slow)
    assert passes.wait(60)
    begun = time.monotonic()
    behind.stop()
    assert time.monotonic() - begun < 5
    with pytest.raises(KeyboardInterrupt):
        behind.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_stop_waits_a_second_for_files_that_are_almost_complete(tmp_path: Path) -> None:
    with WriteBehind(StemWriter(tmp_path / "out", ["a", "b"], 8000, 1, 1000)) as behind:
        behind.write(stems(1)[0])
    behind.stop()
    assert behind.wait() == 1
    assert soundfile.info(tmp_path / "out" / "a.wav").frames == 1000


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), WriteBehind(StemWriter(tmp_path / "out", ["a", "b"], 8000, 1, 5000)) as behind:
        behind.write(stems(1)[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
