"""The result of one of preflight's checks, and the text of the files that they read."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

PASS, FAIL, UNKNOWN = "pass", "fail", "cannot tell"


class Verdict(NamedTuple):
    """PASS, FAIL or UNKNOWN, and the reason in a sentence, with the remedy."""

    status: str
    detail: str


MARK = "begins with a byte order mark, which the evaluator may not read"  # Windows editors and PowerShell write it


def read_text(path: Path) -> tuple[str, bool]:
    """Return the text of a UTF-8 file, and whether it begins with a byte order mark, which is left out.

    Raises OSError, or ValueError with the reason for a file in another encoding.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content:
        raise ValueError("is UTF-16, or no text; save it as UTF-8")
    try:
        return content.decode("utf-8-sig"), content.startswith(codecs.BOM_UTF8)
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8; save it as UTF-8") from error
