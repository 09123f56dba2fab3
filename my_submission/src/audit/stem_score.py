"""The audit's record of a stem. The table, the page and the printout all read it.

scores = [StemScore("song", "bass", score=-0.5, contains="vocals")]
stem_table.write(path, COLUMNS, [score.row() for score in scores])
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from my_submission.src.audit.stems import StemName
from my_submission.src.training import DEFAULT_THRESHOLD

NO_COLUMN = {"column": False}


class Window(NamedTuple):
    """A stretch of a stem, and its score."""

    begin: float  # seconds
    end: float  # seconds
    score: float | None  # None if it is too quiet to count


@dataclass(frozen=True)
class StemScore(StemName):
    """The results of the audit for one stem. Fields without a value are None or empty.

    Every field is a column of the table, in this order, except those marked NO_COLUMN, which are for the page. The page needs
    `keep` to be the last column.
    """

    score: float | None = None  # higher is better; None for a stem that is silent, or that no training drew
    self_sdr: float | None = None  # dB: global SDR of the stem's own output, with the stem as the reference
    margin_db: float | None = None  # energy of the own output over that of the loudest other
    seconds: float | None = None  # duration
    from_s: float | None = None  # where the stem is worst
    to_s: float | None = None
    contains: str = ""  # the other instrument that it seems to hold
    keep: str = ""  # a person's mark, yes or no, which overrides the score
    loudest: str = dataclasses.field(default="", metadata=NO_COLUMN)  # the loudest other output where the stem is worst
    windows: tuple[Window, ...] = dataclasses.field(default=(), metadata=NO_COLUMN)

    @property
    def is_below(self) -> bool:
        """Whether the score is below the recommended cut."""
        return self.score is not None and self.score < DEFAULT_THRESHOLD

    def row(self) -> dict[str, object]:
        """Return the stem's row of the table."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in dataclasses.fields(StemScore) if field.metadata.get("column", True))


def worst_first(scores: Sequence[StemScore]) -> list[StemScore]:
    """Return the scores in the order of the table: the worst first, stems without a score last."""
    return sorted(scores, key=lambda stem: (stem.score is None, stem.score or 0.0, *stem.key))


def count_below(scores: Sequence[StemScore], instrument: str) -> int:
    """Return the number of an instrument's stems that are below the recommended cut."""
    return sum(stem.is_below for stem in scores if stem.instrument == instrument)
