"""The model section of a config: the sizes of the TFC-TDF U-Net, or of another architecture that `model.type` names."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from my_submission.src.common.plain_tree import dataclass_from_dict, require

TFC_TDF = "tfc_tdf_v3"  # the default of model.type

Section = TypeVar("Section")


def require_positive(section: object, prefix: str, *names: str) -> None:
    """Raise ConfigError unless these fields of a section are above 0; `prefix` is its name."""
    for name in names:
        value = getattr(section, name)
        require(value > 0, f"{prefix}.{name} is {value}, expected a number above 0")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the TFC-TDF U-Net."""

    act: str  # gelu, relu or eluX, where X is ELU's alpha
    bottleneck_factor: int  # frequency bins over the width of a TDF's middle
    growth: int  # channels added per scale
    norm: str  # InstanceNorm, BatchNorm or GroupNormG, where G is the number of groups
    num_blocks_per_scale: int
    num_channels: int  # of the first scale
    num_scales: int
    num_subbands: int
    scale: tuple[int, int]  # down-sampling of [time, frequency] per scale
    type: str = TFC_TDF

    def __post_init__(self) -> None:
        names = ("bottleneck_factor", "num_blocks_per_scale", "num_channels", "num_subbands")
        require_positive(self, "model", *names)
        require(min(self.growth, self.num_scales) >= 0, "model.growth and model.num_scales must be 0 or more")
        require(min(self.scale) > 0, f"model.scale is {list(self.scale)}, expected numbers above 0")
        require(
            self.act in ("gelu", "relu") or self.elu_alpha is not None,
            f"model.act is {self.act!r}, expected gelu, relu or elu with its alpha (elu0.7)",
        )
        groups = self.norm_groups
        require(
            groups is not None or self.norm in ("InstanceNorm", "BatchNorm"),
            f"model.norm is {self.norm!r}, expected InstanceNorm, BatchNorm or GroupNorm with its groups (GroupNorm4)",
        )
        for channels in self.channels:
            require(
                groups is None or channels % groups == 0,
                f"model.norm is {self.norm}, but a scale has {channels} channels "
                f"(model.num_channels + i * model.growth), not a multiple of {groups}",
            )

    def check_fits(self, dim_f: int, lengths: Mapping[str, int]) -> None:
        """Raise ConfigError if the scales do not divide the `dim_f` frequency bins, or a length in frames: name -> frames."""
        require(
            dim_f % self.num_subbands == 0,
            f"audio.dim_f is {dim_f}, not a multiple of model.num_subbands = {self.num_subbands}",
        )
        band, shrink = dim_f // self.num_subbands, self.scale[1] ** self.num_scales
        require(
            band % shrink == 0,
            f"audio.dim_f / model.num_subbands is {band}, not a multiple of model.scale[1] ** model.num_scales = {shrink}",
        )
        require(
            band // shrink >= self.bottleneck_factor,
            f"model.bottleneck_factor is {self.bottleneck_factor}, but the deepest scale has only "
            f"{band // shrink} frequency bins",
        )
        shrink = self.scale[0] ** self.num_scales
        for name, frames in lengths.items():
            require(
                frames % shrink == 0,
                f"{name} is {frames}, not a multiple of model.scale[0] ** model.num_scales = {shrink}",
            )

    @property
    def channels(self) -> list[int]:
        """Return the network channels at every scale; the last is the bottleneck's."""
        return [self.num_channels + i * self.growth for i in range(self.num_scales + 1)]

    @property
    def elu_alpha(self) -> float | None:
        """Return the alpha of an `eluX` activation, None for another."""
        match = re.fullmatch(r"elu(\d+(?:\.\d+)?)", self.act)
        return float(match[1]) if match else None

    @property
    def norm_groups(self) -> int | None:
        """Return the number of groups of a `GroupNormG`, None for another norm."""
        match = re.fullmatch(r"GroupNorm([1-9]\d*)", self.norm)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class OtherModelConfig:
    """The model section of another architecture, which checks it itself; model.NETWORKS lists them."""

    type: str
    keys: Mapping[str, object]  # all but `type`

    def read(self, section: builtins.type[Section]) -> Section:
        """Return the section as a dataclass of the architecture. Raises ConfigError, naming the key."""
        found: Section = dataclass_from_dict(section, dict(self.keys), "model.")
        return found


def is_other(section: object) -> bool:
    """Tell whether a model section of a config's tree is of another architecture than TFC-TDF."""
    return isinstance(section, dict) and isinstance(section.get("type"), str) and section["type"] != TFC_TDF
