"""The ways to receive stems: in blocks, as an array, as files, as the challenge's call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.files import AudioArray, AudioStream, Block
from my_submission.src.audio.lossy import check
from my_submission.src.audio.outputs import Output, model_outputs, select
from my_submission.src.audio.prefetch import WriteBehind
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.config import Config
from my_submission.src.ensemble import SeparationError


class BaseSeparator:
    """Separates mixtures. A subclass defines `separate`; the other ways are built on it."""

    config: Config
    on_progress: Callable[[int], object]  # called with samples done, at the networks' rate

    @property
    def sample_rate(self) -> int:
        """Return the sample rate of the networks, Hz; audio at another rate is resampled there and back."""
        return self.config.audio.sample_rate

    @property
    def num_channels(self) -> int:
        """Return the number of audio channels C of the networks; mono is processed as equal channels."""
        return self.config.audio.num_channels

    @property
    def source_order(self) -> list[str]:
        """Return the names of the stems in the order of the source axis S of blocks and arrays."""
        return list(self.config.source_order)

    @property
    def instruments(self) -> list[str]:
        """Return the names of the stems in alphabetical order, as the challenge lists them."""
        return sorted(self.source_order)

    @property
    def outputs(self) -> list[Output]:
        """Return the stems that are written by default; a model of one of two instruments gives the other one too."""
        training = self.config.training
        return model_outputs(self.source_order, training.instruments, training.target_instrument)

    def separate(self, mixture: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        """Separate audio in constant memory: yield blocks [S, C, n], mixture.num_samples samples in all.

        Mono is processed as equal channels and returned as mono. Another sample rate is resampled there and back.
        share_residual=False yields the networks' estimates unchanged, without a share of the residual (residual_shares).

        Raises AudioError for audio that cannot be used, SeparationError for an estimate that is not finite.
        """
        raise NotImplementedError

    def refuse_other_channels(self, mixture: AudioStream) -> None:
        """Raise SeparationError for audio that is neither mono nor of the networks' number of channels."""
        if mixture.channels not in (1, self.num_channels):
            raise SeparationError(f"{mixture.name}: has {mixture.channels} channels, expected 1 or {self.num_channels}")

    def separate_array(self, mixture: AudioStream) -> NDArray[np.float32]:
        """Separate audio into memory: return stems [S, n, C]."""
        channels = 1 if mixture.channels == 1 else self.num_channels
        stems = np.empty((len(self.source_order), mixture.num_samples, channels), np.float32)
        position = 0
        for block in self.separate(mixture):
            samples = block.shape[-1]
            stems[:, position : position + samples] = block.swapaxes(1, 2)
            position += samples
        return stems

    def separate_to_folder(
        self,
        folder: str | Path,
        mixture: AudioStream,
        *,
        container: str = "wav",
        subtype: str = "PCM_16",
        wait: bool = True,
        outputs: Sequence[Output] | None = None,
        paths: Mapping[str, Path] | None = None,
        setting: float | None = None,
    ) -> WriteBehind:
        """Separate audio into files `<folder>/<instrument>.<container>`, all of them or none, in constant memory.

        Args:
            folder: made if it does not exist.
            mixture: the audio to separate.
            container: wav, flac, mp3, ogg or opus (default: wav).
            subtype: of the samples of wav and flac, PCM_16, PCM_24 or FLOAT; flac has no FLOAT (default: PCM_16).
            wait: return when the files are complete. False returns while a thread is still finishing them, so that the next
                song can begin.
            outputs: the stems to write, out of `outputs` or made by audio.outputs.choose (default: all of `outputs`).
            paths: stem -> file; see StemWriter (default: as above).
            setting: bit rate or quality of mp3, ogg and opus; see audio.lossy.encode (default: the format's).

        Returns:
            The writer. Its `wait()` waits for the files, and returns the gain that all stems got so that samples do not clip: 1
            if none was needed.
        """
        channels = 1 if mixture.channels == 1 else self.num_channels
        outputs = self.outputs if outputs is None else outputs
        names, samples = [output.name for output in outputs], mixture.num_samples
        form = (mixture.sample_rate, channels, samples, container, subtype)
        check(container, mixture.sample_rate, channels, mixture.name)
        stems = self.separate(mixture)
        if outputs != [Output(name, place) for place, name in enumerate(self.source_order)]:
            stems = select(outputs, stems, mixture)
        with WriteBehind(StemWriter(folder, names, *form, paths=paths, setting=setting)) as writer:
            for block in stems:
                writer.write(block)
        if wait:
            writer.wait()
        return writer

    def separate_music_file(
        self, mixed_sound_array: NDArray[Any], sample_rate: int
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
        """Answer the challenge's call: mixture [n, C] -> (instrument -> [n, C], instrument -> sample rate of the mixture)."""
        mixture = np.asarray(mixed_sound_array)
        stems = self.separate_array(AudioArray(mixture, sample_rate))
        named = {name: stem.reshape(mixture.shape) for name, stem in zip(self.source_order, stems, strict=True)}
        return {name: named[name] for name in self.instruments}, dict.fromkeys(self.instruments, sample_rate)

    def raise_aicrowd_error(self, msg: str) -> NoReturn:
        """Make a message visible in the challenge's log."""
        raise NameError(msg)
