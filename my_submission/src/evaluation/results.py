"""The results of an evaluation, track by track: scores, lines of the journal and of the terminal, and a CSV file."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from my_submission.src.audio.files import AudioFile, Block
from my_submission.src.audio.tracks import Track, TrackError
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import escaped, shown, some
from my_submission.src.evaluation.metrics import METRICS, MetricError, refuse_other_shape

INSTRUMENTS = ("bass", "drums", "other", "vocals")  # the challenge's, in its order
HIGHEST = {"PCM_16": 1 - 2**-15, "PCM_24": 1 - 2**-23}  # the largest sample of a file; the smallest is -1
LIMIT = 1.57  # seconds of separation that the challenge allows per second of audio


class ScoresError(UserError):
    """Scores that cannot be written."""


@dataclass(frozen=True)
class Result:
    """The result of one track."""

    track: str
    seconds: float  # of audio
    separation_seconds: float  # from reading the mixture until the stems are written
    scores: dict[str, dict[str, float]]  # metric -> instrument -> score; no instruments if the track was not scored
    missing: list[str]  # instruments without a reference stem
    files: dict[str, list[int]]  # name of an input file -> its size in bytes and modification time in ns
    members: dict[str, dict[str, float]] = field(default_factory=dict)  # "seed 0" -> instrument -> SDR of that member, dB
    clipped: int = 0  # samples of the scored estimates, over all channels, that lie at full scale
    instead: list[str] = field(default_factory=list)  # files of missing instruments that are neither wav nor flac

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Result:
        """Return the result of a journal's line; metrics that the line lacks have no scores."""
        scores = {metric: entry.get(metric, {}) for metric in METRICS}
        names = ("track", "seconds", "separation_seconds", "missing", "files", "members")
        later = {name: entry[name] for name in ("clipped", "instead") if name in entry}  # former versions did not write these
        return cls(scores=scores, **{name: entry[name] for name in names}, **later)

    def entry(self) -> dict[str, Any]:
        """Return the result as a journal's line, with a key for each metric."""
        return {
            "track": self.track,
            "seconds": self.seconds,
            "separation_seconds": self.separation_seconds,
            **self.scores,
            "missing": self.missing,
            "files": self.files,
            "members": self.members,
            "clipped": self.clipped,
            "instead": self.instead,
        }

    @property
    def is_scored(self) -> bool:
        """True if all four reference stems were there and every metric has scored the track."""
        return not self.missing and all(self.scores[metric] for metric in METRICS)

    @property
    def real_time_factor(self) -> float:
        """Seconds of separation per second of audio."""
        return self.separation_seconds / self.seconds

    @property
    def sdr(self) -> dict[str, float]:
        """Global SDR by instrument, dB; empty if the track was not scored."""
        return self.scores["sdr"]

    @property
    def mean_sdr(self) -> float:
        """The challenge's score of the song, dB: the mean of its stems' global SDR."""
        return self.mean("sdr")

    def mean(self, metric: str) -> float:
        """Return the mean of a metric over the stems of the song."""
        return fmean(self.scores[metric].values())


def reference_files(folder: Path) -> dict[str, Path]:
    """Return the reference stems of a track that exist: instrument -> file, a wav or flac whose name may be in any case.

    Raises TrackError for two files of one instrument, and for a folder that cannot be read.
    """
    track, files = Track(folder), {}
    for name in INSTRUMENTS:
        path = track.find(name)
        if isinstance(path, Path):
            files[name] = path
        elif track.paths_of(name):
            raise TrackError(f"{folder}: {name} {path}")
    return files


class ClippingCounter:
    """Counts the samples of an integer file that lie at full scale: the file cannot hold more, so they may be clipped."""

    def __init__(self) -> None:
        self.samples = 0

    def watch(self, file: AudioFile) -> Iterator[Block]:
        """Yield the blocks of a file, and count."""
        highest = HIGHEST.get(file.subtype, np.inf)
        for block in file.blocks():
            if highest < 1:
                self.samples += int(np.count_nonzero((block >= highest) | (block <= -1)))
            yield block


def score_files(
    reference: Path, estimate: Path, metric: str = "sdr", watch: Callable[[AudioFile], Iterator[Block]] = AudioFile.blocks
) -> float:
    """Return a metric of a stem's file in constant memory; the rounding and clipping of the file count.

    Args:
        reference: the true stem.
        estimate: the file to score.
        metric: a key of METRICS (default: sdr).
        watch: yields the blocks of the estimate, such as a ClippingCounter's (default: they are only read).

    Raises AudioError for a file that cannot be read, MetricError for files of different rates or shapes.
    """
    truth, found = AudioFile(reference), AudioFile(estimate)
    try:
        if truth.sample_rate != found.sample_rate:
            raise MetricError(f"the estimate has {found.sample_rate} Hz, expected the reference's {truth.sample_rate} Hz")
        refuse_other_shape((truth.num_samples, truth.channels), (found.num_samples, found.channels))
        return METRICS[metric].of_blocks(zip(truth.blocks(), watch(found), strict=True))
    except MetricError as error:
        raise MetricError(f"{reference}: {error}; is it a stem of this mixture?") from error


def line(result: Result) -> str:
    """Return the scores and the speed of a track on one line."""
    speed = f"{result.separation_seconds:.1f} s for {result.seconds:.1f} s of audio ({result.real_time_factor:.2f} x)"
    if result.is_scored:
        return "; ".join([*(_line_of_metric(result, metric) for metric in METRICS), speed])
    none = len(result.missing) == len(INSTRUMENTS)
    return f"not scored, no {'reference stems' if none else _file_names(result.missing)}{_instead(result)}; {speed}"


def _line_of_metric(result: Result, metric: str) -> str:
    stems = ", ".join(f"{name} {value:.3f}" for name, value in result.scores[metric].items())
    label = "" if metric == "sdr" else f"{metric}: "
    return f"{label}{stems}, mean {result.mean(metric):.3f} {METRICS[metric].unit}".rstrip()


def _file_names(instruments: Sequence[str]) -> str:
    return ", ".join(f"{name}.wav" for name in instruments)


def _instead(result: Result) -> str:
    return f" (there is {some(result.instead)}, expected .wav or .flac)" if result.instead else ""


def print_report(results: Sequence[Result], failed: Mapping[str, str], redone_chunks: int = 0) -> None:
    """Print the means over songs as the starter kit does, the speed compared with the challenge's limit, and the failures.

    Args:
        results: of the tracks that were separated.
        failed: track -> why it failed; printed on standard error.
        redone_chunks: chunks that overflowed in half precision; printed unless 0 (the default).
    """
    print("\nEvaluation Results")
    _print_scores([result for result in results if result.is_scored], len(results), len(failed))
    for result in results:
        if 0 < len(result.missing) < len(INSTRUMENTS):
            print(f"not scored: {shown(result.track)}: no {_file_names(result.missing)}{_instead(result)}")
    _print_clipped([result for result in results if result.clipped])
    if results:
        _print_speed(results)
    if redone_chunks:
        print(f"{redone_chunks} chunks overflowed in half precision and were done again in fp32")
    sys.stdout.flush()
    for track, reason in failed.items():
        print(f"failed: {shown(track)}: {escaped(reason)}", file=sys.stderr)


def _print_scores(scored: Sequence[Result], separated: int, failed: int) -> None:
    """Print the means over the scored songs; count the songs unless all were scored."""
    for metric in METRICS if scored else ():
        for name in INSTRUMENTS:
            print(f"{metric}_{name}: {fmean(result.scores[metric][name] for result in scored):.3f}")
        print(f"mean_{metric}: {fmean(result.mean(metric) for result in scored):.3f}")
    for member in scored[0].members if scored else ():
        print(f"{member} by itself: {fmean(fmean(result.members[member].values()) for result in scored):.3f}")
    if not scored:
        print("nothing was scored: no track that was separated has all four reference stems")
    if len(scored) < separated + failed:
        print(f"tracks: {len(scored)} scored, {separated - len(scored)} separated and not scored, {failed} failed")


def _print_clipped(results: Sequence[Result]) -> None:
    """Print how many samples of the estimates are clipped, and in which tracks; nothing if there are none."""
    if results:
        worst = sorted(results, key=lambda result: -result.clipped)
        tracks = some([f"{shown(result.track)} {result.clipped}" for result in worst])
        total = sum(result.clipped for result in results)
        print(f"clipped: {total} samples of the estimates lie at full scale, and 16-bit files hold no more ({tracks})")


def _print_speed(results: Sequence[Result]) -> None:
    taken, seconds = sum(result.separation_seconds for result in results), sum(result.seconds for result in results)
    slowest = max(results, key=lambda result: result.real_time_factor)
    verdict = "within" if slowest.real_time_factor <= LIMIT else "over"
    print(f"real-time factor: {taken / seconds:.3f} x ({taken:.1f} s of separation for {seconds:.1f} s of audio)")
    print(f"slowest track: {slowest.real_time_factor:.3f} x ({shown(slowest.track)}), {verdict} the limit of {LIMIT} x")


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write a row per track and instrument, atomically; a track that was not scored has empty scores.

    Raises ScoresError if the file cannot be written.
    """
    columns = ("track", "instrument", *METRICS, "track_seconds", "separation_seconds", "real_time_factor")
    try:
        with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for result in results:
                times = (result.seconds, result.separation_seconds, result.real_time_factor)
                for name in INSTRUMENTS:
                    scores = (f"{result.scores[metric][name]:.6f}" if result.is_scored else "" for metric in METRICS)
                    writer.writerow([result.track, name, *scores, *(f"{value:.6f}" for value in times)])
    except OSError as error:
        raise ScoresError(f"{path}: cannot be written ({error.strerror})") from error
