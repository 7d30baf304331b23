"""Curves and bars as SVG; colours are the style sheet's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from maskcon.report.palette import LINES

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 92, 12, 34  # margins; names of the lines stand at the right
MOST = 400  # points of a line
COLOURS = LINES  # that the style sheet has
LINE = 15  # height of a name


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: stands at its end.
        points: (x, y), x ascending.
        level: a dotted line across at this y, to be compared with; None is none.
    """

    name: str
    points: Sequence[tuple[float, float]]
    level: float | None = None


def chart(lines: Sequence[Line], title: str, unit: str, top: float | None = None) -> str:
    """Lines over the steps of a run.

    Args:
        lines: one or more, each of one point or more, all of them finite.
        title: what a screen reader says it is.
        unit: of y, follows its numbers.
        top: end of the y axis, which then begins at 0; by default what the points need.
    """
    ys = [y for line in lines for _, y in line.points]
    levels = [line.level for line in lines if line.level is not None]
    low, high = (0.0, top) if top is not None else (min(ys), max([*ys, *levels]))
    right = max(x for line in lines for x, _ in line.points)
    across = [x for x in _ticks(0, right) if x <= right]
    up = _ticks(low, high)
    low, high = min(low, up[0]), max(high, up[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (WIDTH - LEFT - RIGHT) * x / max(right, 1e-9)
        return LEFT + across, HEIGHT - BOTTOM - _height(y, low, high)

    parts = [_axes([(x, at(x, low)[0]) for x in across], [(y, at(0, y)[1]) for y in up], unit)]
    ends = _spread([at(*line.points[-1])[1] for line in lines])
    for index, (line, end) in enumerate(zip(lines, ends, strict=True)):
        colour = f"c{index % COLOURS}"
        if line.level is not None:
            y = at(0, line.level)[1]
            parts.append(f'<line class="level {colour}" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
                         f'y1="{y:.1f}" y2="{y:.1f}"/>')  # fmt: skip
        drawn = [at(x, y) for x, y in thinned(line.points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        parts.append(f'<polyline class="{colour}" points="{path}"/>')
        if len(drawn) < 30:
            parts += [f'<circle class="{colour}" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
                      for x, y in drawn]  # fmt: skip
        parts.append(f'<text class="{colour}" x="{WIDTH - RIGHT + 6}" y="{end + 4:.1f}">'
                     f"{escape(line.name)}</text>")  # fmt: skip
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def _height(y: float, low: float, high: float) -> float:
    return (HEIGHT - TOP - BOTTOM) * (y - low) / max(high - low, 1e-12)


def _axes(
    across: Sequence[tuple[float, float]], up: Sequence[tuple[float, float]], unit: str
) -> str:
    """Grid lines and numbers: (number, place) along both axes."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [f'<text x="{right}" y="{HEIGHT - 2}" text-anchor="end">step</text>']
    for number, y in up:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_shown(number)}{unit}</text>'
        )
    for number, x in across:
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_shown(number)}</text>'
        )
    return "".join(parts)


def _ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that cover [low, high], four or so of them."""
    span = high - low
    if span <= 0:
        span = abs(high) or 1.0
    step = 10 ** math.floor(math.log10(span / about))
    step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= about + 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def _shown(number: float) -> str:
    if abs(number) >= 10_000 and number % 1000 == 0:
        return f"{number / 1000:,.0f}k"
    return f"{round(number, 6):,g}"


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights of names, moved apart so that none covers another."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + LINE)
    over = max(0.0, max(placed) - (HEIGHT - BOTTOM))
    return [height - over for height in placed]


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MOST` points: means of as many neighbours as it takes."""
    size = -(-len(points) // MOST)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def bar(share: float, colour: int = 0) -> str:
    """A bar of a share in [0, 1], for a cell that has it as text, too."""
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="ground" width="100" height="8"/>'
        f'<rect class="c{colour}" width="{100 * share:.1f}" height="8"/></svg>'
    )
