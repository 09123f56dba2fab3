"""Reading ahead and writing behind: decoders and disks work while the device computes.

song = ReadAhead(AudioFile("song.flac"))                # its first blocks are being decoded from here on
with WriteBehind(StemWriter(folder, ...)) as writer:
    for stems in separator.separate(song):
        writer.write(stems)
...                                                     # the next song, while this one's files are finished
writer.wait()                                           # raises what went wrong
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audio.stem_writer import StemWriter

READ_AHEAD = 16  # blocks: the first chunk of the published size
WRITE_BEHIND = 2  # blocks of finished samples, each as large as a batch of chunks is apart from the next

Item = TypeVar("Item")
_END: Any = object()


class ReadAhead:
    """A source whose blocks a thread decodes in advance, the first of them as soon as this is made. A AudioStream itself."""

    def __init__(self, source: AudioStream) -> None:
        self.source = source
        self.name, self.sample_rate = source.name, source.sample_rate
        self.channels, self.num_samples = source.channels, source.num_samples
        self.begun: Iterator[Block] | None = prefetch(source.blocks(), READ_AHEAD)

    def blocks(self) -> Iterator[Block]:
        """The source's blocks. An error while reading comes where the block would have."""
        begun, self.begun = self.begun, None
        return prefetch(self.source.blocks(), READ_AHEAD) if begun is None else begun


def prefetch(items: Iterable[Item], depth: int) -> Iterator[Item]:
    """The same items, fetched by a thread from now on, up to `depth` of them in advance. What it raises is raised here."""
    thread, iterator = ThreadPoolExecutor(1), iter(items)
    futures = deque(thread.submit(next, iterator, _END) for _ in range(depth))
    return _fetched(thread, iterator, futures)


def _fetched(thread: ThreadPoolExecutor, iterator: Iterator[Item], futures: deque[Future[Item]]) -> Iterator[Item]:
    try:
        while (item := futures.popleft().result()) is not _END:
            futures.append(thread.submit(next, iterator, _END))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)


class WriteBehind:
    """A StemWriter that a thread writes for, and finishes for after the `with` block is left: `wait` then.

    A block that could not be written is an AudioError, of one of the next calls of `write` or of `wait`. Leaving the `with`
    block by an exception leaves no file, and does not return before they are gone.
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
        """Append [S, C, n], which must not change afterwards."""
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
        """Until all files are there; gives the gain they got. Raises AudioError where they could not be written."""
        self.finishing.result()
        return self.writer.gain

    def _finish(self) -> None:
        with self.cleanup:  # which takes the files away where a write has failed
            for write in self.writes:
                write.result()
