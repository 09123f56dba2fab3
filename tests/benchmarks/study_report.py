"""Write the results of the study as tables, a figure and JSON.

Confidence intervals are paired bootstraps: songs and seeds are drawn with replacement, the same ones for both sides of a
difference.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

INSTRUMENTS = ("bass", "drums", "other", "vocals")
LEVELS = ((-20, -17.5), (-17.5, -15), (-15, -12.5), (-12.5, -10))  # ranges of the level of bleeding, dB
DRAWS = 10_000  # of the bootstrap

Scores = Mapping[str, Mapping[str, float]]  # song -> instrument -> dB
Statistic = Callable[[Mapping[str, np.ndarray]], np.ndarray]  # (condition -> means [draws]) -> [draws]


def _regained(means: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Return the share of the cost of label noise that a condition regains, in percent."""
    return 100 * (means[name] - means["noise, plain"]) / (means["clean"] - means["noise, plain"])


QUESTIONS: dict[str, tuple[str, Statistic]] = {
    "cost of label noise": ("dB", lambda m: m["clean"] - m["noise, plain"]),
    "coarse mask over plain, label noise": ("dB", lambda m: m["noise, coarse mask"] - m["noise, plain"]),
    "audited over coarse mask, label noise": ("dB", lambda m: m["noise, audited"] - m["noise, coarse mask"]),
    "share of that cost regained by auditing": ("%", lambda m: _regained(m, "noise, audited")),
    **{
        f"share of that cost regained by auditing, {how}": ("%", lambda m, name=f"noise, {how}": _regained(m, name))
        for how in ("cross-fitted", "two rounds")
    },
    "cost of bleeding": ("dB", lambda m: m["clean"] - m["bleeding, plain"]),
    "fine mask over plain, bleeding": ("dB", lambda m: m["bleeding, fine mask"] - m["bleeding, plain"]),
    "fine mask over coarse mask, bleeding": ("dB", lambda m: m["bleeding, fine mask"] - m["bleeding, coarse mask"]),
}


def write(
    folder: Path,
    scores: Mapping[str, Sequence[Scores]],
    curves: Mapping[str, Mapping[float, float]],
    audits: Mapping[str, Sequence[Mapping[str, str]]],
    facts: Mapping[str, Any],
) -> None:
    """Write table.md, figure.svg and results.json, and print the tables.

    Args:
        folder: folder for the three files.
        scores: condition -> scores of each seed.
        curves: condition -> q -> mean score in dB, for the conditions that have a mask.
        audits: audit -> rows of truth.csv with the column `score`.
        facts: settings of the study.
    """
    means = {
        name: np.array([[fmean(song.values()) for song in seed.values()] for seed in seeds]) for name, seeds in scores.items()
    }
    drawn = bootstrap(means)
    answers = {question: (unit, *interval(statistic(drawn))) for question, (unit, statistic) in QUESTIONS.items()}
    # points are the measured differences, not the medians of the bootstrap
    whole = {name: np.array([values.mean()]) for name, values in means.items()}
    points = {question: float(statistic(whole)[0]) for question, (_, statistic) in QUESTIONS.items()}
    found = {name: areas(rows) for name, rows in audits.items()}
    text = "\n".join(
        [
            *_score_table(scores, means, drawn), "",
            "| difference | | 95 % interval |", "|---|---|---|",
            *(
                f"| {question} | {points[question]:.2f} {unit} | {low:.2f} to {high:.2f} |"
                for question, (unit, low, high) in answers.items()
            ), "",
            "| audit | area under the ROC curve |", "|---|---|",
            *(f"| {name}, {what} | {area:.3f} |" for name, by in found.items() for what, area in by.items()), "",
            "| q | " + " | ".join(curves) + " |", "|---" * (1 + len(curves)) + "|",
            *(
                f"| {q:g} | " + " | ".join(f"{curve[q]:.2f} dB" if q in curve else "" for curve in curves.values()) + " |"
                for q in sorted({q for curve in curves.values() for q in curve})
            ), "",
            *(f"* {name}: {value}" for name, value in facts.items() if name != "config"),
        ]
    )  # fmt: skip
    print(text)
    (folder / "table.md").write_text(text + "\n")
    (folder / "figure.svg").write_text(figure(means, drawn) + "\n")
    results = {"scores": scores, "answers": answers, "points": points, "areas": found, "curves": curves, "facts": facts}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def _score_table(
    scores: Mapping[str, Sequence[Scores]], means: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]
) -> list[str]:
    """Return the lines of the table of scores."""
    lines = [f"| trained on | {' | '.join(INSTRUMENTS)} | mean | 95 % interval |", "|---" * (len(INSTRUMENTS) + 3) + "|"]
    for name, seeds in scores.items():
        by_instrument = [fmean(song[instrument] for seed in seeds for song in seed.values()) for instrument in INSTRUMENTS]
        low, high = interval(drawn[name])
        figures = " | ".join(f"{value:.2f}" for value in (*by_instrument, means[name].mean()))
        lines.append(f"| {name} | {figures} | {low:.2f} to {high:.2f} |")
    return lines


def song_mean(scores: Scores) -> float:
    """Return the mean over songs and instruments in dB."""
    return fmean(fmean(song.values()) for song in scores.values())


def bootstrap(means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Turn scores [seeds, songs] per condition into means of redrawn scores [draws]; all conditions share the draws."""
    rng = np.random.default_rng(0)
    seeds, songs = next(iter(means.values())).shape
    weights = [np.stack([np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(DRAWS)]) / n for n in (seeds, songs)]
    return {name: np.einsum("ds,st,dt->d", weights[0], values, weights[1]) for name, values in means.items()}


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the central 95 % interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def areas(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Return the area under the ROC curve of an audit: for all wrong stems, and by kind of label noise or level of bleeding."""
    right = [row for row in rows if row["wrong"] == "no"]
    wrong = [row for row in rows if row["wrong"] == "yes"]
    groups: dict[str, list[Mapping[str, str]]] = {"all": wrong}
    for row in wrong:
        level = next(
            (f"{a:g} to {b:g} dB" for a, b in LEVELS if row["level_db"] and a <= float(row["level_db"]) <= b), row["kind"]
        )
        groups.setdefault(level, []).append(row)
    return {name: area(_scores(right), _scores(group)) for name, group in groups.items()}


def _scores(rows: Sequence[Mapping[str, str]]) -> np.ndarray:
    """Return the scores of the rows that have one."""
    return np.array([float(row["score"]) for row in rows if row["score"] != ""])


def area(right: np.ndarray, wrong: np.ndarray) -> float:
    """Return the probability that a right stem scores higher than a wrong one; equal scores count half."""
    if not (len(right) and len(wrong)):
        return math.nan
    difference = right[:, None] - wrong[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def figure(means: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]) -> str:
    """Draw an SVG with a row per condition: the networks as circles, their mean as a dot, its interval as a line."""
    left, width, row, top = 190, 430, 34, 26
    values = [
        *(value for points in means.values() for value in points.mean(axis=1)),
        *np.concatenate([interval(d) for d in drawn.values()]),
    ]
    low, high = math.floor(2 * min(values)) / 2, math.ceil(2 * max(values)) / 2
    height = top + row * len(means) + 30

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} {height}" '
        'font-family="sans-serif" font-size="13">',
        "<title>Mean SDR on clean songs, by training data</title>",
        "<style>text{fill:#222}.g{stroke:#ccc}.i{stroke:#36c;stroke-width:2}.m{fill:#36c}.d{fill:none;stroke:#36c}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.i,.d{stroke:#8af}.m{fill:#8af}}</style>",
    ]
    for tick in np.arange(low, high + 0.01, 0.5):
        parts.append(f'<line class="g" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 8}" y2="{height - 26}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 8}" text-anchor="middle">{tick:g}</text>')
    for index, (name, points) in enumerate(means.items()):
        y = top + row * index + row / 2
        a, b = interval(drawn[name])
        parts.append(f'<text x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="i" x1="{x(a):.1f}" x2="{x(b):.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts += [f'<circle class="d" cx="{x(value):.1f}" cy="{y:.1f}" r="3"/>' for value in points.mean(axis=1)]
        parts.append(f'<circle class="m" cx="{x(points.mean()):.1f}" cy="{y:.1f}" r="5"/>')
    parts.append(f'<text x="{left + width}" y="{top - 12}" text-anchor="end">mean SDR, dB</text></svg>')
    return "".join(parts)
