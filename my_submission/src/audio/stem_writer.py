"""Write the stems of a song into a folder: all of them, or none.

with StemWriter("out/song", ["vocals", "other"], 44100, 2, num_samples) as writer:
    writer.write(block)            # [S, C, n], until `num_samples` samples are written
writer.gain                        # below 1 if integer samples would have clipped
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from my_submission.src.audio.files import BLOCK, BYTES, AudioError, Block, create, is_integer
from my_submission.src.common.atomic import hidden_folder
from my_submission.src.common.locks import exclusive

STEMS, REST, SCALED = "stems", "rest", "scaled"  # folders in the hidden one: what appears at the end, and temporary files


class StemWriter:
    """Writes the stems of one song into a folder, atomically. Raises AudioError.

    The files are written to a hidden folder next to it, and moved at the end. If another process has written stems there in the
    meantime, they are replaced. If integer samples would clip, all stems get the same gain below 1, so that their proportions
    are kept. The gain is known only at the end of the song: from the first sample beyond 1 on, samples are written to temporary
    float files. At the end the gain is applied to these and to the samples written before, which are rounded a second time.

    Args:
        folder: where the stems go. Other files in it are kept.
        names: names of the stems, in the order of the blocks' first axis.
        sample_rate: Hz.
        channels: number of channels.
        num_samples: samples per channel that will be written.
        container: suffix and format of the files, a key of SUBTYPES (default: wav).
        subtype: one of the container's subtypes (default: PCM_16). FLOAT never clips and keeps the level.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str],
        sample_rate: int,
        channels: int,
        num_samples: int,
        container: str = "wav",
        subtype: str = "PCM_16",
    ) -> None:
        self.folder = Path(folder)
        self.names, self.sample_rate, self.channels, self.num_samples = list(names), sample_rate, channels, num_samples
        self.container, self.subtype = container, subtype
        self.peak, self.gain = 0.0, 1.0
        self.written = 0  # samples per channel
        self.would_clip = False  # from then on, samples go to the float files
        self.stopped = False  # another thread sets it to have a long gain pass end with KeyboardInterrupt
        self.partial: Path  # the hidden folder
        self.files: list[soundfile.SoundFile] = []
        self.cleanup = contextlib.ExitStack()

    def __enter__(self) -> StemWriter:
        try:
            self.partial = self.cleanup.enter_context(hidden_folder(self.folder.parent))
            for name in (STEMS, REST, SCALED):
                (self.partial / name).mkdir()
        except OSError as error:
            self._discard()
            raise AudioError(f"{self.folder}: cannot be made ({error.strerror})") from error
        try:
            self._create_all(STEMS, self.container, self.subtype)
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, stems: Block) -> None:
        """Append stems [S, C, n]."""
        self.peak = max(self.peak, float(np.abs(stems).max(initial=0)))
        with self._disk_errors():
            if self.peak > 1 and is_integer(self.subtype) and not self.would_clip:
                self.would_clip = True
                self._close()
                self._create_all(REST, "wav", "FLOAT")
            for file, stem in zip(self.files, stems, strict=True):
                file.write(_rounded(stem.T, file.subtype))
        self.written += 0 if self.would_clip else stems.shape[-1]

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                with self._disk_errors():
                    self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        """Apply the gain if one is needed, and move the files to their folder."""
        self._close()
        if self.would_clip:
            self.gain = 1 / self.peak
            for name in self.names:
                self._apply_gain(name)
        try:
            (self.partial / STEMS).rename(self.folder)
        except OSError:
            if not self.folder.is_dir():
                raise
            with exclusive(self.folder):  # keep the other files in it, and do not mix two processes' stems
                for path in self._paths(STEMS, self.container):
                    path.replace(self.folder / path.name)

    def _apply_gain(self, name: str) -> None:
        """Join the two parts of a stem into one file, with the gain applied."""
        path, scaled = (self.partial / folder / f"{name}.{self.container}" for folder in (STEMS, SCALED))
        rest = self.partial / REST / f"{name}.wav"
        parts = [path, rest] if self.written else [rest]
        with create(scaled, self.sample_rate, self.channels, self.num_samples, self.container, self.subtype) as file:
            for part in parts:
                for block in soundfile.blocks(os.fsencode(part), BLOCK, dtype="float32", always_2d=True):
                    if self.stopped:
                        raise KeyboardInterrupt
                    file.write(_rounded(block * np.float32(self.gain), self.subtype))
        rest.unlink()
        scaled.replace(path)

    def _create_all(self, folder: str, container: str, subtype: str) -> None:
        """Open one file for each stem."""
        self.files = []
        for path in self._paths(folder, container):
            self.files.append(create(path, self.sample_rate, self.channels, self.num_samples, container, subtype))

    def _close(self) -> None:
        for file in self.files:
            file.close()

    def _discard(self) -> None:
        """Delete everything that is not finished, and the folders that were made for it."""
        self._close()
        self.cleanup.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Turn errors of writing into an AudioError."""
        try:
            yield
        except (soundfile.LibsndfileError, OSError) as error:
            raise AudioError(f"{self.folder}: cannot be written ({error}); is the disk full?") from error

    def _paths(self, folder: str, container: str) -> list[Path]:
        return [self.partial / folder / f"{name}.{container}" for name in self.names]


def _rounded(samples: NDArray[np.float32], subtype: str) -> NDArray[Any]:
    """Round samples to the nearest integers of the subtype (libsndfile would round down) and clip them at full scale."""
    if not is_integer(subtype):
        return samples
    bits = 8 * BYTES[subtype]
    kind = np.int16 if bits == 16 else np.int32  # of a type wider than the file's, libsndfile takes the upper bits
    full = 1 << bits - 1
    return np.rint(samples * np.float32(full)).clip(-full, full - 1).astype(kind) << 8 * kind(0).itemsize - bits
