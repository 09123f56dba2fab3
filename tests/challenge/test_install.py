"""Installing the published archive: exactly the published files are accepted."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from my_submission.src.challenge import install
from my_submission.src.challenge.published import published_checkpoints
from my_submission.src.checkpoint import CheckpointError
from my_submission.src.common import cli
from my_submission.src.config import ConfigError
from tests.helpers.paths import GOLDEN, ROOT

CONFIGS = {f"{model}/config.yaml": ROOT / "my_submission" / "ckpts" / model / "config.yaml" for model in install.MODELS}


def contents() -> dict[str, bytes]:
    """Return stand-ins for the six checkpoints, all different, and the two configs."""
    files = {path: path.encode() * 50 for path in install.PUBLISHED}
    return {**files, **{path: config.read_bytes() for path, config in CONFIGS.items()}}


@pytest.fixture
def ckpts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder like ckpts/ to install into, and take the stand-ins for the published files."""
    folder = tmp_path / "ckpts"
    for path, config in CONFIGS.items():
        (folder / path).parent.mkdir(parents=True)
        shutil.copy(config, folder / path)
    published = {path: hashlib.sha256(data).hexdigest() for path, data in contents().items() if path.endswith(".ckpt")}
    monkeypatch.setattr(install, "PUBLISHED", published)
    monkeypatch.setattr(install, "PUBLISHED_BYTES", len(contents()["modelA/step100000_seed0.ckpt"]))
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Return a function that makes mdx_AB.zip of path -> bytes."""

    def make(files: dict[str, bytes]) -> Path:
        archive = tmp_path / "mdx_AB.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
            for path, data in files.items():
                opened.writestr(path, data)
        return archive

    return make


def test_checkpoints_have_the_published_names() -> None:
    assert published_checkpoints("modelA") == [f"step100000_seed{seed}.ckpt" for seed in range(3)]
    assert published_checkpoints("modelB") == [f"step150000_seed{seed}.ckpt" for seed in range(3)]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refuse(archive: Path, ckpts: Path, message: str, **how: bool) -> None:
    before = listing(ckpts)
    with pytest.raises(CheckpointError, match=message):
        install.install(archive, folder=ckpts, **how)
    assert listing(ckpts) == before
    assert sorted(path.name for path in ckpts.iterdir()) == list(install.MODELS)


def test_the_published_archive_is_installed(ckpts: Path, pack: Callable[..., Path]) -> None:
    ours = (ckpts / "modelA/config.yaml").read_bytes()
    files = contents() | {"modelA/": b"", "__MACOSX/modelA/._x": b"?", "modelA/.DS_Store": b"?"}
    files["modelA/config.yaml"] += b"\n# a comment that changes nothing\n"
    for _ in range(2):  # installing twice does no harm
        installed = install.install(pack(files), folder=ckpts)
    assert sorted(installed) == sorted(ckpts / path for path in install.PUBLISHED)
    assert all((ckpts / path).read_bytes() == contents()[path] for path in install.PUBLISHED)
    assert (ckpts / "modelA/config.yaml").read_bytes() == ours
    assert listing(ckpts) == sorted(contents())


def test_an_archive_that_differs_from_the_published_one_is_refused(ckpts: Path, pack: Callable[..., Path]) -> None:
    seed0 = "modelA/step100000_seed0.ckpt"
    good = contents()
    refuse(pack(good | {seed0: good[seed0] + b"?"}), ckpts, f"{seed0} has .* bytes, published were")
    refuse(pack(good | {seed0: good[seed0][::-1]}), ckpts, f"{seed0} has SHA-256 .*, published was .*--allow-unpublished")
    refuse(pack({path: data for path, data in good.items() if path != seed0}), ckpts, f"misses {seed0}")
    refuse(pack(good | {"modelA/readme.txt": b""}), ckpts, r"holds 'modelA/readme\.txt', expected")
    refuse(pack(good | {"modelC/config.yaml": b""}), ckpts, r"holds 'modelC/config\.yaml', expected")
    refuse(pack({}), ckpts, "is empty, expected")
    changed = good["modelA/config.yaml"].replace(b"q: 0.4", b"q: 0.5")
    refuse(pack(good | {"modelA/config.yaml": changed}), ckpts, r"modelA/config\.yaml differs from the published one")


@pytest.mark.parametrize("path", ["../evil.ckpt", "modelA/../../evil.ckpt", "/tmp/evil.ckpt", "..\\evil.ckpt", "C:evil"])
def test_a_path_outside_the_folder_is_refused(ckpts: Path, pack: Callable[..., Path], path: str) -> None:
    for how in ({}, {"allow_unpublished": True}):
        refuse(pack(contents() | {path: b"?"}), ckpts, "reaches outside its folder", **how)
    assert not list(ckpts.parent.rglob("*evil*"))


def test_links_and_duplicates_are_refused(ckpts: Path, pack: Callable[..., Path]) -> None:
    archive = pack({})
    with zipfile.ZipFile(archive, "w") as opened:
        link = zipfile.ZipInfo("modelA/step100000_seed0.ckpt")
        link.external_attr = 0o120777 << 16
        opened.writestr(link, "/etc/passwd")
    refuse(archive, ckpts, "is a link or encrypted, expected plain files")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("modelA/config.yaml", "1")
    refuse(archive, ckpts, "is packed in an unusual way; pack it again with zip")
    with zipfile.ZipFile(archive, "w") as opened, pytest.warns(UserWarning, match="Duplicate name"):
        opened.writestr("modelA/config.yaml", "1")
        opened.writestr("modelA/config.yaml", "2")
    refuse(archive, ckpts, "twice")


def test_failed_downloads_are_refused(ckpts: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere.zip", ckpts, r"no such file; download it from https://drive\.google\.com")
    page = tmp_path / "page.zip"
    page.write_text("<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>")
    refuse(page, ckpts, "is a web page, .*virus scan.*Download anyway")
    whole = pack(contents()).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    refuse(tmp_path / "cut.zip", ckpts, "is no zip archive, or cut off")
    place = whole.index(b"modelA/step100000_seed0.ckpt") + 40  # inside the first member's data
    (tmp_path / "damaged.zip").write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
    refuse(tmp_path / "damaged.zip", ckpts, r"step100000_seed0\.ckpt is damaged .*; download the archive again")


def test_damage_anywhere_in_the_archive_is_refused_in_one_line(ckpts: Path, pack: Callable[..., Path]) -> None:
    archive = pack({path: data for path, data in contents().items() if path.endswith(".ckpt")})
    whole, rng = archive.read_bytes(), np.random.default_rng(0)
    directory = whole.index(b"PK\1\2")
    installed = 0
    for place in [*range(directory, len(whole)), *map(int, rng.integers(directory, size=150))]:
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            install.install(archive, folder=ckpts)
        except CheckpointError as error:
            assert "\n" not in str(error)
            assert sorted(path.name for path in ckpts.iterdir()) == list(install.MODELS)
        else:  # the byte meant nothing, such as one of a date
            installed += 1
            assert all((ckpts / path).read_bytes() == contents()[path] for path in install.PUBLISHED)
    assert installed < len(whole) - directory


@pytest.mark.parametrize("cut", [1, 10, 30, 200, 600])
def test_a_truncated_archive_is_refused(ckpts: Path, pack: Callable[..., Path], cut: int) -> None:
    archive = pack(contents())
    archive.write_bytes(archive.read_bytes()[:-cut])
    refuse(
        archive, ckpts, r"mdx_AB\.zip: is no zip archive, or cut off or damaged \([0-9]+ bytes are there\); download it again$"
    )


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_encrypted_files_are_refused(ckpts: Path, pack: Callable[..., Path], flag: int) -> None:
    archive = pack(contents())
    content = bytearray(archive.read_bytes())
    place = content.index(b"PK\1\2") + 8  # the flags in the central directory
    content[place : place + 2] = flag.to_bytes(2, "little")
    archive.write_bytes(content)
    refuse(archive, ckpts, "is a link or encrypted, expected plain files")
    refuse(archive, ckpts, "is a link or encrypted, expected plain files", allow_unpublished=True)


def test_files_that_grow_when_they_are_unpacked_are_refused(ckpts: Path, pack: Callable[..., Path]) -> None:
    own = {"modelA/step100000_seed0.ckpt": b"x"}
    archive = pack({**own, "modelA/config.yaml": b"#" * (1 << 24)})
    assert archive.stat().st_size < 1 << 16
    refuse(archive, ckpts, r"modelA/config\.yaml has 16777216 bytes, too many for a config", allow_unpublished=True)
    archive = pack(own)
    for size in (install.MAX_CHECKPOINT_BYTES + 1, 0xFFFFFFFE):  # the declared size
        content = bytearray(archive.read_bytes())
        place = content.index(b"PK\1\2") + 24
        content[place : place + 4] = size.to_bytes(4, "little")
        archive.write_bytes(content)
        refuse(archive, ckpts, f"seed0.ckpt has {size} bytes, too many for a network of this", allow_unpublished=True)


JUNK = {"__MACOSX/._mdx_AB": b"?", "mdx_AB/.DS_Store": b"?", "mdx_AB/modelA/Thumbs.db": b"?", "mdx_AB/@eaDir/modelA": b"?"}


@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("around", ["", "mdx_AB/"])
def test_a_folder_and_one_folder_around_are_taken(
    ckpts: Path, pack: Callable[..., Path], tmp_path: Path, around: str, unpacked: bool
) -> None:
    files = {f"{around}{path}": data for path, data in contents().items()} | JUNK
    archive = pack(files)
    if unpacked:
        archive = tmp_path / "mdx_AB"
        for path, data in files.items():
            (archive / path).parent.mkdir(parents=True, exist_ok=True)
            (archive / path).write_bytes(data)
    assert sorted(install.install(archive, folder=ckpts)) == sorted(ckpts / path for path in install.PUBLISHED)
    assert all((ckpts / path).read_bytes() == contents()[path] for path in install.PUBLISHED)
    assert listing(ckpts) == sorted(contents())


def test_two_folders_around_and_other_folders_are_refused(ckpts: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    deep = {f"a/b/{path}": data for path, data in contents().items()}
    refuse(pack(deep), ckpts, r"holds 'a/b/modelA/step100000_seed0\.ckpt', expected modelA/config\.yaml, ")
    folder = tmp_path / "unpacked"
    folder.mkdir()
    refuse(folder, ckpts, "unpacked: is empty, expected modelA/")
    (folder / "modelA").mkdir()
    (folder / "modelA" / "step100000_seed0.ckpt").symlink_to(tmp_path / "secret")
    refuse(folder, ckpts, r"unpacked: 'modelA/step100000_seed0\.ckpt' is a link or a device, expected plain files")
    (folder / "modelA" / "step100000_seed0.ckpt").unlink()
    (folder / "modelA" / "step100000_seed0.ckpt").write_bytes(b"?")
    refuse(folder, ckpts, "unpacked: misses modelA/step100000_seed1.ckpt")


def test_nothing_is_installed_if_a_file_is_in_the_way(ckpts: Path, pack: Callable[..., Path]) -> None:
    (ckpts / "modelB" / "step150000_seed2.ckpt").mkdir()
    refuse(pack(contents()), ckpts, r"modelB/step150000_seed2\.ckpt: is a folder, expected a file or a free name; move it")


def test_own_checkpoints_need_a_config_and_configs_a_checkpoint(ckpts: Path, pack: Callable[..., Path]) -> None:
    own = (GOLDEN / "separation_A" / "step100000_seed0.ckpt").read_bytes()
    config = CONFIGS["modelA/config.yaml"].read_bytes()
    refuse(pack({"modelA/config.yaml": config}), ckpts, "holds no checkpoints, expected some of", allow_unpublished=True)
    (ckpts / "modelA" / "config.yaml").unlink()
    archive = pack({"modelA/step100000_seed0.ckpt": own})
    refuse(archive, ckpts, r"seed0\.ckpt has no config\.yaml, neither in the archive nor in", allow_unpublished=True)


def test_own_checkpoints_are_loaded_strictly(ckpts: Path, pack: Callable[..., Path], tmp_path: Path) -> None:
    seed0 = "modelA/step100000_seed0.ckpt"
    config = (GOLDEN / "separation_A" / "config.yaml").read_bytes()
    own = (GOLDEN / "separation_A" / "step100000_seed0.ckpt").read_bytes()
    refuse(pack({seed0: own, "modelA/config.yaml": config}), ckpts, "misses")
    refuse(pack({seed0: own}), ckpts, r"does not fit its config\.yaml", allow_unpublished=True)  # the full-size config
    refuse(pack({seed0: b"no tensors", "modelA/config.yaml": config}), ckpts, "is damaged, or no plain", allow_unpublished=True)
    torch.save({"weights": [1]}, tmp_path / "x")
    bad = {seed0: (tmp_path / "x").read_bytes(), "modelA/config.yaml": config}
    refuse(pack(bad), ckpts, "holds something else than a plain state dict", allow_unpublished=True)
    refuse(pack({"modelA/mine.ckpt": own}), ckpts, r"holds 'modelA/mine\.ckpt', expected", allow_unpublished=True)
    with pytest.raises(ConfigError, match=r"mdx_AB\.zip: modelA/config\.yaml: the file is empty"):
        install.install(pack({seed0: own, "modelA/config.yaml": b""}), folder=ckpts, allow_unpublished=True)

    installed = install.install(pack({seed0: own, "modelA/config.yaml": config}), folder=ckpts, allow_unpublished=True)
    assert sorted(installed) == [ckpts / "modelA/config.yaml", ckpts / seed0]
    assert (ckpts / seed0).read_bytes() == own


def test_the_command_prints_the_installed_files(
    ckpts: Path, pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pack(contents())
    monkeypatch.setitem(install.install.__kwdefaults__, "folder", ckpts)
    assert cli.run(install.main, [str(archive)]) == 0
    assert capsys.readouterr().out.count("installed ") == 6
    assert cli.run(install.main, [str(archive.with_name("x.zip"))]) == 2
    assert capsys.readouterr().err.count("\n") == 1
