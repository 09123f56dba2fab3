"""Overrides of a tree of sections and keys: `training.lr=0.0004`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from my_submission.src.common.plain_tree import ConfigError, require

Keys = Mapping[str, Sequence[str] | None]  # section -> its keys; None: any key


def override(tree: Mapping[str, Any], overrides: Sequence[str], keys_of: Callable[[Mapping[str, Any]], Keys]) -> dict[str, Any]:
    """Return a copy of a tree in which overrides replace keys: `section.key=value`, where the value is YAML.

    Args:
        tree: section -> key -> value.
        overrides: in the order in which they apply; the last one of a key counts.
        keys_of: returns the sections and keys that may occur, given the tree with the overrides in it.

    Raises ConfigError for an override of another form, or if its section or key does not exist. The values are not checked.
    """
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    names = []
    for text in overrides:
        name, equals, value = (part.strip() for part in text.partition("="))
        require(bool(equals and name), f"{text!r} is no override, expected section.key=value, such as training.lr=0.0004")
        section, _, key = name.partition(".")
        try:
            new = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {name} is {value!r}, which is not valid YAML") from error
        if isinstance(tree.setdefault(section, {}), dict):
            tree[section][key] = new
        names.append(name)
    keys = keys_of(tree)
    for name in names:
        _require_known(name, keys)
    return tree


def _require_known(name: str, keys: Keys) -> None:
    """Raise ConfigError, with a hint, if no key is called `name`."""
    section, _, key = name.partition(".")
    if section in keys and not key:
        its_keys = ", ".join(keys[section] or [])
        raise ConfigError(f"{section} is a section, expected {section}.key=value{its_keys and f'; its keys are {its_keys}'}")
    allowed = keys.get(section, [])
    if allowed is None or key in allowed:
        return
    known = [f"{each}.{one}" for each, names in keys.items() for one in names or []]
    same_key = [each for each in known if each.partition(".")[2] == (key or section)]
    close = same_key or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {' or '.join(close)}?" if close else f"the sections are {', '.join(keys)}"
    raise ConfigError(f"{name} is not a key; {hint}")
