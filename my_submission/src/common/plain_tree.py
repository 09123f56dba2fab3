"""Convert plain trees (dictionaries, lists and scalars, as in YAML and JSON) to dataclasses and back.

Errors name the key by its path in the tree: `audio.chunk_size`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import types
import typing
from typing import Any, TypeVar

from my_submission.src.common.errors import UserError

T = TypeVar("T")


class ConfigError(UserError):
    """A configuration cannot be used."""


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def dataclass_from_dict(cls: type[T], tree: object, prefix: str = "") -> T:
    """Return the dataclass `cls` filled from a dictionary; fields that are dataclasses are filled from its sections.

    `prefix` is the path of the section, as it begins the names in errors: `audio.`.

    Raises ConfigError for an unknown key, a missing key or a value of another type than its field's.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'the file'} is {_shown(tree)}, expected a section of keys")
    known = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]  # T is a dataclass
    for key in tree:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"known here: {', '.join(sorted(known))}"
            raise ConfigError(f"{prefix}{key} is not a key of this file; {hint}")
    missing = [name for name, field in known.items() if name not in tree and field.default is dataclasses.MISSING]
    require(not missing, f"missing: {', '.join(prefix + name for name in missing)}")
    hints = typing.get_type_hints(cls)
    return cls(**{name: _convert(value, hints[name], prefix + name) for name, value in tree.items()})


def _convert(value: Any, hint: Any, name: str) -> Any:
    """Return `value` as the type of its field. Raises ConfigError, which names the field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _convert(value, arguments[0], name)
    if dataclasses.is_dataclass(hint):
        return dataclass_from_dict(typing.cast(type, hint), value, f"{name}.")
    if origin is tuple:
        require(isinstance(value, list), f"{name} is {_shown(value)}, expected a list")
        if arguments[-1] is not Ellipsis:
            require(len(value) == len(arguments), f"{name} is {_shown(value)}, expected {len(arguments)} numbers")
        return tuple(_convert(item, arguments[0], name) for item in value)
    if hint is float and isinstance(value, str):
        with contextlib.suppress(ValueError):  # YAML 1.1 reads 1e-4, without a point, as a string
            value = float(value)
    # In Python a bool is an int, but `num_steps: true` is a mistake.
    fits = isinstance(value, (int, float) if hint is float else hint) and (hint is bool or not isinstance(value, bool))
    expected = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}[hint]
    if hint is float and fits:
        fits = math.isfinite(value)
    require(fits, f"{name} is {_shown(value)}, expected {expected}")
    return float(value) if hint is float else value


def _shown(value: object) -> str:
    """Return a value as messages show it."""
    return "empty" if value is None else repr(value)


def to_plain(tree: Any) -> Any:
    """Return the tree with lists in place of tuples, ready for YAML or JSON."""
    if isinstance(tree, dict):
        return {key: to_plain(value) for key, value in tree.items()}
    return [to_plain(item) for item in tree] if isinstance(tree, (list, tuple)) else tree
