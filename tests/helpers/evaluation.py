"""Datasets, a model of a few lines and the results, for the tests of evaluate_locally.py."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

import evaluate_locally

INSTRUMENTS = ("bass", "drums", "other", "vocals")


class PlainModel:
    """A model with the minimum that the contract asks for: every instrument is a quarter of the mixture."""

    instruments = INSTRUMENTS
    sizes: list[int]  # of the mixtures that it got

    def separate_music_file(self, mixture: np.ndarray, sample_rate: int) -> tuple[dict, dict]:
        self.sizes.append(len(mixture))
        return dict.fromkeys(INSTRUMENTS, mixture / 4), dict.fromkeys(INSTRUMENTS, sample_rate)


def make_track(folder: Path, samples: int = 2000, stems: tuple[str, ...] = INSTRUMENTS) -> Path:
    """Write a track whose mixture is the sum of four noises, and those noises that `stems` names."""
    folder.mkdir(parents=True, exist_ok=True)
    noises = 0.1 * np.random.default_rng(samples).standard_normal((4, samples, 2))
    soundfile.write(folder / "mixture.wav", noises.sum(0), 44100)
    for name, noise in zip(INSTRUMENTS, noises, strict=True):
        if name in stems:
            soundfile.write(folder / f"{name}.wav", noise, 44100)
    return folder


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def evaluate(tmp_path: Path, *more: object) -> int:
    return evaluate_locally.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *map(str, more)])


def scores(path: Path) -> list[list[str]]:
    """Return the columns of a CSV file that do not depend on the clock."""
    with path.open(newline="") as file:
        return [row[:4] for row in csv.reader(file)]


def sdr(reference: Path, estimate: Path) -> float:
    truth, found = soundfile.read(reference)[0], soundfile.read(estimate)[0]
    return 10 * np.log10(((truth**2).sum() + 1e-7) / (((truth - found) ** 2).sum() + 1e-7))
