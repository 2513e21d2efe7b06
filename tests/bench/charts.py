"""Polylines over an axis, as text for a terminal and as SVG (https://www.w3.org/TR/SVG11/) for a document; nothing but strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 40
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


def nice_top(value: float) -> float:
    """The smallest of 1, 2, 5, 10, 20 and so on that is not below the value."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(power * step for step in (1, 2, 5, 10) if power * step >= value * 0.999))


def text(title: str, series: Mapping[str, Points], *, columns: int = 60, lines: int = 10) -> str:
    """A plot of characters: of each series the first letter of its name."""
    right = max(x for points in series.values() for x, _ in points)
    top = nice_top(max(y for points in series.values() for _, y in points))
    grid = [[" "] * columns for _ in range(lines)]
    for name, points in series.items():
        for x, y in points:
            column = min(columns - 1, int(x / right * columns))
            grid[lines - 1 - min(lines - 1, int(y / top * lines))][column] = name[0]
    rows = [title]
    for number, row in enumerate(grid):
        label = f"{top * (lines - number) / lines:g}" if number % 2 == 0 else ""
        rows.append(f"{label:>7} |{''.join(row).rstrip()}")
    rows.append(f"{'0':>7} +{'-' * columns}")
    rows.append(f"{'':>8}0{right:>{columns}g}")
    return "\n".join(rows)


def svg(title: str, horizontal: str, vertical: str, series: Mapping[str, Points]) -> str:
    """The text of an SVG document, with a legend and both axes from 0."""
    right = nice_right(max(x for points in series.values() for x, _ in points))
    top = nice_top(max(y for points in series.values() for _, y in points))
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> str:
        return f"{LEFT + x / right * wide:.1f},{TOP + high - y / top * high:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for step in range(6):
        y = TOP + high - high * step / 5
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * step / 5:g}</text>')
        x = LEFT + wide * step / 5
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{right * step / 5:g}</text>')
    middle = TOP + high / 2
    parts.append(f'<text x="{LEFT + wide / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(horizontal)}</text>')
    parts.append(f'<text transform="translate(14,{middle}) rotate(-90)" text-anchor="middle">{escape(vertical)}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        line = " ".join(place(x, y) for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if len(series) > 1:
            x = WIDTH - RIGHT - 110 * (len(series) - number)
            parts.append(f'<text x="{x}" y="20" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def nice_right(value: float) -> float:
    """As :func:`nice_top`, with finer steps: the points shall fill the chart."""
    power = 10.0 ** math.floor(math.log10(value))
    return float(next(power * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if power * step >= value * 0.999))
