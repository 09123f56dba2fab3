"""Format names and lists of names for messages and the terminal."""

from __future__ import annotations

from collections.abc import Sequence


def shown(*parts: object) -> str:
    """Return the parts of a name joined by slashes, quoted and escaped if it holds characters that do not print on one line."""
    name = "/".join(map(str, parts))
    return name if name.isprintable() else repr(name)


def escaped(message: str) -> str:
    """Escape control characters in a message of one or several lines, so that no name in it can steer the terminal."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in message)


def some(names: Sequence[str]) -> str:
    """Return the first three of the names, and the number of those left out."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
