"""Files of every kind, damaged at random: each must be read or refused with a UserError, and no length may be wrong.

kind = KINDS["flac"]
whole = kind.make(folder)                               # the bytes of a valid file
outcome = try_damaged(kind, whole, seed=7, folder)      # "read", or the name of the error's class
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from my_submission.src.audio.files import AudioFile
from my_submission.src.challenge.install import install
from my_submission.src.challenge.published import published_checkpoints
from my_submission.src.checkpoint import load_network, read_state_dict
from my_submission.src.common import stem_table
from my_submission.src.common.errors import UserError
from my_submission.src.common.journal import Journal
from my_submission.src.config import load_config
from my_submission.src.training import resume
from my_submission.src.training.run_folder import RunFolder
from tests.helpers.paths import GOLDEN

MODEL = GOLDEN / "separation_A"
CONFIG = MODEL / "config.yaml"


@dataclass(frozen=True)
class Kind:
    """A kind of file: how a valid one is made, and how one is read."""

    name: str  # of the file
    make: Callable[[Path], bytes]
    read: Callable[[Path], None]


def damage(whole: bytes, seed: int) -> bytes:
    """Return the bytes after one to four changes: bits, runs of bytes, numbers at their limits, cuts, copies."""
    rng = np.random.default_rng(seed)
    data = bytearray(whole)
    for _ in range(rng.integers(1, 5)):
        # half of the changes hit the beginning, where headers are
        size = len(data) if rng.random() < 0.5 else min(len(data), 200)
        place = int(rng.integers(0, max(1, size)))
        length = int(rng.integers(1, 40))
        match rng.integers(0, 7):
            case 0:
                data[place : place + 1] = bytes([rng.integers(0, 256)])
            case 1:
                data[place : place + length] = rng.bytes(length)
            case 2:
                data[place : place + 4] = [b"\xff" * 4, bytes(4), b"\x7f" + b"\xff" * 3, b"\xff" * 3 + b"\x7f"][rng.integers(4)]
            case 3:
                del data[place:]
            case 4:
                del data[place : place + length]
            case 5:
                data[place:place] = rng.bytes(length)
            case 6:
                data[place:place] = data[place : place + 30 * length]
    return bytes(data)


def try_damaged(kind: Kind, whole: bytes, seed: int, folder: Path) -> str:
    """Read a damaged file; return "read", or the class of the UserError. Any other error is raised."""
    path = folder / kind.name
    path.write_bytes(damage(whole, seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind.read(path)
        except UserError as error:
            assert "\n" not in str(error).strip() or kind.name.endswith(".yaml"), "a message is one line"
            return type(error).__name__
    return "read"


def _sound(suffix: str, channels: int = 2, rate: int = 44100, **how: object) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        times = np.arange(12000) / rate
        noise = 0.05 * np.random.default_rng(0).standard_normal((len(times), channels))
        soundfile.write(folder / f"whole{suffix}", 0.3 * np.sin(2 * np.pi * 220 * times)[:, None] + noise, rate, **how)
        return (folder / f"whole{suffix}").read_bytes()

    return make


def _read_audio(path: Path) -> None:
    file = AudioFile(path)
    assert file.channels >= 1
    assert 1 <= file.num_samples < 1 << 40
    length = 0
    for block in file.blocks():
        assert block.shape[0] == file.channels
        length += block.shape[1]
    assert length == file.num_samples, f"{file.num_samples} samples promised, {length} read"


def _make_checkpoint(folder: Path) -> bytes:
    return next(MODEL.glob("*.ckpt")).read_bytes()


def _read_checkpoint(path: Path) -> None:
    network = load_network(load_config(CONFIG), read_state_dict(path), str(path))
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def _make_archive(folder: Path) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for model in ("modelA", "modelB"):
            archive.writestr(f"{model}/config.yaml", CONFIG.read_bytes())
            for name in published_checkpoints(model):
                archive.writestr(f"{model}/{name}", _make_checkpoint(folder))
    return memory.getvalue()


def _read_archive(path: Path) -> None:
    folder = path.parent / "ckpts"
    folder.mkdir(exist_ok=True)
    install(path, folder=folder, allow_unpublished=True)


def _make_table(folder: Path) -> bytes:
    rows = [{"track": f"song {i} ä", "instrument": "bass", "score": i / 3, "keep": ""} for i in range(20)]
    stem_table.write(folder / "whole.csv", ("track", "instrument", "score", "keep"), rows)
    return (folder / "whole.csv").read_bytes()


def _make_state(folder: Path) -> bytes:
    run = RunFolder(folder / "whole", 0)
    run.path.mkdir(exist_ok=True)
    resume.save_state(run, {"step": 7, "trainer": {"steps": 7, "a": torch.zeros(3)}})
    return run.states()[0].read_bytes()


def _read_state(path: Path) -> None:
    payload = resume.newest_payload(RunFolder(path.parent, 0))
    if payload is not None:
        resume.read_payload(payload)


def _make_journal(folder: Path) -> bytes:
    lines = [{"settings of this run": {"overlap": 8}}, *({"track": f"song {i}", "sdr": {"bass": i / 7}} for i in range(10))]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _read_journal(path: Path) -> None:
    with Journal(path, {"overlap": 8}) as journal:
        journal.append({"track": "one more"})


KINDS = {
    "wav 16": Kind("a.wav", _sound(".wav"), _read_audio),
    "wav 24": Kind("a.wav", _sound(".wav", subtype="PCM_24"), _read_audio),
    "wav float": Kind("a.wav", _sound(".wav", subtype="FLOAT"), _read_audio),
    "wav mu-law": Kind("a.wav", _sound(".wav", channels=1, subtype="ULAW"), _read_audio),
    "wav adpcm": Kind("a.wav", _sound(".wav", subtype="MS_ADPCM"), _read_audio),
    "wav rf64": Kind("a.wav", _sound(".wav", format="RF64"), _read_audio),
    "w64": Kind("a.w64", _sound(".w64"), _read_audio),
    "flac 16": Kind("a.flac", _sound(".flac"), _read_audio),
    "flac 24": Kind("a.flac", _sound(".flac", channels=1, rate=8000, subtype="PCM_24"), _read_audio),
    "ogg vorbis": Kind("a.ogg", _sound(".ogg"), _read_audio),
    "ogg opus": Kind("a.opus", _sound(".ogg", rate=48000, format="OGG", subtype="OPUS"), _read_audio),
    "mp3 constant": Kind("a.mp3", _sound(".mp3", bitrate_mode="CONSTANT"), _read_audio),
    "mp3 variable": Kind("a.mp3", _sound(".mp3", channels=1, rate=22050, bitrate_mode="VARIABLE"), _read_audio),
    "aiff": Kind("a.aiff", _sound(".aiff"), _read_audio),
    "caf": Kind("a.caf", _sound(".caf"), _read_audio),
    "au": Kind("a.au", _sound(".au"), _read_audio),
    "config": Kind("config.yaml", lambda folder: CONFIG.read_bytes(), lambda path: str(load_config(path))),
    "checkpoint": Kind("a.ckpt", _make_checkpoint, _read_checkpoint),
    "archive": Kind("a.zip", _make_archive, _read_archive),
    "table": Kind("a.csv", _make_table, lambda path: str(stem_table.read(path, ("score", "keep")))),
    "state": Kind("state_seed0_step7.pt", _make_state, _read_state),
    "journal": Kind("a.jsonl", _make_journal, _read_journal),
}
