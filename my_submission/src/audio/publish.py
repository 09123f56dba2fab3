"""Move the finished files of a song from a hidden folder to their places: all of them, or none."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from my_submission.src.common.atomic import forget_moves, note_moves
from my_submission.src.common.locks import exclusive


def publish(files: Mapping[str, Path], targets: Mapping[str, Path], top: Path, hidden: Path) -> None:
    """Move files to their targets; an error puts everything back. Other files next to the targets are kept.

    If all targets lie in one new folder below `top`, one renaming makes them appear at once. Otherwise they are renamed one
    after the other; after a kill meanwhile, the next write to `top` renames the rest.

    Args:
        files: name -> finished file in `hidden`.
        targets: name -> its place, in or below `top`; a file there is replaced.
        top: a folder that exists.
        hidden: a hidden folder in `top`, which the caller deletes.

    Raises OSError.
    """
    folders = {path.parent for path in targets.values()}
    with _made_folders() as make:
        if len(folders) == 1 and top not in folders:
            folder = next(iter(folders))
            make(folder.parent)
            if _move_together(files, targets, folder, hidden / "whole"):
                return
        for folder in folders:
            make(folder)
        with exclusive(Path(os.path.commonpath(folders))):
            _move_each(files, targets, hidden)


def _move_together(files: Mapping[str, Path], targets: Mapping[str, Path], folder: Path, whole: Path) -> bool:
    """Make `folder` of all files with one renaming; return False if it is there already."""
    whole.mkdir()
    for name, path in files.items():
        path.rename(whole / targets[name].name)
    try:
        whole.rename(folder)
        return True
    except OSError:
        for name, path in files.items():
            (whole / targets[name].name).rename(path)
        if not folder.is_dir():
            raise
    return False


def _move_each(files: Mapping[str, Path], targets: Mapping[str, Path], hidden: Path) -> None:
    """Rename the files one after the other. On an error, delete those that were moved, and put the replaced ones back."""
    former = hidden / "former"
    former.mkdir()
    note_moves(hidden, {files[name]: target for name, target in targets.items()})
    kept: dict[str, Path] = {}
    moved: list[str] = []
    try:
        for name, target in targets.items():
            if target.exists() or target.is_symlink():
                kept[name] = _keep(target, former / str(len(kept)))
            files[name].replace(target)
            moved.append(name)
    except BaseException:
        forget_moves(hidden)
        for name in moved:
            targets[name].unlink(missing_ok=True)
        for name, path in kept.items():
            path.replace(targets[name])
        raise


def _keep(path: Path, place: Path) -> Path:
    """Give a file a second name, or another one where a disk knows no hard links; return it."""
    try:
        place.hardlink_to(path)
    except OSError:
        path.rename(place)
    return place


@contextlib.contextmanager
def _made_folders() -> Iterator[Callable[[Path], None]]:
    """Yield a function that makes a folder and those above it. After an error, those of them that are empty are deleted."""
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.extend(path for path in (folder, *folder.parents) if not path.exists())
        folder.mkdir(parents=True, exist_ok=True)

    try:
        yield make
    except BaseException:
        for path in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        raise
