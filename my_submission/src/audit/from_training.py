"""Compute scores from the chunks that trainings masked, from their tables `masked_seed{seed}.csv`.

A table says how often a chunk of a stem was drawn, and which fraction of those chunks the loss's mask left out.

    masked   the fraction of chunks that was left out, over all tables. Each chunk counts once, and five more are added that
             were masked as often as normal for the instrument, since two or three chunks tell little.
    score    1 if the stem was masked as often as normal for its instrument (its median), -1 if it was always masked.
             The recommended cut, 0, is halfway between.

How much is masked is a setting of the training. Clean stems of hard songs are masked more than others, and wrong stems nearly
always, so halfway is far from both. If the mask leaves out single samples instead of chunks, few stems come near 0; sort by
the score then, and choose another cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from my_submission.src.audit import AuditError
from my_submission.src.audit.stem_score import StemScore, worst_first
from my_submission.src.common import stem_table
from my_submission.src.common.text import shown

TABLE = ("track", "instrument", "chunks", "masked")
PRIOR_CHUNKS = 5  # chunks that are added to each stem, masked as often as normal
MIN_DISTANCE = 0.01  # of the normal fraction from the cut, for trainings that mask nearly everything

Key = tuple[str, str]  # track and instrument


def score_tables(paths: Sequence[Path]) -> list[StemScore]:
    """Return the scores from the tables of several trainings on the same data: the worst first, stems never drawn last.

    Raises TableError for a file that is no such table, AuditError for a number out of its range, and for trainings that masked
    nothing.
    """
    chunks: dict[Key, float] = {}
    masked: dict[Key, float] = {}  # number of chunks
    for path in paths:
        for row in stem_table.read(path, TABLE):
            stem = (row["track"], row["instrument"])
            drawn = _number(row["chunks"], path, stem, "chunks", math.inf)
            fraction = _number(row["masked"], path, stem, "masked", 1) if drawn else 0.0
            chunks[stem] = chunks.get(stem, 0) + drawn
            masked[stem] = masked.get(stem, 0.0) + drawn * fraction
    if not any(masked.values()):
        files = ", ".join(map(str, paths))
        raise AuditError(f"{files}: no chunk was masked, which tells nothing; train with training.q below 1, or name a --model")
    normal = {name: _median(name, chunks, masked) for _, name in chunks}
    return worst_first(
        [
            StemScore(*stem, score=_score(masked[stem], drawn, normal[stem[1]]) if drawn else None)
            for stem, drawn in chunks.items()
        ]
    )


def _number(text: str, path: Path, stem: Key, column: str, highest: float) -> float:
    """Return the number in a cell. Raises AuditError if it is not between 0 and `highest`."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= highest or math.isinf(number):
        expected = "a number from 0 to 1" if highest == 1 else "a number of 0 or more"
        raise AuditError(f"{path}: {column} of {shown(*stem)} is {text!r}, expected {expected}")
    return number


def _median(name: str, chunks: dict[Key, float], masked: dict[Key, float]) -> float:
    """Return the median masked fraction over the stems of an instrument; 0 if none of them was drawn."""
    fractions = [masked[stem] / drawn for stem, drawn in chunks.items() if drawn and stem[1] == name]
    return float(np.median(fractions)) if fractions else 0.0


def _score(masked: float, chunks: float, normal: float) -> float:
    fraction = (masked + PRIOR_CHUNKS * normal) / (chunks + PRIOR_CHUNKS)
    halfway = (1 + normal) / 2
    return (halfway - fraction) / max(halfway - normal, MIN_DISTANCE)
