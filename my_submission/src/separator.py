"""The separator: an ensemble of networks on a device. Everything that separates goes through it.

    separator = Separator("my_submission/ckpts/modelA")
    for stems in separator.separate(AudioFile("song.flac")):    # [S, C, n], block by block
        ...
    separator.separate_music_file(array, 44100)                 # the challenge's call: {instrument: [n, C]}, {instrument: Hz}

The procedure is the published one: overlapping chunks with equal weight, the mean of the seeds, and half of the residual
(mixture - sum of the estimates) added to `other`. ModelA and ModelB are the submissions to the two leaderboards; Demo is a
small ensemble that comes with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from my_submission.src import checkpoint
from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audio.resample import there_and_back
from my_submission.src.base_separator import BaseSeparator
from my_submission.src.challenge.published import DOWNLOAD, INSTALL, published_checkpoints
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.config import Config
from my_submission.src.ensemble import Ensemble, SeparationError
from my_submission.src.family.foreign_config import load_any_config
from my_submission.src.family.model_files import ModelFiles, find_model
from my_submission.src.family.msst import msst
from my_submission.src.overlap_add import WINDOWS, overlap_add
from my_submission.src.runtime.device import pick_device, pick_precision
from my_submission.src.runtime.network import SeparationNetwork
from my_submission.src.runtime.transfer import to_device, to_host


class Separator(BaseSeparator):
    """A folder's ensemble, ready to separate.

    Args:
        folder: holds a config and checkpoints, of ours or of another program; or a checkpoint (see model_files.find_model).
        device: cuda, cuda:1, mps or cpu; auto (the default) is the first available of cuda, mps, cpu.
        precision: fp16, bf16, tf32 or fp32, of the networks; the STFT is always float32. auto (the default) is fp16 on CUDA and
            fp32 elsewhere.
        overlap: chunks that cover each sample (default: the config's). Fewer are faster, more are slightly better.
        batch_size: chunks that go through the network together (default: the config's). The result does not depend on it.
        seeds: the members of the ensemble (default: all in the folder). Fewer are faster.
        compile: compile the networks now, which takes 1 to 2 minutes (default: no). The result changes by rounding only.
        overrides: replace keys of the config, such as `inference.window=hann` (default: none).
        config: the config's file (default: the one in the folder).

    Raises CheckpointError, CompilingError, ConfigError, DeviceError or SeparationError, before any audio is touched.
    """

    note = ""  # shown to the user before separating

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
        overrides: Sequence[str] = (),
        config: str | Path | None = None,
    ) -> None:
        self.folder, self.overrides = Path(folder), list(overrides)
        self.files = self._find_files(config, seeds)
        self.checkpoints = self.files.checkpoints
        self.config = load_any_config(self.files.config, overrides)
        self._set_up(device, precision, overlap)
        networks = [
            checkpoint.load_network(self.config, checkpoint.read_state_dict(path), str(path))
            for path in self.checkpoints.values()
        ]
        self._take(networks, batch_size, compile)

    @classmethod
    def of_state(
        cls, config: Config, state: dict[str, Tensor], name: str, *, device: str, precision: str, overlap: int
    ) -> Separator:
        """Return a separator of one network whose weights are in no file, such as those of a network in training.

        Args:
            config: the config of the network.
            state: its state dict.
            name: stands in messages for the file.
            device, precision, overlap: as for the class.

        Raises CheckpointError, DeviceError or SeparationError.
        """
        separator = cls.__new__(cls)
        separator.folder, separator.overrides, separator.config, separator.checkpoints = Path(name), [], config, {}
        separator._set_up(device, precision, overlap)
        separator._take([checkpoint.load_network(config, state, name)], None, compile=False)
        return separator

    def _set_up(self, device: str, precision: str, overlap: int | None) -> None:
        """Choose device, precision and overlap."""
        self.device = pick_device(device)
        self.precision = pick_precision(precision, self.device)
        self.overlap = _at_least_one("overlap", overlap, self.config.inference.num_overlap)
        if self.overlap > self.config.inference_chunk_size:
            raise SeparationError(
                f"overlap is {self.overlap}, expected up to the {self.config.inference_chunk_size} samples of a chunk"
            )

    def _take(self, networks: Sequence[SeparationNetwork], batch_size: int | None, compile: bool) -> None:
        """Make the ensemble of these networks."""
        batch_size = _at_least_one("batch_size", batch_size, self.config.inference.batch_size)
        self.ensemble = Ensemble(networks, self.device, self.precision, batch_size, compile, name=str(self.folder))
        self.on_progress: Callable[[int], object] = lambda samples: None  # called with samples done, at the networks' rate
        if compile:  # if compiling fails, it fails before any audio is touched
            self.ensemble.warm_up(torch.full((self.config.audio.num_channels, self.config.inference_chunk_size), 0.1))

    def _find_files(self, config: str | Path | None, seeds: Sequence[int] | None) -> ModelFiles:
        return find_model(self.folder, config=config, seeds=seeds)

    def members(self) -> dict[int, Member]:
        """Return each seed's member of the ensemble: seed -> Member."""
        return {seed: Member(self, seed) for seed in self.checkpoints}

    def settings(self) -> dict[str, Any]:
        """Return everything that estimates depend on, in words; two runs with equal settings give equal estimates.

        The batch size is left out, because estimates do not depend on it.
        """
        settings = {"the model's folder": str(self.folder.resolve()), "overlap": self.overlap}
        settings |= {"precision": self.precision, "device": str(self.device)}
        settings |= {"overrides": ", ".join(self.overrides)} if self.overrides else {}
        return settings | {path.name: checkpoint.sha256(path)[:16] for path in (self.files.config, *self.checkpoints.values())}

    @property
    def redone_chunks(self) -> int:
        """Return how many chunks overflowed in half precision and were repeated in float32."""
        return self.ensemble.redone_chunks

    @property
    def residual_shares(self) -> list[float]:
        """Return each source's share of the residual, mixture - sum of the estimates: the config's, or half to `other`.

        If the shares sum to 1, the stems sum to the mixture. Equal shares are the smallest change that achieves it (Wisdom et
        al., "Differentiable consistency constraints for improved deep speech enhancement", ICASSP 2019); shares in proportion
        to the sources' errors are better. A single target gets no share by default, as it is only a part of the mixture.
        """
        if self.config.inference.residual_shares is not None:
            return list(self.config.inference.residual_shares)
        published = self.config.inference.procedure == "published"
        all_sources = published and self.config.training.target_instrument is None
        return [0.5 if all_sources and name == "other" else 0.0 for name in self.source_order]

    def separate(self, mixture: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        """Separate with all seeds; see BaseSeparator."""
        return self._separate_with(self.ensemble.estimate, mixture, share_residual=share_residual)

    def _separate_with(
        self, estimate: Callable[[Tensor], Tensor], mixture: AudioStream, *, share_residual: bool
    ) -> Iterator[Block]:
        """Separate like `separate`, with `estimate`: chunks [B, C, T] -> estimates [B, S, C, T]."""
        self.refuse_other_channels(mixture)
        how: dict[str, Any] = {"mono": mixture.channels == 1, "share_residual": share_residual, "estimate": estimate}
        how["level"] = level_of(mixture) if self.config.inference.normalize else (0.0, 1.0)
        yield from there_and_back(mixture, self.sample_rate, partial(self.separate_blocks, **how))

    def separate_blocks(
        self,
        blocks: Iterable[Block],
        *,
        mono: bool,
        level: tuple[float, float] = (0.0, 1.0),
        share_residual: bool = True,
        estimate: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Block]:
        """Separate blocks [C, n] at the networks' rate -> stems [S, C, n]; the blocks are left as they are.

        Args:
            blocks: consecutive blocks of one song.
            mono: whether C is 1 and the stems are to be mono.
            level: of the song, if the model normalises (default: no change); see `level_of`.
            share_residual: see BaseSeparator (default: yes).
            estimate: maps chunks [B, C, T] to estimates [B, S, C, T] (default: all seeds).
        """
        channels, chunk = self.num_channels, self.config.inference_chunk_size
        mean, scale = level
        if level != (0.0, 1.0):
            blocks = ((block - np.float32(mean)) / np.float32(scale) for block in blocks)
        on_device = to_device((torch.from_numpy(block).expand(channels, -1) for block in blocks), self.device)
        how: dict[str, Any] = {"chunk": chunk, "overlap": self.overlap, "batch_size": self.ensemble.batch_size}
        estimate = estimate or self.ensemble.estimate
        if self.config.inference.procedure == "msst":
            pieces = msst(on_device, estimate, **how)
        else:
            pieces = overlap_add(on_device, estimate, **how, window=WINDOWS[self.config.inference.window](chunk))
        if level != (0.0, 1.0):
            pieces = ((signal, estimates * scale + mean) for signal, estimates in pieces)
        return to_host(self._finish(pieces, mono=mono, share_residual=share_residual), self.device)

    def _finish(self, pieces: Iterator[tuple[Tensor, Tensor]], mono: bool, share_residual: bool) -> Iterator[Tensor]:
        """Share the residual and return to mono: (mixture [C, n], estimates [S, C, n]) -> stems [S, C, n]."""
        shares = torch.tensor(self.residual_shares, device=self.device)[:, None, None]
        for mixture, estimates in pieces:
            if share_residual:
                estimates += shares * (mixture - estimates.sum(dim=0))  # noqa: PLW2901
            if mono:
                estimates = estimates.mean(dim=1, keepdim=True)  # noqa: PLW2901
            self.on_progress(mixture.shape[-1])
            yield estimates


class Member(BaseSeparator):
    """One seed of a Separator: only its network takes part.

    It holds no other state: batch size, counters and progress are the Separator's.
    """

    def __init__(self, separator: Separator, seed: int) -> None:
        self.separator, self.seed, self.config = separator, seed, separator.config
        self.checkpoints = {seed: separator.checkpoints[seed]}

    @property
    def on_progress(self) -> Callable[[int], object]:
        """Return the Separator's callback; setting it sets the Separator's."""
        return self.separator.on_progress

    @on_progress.setter
    def on_progress(self, callback: Callable[[int], object]) -> None:
        self.separator.on_progress = callback

    def separate(self, mixture: AudioStream, *, share_residual: bool = True) -> Iterator[Block]:
        """Separate with this seed alone; see BaseSeparator."""
        index = list(self.separator.checkpoints).index(self.seed)
        estimate = partial(self.separator.ensemble.estimate, only=index)
        return self.separator._separate_with(estimate, mixture, share_residual=share_residual)


class ModelA(Separator):
    """Leaderboard A, label noise: the published behaviour, unless arguments change it.

    In the default folder, exactly the published checkpoints are used; in another folder, all seeds found there.
    """

    leaderboard = "A"
    default_folder = checkpoint.FOLDER / "modelA"
    default_checkpoints = published_checkpoints("modelA")

    def __init__(self, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(self.default_folder if folder is None else folder, **options)

    def _find_files(self, config: str | Path | None, seeds: Sequence[int] | None) -> ModelFiles:
        if self.folder != self.default_folder:
            return super()._find_files(config, seeds)
        paths = dict(enumerate(self.folder / name for name in self.default_checkpoints))
        wanted = sorted(paths if seeds is None else set(seeds))
        if not set(wanted) <= set(paths):
            raise CheckpointError(f"{self.folder}: seeds {wanted} asked for, the published ones are {sorted(paths)}")
        missing = [paths[seed].name for seed in wanted if not paths[seed].is_file()]
        if missing:
            raise CheckpointError(
                f"{self.folder}: missing {', '.join(missing)}. Download mdx_AB.zip from {DOWNLOAD} and run: {INSTALL}"
            )
        return ModelFiles(Path(config or self.folder / "config.yaml"), {seed: paths[seed] for seed in wanted})


class ModelB(ModelA):
    """Leaderboard B, bleeding: the published behaviour, unless arguments change it."""

    leaderboard = "B"
    default_folder = checkpoint.FOLDER / "modelB"
    default_checkpoints = published_checkpoints("modelB")


class Demo(Separator):
    """A small ensemble that comes with the package, which also made the synthetic songs for its training."""

    default_folder = checkpoint.FOLDER / "demo"
    note = (
        "the demo has learned from synthetic songs only: good for trying things out, not for music. For that, download "
        f"mdx_AB.zip from {DOWNLOAD} and run: {INSTALL}"
    )

    def __init__(self, folder: str | Path | None = None, **options: Any) -> None:
        super().__init__(self.default_folder if folder is None else folder, **options)


MODELS: dict[str, type[ModelA] | type[Demo]] = {"A": ModelA, "B": ModelB, "demo": Demo}


def default_model() -> str:
    """Return the model that separates songs if none is named: A, or the demo if A's checkpoints are not installed."""
    folder = ModelA.default_folder
    return "A" if all((folder / name).is_file() for name in ModelA.default_checkpoints) else "demo"


def open_model(model: str, **options: Any) -> Separator:
    """Open the model that `--model` names: A, B, demo, a folder of any program, or a checkpoint. Raises UserError."""
    folder = model_folder(model)
    return MODELS[model](**options) if model in MODELS else Separator(folder, **options)


def model_folder(model: str) -> Path:
    """Return the folder, or the checkpoint, of the model that `--model` names. Raises SeparationError if there is none."""
    if model in MODELS:
        return MODELS[model].default_folder
    if not Path(model).exists():
        expected = "A, B, demo or a folder with a config and checkpoints, or a checkpoint"
        raise SeparationError(f"{model}: no such model, expected {expected}")
    return Path(model)


def level_of(mixture: AudioStream) -> tuple[float, float]:
    """Return the mean and the standard deviation of a song's mean over its channels; (0, 1) for a constant song."""
    count, total, squares = 0, 0.0, 0.0
    for block in mixture.blocks():
        mono = block.mean(axis=0, dtype=np.float64)
        count, total, squares = count + len(mono), total + mono.sum(), squares + np.square(mono).sum()
    mean = total / count
    variance = squares / count - mean**2
    return (float(mean), math.sqrt(variance)) if variance > 1e-12 else (0.0, 1.0)


def _at_least_one(name: str, value: int | None, default: int) -> int:
    if value is not None and value < 1:
        raise SeparationError(f"{name} is {value}, expected 1 or more")
    return default if value is None else value
