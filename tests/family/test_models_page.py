"""The page of supported models names what the code takes."""

from __future__ import annotations

import re

from my_submission.src.checkpoint import SUFFIXES, WRAPPERS
from my_submission.src.config import PROCEDURES
from tests.helpers.paths import ROOT

PAGE = (ROOT / "my_submission" / "src" / "family" / "MODELS.md").read_text(encoding="utf-8")


def row(name: str) -> set[str]:
    """Return the words in backquotes of a table's row."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
    return set(re.findall(r"`([^`]+)`", line.removeprefix(f"| {name} |")))


def test_the_page_names_all_suffixes_wrappers_and_procedures() -> None:
    assert row("checkpoint") - {"ckpt"} == set(SUFFIXES)
    assert row("inside") == set(WRAPPERS)
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(PROCEDURES)
