"""Estimate how loud each instrument is in the stems of the others of its track: the level of bleeding.

    levels = measure_levels(separator, {"vocals": AudioFile(...), "drums": ...})      # {("vocals", "drums"): -14.2, ...}, dB

("vocals", "drums") is the level of the drums in the vocals: 0 dB if they are as loud there as in their own stem. It is the gain
at low frequencies, since a microphone that points elsewhere picks up little above them.

The network separates every stem by itself. The own output of each is its sound without most of what bled into it. In every
frequency bin, a stem is regressed on the own outputs of all stems of the track, over the STFT's frames: x_i = sum_j h_ij y_j.
The coefficients are complex, so a delay and a low-pass do not matter; the own output among the regressors keeps a stem's own
sound from passing for that of another. The level is the mean of |h_ij|^2, weighted by the energy of y_j, without the part that
chance alone would give (the variance of the coefficients). It is None if nothing is left then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from my_submission.src.audio.files import AudioStream, Block
from my_submission.src.audit import AuditError

if TYPE_CHECKING:
    from my_submission.src.base_separator import BaseSeparator

WINDOW = 0.37  # seconds, long compared with the delays of bleeding (up to 15 ms)
HOP = 4  # a window has that many hops
BAND = (30.0, 1500.0)  # Hz, in which bleeding passes
EFFECTIVE = 1.5  # overlapping frames per independent one
RIDGE = 1e-6  # of the outputs' mean energy, so that silent outputs can be inverted
LOWEST_DB = -60.0

Pair = tuple[str, str]  # a stem, and the instrument that is heard in it
Complex = NDArray[np.complex128]


def measure_levels(separator: BaseSeparator, stems: Mapping[str, AudioStream]) -> dict[Pair, float | None]:
    """Return the level of every instrument in every other stem of a track, dB, in constant memory.

    Args:
        separator: the model.
        stems: instrument -> stem, of all instruments of the model, of one length and sample rate.

    Raises AuditError, AudioError or SeparationError.
    """
    from my_submission.src.family.blend import in_step  # imports torch, which the table of a training does not need

    names = list(separator.source_order)
    if len({(stem.num_samples, stem.sample_rate) for stem in stems.values()}) > 1:
        raise AuditError("its stems differ in length or sample rate")
    sums = Sums(len(names), stems[names[0]].sample_rate)
    streams: list[Iterator[Block]] = [stems[name].blocks() for name in names]
    streams += [separator.separate(stems[name], share_residual=False) for name in names]
    for blocks in in_step(streams):
        truth = [block.mean(axis=0, dtype=np.float64) for block in blocks[: len(names)]]
        outputs = [block[place].mean(axis=0, dtype=np.float64) for place, block in enumerate(blocks[len(names) :])]
        sums.add(np.stack([*truth, *outputs]))
    levels = sums.levels()
    return {(stem, other): levels[i][j] for i, stem in enumerate(names) for j, other in enumerate(names) if i != j}


class Sums:
    """The sums over the STFT's frames of all that the regression needs.

    Args:
        stems: number of stems S.
        sample_rate: Hz.
    """

    def __init__(self, stems: int, sample_rate: int) -> None:
        self.stems = stems
        self.length = HOP * max(1, round(WINDOW * sample_rate / HOP))
        self.window = np.hanning(self.length + 1)[:-1]
        hertz = np.fft.rfftfreq(self.length, 1 / sample_rate)
        self.bins = (hertz >= BAND[0]) & (hertz <= BAND[1])  # F bins
        self.frames = 0
        self.products: Complex = np.zeros((int(self.bins.sum()), 2 * stems, 2 * stems), np.complex128)  # [F, 2S, 2S]
        self.pending: NDArray[np.float64] = np.zeros((2 * stems, 0))

    def add(self, signals: NDArray[np.float64]) -> None:
        """Add samples [2S, n]: the stems, then their own outputs."""
        self.pending = np.concatenate([self.pending, signals], axis=1)
        hop = self.length // HOP
        while self.pending.shape[1] >= self.length:
            spectra = np.fft.rfft(self.window * self.pending[:, : self.length], axis=1)[:, self.bins].T  # [F, 2S]
            self.products += spectra[:, :, None] * spectra[:, None, :].conj()
            self.frames += 1
            self.pending = self.pending[:, hop:]

    def levels(self) -> list[list[float | None]]:
        """Return the levels [S][S] in dB: of each instrument (second) in each stem (first)."""
        count = self.frames / EFFECTIVE - self.stems  # independent frames, less the coefficients
        if count < 1:
            return [[None] * self.stems for _ in range(self.stems)]
        stems, outputs = slice(0, self.stems), slice(self.stems, None)
        between, across = self.products[:, outputs, outputs], self.products[:, stems, outputs]  # [F, S, S]
        energies = np.einsum("fjj->fj", between).real  # [F, S], of the outputs
        ridge = RIDGE * energies.sum(axis=1) + 1e-12
        inverse = np.linalg.inv(between + ridge[:, None, None] * np.eye(self.stems))
        factors = across @ inverse  # [F, S, S]: h_ij
        explained = np.einsum("fij,fij->fi", factors, across.conj()).real
        residual = np.maximum(np.einsum("fii->fi", self.products[:, stems, stems]).real - explained, 0)
        variances = residual[:, :, None] * np.einsum("fjj->fj", inverse).real[:, None, :] / count
        return [
            [self._level(factors[:, i, j], variances[:, i, j], energies[:, j]) for j in range(self.stems)]
            for i in range(self.stems)
        ]

    def _level(self, factors: Complex, variances: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
        """Return the level of one instrument in one stem."""
        total = float(weights.sum())
        if total <= 1e-9 * self.frames:  # the instrument is silent
            return None
        by_chance = float((variances * weights).sum()) / total
        energy = float((np.abs(factors) ** 2 * weights).sum()) / total - by_chance
        return None if energy <= by_chance else max(LOWEST_DB, 10 * float(np.log10(energy)))
