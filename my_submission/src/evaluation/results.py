"""What came of an evaluation, track by track, and how it is told: in lines, and as CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from my_submission.src.audio.files import AudioFile
from my_submission.src.common.atomic import atomic_file
from my_submission.src.common.errors import UserError
from my_submission.src.common.text import shown
from my_submission.src.evaluation.metrics import MetricError, global_sdr_of_blocks, refuse_other_shape

INSTRUMENTS = ("bass", "drums", "other", "vocals")  # the challenge's, in its order
LIMIT = 1.57  # seconds that a track may take per second of its audio, in the challenge


class ScoresError(UserError):
    """Scores that cannot be written."""


@dataclass(frozen=True)
class Result:
    """What came of one track; a line of the journal."""

    track: str
    seconds: float  # of audio
    separation_seconds: float  # from reading the mixture to having written the stems
    sdr: dict[str, float]  # dB by instrument; empty where the track was not scored
    missing: list[str]  # reference stems that are not there
    files: dict[str, list[int]]  # size and time of change of what went in
    members: dict[str, dict[str, float]] = field(default_factory=dict)  # "seed 0" -> its own dB by instrument, if asked for

    @property
    def real_time_factor(self) -> float:
        """Seconds of separation per second of audio."""
        return self.separation_seconds / self.seconds

    @property
    def mean_sdr(self) -> float:
        """The song's score: the plain mean of its stems', dB."""
        return _mean([self.sdr])


def _mean(scores: Sequence[dict[str, float]]) -> float:
    """The mean over songs of the mean over their stems, dB."""
    return sum(sum(sdr.values()) / len(sdr) for sdr in scores) / len(scores)


def score_files(reference: Path, estimate: Path) -> float:
    """Global SDR of a stem's file, dB, in constant memory: rounding and clipping count. Raises AudioError, MetricError."""
    truth, found = AudioFile(reference), AudioFile(estimate)
    try:
        if truth.sample_rate != found.sample_rate:
            raise MetricError(f"the estimate has {found.sample_rate} Hz, expected the reference's {truth.sample_rate} Hz")
        refuse_other_shape((truth.num_samples, truth.channels), (found.num_samples, found.channels))
        return global_sdr_of_blocks(zip(truth.blocks(), found.blocks(), strict=True))
    except MetricError as error:
        raise MetricError(f"{reference}: {error}; is it a stem of this mixture?") from error


def line(result: Result) -> str:
    """One finished track, in a line."""
    speed = f"{result.separation_seconds:.1f} s for {result.seconds:.1f} s of audio ({result.real_time_factor:.2f} x)"
    if result.sdr:
        stems = ", ".join(f"{name} {value:.3f}" for name, value in result.sdr.items())
        return f"{stems}, mean {result.mean_sdr:.3f} dB; {speed}"
    none = len(result.missing) == len(INSTRUMENTS)
    return f"not scored, no {'reference stems' if none else _listed(result.missing)}; {speed}"


def _listed(stems: Sequence[str]) -> str:
    return ", ".join(f"{name}.wav" for name in stems)


def print_report(results: Sequence[Result], failed: dict[str, str], redone_chunks: int) -> None:
    """Print the means over songs as the kit does, the speed beside the challenge's limit, and what went wrong."""
    scored = [result for result in results if result.sdr]
    print("\nEvaluation Results")
    if scored:
        for name in INSTRUMENTS:
            print(f"sdr_{name}: {sum(result.sdr[name] for result in scored) / len(scored):.3f}")
        print(f"mean_sdr: {_mean([result.sdr for result in scored]):.3f}")
        for member in scored[0].members:
            print(f"{member} by itself: {_mean([result.members[member] for result in scored]):.3f}")
    else:
        print("nothing was scored: no track that was separated has all four reference stems")
    if len(scored) < len(results) + len(failed):
        print(f"tracks: {len(scored)} scored, {len(results) - len(scored)} separated and not scored, {len(failed)} failed")
    for result in (result for result in results if 0 < len(result.missing) < len(INSTRUMENTS)):
        print(f"not scored: {shown(result.track)}: no {_listed(result.missing)}")
    if results:
        taken, seconds = sum(result.separation_seconds for result in results), sum(result.seconds for result in results)
        worst = max(results, key=lambda result: result.real_time_factor)
        verdict = "within" if worst.real_time_factor <= LIMIT else "over"
        print(f"real-time factor: {taken / seconds:.3f} x ({taken:.1f} s of separation for {seconds:.1f} s of audio)")
        print(f"slowest track: {worst.real_time_factor:.3f} x ({shown(worst.track)}), {verdict} the limit of {LIMIT} x")
    if redone_chunks:
        print(f"{redone_chunks} chunks overflowed in half precision and were done again in fp32")
    sys.stdout.flush()
    for track, reason in failed.items():
        print(f"failed: {shown(track)}: {reason}", file=sys.stderr)


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write a line per track and instrument, atomically; `sdr` is empty where a track was not scored."""
    columns = ("track", "instrument", "sdr", "track_seconds", "separation_seconds", "real_time_factor")
    try:
        with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for result in results:
                times = (result.seconds, result.separation_seconds, result.real_time_factor)
                for name in INSTRUMENTS:
                    sdr = f"{result.sdr[name]:.6f}" if result.sdr else ""
                    writer.writerow([result.track, name, sdr, *(f"{value:.6f}" for value in times)])
    except OSError as error:
        raise ScoresError(f"{path}: cannot be written ({error.strerror})") from error
