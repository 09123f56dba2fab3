"""Check the two files that the evaluator's image is built from: requirements.txt for pip, apt.txt for Debian's packages.

judge_requirements(root)        # Verdict("pass", "5 packages, all pinned"); root is the repository's
judge_apt(root)
"""

from __future__ import annotations

import re
from pathlib import Path

from my_submission.src.challenge.verdict import FAIL, MARK, PASS, UNKNOWN, Verdict, read_text

REQUIRED = ("torch", "numpy", "soundfile", "pyyaml")  # the wrapper imports these; the kit itself needs numpy and soundfile


def judge_requirements(root: Path) -> Verdict:
    """Check that requirements.txt pins all packages and contains those that the wrapper imports."""
    try:
        text, _ = read_text(root / "requirements.txt")  # pip skips a byte order mark
    except OSError:
        return Verdict(FAIL, "requirements.txt is not there; the image is built from it")
    except ValueError as error:
        return Verdict(FAIL, f"requirements.txt {error}")
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in text.replace("\\\n", " ").splitlines()]
    lines = [line for line in lines if line and not re.match(r"--(extra-)?index-url\b|--find-links\b", line)]
    pins = [re.fullmatch(r"([A-Za-z0-9][\w.-]*)\s*(\[[^]]*\])?\s*==\s*[\w.!+-]+\s*(;.*)?(--hash.*)?", line) for line in lines]
    unpinned = [line for line, pin in zip(lines, pins, strict=True) if not pin]
    if unpinned:
        return Verdict(FAIL, f"requirements.txt: not pinned: {', '.join(unpinned)}; expected name==version")
    names = {re.sub(r"[-_.]+", "-", pin[1]).lower() for pin in pins if pin}
    missing = [name for name in REQUIRED if name not in names]
    if missing:
        return Verdict(FAIL, f"requirements.txt: missing {', '.join(missing)}, which the wrapper imports")
    return Verdict(PASS, f"{len(names)} packages, all pinned")


def judge_apt(root: Path) -> Verdict:
    """Check that apt.txt lists Debian packages, including git and libsndfile as in the kit."""
    try:
        text, has_mark = read_text(root / "apt.txt")
    except OSError:
        return Verdict(FAIL, "apt.txt is not there; expected the lines git and libsndfile1")
    except ValueError as error:
        return Verdict(FAIL, f"apt.txt {error}")
    names = [name for line in text.splitlines() if (name := line.partition("#")[0].strip())]
    wrong = [name for name in names if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(=\S+)?", name)]
    if wrong:
        return Verdict(FAIL, f"apt.txt: no name of a Debian package: {', '.join(wrong)}; expected one a line")
    missing = [name for name in ("git", "libsndfile") if not any(re.match(rf"{name}(\d|-|=|$)", found) for found in names)]
    if missing:
        return Verdict(FAIL, f"apt.txt: missing {', '.join(missing)}; expected the lines git and libsndfile1")
    if has_mark:
        return Verdict(UNKNOWN, f"{', '.join(names)}; the file {MARK}; save it as UTF-8 without one")
    return Verdict(PASS, ", ".join(names))
