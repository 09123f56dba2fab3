"""Scores from what trainings left out: `masked_seed{seed}.csv` says for each stem how often a chunk of it was drawn, and which
share of those chunks the loss's mask left out.

    masked   over all files, each chunk counting once, and five more that were masked as is usual: two or three tell little
    score    1 as is usual for the instrument (its median), -1 always masked, 0, the recommended cut, halfway between

How much is masked is a training's setting, and a clean stem of a hard song is masked more than others, but a wrong one nearly
always: halfway is far from both. Where the mask leaves out single samples, not chunks, few stems ever come near 0: sort by
the score then, and choose a cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from my_submission.src.audit import COLUMNS, AuditError
from my_submission.src.common import stem_table
from my_submission.src.common.text import shown

TABLE = ("track", "instrument", "chunks", "masked")
FEW = 5  # chunks that stand for what is usual
NARROWEST = 0.01  # of what is usual from the cut, where nearly everything is masked


def score_tables(paths: Sequence[Path]) -> list[dict[str, object]]:
    """Rows of an audit from the tables of several trainings on the same data, the worst first, those never drawn last.

    Raises TableError for a file that is no such table, AuditError for a number that cannot be meant, and for trainings that
    masked nothing.
    """
    chunks: dict[tuple[str, str], float] = {}
    masked: dict[tuple[str, str], float] = {}  # chunks' worth
    for path in paths:
        for row in stem_table.read(path, TABLE):
            stem = (row["track"], row["instrument"])
            drawn = _number(row["chunks"], path, stem, "chunks", math.inf)
            share = _number(row["masked"], path, stem, "masked", 1) if drawn else 0.0
            chunks[stem] = chunks.get(stem, 0) + drawn
            masked[stem] = masked.get(stem, 0.0) + drawn * share
    if not any(masked.values()):
        files = ", ".join(map(str, paths))
        raise AuditError(f"{files}: no chunk was masked, which tells nothing; train with training.q below 1, or name a --model")
    usual = {name: _usual(name, chunks, masked) for _, name in chunks}
    rows = []
    for stem, drawn in chunks.items():
        score = _score(masked[stem], drawn, usual[stem[1]]) if drawn else None
        rows.append(dict.fromkeys(COLUMNS) | {"track": stem[0], "instrument": stem[1], "score": score})
    return sorted(rows, key=lambda row: (row["score"] is None, row["score"] or 0.0, row["track"], row["instrument"]))


def _number(text: str, path: Path, stem: tuple[str, str], column: str, highest: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= highest or math.isinf(number):
        expected = "a number from 0 to 1" if highest == 1 else "a number of 0 or more"
        raise AuditError(f"{path}: {column} of {shown(*stem)} is {text!r}, expected {expected}")
    return number


def _usual(name: str, chunks: dict[tuple[str, str], float], masked: dict[tuple[str, str], float]) -> float:
    """The median over an instrument's stems of the share masked; 0 where none was drawn."""
    shares = [masked[stem] / drawn for stem, drawn in chunks.items() if drawn and stem[1] == name]
    return float(np.median(shares)) if shares else 0.0


def _score(masked: float, chunks: float, usual: float) -> float:
    share = (masked + FEW * usual) / (chunks + FEW)
    halfway = (1 + usual) / 2
    return (halfway - share) / max(halfway - usual, NARROWEST)
