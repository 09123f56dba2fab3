"""Tracks on disk: a folder of folders, each of which holds the stems of a song."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".wav", ".flac")  # of stems


def track_folders(data: Path) -> list[Path]:
    """The folders in a folder by name, hidden ones left out. Raises OSError."""
    return sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
