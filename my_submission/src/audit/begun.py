"""The file that says what a cleaning was begun with. It goes on only with the same data and settings.

    with begin(Path("RUN"), {"folds": 4}, tracks):      # AuditError if RUN was begun with something else
        ...

Of every stem it holds size, time of change and SHA-256. A stem is hashed again only if its size or time has changed, so data
may be moved or copied.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from my_submission.src.audio.tracks import Track
from my_submission.src.audit import AuditError
from my_submission.src.checkpoint import sha256
from my_submission.src.common.atomic import atomic_file, clear_dead
from my_submission.src.common.locks import lock_file
from my_submission.src.common.text import shown, some
from my_submission.src.training.resume import differences

NAME = "begun.json"  # in the folder of the cleaning
LOCK = ".lock"
FILE_STATE = ("size", "changed")  # of a stem's record: bytes, and ns

Stems = dict[str, dict[str, Any]]  # track/instrument -> size, changed, sha256


@contextlib.contextmanager
def begin(folder: Path, settings: Mapping[str, Any], tracks: Sequence[Track]) -> Iterator[None]:
    """Note the settings and the data in a folder, which is made if it is missing, and keep other processes out meanwhile.

    Args:
        folder: of the cleaning.
        settings: flat, of JSON values; the results depend on them.
        tracks: the data, with its stems opened.

    Raises AuditError if the folder was begun with something else, holds other things, cannot be written to, or is in use.
    """
    refuse_changes(folder, settings, tracks)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    lock = None
    try:
        lock = lock_file(folder / LOCK)
        clear_dead(folder)
        if not (folder / NAME).exists():
            content = json.dumps({"settings": settings, "stems": _hashed(tracks, {})}, indent=1)
            with atomic_file(folder / NAME) as partial:
                partial.write_text(content, encoding="ascii")
        yield
    except BlockingIOError as error:
        raise AuditError(
            f"{folder}: another process is at work there; wait until it has ended, or take another folder"
        ) from error
    except OSError as error:
        raise AuditError(f"{folder}: cannot be written to ({error.strerror})") from error
    finally:
        if lock:
            (folder / LOCK).unlink(missing_ok=True)
            lock.release()
            for path in made:
                with contextlib.suppress(OSError):  # not empty: it was begun
                    path.rmdir()


def refuse_changes(folder: Path, settings: Mapping[str, Any], tracks: Sequence[Track]) -> None:
    """Raise AuditError if a folder was begun with other settings or data, or holds other things. Write nothing."""
    if folder.exists() and not folder.is_dir():
        raise AuditError(f"{folder}: is a file, expected a folder or a name that is free")
    path = folder / NAME
    if not path.exists():
        others = sorted(file.name for file in folder.iterdir() if not file.name.startswith(".")) if folder.exists() else []
        if others:
            raise AuditError(f"{folder}: holds {others[0]} already, expected an empty folder or a name that is free")
        return
    former = _read(path)
    changes = differences(former["settings"], json.loads(json.dumps(settings)))
    changes += _changed_data(former["stems"], tracks)
    if changes:
        raise AuditError(
            f"{folder}: was begun with something else: {'; '.join(changes)}.\nPut it back to go on, or name another folder"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="ascii"))
    except OSError as error:
        raise AuditError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError:
        content = None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("settings", "stems")):
        raise AuditError(f"{path}: does not say what was begun there; delete the folder, or name another one")
    return content


def _changed_data(former: Stems, tracks: Sequence[Track]) -> list[str]:
    """Return the differences of the data in words."""
    now = _hashed(tracks, former)
    kinds = {
        "is missing": sorted(former.keys() - now.keys()),
        "is new": sorted(now.keys() - former.keys()),
        "has changed": sorted(key for key in now.keys() & former.keys() if now[key]["sha256"] != former[key]["sha256"]),
    }
    return [f"of the data {some([shown(key) for key in keys])} {words}" for words, keys in kinds.items() if keys]


def _hashed(tracks: Sequence[Track], former: Stems) -> Stems:
    """Return the record of every stem; one whose size and time agree with its former record is not read."""
    paths = {_key(track, name): stem.path for track in tracks for name, stem in track.stems.items()}

    def record(key: str) -> dict[str, Any]:
        status = paths[key].stat()
        state = dict(zip(FILE_STATE, (status.st_size, status.st_mtime_ns), strict=True))
        known = former.get(key, {})
        if all(known.get(part) == value for part, value in state.items()):
            return known
        return {**state, "sha256": sha256(paths[key])}

    try:
        with ThreadPoolExecutor(4) as pool:
            records = tqdm(
                pool.map(record, paths), total=len(paths), desc="reading the data", unit="stem", leave=False, disable=None
            )
            return dict(zip(paths, records, strict=True))
    except OSError as error:
        raise AuditError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _key(track: Track, name: str) -> str:
    return f"{track.name}/{name}"
