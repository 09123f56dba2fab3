"""Compare the rounds of a cleaning: the stems that changed sides, and their scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from my_submission.src.audit.crossfit import Found
from my_submission.src.common import stem_table
from my_submission.src.common.text import shown

SHOWN = 5  # stems that changed sides

Key = tuple[str, str]  # track and instrument


def write_changes(path: Path, rounds: Sequence[Found]) -> None:
    """Write a row for each stem, with its score and verdict in each round. Raises TableError."""
    numbers = range(1, len(rounds) + 1)
    columns = ["track", "instrument", *(f"{word}_{number}" for number in numbers for word in ("score", "passed")), "changed"]
    scores = [{stem.key: stem.score for stem in found.scores} for found in rounds]
    rows = []
    for key in sorted(scores[0]):
        row: dict[str, object] = {"track": key[0], "instrument": key[1], "changed": _change(rounds, key)}
        for number, found, by_stem in zip(numbers, rounds, scores, strict=True):
            row |= {f"score_{number}": by_stem[key], f"passed_{number}": "yes" if found.passed[key] else "no"}
        rows.append(row)
    stem_table.write(path, columns, rows)


def _change(rounds: Sequence[Found], key: Key) -> str:
    """Return in words how a stem's verdict changed from the first round to the last."""
    first, last = rounds[0].passed[key], rounds[-1].passed[key]
    return "" if first == last else "now passes" if last else "no longer passes"


def summary(rounds: Sequence[Found]) -> list[str]:
    """Return lines that say how many stems passed in each round, and what changed between rounds."""
    lines = [f"round {number}: {_counts(found)}" for number, found in enumerate(rounds, 1)]
    for number, (before, after) in enumerate(itertools.pairwise(rounds), 1):
        old, new = ({stem.key: stem.score for stem in found.scores} for found in (before, after))
        moved = [abs(a - b) for key in old if (a := old[key]) is not None and (b := new[key]) is not None]
        turned = sorted(
            (key for key in old if before.passed[key] != after.passed[key]), key=lambda key: -_distance(old[key], new[key])
        )
        pass_now = sum(after.passed[key] for key in turned)
        typical = f"; scores moved by {np.median(moved):.2f} (median)" if moved else ""
        lines.append(f"round {number} to {number + 1}: {pass_now} stems now pass, {len(turned) - pass_now} no longer{typical}")
        lines += [f"  {shown(*key)}: {_number(old[key])} -> {_number(new[key])}" for key in turned[:SHOWN]]
        if len(turned) > SHOWN:
            lines.append(f"  and {len(turned) - SHOWN} more")
    return lines


def _counts(found: Found) -> str:
    passed = found.passed
    each = ", ".join(
        f"{name} {sum(ok for key, ok in passed.items() if key[1] == name)}" for name in sorted({name for _, name in passed})
    )
    return f"{sum(passed.values())} of {len(passed)} stems pass ({each})"


def _distance(a: float | None, b: float | None) -> float:
    return abs((a or 0.0) - (b or 0.0))


def _number(score: float | None) -> str:
    return "no score" if score is None else f"{score:.2f}"
