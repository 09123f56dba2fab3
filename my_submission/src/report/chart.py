"""A bar chart of scores in groups: an SVG as wide as its place on the page, with text of a constant size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

HEIGHT, ABOVE, BELOW = 220, 18, 26  # pixels: of the plot, of the values above it, of the names below it
MARGIN = -28  # pixels: position of the ticks' labels, left of the bars, in a margin that the style sheet keeps free
GAP = 0.24  # between groups, as a fraction of a group


def bar_chart(groups: Sequence[str], series: Mapping[str, Sequence[float]], classes: Sequence[str], label: str) -> str:
    """Return an SVG with a bar for each group and series, in dB. Its description holds the values as text.

    Args:
        groups: names under the bars.
        series: name -> a value for each group.
        classes: CSS classes of the series' bars.
        label: title of the chart, read out by screen readers.
    """
    lowest, highest, step = _scale([value for values in series.values() for value in values])
    described = "; ".join(
        f"{name}: " + ", ".join(f"{group} {value:.1f}" for group, value in zip(groups, values, strict=True))
        for name, values in series.items()
    )
    parts = [
        f'<svg class="chart" role="img" aria-labelledby="chart-title chart-text" height="{ABOVE + HEIGHT + BELOW}">',
        f'<title id="chart-title">{escape(label)}</title><desc id="chart-text">In dB. {escape(described)}</desc>',
    ]

    def y(value: float) -> float:
        return ABOVE + HEIGHT * (highest - value) / (highest - lowest)

    for tick in range(math.ceil(lowest / step), math.floor(highest / step) + 1):
        kind = "zero" if tick == 0 else "rule"
        parts.append(f'<line class="{kind}" x1="{MARGIN}" x2="100%" y1="{y(tick * step):.1f}" y2="{y(tick * step):.1f}"/>')
        parts.append(f'<text class="tick" x="{MARGIN}" y="{y(tick * step) - 4:.1f}">{decibels(tick * step, 0)}</text>')
    group_width = 100 / len(groups)  # %
    bar_width = group_width * (1 - GAP) / len(series)
    for index, group in enumerate(groups):
        start = group_width * (index + GAP / 2)
        for position, (values, kind) in enumerate(zip(series.values(), classes, strict=True)):
            value, x = values[index], start + position * bar_width
            top, bottom = sorted((y(value), y(0)))
            place = f'x="{x:.2f}%" width="{bar_width * 0.9:.2f}%" y="{top:.1f}" height="{max(1, bottom - top):.1f}"'
            parts.append(f'<rect class="{kind}" {place}/>')
            at = top - 4 if value >= 0 else bottom + 12
            parts.append(
                f'<text class="figure {kind}" x="{x + bar_width * 0.45:.2f}%" y="{at:.1f}">{decibels(value, 1)}</text>'
            )
        middle = start + group_width * (1 - GAP) / 2
        parts.append(f'<text class="name" x="{middle:.2f}%" y="{ABOVE + HEIGHT + BELOW - 5}">{escape(group)}</text>')
    return "".join(parts) + "</svg>"


def decibels(value: float, digits: int) -> str:
    """Return a level as text, with a real minus sign (as wide as a digit) and never -0."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _scale(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (lowest, highest, step) of an axis that holds all values and zero, in four or five round steps."""
    lowest, highest = min(0.0, *values), max(0.0, *values)
    rough = max(highest - lowest, 1e-3) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    return step * math.floor(lowest / step), max(step, step * math.ceil(highest / step)), step
