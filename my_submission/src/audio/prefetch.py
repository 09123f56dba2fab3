"""Read ahead and write behind in threads: decoding and writing overlap with the device's computation.

song = ReadAhead(AudioFile("song.flac"))                # a thread starts to decode the first blocks
with WriteBehind(StemWriter(folder, ...)) as writer:
    for stems in separator.separate(song):
        writer.write(stems)
...                                                     # the next song, while the thread finishes this one's files
writer.wait()                                           # raises the thread's error, if any
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audio.stem_writer import StemWriter

READ_AHEAD = 16  # blocks; they hold the first chunk of the published size
WRITE_BEHIND = 2  # blocks, each of batch_size * hop finished samples

Item = TypeVar("Item")
_END: Any = object()


class ReadAhead:
    """An AudioStream whose blocks a thread decodes in advance, beginning at once."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.name, self.sample_rate = stream.name, stream.sample_rate
        self.channels, self.num_samples = stream.channels, stream.num_samples
        self.begun: Iterator[Block] | None = prefetch(stream.blocks(), READ_AHEAD)

    def blocks(self) -> Iterator[Block]:
        """Return an iterator over the stream's blocks. It raises an error of reading in place of the block."""
        begun, self.begun = self.begun, None
        return prefetch(self.stream.blocks(), READ_AHEAD) if begun is None else begun


def prefetch(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """Return an iterator over the same items, of which a thread fetches up to `depth` in advance, beginning at once.

    An error of `items` is raised in place of the item.
    """
    thread, iterator = ThreadPoolExecutor(1), iter(items)
    futures = deque(thread.submit(next, iterator, _END) for _ in range(depth))
    return _fetched(thread, iterator, futures)


def _fetched(thread: ThreadPoolExecutor, iterator: Iterator[Item], futures: deque[Future[Item]]) -> Iterator[Item]:
    """Yield the items of the futures, and submit a new future for each."""
    try:
        while (item := futures.popleft().result()) is not _END:
            futures.append(thread.submit(next, iterator, _END))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)


class WriteBehind:
    """A StemWriter whose work is done in a thread. After the `with` block, `wait` returns when all files are complete.

    If a block cannot be written, one of the next calls of `write` or `wait` raises the AudioError. If the `with` block ends
    with an exception, all files are deleted before it is raised.
    """

    def __init__(self, writer: StemWriter) -> None:
        self.writer = writer
        self.thread = ThreadPoolExecutor(1)
        self.writes: deque[Future[None]] = deque()
        self.cleanup = contextlib.ExitStack()
        self.finishing: Future[None] | None = None

    def __enter__(self) -> WriteBehind:
        self.cleanup.enter_context(self.writer)
        return self

    def write(self, stems: Block) -> None:
        """Append stems [S, C, n]. The array must not be changed afterwards."""
        if len(self.writes) == WRITE_BEHIND:
            self.writes.popleft().result()
        self.writes.append(self.thread.submit(self.writer.write, stems))

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        if kind is None:
            self.finishing = self.thread.submit(self._finish)
            self.thread.shutdown(wait=False)
        else:
            self.thread.shutdown(cancel_futures=True)
            self.cleanup.__exit__(kind, error, traceback)

    def wait(self) -> float:
        """Wait until all files are complete, and return their gain. Raises AudioError if they could not be written."""
        assert self.finishing is not None, "wait() comes after the with block"
        self.finishing.result()
        return self.writer.gain

    def _finish(self) -> None:
        """Wait for all writes, then finish the files."""
        with self.cleanup:  # deletes the files if a write has failed
            for write in self.writes:
                write.result()
