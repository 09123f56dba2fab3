"""Put the published checkpoints in place.

    python -m my_submission install mdx_AB.zip

The path, size and SHA-256 of every file are checked before anything is written. An archive that differs from the published one
is refused. --allow-unpublished accepts your own checkpoints under the published names; they are loaded strictly, tensors only.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from my_submission.src import checkpoint
from my_submission.src.challenge.published import DOWNLOAD, PUBLISHED, PUBLISHED_BYTES
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.common import cli
from my_submission.src.common.text import shown
from my_submission.src.config import Config, load_config, parse_config

CONFIG = "config.yaml"
MODELS = ("modelA", "modelB")
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")  # added by archivers and desktops; never written
MAX_CONFIG_BYTES, MAX_CHECKPOINT_BYTES = 1 << 16, 4 * PUBLISHED_BYTES  # of a file unpacked into memory


def main(argv: Sequence[str]) -> int:
    """Install the archive of the command line; return the exit status: 0, or 2 if the archive is refused."""
    parser = cli.Parser(prog="python -m my_submission install", description=__doc__)
    parser.add_argument("archive", type=Path, metavar="mdx_AB.zip", help=f"the archive from {DOWNLOAD}")
    parser.add_argument(
        "--allow-unpublished",
        action="store_true",
        help="accept your own checkpoints under the published names (default: only the published ones)",
    )
    options = parser.parse_args(argv)
    for path in install(options.archive, allow_unpublished=options.allow_unpublished):
        print(f"installed {shown(path)}")
    return 0


def install(archive: str | Path, *, allow_unpublished: bool = False, folder: Path = checkpoint.FOLDER) -> list[Path]:
    """Check an archive of modelA/ and modelB/ and put its files below `folder`; return their paths.

    A config.yaml with the same values as the one in place does not replace it.

    Raises CheckpointError or ConfigError, with nothing written, for an archive that differs from the published one.
    """
    archive = Path(archive)
    with _open(archive) as opened:
        members = _checked_paths(opened, archive)
        if allow_unpublished:
            _check_own(opened, members, archive, folder)
        else:
            _check_published(opened, members, archive, folder)
        return _put_in_place(opened, members, archive, folder)


def _open(archive: Path) -> zipfile.ZipFile:
    if not archive.is_file():
        raise CheckpointError(f"{archive}: no such file; download it from {DOWNLOAD}")
    try:
        return zipfile.ZipFile(archive)
    except zipfile.BadZipFile as error:
        with archive.open("rb") as file:
            head = file.read(512).lstrip().lower()
        if head.startswith((b"<!doctype html", b"<html")):
            raise CheckpointError(
                f"{archive}: is a web page, not the archive: Google Drive asks before it hands out a file too large for its "
                f"virus scan. Open {DOWNLOAD} in a browser, choose 'Download anyway', and install the file that comes"
            ) from error
        size = archive.stat().st_size
        raise CheckpointError(
            f"{archive}: is no zip archive, or cut off ({size} bytes are there); download it again"
        ) from error


def _checked_paths(opened: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the files of the archive, path -> member; refuse any that is not directly in modelA/ or modelB/."""
    members: dict[str, zipfile.ZipInfo] = {}
    for member in opened.infolist():
        path = PurePosixPath(member.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in member.filename:
            raise CheckpointError(
                f"{archive}: {member.filename!r} reaches outside its folder; this is not the published archive"
            )
        if member.is_dir() or set(path.parts) & set(JUNK):
            continue
        if stat.S_ISLNK(member.external_attr >> 16) or member.flag_bits & 1:
            raise CheckpointError(f"{archive}: {member.filename!r} is a link or encrypted, expected plain files")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(f"{archive}: {member.filename!r} is packed in an unusual way; pack it again with zip")
        if str(path) in members:
            raise CheckpointError(f"{archive}: holds {member.filename!r} twice")
        known = len(path.parts) == 2 and path.parts[0] in MODELS and (str(path) in PUBLISHED or path.name == CONFIG)
        if not known:
            expected = ", ".join([*(f"{model}/{CONFIG}" for model in MODELS), *PUBLISHED])
            raise CheckpointError(f"{archive}: holds {member.filename!r}, expected {expected}")
        members[str(path)] = member
    if not members:
        raise CheckpointError(f"{archive}: is empty, expected {', '.join(PUBLISHED)}")
    return members


def _check_published(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    """Refuse an archive that differs from the published one; the cheap checks come first."""
    missing = [path for path in PUBLISHED if path not in members]
    if missing:
        raise CheckpointError(f"{archive}: misses {', '.join(missing)}; download it again from {DOWNLOAD}")
    for path in PUBLISHED:
        if members[path].file_size != PUBLISHED_BYTES:
            raise CheckpointError(f"{archive}: {path} has {members[path].file_size} bytes, published were {PUBLISHED_BYTES}")
    _leave_equal_configs(opened, members, archive, folder)
    for path in list(members):
        if path not in PUBLISHED:
            raise CheckpointError(f"{archive}: {path} differs from the published one (--allow-unpublished takes it)")
    for path, digest in tqdm(PUBLISHED.items(), desc="checking", leave=False, disable=None):
        with _unpacking(opened, members[path], archive) as file:
            found = checkpoint.sha256_of(file)
        if found != digest:
            raise CheckpointError(
                f"{archive}: {path} has SHA-256 {found}, published was {digest}; download it again "
                "(or --allow-unpublished, if it is a checkpoint of your own)"
            )


def _check_own(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    """Load every checkpoint strictly, in memory, into the network of the archive's config.yaml, or of the one in place."""
    configs = {model: load_config(folder / model / CONFIG) for model in MODELS if (folder / model / CONFIG).exists()}
    for model in MODELS:
        if f"{model}/{CONFIG}" in members:
            configs[model] = _read_config(opened, members[f"{model}/{CONFIG}"], archive)
    _leave_equal_configs(opened, members, archive, folder)
    for path, member in tqdm(members.items(), desc="checking", leave=False, disable=None):
        if path in PUBLISHED:
            name = f"{archive}: {path}"
            if member.file_size > MAX_CHECKPOINT_BYTES:
                raise CheckpointError(f"{name} has {member.file_size} bytes, too many for a network of this family")
            with _unpacking(opened, member, archive) as file:
                state = checkpoint.read_state_dict(io.BytesIO(file.read()), name)
            checkpoint.load_network(configs[path.partition("/")[0]], state, name)


def _leave_equal_configs(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    """Remove a config.yaml from `members` if the one in place has the same values."""
    for model in MODELS:
        path = f"{model}/{CONFIG}"
        ours = load_config(folder / path) if (folder / path).exists() else None
        if path in members and _read_config(opened, members[path], archive) == ours:
            del members[path]


def _read_config(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> Config:
    with _unpacking(opened, member, archive) as file:
        return parse_config(file.read(MAX_CONFIG_BYTES), f"{archive}: {member.filename}")


@contextlib.contextmanager
def _unpacking(opened: zipfile.ZipFile, member: zipfile.ZipInfo, archive: Path) -> Iterator[IO[bytes]]:
    """Open a member for reading; raise CheckpointError if it turns out to be damaged."""
    try:
        with opened.open(member) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{archive}: {member.filename} is damaged ({error}); download the archive again") from error


def _put_in_place(opened: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], archive: Path, folder: Path) -> list[Path]:
    """Unpack into a hidden folder first, and rename the files when all of them are complete."""
    try:
        with tempfile.TemporaryDirectory(prefix=".install-", dir=folder) as scratch:
            for index, member in enumerate(tqdm(members.values(), desc="unpacking", leave=False, disable=None)):
                with _unpacking(opened, member, archive) as file, (Path(scratch) / str(index)).open("wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
            for index, path in enumerate(members):
                (folder / path).parent.mkdir(exist_ok=True)
                (Path(scratch) / str(index)).replace(folder / path)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); nothing was installed") from error
    return [folder / path for path in members]
