"""Format names and lists of names for messages and the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def shown(*parts: str) -> str:
    """Return the parts of a name joined by slashes, escaped if the terminal could not print it on one line."""
    name = "/".join(parts)
    return name if name.isprintable() else ascii(name)


def some(names: Sequence[str]) -> str:
    """Return the first three of the names, and the number of those left out."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
