"""The weights of several models in each stem, and how their stems are matched.

    plan(["runs/A", "vocals.ckpt"], [config, other_config], "vocals=1,2;default=1,1").shares()

Stems are matched by name, in any case. A stem has the weights of the models that have it; they are divided by their sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from my_submission.src.audio.files import Block
from my_submission.src.audio.tracks import same_form
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown
from my_submission.src.config import Config

DEFAULT = "default"  # stands for all stems that the weights do not name


class BlendError(UserError):
    """Models that do not fit together, or weights that cannot be used."""


@dataclass(frozen=True)
class Plan:
    """Which models a stem is made of."""

    weights: dict[str, dict[int, float]]  # stem -> index of a model that has it -> weight
    places: list[list[int]]  # of each model's own stems among those of the blend

    def shares(self) -> list[Block]:
        """Return each model's share of its own stems: arrays [S, 1, 1]. The shares of a stem sum to 1."""
        shares = []
        for model, places in enumerate(self.places):
            of_stems = [list(self.weights.values())[place] for place in places]
            largest = [max(weights.values()) for weights in of_stems]  # it keeps sums of large numbers finite
            sums = [sum(w / top for w in weights.values()) for weights, top in zip(of_stems, largest, strict=True)]
            own = [weights[model] / top / total for weights, top, total in zip(of_stems, largest, sums, strict=True)]
            shares.append(np.array(own, np.float32)[:, None, None])
        return shares

    def text(self) -> str:
        """Return the weights in words: `vocals 1:2, bass 1:-`, a number for each model or - if it lacks the stem."""
        models = range(len(self.places))
        each = {
            name: ":".join(repr(weights[m]).removesuffix(".0") if m in weights else "-" for m in models)
            for name, weights in self.weights.items()
        }
        return ", ".join(f"{name} {numbers}" for name, numbers in each.items())


def plan(names: Sequence[str], configs: Sequence[Config], weights: str) -> Plan:
    """Match the stems of models by name, and give them their weights.

    Args:
        names: of the models, for messages.
        configs: of the models.
        weights: `vocals=2,1;default=1,1`: for each stem a number for each model; all others have 1.

    Raises BlendError.
    """
    for what, found in {
        "sample rates": [f"{config.audio.sample_rate} Hz" for config in configs],
        "numbers of channels": [f"{config.audio.num_channels}" for config in configs],
    }.items():
        if len(set(found)) > 1:
            each = ", ".join(f"{shown(name)}: {value}" for name, value in zip(names, found, strict=True))
            raise BlendError(f"models of different {what} ({each}), expected one; separate with each by itself")
    stems: dict[str, str] = {}  # one form of a stem's name -> its name
    owners: dict[str, list[int]] = {}
    for model, config in enumerate(configs):
        for name in config.source_order:
            stems.setdefault(same_form(name), name)
            owners.setdefault(same_form(name), []).append(model)
            if owners[same_form(name)].count(model) > 1 and len(configs) > 1:
                raise BlendError(f"{shown(names[model])}: has two stems {name}, in different case; it cannot be matched")
    given = _parse(weights, len(configs), stems)
    others = given.get(DEFAULT, [1.0] * len(configs))
    numbers = {form: given.get(form, others) for form in stems}
    for form, name in stems.items():
        if not any(numbers[form][model] for model in owners[form]):
            having = ", ".join(shown(names[model]) for model in dict.fromkeys(owners[form]))
            raise BlendError(f"--weights: all weights of {name} are 0; give one above 0 to a model that has it ({having})")
    places = {form: place for place, form in enumerate(stems)}
    return Plan(
        {name: {model: numbers[form][model] for model in owners[form]} for form, name in stems.items()},
        [[places[same_form(name)] for name in config.source_order] for config in configs],
    )


def _parse(text: str, models: int, stems: Mapping[str, str]) -> dict[str, list[float]]:
    """Return the weights by the form of the stem's name, or by DEFAULT. Raises BlendError."""
    found: dict[str, list[float]] = {}
    for part in filter(str.strip, text.split(";")):
        name, equals, numbers = (word.strip() for word in part.partition("="))
        said = f"--weights {part.strip()}"
        if not equals or not name:
            raise BlendError(f"{said}: expected STEM=NUMBER,... for each stem, as in vocals=2,1;default=1,1")
        form = same_form(name)
        if form not in stems and form != DEFAULT:
            raise BlendError(f"{said}: no model has this stem, expected {', '.join(stems.values())} or {DEFAULT}")
        if form in found:
            raise BlendError(f"{said}: {name} is there twice; give its weights once")
        values = numbers.split(",")
        if len(values) != models:
            each = "a number for each --model, in their order"
            raise BlendError(f"{said}: holds {len(values)} of them, expected {models}: {each}")
        found[form] = [_weight(value.strip(), said) for value in values]
    return found


def _weight(text: str, said: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (0 <= weight < math.inf):
        raise BlendError(f"{said}: {text!r} is not a finite number of 0 or more")
    return abs(weight)  # -0.0 is 0
