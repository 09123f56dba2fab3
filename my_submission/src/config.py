"""Configuration: a YAML file becomes frozen dataclasses, which are checked once, here.

    config = load_config("my_submission/ckpts/modelA/config.yaml", overrides=["training.lr=0.0004"])
    config.audio.n_fft                     # 8192

The keys are those of the published `config.yaml` files, and some of ours, which have defaults. A key is refused by name if it
is unknown, missing, of the wrong type, or contradicts another key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from my_submission.src.audio.augment import Augmentation
from my_submission.src.common.overrides import override
from my_submission.src.common.plain_tree import ConfigError, dataclass_from_dict, require, to_plain
from my_submission.src.loss import MASKS
from my_submission.src.model_config import ModelConfig, OtherModelConfig, is_other, require_positive
from my_submission.src.overlap_add import WINDOWS

PROCEDURES = ("published", "uvr", "msst")  # how a song is cut into chunks, and who gets the residual


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of the audio and its spectrogram in training."""

    chunk_size: int  # samples of a training chunk: hop_length * (dim_t - 1)
    dim_f: int  # frequency bins kept, the lowest ones
    dim_t: int  # STFT frames of a training chunk
    hop_length: int  # samples
    n_fft: int  # samples
    min_mean_abs: float  # a training chunk whose mean absolute value is below this is drawn again
    num_channels: int  # audio channels
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        names = ("chunk_size", "dim_f", "dim_t", "hop_length", "n_fft", "num_channels", "sample_rate")
        require_positive(self, "audio", *names)
        require(self.min_mean_abs >= 0, f"audio.min_mean_abs is {self.min_mean_abs}, expected 0 or more")
        require(self.n_fft % 2 == 0, f"audio.n_fft is {self.n_fft}, expected an even number")
        bins = self.n_fft // 2 + 1
        require(
            self.dim_f <= bins,
            f"audio.dim_f is {self.dim_f}, but audio.n_fft = {self.n_fft} has only {bins} frequency bins",
        )
        require(
            self.hop_length <= self.n_fft // 2,
            f"audio.hop_length is {self.hop_length}, but the STFT can be inverted only up to half of "
            f"audio.n_fft = {self.n_fft}",
        )
        samples = self.hop_length * (self.dim_t - 1)
        require(
            self.chunk_size == samples,
            f"audio.chunk_size is {self.chunk_size}, expected audio.hop_length * (audio.dim_t - 1) = {samples}",
        )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Augmentation):
    """The training recipe; HOW_TO_TRAIN.md explains each key."""

    batch_size: int
    coarse_loss_clip: bool | None = None  # the published choice of a mask: coarse (label noise) or fine (bleeding)
    ema_momentum: float
    grad_clip: float | None
    instruments: tuple[str, ...]  # in the order of the network's sources
    lr: float
    loss_mask: str | None = None  # a name in loss.MASKS, instead of coarse_loss_clip
    num_steps: int
    q: float  # quantile of the errors at and above which they are masked
    target_instrument: str | None  # train and estimate only this one
    datasets: tuple[str, ...] = ()  # folders, used if the command line names none
    activation_checkpointing: bool = False  # compute activations twice instead of storing them: slower, less memory
    lr_schedule: str = "constant"  # or cosine: from lr down to 0 at num_steps
    optimizer: str = "adam"  # or muon
    warmup_steps: int = 0  # steps over which the rate rises to lr
    gain_db: tuple[float, float] | None = None  # range of the random gain of every stem drawn
    same_song: float = 0.0  # share of the samples whose stems all come from one place of one track

    def __post_init__(self) -> None:
        require_positive(self, "training", "batch_size", "lr", "num_steps")
        require(0 <= self.ema_momentum < 1, f"training.ema_momentum is {self.ema_momentum}, expected 0 up to below 1")
        require(0 < self.q <= 1, f"training.q is {self.q}, expected above 0 and up to 1")
        self._check_mask()
        require(
            self.grad_clip is None or self.grad_clip > 0,
            f"training.grad_clip is {self.grad_clip}, expected null or a number above 0",
        )
        require(
            self.lr_schedule in ("constant", "cosine"),
            f"training.lr_schedule is {self.lr_schedule!r}, expected constant or cosine",
        )
        require(self.optimizer in ("adam", "muon"), f"training.optimizer is {self.optimizer!r}, expected adam or muon")
        require(
            0 <= self.warmup_steps < self.num_steps,
            f"training.warmup_steps is {self.warmup_steps}, expected 0 up to below training.num_steps = {self.num_steps}",
        )
        require(
            self.gain_db is None or self.gain_db[0] <= self.gain_db[1],
            f"training.gain_db is {list(self.gain_db or ())}, expected null or two numbers, the lower one first",
        )
        require(0 <= self.same_song <= 1, f"training.same_song is {self.same_song}, expected 0 up to 1")
        self.check_augmentation()
        names = self.instruments
        require(len(names) > 0, "training.instruments is empty, expected at least one name")
        require(len(set(names)) == len(names), f"training.instruments names one twice: {list(names)}")
        for name in names:  # it becomes a file name: vocals -> vocals.wav
            require(
                re.fullmatch(r"\w[\w .-]*", name) is not None,
                f"training.instruments holds {name!r}, expected letters, digits, '_', '-', '.' and spaces only",
            )
        require(
            self.target_instrument in (None, *names),
            f"training.target_instrument is {self.target_instrument!r}, expected null or one of {list(names)}",
        )

    def _check_mask(self) -> None:
        masks, clip, name = " or ".join(MASKS), self.coarse_loss_clip, self.loss_mask
        require(
            clip is not None or name is not None,
            f"missing: training.coarse_loss_clip (true or false), or training.loss_mask ({masks}) instead",
        )
        require(name is None or name in MASKS, f"training.loss_mask is {name!r}, expected {masks}")
        require(
            None in (clip, name) or name == ("coarse" if clip else "fine"),
            f"training.loss_mask is {name}, but training.coarse_loss_clip is {str(clip).lower()}, which means "
            f"{'coarse' if clip else 'fine'}; leave one of the two out",
        )

    @property
    def mask(self) -> str:
        """Return the name of the loss's mask, a key of loss.MASKS."""
        return self.loss_mask or ("coarse" if self.coarse_loss_clip else "fine")


@dataclass(frozen=True)
class InferenceConfig:
    """How a song is cut into overlapping chunks."""

    batch_size: int  # chunks that go through the network together
    dim_t: int  # STFT frames of a chunk; may be longer than in training
    num_overlap: int  # chunks that cover each sample
    window: str = "rectangular"  # weights of a chunk, by a name in overlap_add.WINDOWS; the procedure msst has its own
    residual_shares: tuple[float, ...] | None = None  # each source's share of mixture - sum of estimates; None: the procedure's
    procedure: str = "published"  # or uvr: without the residual; or msst: reflected borders, its window, no residual
    normalize: bool = False  # remove the song's mean and scale before separation, and restore them afterwards

    def __post_init__(self) -> None:
        require_positive(self, "inference", "batch_size", "dim_t", "num_overlap")
        require(self.window in WINDOWS, f"inference.window is {self.window!r}, expected {' or '.join(WINDOWS)}")
        require(self.procedure in PROCEDURES, f"inference.procedure is {self.procedure!r}, expected {' or '.join(PROCEDURES)}")
        shares = self.residual_shares or ()
        require(
            all(share >= 0 for share in shares) and sum(shares) < 1 + 1e-6,
            f"inference.residual_shares is {list(shares)}, expected numbers of 0 or more that sum to 1 at most",
        )


@dataclass(frozen=True)
class Config:
    """A whole config.yaml."""

    audio: AudioConfig
    model: ModelConfig | OtherModelConfig
    training: TrainingConfig
    inference: InferenceConfig

    def __post_init__(self) -> None:
        require(self.model is not None, "model is empty, expected a section of keys")
        audio, lengths = self.audio, {"audio.dim_t": self.audio.dim_t, "inference.dim_t": self.inference.dim_t}
        if isinstance(self.model, ModelConfig):
            self.model.check_fits(audio.dim_f, lengths)
        for name, frames in lengths.items():
            require(
                audio.hop_length * (frames - 1) > audio.n_fft // 2,
                f"{name} is {frames}: a chunk of that many frames is too short for audio.n_fft = {audio.n_fft}",
            )
        require(
            self.inference.num_overlap <= self.inference_chunk_size,
            f"inference.num_overlap is {self.inference.num_overlap}, but a chunk has only {self.inference_chunk_size} samples",
        )
        shares = self.inference.residual_shares
        require(
            shares is None or len(shares) == len(self.source_order),
            f"inference.residual_shares is {list(shares or ())}, expected a number for each of {', '.join(self.source_order)}",
        )

    @property
    def inference_chunk_size(self) -> int:
        """Return the length of an inference chunk, samples."""
        return self.audio.hop_length * (self.inference.dim_t - 1)

    @property
    def source_order(self) -> tuple[str, ...]:
        """Return the names of the sources that the network estimates, in the order of its source axis."""
        target = self.training.target_instrument
        return self.training.instruments if target is None else (target,)

    def as_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings, ready for YAML or JSON; `load_config` reads them back."""
        tree = to_plain(dataclasses.asdict(self))
        if isinstance(self.model, OtherModelConfig):
            tree["model"] = {"type": self.model.type, **tree["model"]["keys"]}
        else:
            del tree["model"]["type"]  # like the published files, which know one type only
        for name in ("coarse_loss_clip", "loss_mask"):
            if tree["training"][name] is None:
                del tree["training"][name]
        return tree


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a config.yaml.

    Args:
        path: of the file.
        overrides: replace keys of the file before it is checked (default: none): `training.lr=0.0004`, `model.scale=[2, 2]`.
            The value is read as YAML. Of two overrides of one key, the last counts.

    Raises ConfigError, naming the file and the key, for anything that cannot be used.
    """
    return parse_config(read_text(path), str(path), overrides)


def read_text(path: str | Path) -> bytes:
    """Return the bytes of a config's file. Raises ConfigError."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a config.yaml") from error


def parse_config(text: bytes, name: str, overrides: Sequence[str] = ()) -> Config:
    """Check a config.yaml that is in memory, like `load_config`; `name` stands for the file in messages."""
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    with with_name(name, overrides):
        return config_from_tree(tree, overrides)


@contextlib.contextmanager
def with_name(name: str | Path, overrides: Sequence[str] = ()) -> Iterator[None]:
    """Put the file's name, and the overrides, in front of a ConfigError's message."""
    try:
        yield
    except ConfigError as error:
        changed = f" with {', '.join(overrides)}" if overrides else ""
        raise ConfigError(f"{name}{changed}: {error}") from None


def config_from_tree(tree: object, overrides: Sequence[str] = ()) -> Config:
    """Check a config's sections and keys, after the overrides. Raises ConfigError."""
    return _from_tree(override(tree, overrides, _keys) if isinstance(tree, dict) else tree)


def _from_tree(tree: object) -> Config:
    """Make a Config. The section of another architecture is kept as it is."""
    if not isinstance(tree, dict) or not is_other(tree.get("model")):
        config: Config = dataclass_from_dict(Config, tree)
        return config
    keys = dict(tree["model"])
    model = OtherModelConfig(keys.pop("type"), keys)
    rest = dataclass_from_dict(_WithoutModel, {name: section for name, section in tree.items() if name != "model"})
    return Config(rest.audio, model, rest.training, rest.inference)


@dataclass(frozen=True)
class _WithoutModel:
    audio: AudioConfig
    training: TrainingConfig
    inference: InferenceConfig


def _keys(tree: Mapping[str, Any]) -> dict[str, list[str] | None]:
    """Return the keys of every section of a config's tree; None for the section of another architecture."""
    sections = {"audio": AudioConfig, "model": ModelConfig, "training": TrainingConfig, "inference": InferenceConfig}
    keys: dict[str, list[str] | None] = {
        name: [field.name for field in dataclasses.fields(cls)] for name, cls in sections.items()
    }
    if is_other(tree.get("model")):
        keys["model"] = None
    return keys
