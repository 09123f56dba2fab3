"""Commands to kill (`kills.py`): their data, their command lines and the checks of their output."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from tests.helpers.clean import heard, judged, write_small_config, write_songs
from tests.helpers.paths import GOLDEN, ROOT

MODEL = GOLDEN / "separation_A"
INSTRUMENTS = ("bass", "drums", "other", "vocals")
RATE = 44100


@dataclass
class Subject:
    """A command with its data, and the checks of its output."""

    name: str
    argv: list[str]
    out: Path
    check: Callable[[], None]  # raises AssertionError if something looks finished and is not
    is_fixed: Callable[[Path], bool] = lambda _: True  # whether a file of the output has the same bytes after every run
    there_before: dict[str, bytes] | None = None  # path below `out` -> content; without it, `out` does not exist

    def reset(self) -> None:
        """Make the output's folder what it was before the first run."""
        shutil.rmtree(self.out, ignore_errors=True)
        for name, content in (self.there_before or {}).items():
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_bytes(content)


def write_noise(path: Path, seconds: float, level: float = 0.1, seed: int = 0) -> int:
    """Write stereo noise; return its number of samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = level * np.random.default_rng(seed).standard_normal((round(seconds * RATE), 2))
    soundfile.write(path, noise, RATE, subtype="FLOAT")
    return len(noise)


def frames_of(path: Path) -> int:
    return soundfile.info(path).frames


def separation(folder: Path) -> Subject:
    """Separate three songs, the second of which is so loud that its stems get a gain at the end."""
    frames = {name: write_noise(folder / "in" / f"{name}.wav", 0.4, 3 if name == "b" else 0.1, ord(name)) for name in "abc"}
    out = folder / "out"

    def check() -> None:
        for name, length in frames.items():
            if (out / name).exists():
                found = {path.name: frames_of(path) for path in (out / name).iterdir()}
                assert found == {f"{instrument}.wav": length for instrument in INSTRUMENTS}, (name, found)

    argv = [str(folder / "in"), "--model", str(MODEL), "--seeds", "0", "--overlap", "1", "--out", str(out)]
    return Subject("separate", argv, out, check)


def evaluation(folder: Path) -> Subject:
    """Evaluate two tracks, the ensemble and each of its members, with a table."""
    frames = {}
    for name in "ab":
        for index, part in enumerate(("mixture", *INSTRUMENTS)):
            frames[name] = write_noise(folder / "data" / name / f"{part}.wav", 0.15, seed=100 * ord(name) + index)
    out = folder / "out"

    def check() -> None:
        for path in out.glob("[!.]*/[!.]*.wav"):
            assert frames_of(path) == frames[path.parent.name], path
        journal = out / "evaluation.jsonl"
        lines = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
        for entry in map(json.loads, lines[1:]):
            if "track" in entry:
                assert all((out / entry["track"] / f"{name}.wav").exists() for name in INSTRUMENTS), entry["track"]
        if (out / "scores.csv").exists():
            with (out / "scores.csv").open(newline="") as file:
                assert len(list(csv.DictReader(file))) >= 4 * len(frames)

    argv = ["--data", str(folder / "data"), "--out", str(out), "--csv", str(out / "scores.csv"), "--model", str(MODEL)]
    argv += ["--overlap", "1", "--each-seed"]
    return Subject(
        "evaluate_locally", argv, out, check, is_fixed=lambda path: path.suffix == ".wav", there_before={"mine.txt": b""}
    )


def corruption(folder: Path) -> Subject:
    """Put bleeding into three tracks of four stems."""
    names = [f"track {number}" for number in range(3)]
    frames = {}
    for number, name in enumerate(names):
        for index, part in enumerate(INSTRUMENTS):
            frames[name] = write_noise(folder / "in" / name / f"{part}.wav", 0.5, seed=10 * number + index)
        (folder / "in" / name / "mixture.wav").write_bytes(b"copied as it is")
    out = folder / "out"

    def check() -> None:
        for name in names:
            if (out / name).exists():
                assert sorted(path.stem for path in (out / name).iterdir()) == sorted(["mixture", *INSTRUMENTS]), name
                assert {frames_of(out / name / f"{part}.wav") for part in INSTRUMENTS} == {frames[name]}, name
        if (out / "truth.csv").exists():
            with (out / "truth.csv").open(newline="") as file:
                assert len(list(csv.DictReader(file))) == len(names) * len(INSTRUMENTS)

    argv = ["bleeding", str(folder / "in"), str(out), "--rate", "0.5", "--seed", "3"]
    return Subject("corrupt", argv, out, check, is_fixed=lambda path: path.name != "corrupt.jsonl")


def cleaning(folder: Path) -> Subject:
    """Clean four tracks in two rounds of two folds, and train a seed."""
    data = write_songs(folder / "data", 4)
    write_small_config(folder / "config.yaml", num_steps=2)
    out = folder / "out"

    def check() -> None:
        for table in [*out.rglob("audit.csv"), *out.rglob("keep.csv"), *out.rglob("changes.csv")]:
            with table.open(newline="") as file:
                assert len(list(csv.DictReader(file))) == 16, table
        for fold in out.glob("round_*/fold_*"):
            if (fold / "audit.jsonl").exists():
                assert not heard(fold) & judged(fold), fold

    argv = [str(data), "--config", str(folder / "config.yaml"), "--out", str(out), "--folds", "2", "--seeds", "0"]
    argv += ["--num-workers", "0", "--device", "cpu", "--save-every", "1", "--suspects", "1"]
    return Subject("clean", argv, out, check, is_fixed=lambda path: path.suffix in (".csv", ".ckpt"))


def installation(folder: Path) -> Subject:
    """Install stand-ins for the published checkpoints."""
    from my_submission.src.challenge.install import MODELS, PUBLISHED

    random_bytes = np.random.default_rng(0).bytes
    contents = {path: random_bytes(3_000_000) for path in PUBLISHED}
    contents |= {
        f"{model}/config.yaml": (ROOT / "my_submission/ckpts" / model / "config.yaml").read_bytes() for model in MODELS
    }
    with zipfile.ZipFile(folder / "mdx_AB.zip", "w") as archive:
        for path, data in contents.items():
            archive.writestr(path, data)
    out = folder / "ckpts"

    def check() -> None:
        for path in out.glob("[!.]*/*"):
            assert path.read_bytes() == contents[str(path.relative_to(out))], path

    before = {path: data for path, data in contents.items() if path not in PUBLISHED}
    return Subject("install", [str(folder / "mdx_AB.zip"), str(out)], out, check, there_before=before)


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "separate": separation,
    "evaluate_locally": evaluation,
    "clean": cleaning,
    "corrupt": corruption,
    "install": installation,
}
