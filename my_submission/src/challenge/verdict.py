"""What a check of preflight's finds."""

from __future__ import annotations

from typing import NamedTuple

PASS, FAIL, UNKNOWN = "pass", "fail", "cannot tell"


class Verdict(NamedTuple):
    """PASS, FAIL or UNKNOWN, and a sentence that says why and what to do."""

    status: str
    detail: str
