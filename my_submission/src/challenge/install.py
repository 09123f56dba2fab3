"""Put the published checkpoints in place.

    python -m my_submission install mdx_AB.zip
    python -m my_submission install mdx_AB          # the folder, if the browser has unpacked the archive

The path, size and SHA-256 of every file are checked before anything is written. An archive that differs from the published one
is refused. --allow-unpublished accepts your own checkpoints under the published names; they are loaded strictly, tensors only.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from my_submission.src import checkpoint
from my_submission.src.challenge.archive import Archive, open_archive
from my_submission.src.challenge.published import DOWNLOAD, PUBLISHED, PUBLISHED_BYTES
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.common import cli
from my_submission.src.common.atomic import hidden_folder
from my_submission.src.common.text import shown
from my_submission.src.config import Config, load_config, parse_config

CONFIG = "config.yaml"
MODELS = ("modelA", "modelB")
MAX_CONFIG_BYTES, MAX_CHECKPOINT_BYTES = 1 << 16, 4 * PUBLISHED_BYTES  # of a file unpacked into memory


def main(argv: Sequence[str]) -> int:
    """Install the archive of the command line; return the exit status: 0, or 2 if the archive is refused."""
    parser = cli.Parser(prog="python -m my_submission install", description=__doc__)
    parser.add_argument("archive", type=Path, metavar="mdx_AB.zip", help=f"the archive from {DOWNLOAD}, or its folder")
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
    with open_archive(Path(archive), MODELS) as opened:
        _refuse_unknown(opened)
        try:
            check = _check_own if allow_unpublished else _check_published
            paths = check(opened, folder)
        except OSError as error:
            raise CheckpointError(f"{archive}: cannot be read ({error.strerror}); nothing was installed") from error
        return _put_in_place(opened, paths, folder)


def _refuse_unknown(archive: Archive) -> None:
    """Refuse an archive that is empty, or holds other files than a config.yaml and the published names for each model."""
    for path, member in archive.files.items():
        top, _, name = path.partition("/")
        if top not in MODELS or (path not in PUBLISHED and name != CONFIG):
            expected = ", ".join([*(f"{model}/{CONFIG}" for model in MODELS), *PUBLISHED])
            raise CheckpointError(f"{archive.path}: holds {member.name!r}, expected {expected}")
        most = MAX_CONFIG_BYTES if name == CONFIG else MAX_CHECKPOINT_BYTES
        if member.size > most:
            raise CheckpointError(f"{archive.path}: {path} has {member.size} bytes, too many for {_use(name)}")
    if not archive.files:
        raise CheckpointError(f"{archive.path}: is empty, expected {', '.join(PUBLISHED)}")


def _use(name: str) -> str:
    return "a config" if name == CONFIG else "a network of this family"


def _check_published(archive: Archive, folder: Path) -> list[str]:
    """Refuse an archive that differs from the published one; the cheap checks come first. Return the paths to install."""
    missing = [path for path in PUBLISHED if path not in archive.files]
    if missing:
        raise CheckpointError(f"{archive.path}: misses {', '.join(missing)}; download it again from {DOWNLOAD}")
    for path in PUBLISHED:
        size = archive.files[path].size
        if size != PUBLISHED_BYTES:
            raise CheckpointError(f"{archive.path}: {path} has {size} bytes, published were {PUBLISHED_BYTES}")
    for path in _new_configs(archive, folder):
        raise CheckpointError(f"{archive.path}: {path} differs from the published one (--allow-unpublished takes it)")
    for path, digest in tqdm(PUBLISHED.items(), desc="checking", leave=False, disable=None):
        with archive.unpacking(path) as file:
            found = checkpoint.sha256_of(file)
        if found != digest:
            raise CheckpointError(
                f"{archive.path}: {path} has SHA-256 {found}, published was {digest}; download it again "
                "(or --allow-unpublished, if it is a checkpoint of your own)"
            )
    return list(PUBLISHED)


def _check_own(archive: Archive, folder: Path) -> list[str]:
    """Load every checkpoint strictly, in memory, into the network of the archive's config.yaml, or of the one in place.

    Return the paths to install.
    """
    configs = {model: load_config(folder / model / CONFIG) for model in MODELS if (folder / model / CONFIG).exists()}
    new = _new_configs(archive, folder)
    configs |= {path.partition("/")[0]: config for path, config in new.items()}
    own = [path for path in archive.files if path in PUBLISHED]
    if not own:
        raise CheckpointError(f"{archive.path}: holds no checkpoints, expected some of {', '.join(PUBLISHED)}")
    for path in tqdm(own, desc="checking", leave=False, disable=None):
        name, model = f"{archive.path}: {path}", path.partition("/")[0]
        if model not in configs:
            raise CheckpointError(f"{name} has no {CONFIG}, neither in the archive nor in {folder / model}; add one")
        with archive.unpacking(path) as file:
            state = checkpoint.read_state_dict(io.BytesIO(file.read()), name)
        checkpoint.load_network(configs[model], state, name)
    return [*new, *own]


def _new_configs(archive: Archive, folder: Path) -> dict[str, Config]:
    """Return the archive's configs by path, without those that have the same values as the one in place."""
    new = {}
    for path in (f"{model}/{CONFIG}" for model in MODELS):
        if path in archive.files:
            with archive.unpacking(path) as file:
                text = file.read()
            config = parse_config(text, f"{archive.path}: {path}")
            if not ((folder / path).exists() and load_config(folder / path) == config):
                new[path] = config
    return new


def _put_in_place(archive: Archive, paths: Sequence[str], folder: Path) -> list[Path]:
    """Unpack into a hidden folder first, and rename the files when all of them are complete."""
    try:
        with hidden_folder(folder) as scratch:
            for index, path in enumerate(tqdm(paths, desc="unpacking", leave=False, disable=None)):
                with archive.unpacking(path) as file, (scratch / str(index)).open("wb") as copy:
                    shutil.copyfileobj(file, copy, 1 << 20)
            for path in paths:  # whatever is in the way is found before the first file is renamed
                if (folder / path).is_dir():
                    raise CheckpointError(f"{folder / path}: is a folder, expected a file or a free name; move it")
                (folder / path).parent.mkdir(exist_ok=True)
            for index, path in enumerate(paths):
                (scratch / str(index)).replace(folder / path)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}); nothing was installed") from error
    return [folder / path for path in paths]
