"""Measure how well an audit finds known faults, and how well it estimates known levels of bleeding.

    python tests/benchmarks/audit.py --truth noisy/truth.csv --audit audit.csv
    python tests/benchmarks/audit.py --truth bleeding/truth.csv --bleeding levels.csv

`corrupt` writes truth.csv, `audit` and `clean` write audit.csv, and `audit --bleeding` writes the table of levels. The first
table has, for each kind of fault, the area under the ROC curve, and precision and recall at the default threshold. Right stems
are those that truth.csv does not call wrong; a kind's precision counts all of them that are below the threshold. The second
table has the errors of the levels, by range of the true level, and the pairs in which none was found.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import numpy as np  # noqa: E402
from measuring import print_table  # noqa: E402
from study_report import area  # noqa: E402

from my_submission.src.common import cli, stem_table  # noqa: E402
from my_submission.src.training import DEFAULT_THRESHOLD  # noqa: E402

RANGES = ((-25, -20), (-20, -15), (-15, -10), (-10, -5))  # dB

Key = tuple[str, str]  # track and instrument
Rows = dict[Key, dict[str, str]]


def main(argv: Sequence[str]) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--truth", type=Path, required=True, help="truth.csv of corrupt")
    parser.add_argument("--audit", type=Path, help="table of an audit")
    parser.add_argument("--bleeding", type=Path, help="table of levels of bleeding")
    parser.add_argument("--json", type=Path, help="file for the figures (default: none)")
    options = parser.parse_args(argv)
    if not (options.audit or options.bleeding):
        parser.error("name a table with --audit, or with --bleeding")
    truth = read(options.truth, ("wrong", "kind", "holds", "level_db"))
    figures: dict[str, Any] = {}
    if options.audit:
        figures["faults"] = faults(truth, read(options.audit, ("score",)))
        print_table(["kind", "stems", "area under the ROC curve", "precision", "recall"], map(_fault_row, figures["faults"]))
    if options.bleeding:
        figures["levels"] = levels(truth, read(options.bleeding, ()))
        heads = ["level", "pairs", "median error", "90th percentile", "bias", "not found"]
        print_table(heads, map(_level_row, figures["levels"]))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def read(path: Path, columns: Sequence[str]) -> Rows:
    """Return the rows of a table by stem."""
    return {(row["track"], row["instrument"]): row for row in stem_table.read(path, columns)}


def faults(truth: Rows, audit: Rows) -> list[dict[str, Any]]:
    """Return the figures of an audit: for all wrong stems, and by kind. Stems without a score are left out."""
    scores = {key: float(row["score"]) for key, row in audit.items() if row["score"]}
    right = np.array([score for key, score in scores.items() if truth[key]["wrong"] == "no"])
    kinds = sorted({row["kind"] for row in truth.values() if row["wrong"] == "yes"})
    figures = []
    for kind in ("all", *kinds):
        found = [score for key, score in scores.items() if truth[key]["wrong"] == "yes" and kind in ("all", truth[key]["kind"])]
        wrong = np.array(found)
        hits, false = int((wrong < DEFAULT_THRESHOLD).sum()), int((right < DEFAULT_THRESHOLD).sum())
        figures.append(
            {
                "kind": kind,
                "stems": len(wrong),
                "right": len(right),
                "area": area(right, wrong),
                "hits": hits,
                "false": false,
                "precision": hits / max(1, hits + false),
                "recall": hits / max(1, len(wrong)),
            }
        )
    return figures


def levels(truth: Rows, found: Rows) -> list[dict[str, Any]]:
    """Return the errors of the levels, over all pairs with bleeding and by range of the true level, and the stems without."""
    pairs: list[tuple[float, float | None]] = []  # true, estimated
    clean: list[float | None] = []
    for (track, name), row in truth.items():
        heard = row["holds"].split("+")
        for column, text in found[track, name].items():
            other = column.removesuffix("_db")
            if other in (column, name):
                continue
            estimate = float(text) if text else None
            if row["kind"] == "bleeding" and other in heard:
                pairs.append((float(row["level_db"]), estimate))
            elif row["kind"] == "clean":
                clean.append(estimate)
    figures = []
    for low, high in ((-np.inf, np.inf), *RANGES):
        inside = [(true, estimate) for true, estimate in pairs if low <= true < high]
        errors = np.array([estimate - true for true, estimate in inside if estimate is not None])
        figures.append(
            {
                "level": "all" if np.isinf(low) else f"{low} to {high} dB",
                "pairs": len(inside),
                "median_error": float(np.median(np.abs(errors))) if len(errors) else None,
                "error_90": float(np.percentile(np.abs(errors), 90)) if len(errors) else None,
                "bias": float(np.median(errors)) if len(errors) else None,
                "not_found": sum(estimate is None for _, estimate in inside),
            }
        )
    above = sum(estimate is not None and estimate > RANGES[0][0] for estimate in clean)
    figures.append({"level": f"no bleeding; above {RANGES[0][0]} dB: {above}", "pairs": len(clean)})
    figures[-1] |= {"median_error": None, "error_90": None, "bias": None, "not_found": clean.count(None)}
    return figures


def _fault_row(row: dict[str, Any]) -> list[str]:
    precision = f"{row['precision']:.3f} ({row['hits']} of {row['hits'] + row['false']})"
    return [row["kind"], str(row["stems"]), f"{row['area']:.3f}", precision, f"{row['recall']:.3f}"]


def _level_row(row: dict[str, Any]) -> list[str]:
    decibels = ["" if row[name] is None else f"{row[name]:.2f} dB" for name in ("median_error", "error_90", "bias")]
    return [row["level"], str(row["pairs"]), *decibels, str(row["not_found"])]


if __name__ == "__main__":
    sys.exit(cli.run(main))
