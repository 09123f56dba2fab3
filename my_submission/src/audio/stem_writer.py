"""Write the stems of a song into a folder: all of them, or none.

with StemWriter("out/song", ["vocals", "other"], 44100, 2, num_samples) as writer:
    writer.write(block)            # [S, C, n], until `num_samples` samples are written
writer.gain                        # below 1 if integer samples would have clipped
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from my_submission.src.audio.files import BLOCK, BYTES, AudioError, Block, create, is_integer
from my_submission.src.audio.lossy import LOSSY, encode
from my_submission.src.audio.parts import native_name
from my_submission.src.audio.publish import publish
from my_submission.src.common.atomic import hidden_folder

STEMS, REST, SCALED = "stems", "rest", "scaled"  # folders in the hidden one: what appears at the end, and temporary files


class StemWriter:
    """Writes the stems of one song, atomically. Raises AudioError.

    The files are written to a hidden folder, and moved at the end. If another process has written stems there in the meantime,
    they are replaced. If samples beyond +-1 would clip, all stems get the same gain below 1, which keeps their proportions. The
    gain is known only at the end of the song: from the first sample beyond 1 on, samples are written to temporary float files.
    At the end the gain is applied to these and to the samples written before, which are rounded a second time. A song
    in a lossy format is written to float files from its beginning, and encoded once, at the end.

    Args:
        folder: where the stems go. Other files in it are kept.
        names: names of the stems, in the order of the blocks' first axis.
        sample_rate: Hz. Formats that do not know it are resampled; see lossy.file_rate.
        channels: number of channels.
        num_samples: samples per channel that will be written.
        container: suffix and format of the files, out of lossy.CONTAINERS (default: wav).
        subtype: one of the container's subtypes (default: PCM_16), ignored for lossy ones. FLOAT keeps any level.
        paths: name -> file, if the files go elsewhere than to `folder`; they must lie in or below its parent (default: there).
        setting: bit rate or quality of a lossy format; see lossy.encode (default: the format's).
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
        *,
        paths: Mapping[str, Path] | None = None,
        setting: float | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.names, self.sample_rate, self.channels, self.num_samples = list(names), sample_rate, channels, num_samples
        self.container, self.is_lossy, self.setting = container, container in LOSSY, setting
        self.subtype = LOSSY[container].subtype if container in LOSSY else subtype
        self.paths = {name: (paths or {}).get(name, self.folder / f"{name}.{container}") for name in self.names}
        self.peak, self.gain = 0.0, 1.0
        self.written = 0  # samples per channel that are in the final files already
        self.is_deferred = self.is_lossy  # whether samples go to the float files: once they would clip, or in a lossy format
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
            self._create_all(*((REST, "wav", "FLOAT") if self.is_deferred else (STEMS, self.container, self.subtype)))
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, stems: Block) -> None:
        """Append stems [S, C, n]."""
        self.peak = max(self.peak, float(np.abs(stems).max(initial=0)))
        with self._disk_errors():
            if self.peak > 1 and is_integer(self.subtype) and not self.is_deferred:
                self.is_deferred = True
                self._close()
                self._create_all(REST, "wav", "FLOAT")
            for file, stem in zip(self.files, stems, strict=True):
                file.write(_rounded(stem.T, file.subtype))
        self.written += 0 if self.is_deferred else stems.shape[-1]

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None:
                with self._disk_errors():
                    self._finish()
        finally:
            self._discard()

    def _finish(self) -> None:
        """Apply the gain if one is needed, encode a lossy format, and move the files to their places."""
        self._close()
        if self.is_deferred:
            self.gain = 1 / max(1.0, self.peak)
            for name in self.names:
                self._complete(name)
        publish(self._hidden(STEMS), self.paths, self.folder.parent, self.partial)

    def _complete(self, name: str) -> None:
        """Make the final file of a stem out of its parts, with the gain applied."""
        path, rest, scaled = (self._hidden(folder)[name] for folder in (STEMS, REST, SCALED))
        form = (self.sample_rate, self.channels, self.num_samples, self.container)
        blocks = self._scaled_blocks([path, rest] if self.written else [rest])
        if self.is_lossy:
            encode(scaled, blocks, *form, self.setting)
        else:
            with create(scaled, *form, self.subtype) as file:
                for block in blocks:
                    file.write(_rounded(block.T, self.subtype))
        rest.unlink()
        scaled.replace(path)

    def _scaled_blocks(self, parts: Sequence[Path]) -> Iterator[Block]:
        """Yield the audio of the parts, one after the other, with the gain applied."""
        for part in parts:
            for block in soundfile.blocks(native_name(part), BLOCK, dtype="float32", always_2d=True):
                if self.stopped:
                    raise KeyboardInterrupt
                yield block.T * np.float32(self.gain)

    def _create_all(self, folder: str, container: str, subtype: str) -> None:
        """Open one file for each stem."""
        self.files = []
        for path in self._hidden(folder).values():
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

    def _hidden(self, folder: str) -> dict[str, Path]:
        """Return name -> hidden file."""
        suffix = "wav" if folder == REST else self.container
        return {name: self.partial / folder / f"{name}.{suffix}" for name in self.names}


def _rounded(samples: NDArray[np.float32], subtype: str) -> NDArray[Any]:
    """Round samples to the nearest integers of the subtype (libsndfile would round down) and clip them at full scale."""
    if not is_integer(subtype):
        return samples
    bits = 8 * BYTES[subtype]
    kind = np.int16 if bits == 16 else np.int32  # of a type wider than the file's, libsndfile takes the upper bits
    full = 1 << bits - 1
    return np.rint(samples * np.float32(full)).clip(-full, full - 1).astype(kind) << 8 * kind(0).itemsize - bits
