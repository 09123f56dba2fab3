"""The result of one of preflight's checks."""

from __future__ import annotations

from typing import NamedTuple

PASS, FAIL, UNKNOWN = "pass", "fail", "cannot tell"


class Verdict(NamedTuple):
    """PASS, FAIL or UNKNOWN, and the reason in a sentence, with the remedy."""

    status: str
    detail: str
