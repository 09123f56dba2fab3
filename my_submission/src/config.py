"""Configuration: a YAML file becomes frozen dataclasses, checked once, here.

    config = load_config("my_submission/ckpts/modelA/config.yaml")
    config.audio.n_fft                     # 8192

The keys are those of the published `config.yaml` files. A key that is unknown, missing, of the wrong type or impossible
beside another is refused by name.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from my_submission.src.common.plain_tree import ConfigError, dataclass_from_dict, require, to_plain


def _require_positive(section: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        require(value > 0, f"{prefix}.{name} is {value}, expected a number above 0")


@dataclass(frozen=True)
class AudioConfig:
    """Sizes of the audio and its spectrogram, at training time."""

    chunk_size: int  # samples of a training chunk: hop_length * (dim_t - 1)
    dim_f: int  # frequency bins kept, the lowest ones
    dim_t: int  # STFT frames of a training chunk
    hop_length: int  # samples
    n_fft: int  # samples
    min_mean_abs: float  # a training chunk quieter than this is drawn again
    num_channels: int  # audio channels
    sample_rate: int  # Hz

    def __post_init__(self) -> None:
        names = ("chunk_size", "dim_f", "dim_t", "hop_length", "n_fft", "num_channels", "sample_rate")
        _require_positive(self, "audio", *names)
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


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the TFC-TDF U-Net."""

    act: str  # gelu, relu or eluX, X being ELU's alpha
    bottleneck_factor: int  # how much narrower the middle of a TDF is
    growth: int  # channels added per scale
    norm: str  # InstanceNorm, BatchNorm or GroupNormG, G being the number of groups
    num_blocks_per_scale: int
    num_channels: int  # of the first scale
    num_scales: int
    num_subbands: int
    scale: tuple[int, int]  # down-sampling of [time, frequency] per scale

    def __post_init__(self) -> None:
        names = ("bottleneck_factor", "num_blocks_per_scale", "num_channels", "num_subbands")
        _require_positive(self, "model", *names)
        require(min(self.growth, self.num_scales) >= 0, "model.growth and model.num_scales must be 0 or more")
        require(min(self.scale) > 0, f"model.scale is {list(self.scale)}, expected numbers above 0")
        require(
            self.act in ("gelu", "relu") or self.elu_alpha is not None,
            f"model.act is {self.act!r}, expected gelu, relu or elu with its alpha (elu0.7)",
        )
        groups = self.norm_groups
        require(
            self.norm in ("InstanceNorm", "BatchNorm") or groups is not None,
            f"model.norm is {self.norm!r}, expected InstanceNorm, BatchNorm or GroupNorm with its groups (GroupNorm4)",
        )
        for channels in self.channels if groups else ():
            require(
                channels % groups == 0,
                f"model.norm is {self.norm}, but a scale has {channels} channels "
                f"(model.num_channels + i * model.growth), not a multiple of {groups}",
            )

    @property
    def channels(self) -> list[int]:
        """Network channels at every scale, the bottleneck's last."""
        return [self.num_channels + i * self.growth for i in range(self.num_scales + 1)]

    @property
    def elu_alpha(self) -> float | None:
        """Alpha of an `eluX` activation, None for another."""
        match = re.fullmatch(r"elu(\d+(?:\.\d+)?)", self.act)
        return float(match[1]) if match else None

    @property
    def norm_groups(self) -> int | None:
        """Number of groups of a `GroupNormG`, None for another norm."""
        match = re.fullmatch(r"GroupNorm([1-9]\d*)", self.norm)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class TrainingConfig:
    """The training recipe; HOW_TO_TRAIN.md explains each key."""

    batch_size: int
    coarse_loss_clip: bool  # mask whole items (label noise) instead of single samples (bleeding)
    ema_momentum: float
    grad_clip: float | None
    instruments: tuple[str, ...]  # in the order of the network's sources
    lr: float
    num_steps: int
    q: float  # quantile of the loss at and above which it is masked
    target_instrument: str | None  # train and estimate this one alone
    datasets: tuple[str, ...] = ()  # folders, used where the command line names none
    activation_checkpointing: bool = False  # compute activations twice instead of keeping them: slower, less memory
    lr_schedule: str = "constant"  # or cosine: from lr down to 0 at num_steps
    optimizer: str = "adam"  # or muon
    warmup_steps: int = 0  # over which the rate rises to lr
    gain_db: tuple[float, float] | None = None  # every stem drawn gets a gain from between these
    same_song: float = 0.0  # share of the samples whose stems all come from one place of one track

    def __post_init__(self) -> None:
        _require_positive(self, "training", "batch_size", "lr", "num_steps")
        require(0 <= self.ema_momentum < 1, f"training.ema_momentum is {self.ema_momentum}, expected 0 up to below 1")
        require(0 < self.q <= 1, f"training.q is {self.q}, expected above 0 and up to 1")
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


@dataclass(frozen=True)
class InferenceConfig:
    """How a song is cut into overlapping chunks."""

    batch_size: int  # chunks that go through the network together
    dim_t: int  # STFT frames of a chunk; may be longer than in training
    num_overlap: int  # chunks that cover each sample
    window: str = "rectangular"  # or hann: a chunk counts less towards its ends
    residual_shares: tuple[float, ...] | None = None  # of what estimates leave of the mixture; None is half of it to `other`

    def __post_init__(self) -> None:
        _require_positive(self, "inference", "batch_size", "dim_t", "num_overlap")
        require(
            self.window in ("rectangular", "hann"),
            f"inference.window is {self.window!r}, expected rectangular or hann",
        )
        shares = self.residual_shares or ()
        require(
            all(share >= 0 for share in shares) and sum(shares) < 1 + 1e-6,
            f"inference.residual_shares is {list(shares)}, expected numbers of 0 or more that sum to 1 at most",
        )


@dataclass(frozen=True)
class Config:
    """A whole config.yaml."""

    audio: AudioConfig
    model: ModelConfig
    training: TrainingConfig
    inference: InferenceConfig

    def __post_init__(self) -> None:
        audio, model = self.audio, self.model
        require(
            audio.dim_f % model.num_subbands == 0,
            f"audio.dim_f is {audio.dim_f}, not a multiple of model.num_subbands = {model.num_subbands}",
        )
        band, shrink = audio.dim_f // model.num_subbands, model.scale[1] ** model.num_scales
        require(
            band % shrink == 0,
            f"audio.dim_f / model.num_subbands is {band}, not a multiple of model.scale[1] ** model.num_scales = {shrink}",
        )
        require(
            band // shrink >= model.bottleneck_factor,
            f"model.bottleneck_factor is {model.bottleneck_factor}, but the deepest scale has only "
            f"{band // shrink} frequency bins",
        )
        shrink = model.scale[0] ** model.num_scales
        for name, frames in (("audio.dim_t", audio.dim_t), ("inference.dim_t", self.inference.dim_t)):
            require(
                frames % shrink == 0,
                f"{name} is {frames}, not a multiple of model.scale[0] ** model.num_scales = {shrink}",
            )
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
            shares is None or len(shares) == len(self.sources),
            f"inference.residual_shares is {list(shares or ())}, expected a number for each of {', '.join(self.sources)}",
        )

    @property
    def inference_chunk_size(self) -> int:
        """Length of an inference chunk, samples."""
        return self.audio.hop_length * (self.inference.dim_t - 1)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of what the network estimates, in the order of its source axis."""
        target = self.training.target_instrument
        return self.training.instruments if target is None else (target,)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for YAML or JSON."""
        return to_plain(dataclasses.asdict(self))


def load_config(path: str | Path) -> Config:
    """Read and check a config.yaml.

    Raises ConfigError, naming the file and the key, for anything that cannot be used.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a config.yaml") from error
    return parse_config(text, str(path))


def parse_config(text: bytes, name: str) -> Config:
    """The same for a config.yaml that is in memory; `name` stands in messages."""
    try:
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return dataclass_from_dict(Config, tree)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
