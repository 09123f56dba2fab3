"""The separator: an ensemble of networks, held on a device, through which everything goes that separates.

    separator = Separator("my_submission/ckpts/modelA")
    for stems in separator.separate(AudioFile("song.flac")):    # [S, C, n], block by block
        ...
    separator.separate_music_file(array, 44100)                 # the challenge's call: {instrument: [n, C]}, {instrument: Hz}

The procedure is the published one: overlapping chunks with equal weight, the mean of the seeds, and half of what is left of
the mixture added to `other`. ModelA and ModelB are the two leaderboards' submissions; Demo is small, and comes along.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from my_submission.src import checkpoint
from my_submission.src.audio.files import AudioArray, AudioStream, Block
from my_submission.src.audio.prefetch import WriteBehind
from my_submission.src.audio.resample import fix_length, resample
from my_submission.src.audio.stem_writer import StemWriter
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.config import load_config
from my_submission.src.ensemble import Ensemble, SeparationError
from my_submission.src.overlap_add import overlap_add
from my_submission.src.runtime.device import pick_device, pick_precision
from my_submission.src.runtime.transfer import to_device, to_host


class Separator:
    """A folder's ensemble, ready to separate.

    Args:
        folder: holds config.yaml and checkpoints (checkpoint.find_checkpoints says which count).
        device: cuda, cuda:1, mps, cpu; auto takes the first of cuda, mps, cpu that is there.
        precision: fp16, bf16, tf32 or fp32 for the network, the STFT being float32 always; auto is fp16 on CUDA, else fp32.
        overlap: chunks that cover each sample; the config's where None.
        batch_size: chunks that go through the network together; the config's where None. The result does not depend on it.
        seeds: the ensemble's members; all that are there where None.
        compile: compile the networks at once, which takes 1 to 2 minutes; the result changes by no more than rounding.

    Raises CheckpointError, CompilingError, ConfigError, DeviceError or SeparationError, before any audio is touched.
    """

    note = ""  # what a person should know before listening

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        overlap: int | None = None,
        batch_size: int | None = None,
        seeds: Sequence[int] | None = None,
        compile: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.config = load_config(self.folder / "config.yaml")
        self.checkpoints = self._find_checkpoints(seeds)
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.overlap = _at_least_one("overlap", overlap, self.config.inference.num_overlap)
        if self.overlap > self.config.inference_chunk_size:
            raise SeparationError(
                f"overlap is {self.overlap}, expected up to the {self.config.inference_chunk_size} samples of a chunk"
            )
        networks = [
            checkpoint.load_network(self.config, checkpoint.read_state_dict(path), str(path))
            for path in self.checkpoints.values()
        ]
        batch_size = _at_least_one("batch_size", batch_size, self.config.inference.batch_size)
        self.ensemble = Ensemble(networks, self.device, self.precision, batch_size, compile, name=str(self.folder))
        self.sources = list(self.config.sources)  # in the order of the network's source axis
        self.on_progress: Callable[[int], object] = lambda samples: None  # told of samples done, at the model's rate
        if compile:  # what can go wrong with it goes wrong before any audio is touched
            self.ensemble.warm_up(torch.full((self.config.audio.num_channels, self.config.inference_chunk_size), 0.1))

    def _find_checkpoints(self, seeds: Sequence[int] | None) -> dict[int, Path]:
        return checkpoint.find_checkpoints(self.folder, seeds)

    def members(self) -> dict[int, Separator]:
        """Seed -> that member of the ensemble as a separator of its own, which shares its network with this one."""
        members = {seed: copy.copy(self) for seed in self.checkpoints}
        for index, (seed, member) in enumerate(members.items()):
            member.checkpoints, member.ensemble = {seed: self.checkpoints[seed]}, self.ensemble.member(index)
        return members

    def settings(self) -> dict[str, Any]:
        """All that estimates depend on, in words. Not the batch size: they do not."""
        settings = {"the model's folder": str(self.folder.resolve()), "overlap": self.overlap}
        settings |= {"precision": self.precision, "device": str(self.device)}
        return settings | {
            path.name: checkpoint.sha256(path)[:16] for path in (self.folder / "config.yaml", *self.checkpoints.values())
        }

    @property
    def redone_chunks(self) -> int:
        """Chunks that overflowed in half precision and were done again in float32."""
        return self.ensemble.redone_chunks

    @property
    def sample_rate(self) -> int:
        """The rate the networks were trained at, Hz; audio at another is resampled there and back."""
        return self.config.audio.sample_rate

    @property
    def instruments(self) -> list[str]:
        """Names of the stems, in alphabetical order, as the challenge lists them."""
        return sorted(self.sources)

    @property
    def residual_shares(self) -> list[float]:
        """How much of what is left of the mixture each source gets: as published half to `other`, or as the config has it.

        Where the shares sum to 1, the stems sum to the mixture. Equal ones are the smallest change that does it (Wisdom et al.,
        "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019); better are shares as large
        as the sources' errors. A single source is never all of the mixture and gets nothing by itself.
        """
        if self.config.inference.residual_shares is not None:
            return list(self.config.inference.residual_shares)
        whole = self.config.training.target_instrument is None
        return [0.5 if whole and name == "other" else 0.0 for name in self.sources]

    def separate(self, source: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        """Separate audio in constant memory: yields blocks [S, C, n], exactly source.num_samples samples in all.

        Mono goes in as equal channels and comes out mono; another sample rate is resampled there and back.
        share_residual=False leaves all as the networks have them: nobody gets what is left of the mixture.

        Raises AudioError for audio that cannot be used, SeparationError for an estimate that is not finite.
        """
        channels = self.config.audio.num_channels
        if source.channels not in (1, channels):
            raise SeparationError(f"{source.name}: has {source.channels} channels, expected 1 or {channels}")
        samples = max(1, round(source.num_samples * self.sample_rate / source.sample_rate))  # at the networks' rate
        blocks = fix_length(samples, resample(source.blocks(), source.sample_rate, self.sample_rate))
        mixture = to_device((torch.from_numpy(block).expand(channels, -1) for block in blocks), self.device)
        pieces = overlap_add(
            mixture,
            self.ensemble.estimate,
            chunk=self.config.inference_chunk_size,
            overlap=self.overlap,
            batch_size=self.ensemble.batch_size,
            window=self._window(),
        )
        finished = self._finish(pieces, mono=source.channels == 1, share_residual=share_residual)
        stems = to_host(finished, self.device)
        if source.sample_rate == self.sample_rate:
            yield from stems
            return
        first = next(stems)
        sources, out_channels, _ = first.shape
        flat = (piece.reshape(sources * out_channels, -1) for piece in itertools.chain([first], stems))
        for piece in fix_length(source.num_samples, resample(flat, self.sample_rate, source.sample_rate)):
            yield piece.reshape(sources, out_channels, -1)

    def _window(self) -> Tensor | None:
        """How much each sample of a chunk counts, as the config has it."""
        if self.config.inference.window == "rectangular":
            return None
        place = (torch.arange(self.config.inference_chunk_size, dtype=torch.float64) + 0.5) / self.config.inference_chunk_size
        return torch.sin(math.pi * place).square().float()  # a Hann window, taken where it is nowhere zero

    def _finish(self, pieces: Iterator[tuple[Tensor, Tensor]], mono: bool, share_residual: bool) -> Iterator[Tensor]:
        """(mixture [C, n], estimates [S, C, n]) -> stems [S, C, n]: the residual rule, and back to mono."""
        shares = torch.tensor(self.residual_shares, device=self.device)[:, None, None]
        for mixture, estimates in pieces:
            if share_residual:
                estimates += shares * (mixture - estimates.sum(dim=0))  # noqa: PLW2901
            if mono:
                estimates = estimates.mean(dim=1, keepdim=True)  # noqa: PLW2901
            self.on_progress(mixture.shape[-1])
            yield estimates

    def separate_array(self, source: AudioStream) -> NDArray[np.float32]:
        """Separate audio into memory: stems [S, n, C]."""
        stems: NDArray[np.float32] | None = None
        position = 0
        for block in self.separate(source):
            sources, channels, samples = block.shape
            if stems is None:
                stems = np.empty((sources, source.num_samples, channels), np.float32)
            stems[:, position : position + samples] = block.swapaxes(1, 2)
            position += samples
        return stems

    def separate_to(self, folder: str | Path, source: AudioStream, container: str = "wav", subtype: str = "PCM_16") -> float:
        """Separate audio into files `<folder>/<instrument>.<container>`, all of them or none, in constant memory.

        Returns the gain that all stems got so that integer samples do not clip: 1 where none was needed.
        """
        return self.separate_behind(folder, source, container, subtype).wait()

    def separate_behind(self, folder: str | Path, source: AudioStream, container: str, subtype: str) -> WriteBehind:
        """As `separate_to`, but returns while a thread is still finishing the files: its `wait` gives the gain."""
        channels = 1 if source.channels == 1 else self.config.audio.num_channels
        files = StemWriter(folder, self.sources, source.sample_rate, channels, source.num_samples, container, subtype)
        with WriteBehind(files) as writer:
            for block in self.separate(source):
                writer.write(block)
        return writer

    def separate_music_file(
        self, mixed_sound_array: NDArray[Any], sample_rate: int
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, int]]:
        """The challenge's call: mixture [n, C] -> (instrument -> [n, C], instrument -> sample rate, the one that came in)."""
        mixture = np.asarray(mixed_sound_array)
        stems = self.separate_array(AudioArray(mixture, sample_rate))
        named = {name: stem.reshape(mixture.shape) for name, stem in zip(self.sources, stems, strict=True)}
        return {name: named[name] for name in self.instruments}, dict.fromkeys(self.instruments, sample_rate)

    def raise_aicrowd_error(self, msg: str) -> NoReturn:
        """The challenge's way to make a message visible in its log."""
        raise NameError(msg)


class ModelA(Separator):
    """Leaderboard A, label noise: the published behaviour, unless arguments say otherwise.

    With a folder of one's own, whatever seeds lie there; with the default one, exactly the published names.
    """

    leaderboard = "A"
    default_folder = checkpoint.FOLDER / "modelA"
    default_checkpoints = checkpoint.published_checkpoints("modelA")

    def __init__(self, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(self.default_folder if folder is None else folder, **options)

    def _find_checkpoints(self, seeds: Sequence[int] | None) -> dict[int, Path]:
        if self.folder != self.default_folder:
            return super()._find_checkpoints(seeds)
        paths = dict(enumerate(self.folder / name for name in self.default_checkpoints))
        wanted = sorted(paths if seeds is None else set(seeds))
        if not set(wanted) <= set(paths):
            raise CheckpointError(f"{self.folder}: seeds {wanted} asked for, the published ones are {sorted(paths)}")
        missing = [paths[seed].name for seed in wanted if not paths[seed].is_file()]
        if missing:
            raise CheckpointError(
                f"{self.folder}: missing {', '.join(missing)}. Download mdx_AB.zip from {checkpoint.DOWNLOAD} "
                f"and run: {checkpoint.INSTALL}"
            )
        return {seed: paths[seed] for seed in wanted}


class ModelB(ModelA):
    """Leaderboard B, bleeding: the published behaviour, unless arguments say otherwise."""

    leaderboard = "B"
    default_folder = checkpoint.FOLDER / "modelB"
    default_checkpoints = checkpoint.published_checkpoints("modelB")


class Demo(Separator):
    """A small ensemble that comes with the package, trained by it on songs of its own making."""

    default_folder = checkpoint.FOLDER / "demo"
    note = (
        "the demo has learned from synthetic songs only: good for trying things out, not for music. For that, download "
        f"mdx_AB.zip from {checkpoint.DOWNLOAD} and run: {checkpoint.INSTALL}"
    )

    def __init__(self, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(self.default_folder if folder is None else folder, **options)


MODELS = {"A": ModelA, "B": ModelB, "demo": Demo}


def open_model(model: str, **options: Any) -> Separator:
    """What `--model` names: A, B, demo, or a folder with a config.yaml and checkpoints. Raises UserError."""
    if model in MODELS:
        return MODELS[model](**options)
    if not Path(model).is_dir():
        raise SeparationError(f"{model}: no such model, expected A, B, demo or a folder with a config.yaml and checkpoints")
    return Separator(model, **options)


def _at_least_one(name: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise SeparationError(f"{name} is {value}, expected 1 or more")
    return default if value is None else value
