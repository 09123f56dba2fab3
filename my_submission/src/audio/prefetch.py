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
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audio.stem_writer import StemWriter

READ_AHEAD = 16  # blocks; they hold the first chunk of the published size
WRITE_BEHIND = 2  # blocks, each of batch_size * hop finished samples
PATIENCE = 1.0  # seconds that an interrupt waits for a thread

Item = TypeVar("Item")


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


def prefetch(items: Iterable[Item], depth: int) -> Prefetch[Item]:
    """Return an iterator over the same items, of which a thread fetches up to `depth` in advance, beginning at once.

    An error of `items`, of any kind, is raised in place of the item.
    """
    return Prefetch(_Fetching(items, depth))


class Prefetch(Iterator[Item]):
    """The consumer's side of a thread that fetches items. Closing or deleting it ends the thread."""

    def __init__(self, fetching: _Fetching[Item]) -> None:
        self._fetching = fetching
        # A daemon thread does not keep the process from ending while it waits for a slow disk; it leaves nothing half-done.
        self._thread = threading.Thread(target=fetching.run, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> Item:
        return self._fetching.take()

    def close(self) -> None:
        """Drop the items that were fetched, and wait a second at most for the thread."""
        self._fetching.stop()
        self._thread.join(PATIENCE)

    def __del__(self) -> None:
        if hasattr(self, "_thread"):
            self._fetching.stop()


class _Fetching(Generic[Item]):
    """Items on their way from one thread to another. It holds no Prefetch, so that deleting that one ends the thread."""

    def __init__(self, items: Iterable[Item], depth: int) -> None:
        self.iterator, self.depth = iter(items), depth
        self.changed = threading.Condition()
        self.fetched: deque[Item] = deque()
        self.ended = False  # the consumer closed it, or the items are at their end
        self.error: BaseException | None = None  # that ended the items; it is raised once

    def run(self) -> None:
        """Fetch until the end, an error or `stop`; the thread's target."""
        try:
            while self._wait_for_room():
                item = next(self.iterator)
                with self.changed:
                    if not self.ended:
                        self.fetched.append(item)
                    self.changed.notify()
        except StopIteration:
            self._end(None)
        except BaseException as error:  # take() raises it in the consumer's thread
            self._end(error)
        finally:
            if hasattr(self.iterator, "close"):
                self.iterator.close()

    def take(self) -> Item:
        """Return the next item, raise the error that stands in its place, or StopIteration."""
        with self.changed:
            self.changed.wait_for(lambda: self.fetched or self.ended)
            self.changed.notify()
            if self.fetched:
                return self.fetched.popleft()
            error, self.error = self.error, None
        raise StopIteration if error is None else error

    def stop(self) -> None:
        """Drop what was fetched, and let the thread end after the item it is fetching."""
        with self.changed:
            self.ended, self.error = True, None
            self.fetched.clear()
            self.changed.notify()

    def _wait_for_room(self) -> bool:
        """Wait until another item may be fetched; return False if none is wanted any more."""
        with self.changed:
            self.changed.wait_for(lambda: self.ended or len(self.fetched) < self.depth)
            return not self.ended

    def _end(self, error: BaseException | None) -> None:
        with self.changed:
            if not self.ended:
                self.ended, self.error = True, error
            self.changed.notify()


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
            others = {str(write.exception()) for write in self.writes if not write.cancelled() and write.exception()}
            for message in sorted(others - {str(error)}):  # nobody asks for these writes any more
                warnings.warn(message, stacklevel=2)

    def wait(self) -> float:
        """Wait until all files are complete, and return their gain. Raises AudioError if they could not be written."""
        assert self.finishing is not None, "wait() comes after the with block"
        self.finishing.result()
        return self.writer.gain

    def stop(self) -> None:
        """Give the files a second to become complete, then delete them; `wait` raises KeyboardInterrupt if that happened."""
        if self.finishing is not None:
            futures.wait([self.finishing], PATIENCE)
            self.writer.stopped = True
            futures.wait([self.finishing])

    def _finish(self) -> None:
        """Wait for all writes, then finish the files."""
        with self.cleanup:  # deletes the files if a write has failed
            for write in self.writes:
                write.result()
