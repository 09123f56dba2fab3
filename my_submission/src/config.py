"""Configuration: a YAML file becomes frozen dataclasses, checked once, here.

    config = load_config("my_submission/ckpts/modelA/config.yaml")
    config.audio.n_fft                     # 8192

The keys are those of the published `config.yaml` files. A key that is unknown, missing, of the wrong type or impossible
beside another is refused by name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import re
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from my_submission.src import UserError


class ConfigError(UserError):
    """A configuration that cannot be used."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_positive(section: object, prefix: str, *names: str) -> None:
    for name in names:
        value = getattr(section, name)
        _require(value > 0, f"{prefix}.{name} is {value}, expected a number above 0")


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
        _require(self.min_mean_abs >= 0, f"audio.min_mean_abs is {self.min_mean_abs}, expected 0 or more")
        _require(self.n_fft % 2 == 0, f"audio.n_fft is {self.n_fft}, expected an even number")
        bins = self.n_fft // 2 + 1
        _require(
            self.dim_f <= bins,
            f"audio.dim_f is {self.dim_f}, but audio.n_fft = {self.n_fft} has only {bins} frequency bins",
        )
        _require(
            self.hop_length <= self.n_fft // 2,
            f"audio.hop_length is {self.hop_length}, but the STFT can be inverted only up to half of "
            f"audio.n_fft = {self.n_fft}",
        )
        samples = self.hop_length * (self.dim_t - 1)
        _require(
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
        _require(min(self.growth, self.num_scales) >= 0, "model.growth and model.num_scales must be 0 or more")
        _require(min(self.scale) > 0, f"model.scale is {list(self.scale)}, expected numbers above 0")
        _require(
            self.act in ("gelu", "relu") or self.elu_alpha is not None,
            f"model.act is {self.act!r}, expected gelu, relu or elu with its alpha (elu0.7)",
        )
        groups = self.norm_groups
        _require(
            self.norm in ("InstanceNorm", "BatchNorm") or groups is not None,
            f"model.norm is {self.norm!r}, expected InstanceNorm, BatchNorm or GroupNorm with its groups (GroupNorm4)",
        )
        for channels in self.channels if groups else ():
            _require(
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
        _require(0 <= self.ema_momentum < 1, f"training.ema_momentum is {self.ema_momentum}, expected 0 up to below 1")
        _require(0 < self.q <= 1, f"training.q is {self.q}, expected above 0 and up to 1")
        _require(
            self.grad_clip is None or self.grad_clip > 0,
            f"training.grad_clip is {self.grad_clip}, expected null or a number above 0",
        )
        _require(
            self.lr_schedule in ("constant", "cosine"),
            f"training.lr_schedule is {self.lr_schedule!r}, expected constant or cosine",
        )
        _require(self.optimizer in ("adam", "muon"), f"training.optimizer is {self.optimizer!r}, expected adam or muon")
        _require(
            0 <= self.warmup_steps < self.num_steps,
            f"training.warmup_steps is {self.warmup_steps}, expected 0 up to below training.num_steps = {self.num_steps}",
        )
        _require(
            self.gain_db is None or self.gain_db[0] <= self.gain_db[1],
            f"training.gain_db is {list(self.gain_db or ())}, expected null or two numbers, the lower one first",
        )
        _require(0 <= self.same_song <= 1, f"training.same_song is {self.same_song}, expected 0 up to 1")
        names = self.instruments
        _require(len(names) > 0, "training.instruments is empty, expected at least one name")
        _require(len(set(names)) == len(names), f"training.instruments names one twice: {list(names)}")
        for name in names:  # it becomes a file name: vocals -> vocals.wav
            _require(
                re.fullmatch(r"\w[\w .-]*", name) is not None,
                f"training.instruments holds {name!r}, expected letters, digits, '_', '-', '.' and spaces only",
            )
        _require(
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

    def __post_init__(self) -> None:
        _require_positive(self, "inference", "batch_size", "dim_t", "num_overlap")
        _require(
            self.window in ("rectangular", "hann"),
            f"inference.window is {self.window!r}, expected rectangular or hann",
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
        _require(
            audio.dim_f % model.num_subbands == 0,
            f"audio.dim_f is {audio.dim_f}, not a multiple of model.num_subbands = {model.num_subbands}",
        )
        band, shrink = audio.dim_f // model.num_subbands, model.scale[1] ** model.num_scales
        _require(
            band % shrink == 0,
            f"audio.dim_f / model.num_subbands is {band}, not a multiple of model.scale[1] ** model.num_scales = {shrink}",
        )
        _require(
            band // shrink >= model.bottleneck_factor,
            f"model.bottleneck_factor is {model.bottleneck_factor}, but the deepest scale has only "
            f"{band // shrink} frequency bins",
        )
        shrink = model.scale[0] ** model.num_scales
        for name, frames in (("audio.dim_t", audio.dim_t), ("inference.dim_t", self.inference.dim_t)):
            _require(
                frames % shrink == 0,
                f"{name} is {frames}, not a multiple of model.scale[0] ** model.num_scales = {shrink}",
            )
            _require(
                audio.hop_length * (frames - 1) > audio.n_fft // 2,
                f"{name} is {frames}: a chunk of that many frames is too short for audio.n_fft = {audio.n_fft}",
            )
        _require(
            self.inference.num_overlap <= self.chunk,
            f"inference.num_overlap is {self.inference.num_overlap}, but a chunk has only {self.chunk} samples",
        )

    @property
    def chunk(self) -> int:
        """Length of an inference chunk, samples."""
        return self.audio.hop_length * (self.inference.dim_t - 1)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of what the network estimates, in the order of its source axis."""
        target = self.training.target_instrument
        return self.training.instruments if target is None else (target,)

    def as_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings, ready for YAML or JSON."""
        return _plain(dataclasses.asdict(self))


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
        return _build(Config, tree, "")
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def _build(cls: type, tree: object, prefix: str) -> Any:
    """Make the dataclass `cls` of a mapping, section by section; `prefix` is where we are: 'audio.'."""
    section = prefix.rstrip(".") or "the file"
    _require(isinstance(tree, dict), f"{section} is {_shown(tree)}, expected a section of keys")
    known = {field.name: field for field in dataclasses.fields(cls)}
    for key in tree:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
            raise ConfigError(f"{prefix}{key} is not a key of this file; {hint}")
    missing = [name for name, field in known.items() if name not in tree and field.default is dataclasses.MISSING]
    _require(not missing, f"missing: {', '.join(prefix + name for name in missing)}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(value, hints[name], prefix + name) for name, value in tree.items()})


def _convert(value: object, hint: Any, name: str) -> Any:
    """`value` as the type that the field asks for, or a ConfigError that names the field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, arguments[0], name)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{name}.")
    if origin is tuple:
        _require(isinstance(value, list), f"{name} is {_shown(value)}, expected a list")
        if arguments[-1] is not Ellipsis:
            _require(len(value) == len(arguments), f"{name} is {_shown(value)}, expected {len(arguments)} numbers")
        return tuple(_convert(item, arguments[0], name) for item in value)
    if hint is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4, without a point, as a string
            value = float(value)
    # bool is an int to Python, but `num_steps: true` is a mistake to everybody else
    fits = isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}[hint]
    if hint is float and fits:
        fits = math.isfinite(value)
    _require(fits, f"{name} is {_shown(value)}, expected {expected}")
    return float(value) if hint is float else value


def _shown(value: object) -> str:
    return "empty" if value is None else repr(value)


def _plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _plain(value) for key, value in tree.items()}
    return [_plain(item) for item in tree] if isinstance(tree, (list, tuple)) else tree
