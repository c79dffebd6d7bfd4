"""Values over time → the data of SVG paths. Pure.

A path and not an element for each run: a year of runs costs no more than there are points on a screen to see them on.
Plotting libraries were rejected. For a line of 168 points, of which a page of 1,000 jobs has as many, pygal takes 13 ms
and 58 KB, matplotlib 26 ms, 9 KB and 80 MB of wheels, this 0.1 ms and 2 KB; nor do their pictures follow the page's
colours and width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

# Every plot is as high as this in its own coordinates, and as wide as its window has slots.
HEIGHT = 100
# A bar of a single run must still be seen beside one of many.
_LEAST_BAR = 40


class Window(NamedTuple):
    """A stretch of time, cut into `slots` of the same length; times are seconds since the epoch."""

    since_s: float
    until_s: float
    slots: int

    def slot(self, moment_s: float) -> int:
        """The slot of a moment, the first or the last one for what lies outside."""
        share = (moment_s - self.since_s) / (self.until_s - self.since_s)
        return min(max(int(share * self.slots), 0), self.slots - 1)

    def percent(self, moment_s: float) -> float:
        """How far from its beginning a moment is."""
        return 100 * (moment_s - self.since_s) / (self.until_s - self.since_s)


def counted(window: Window, spans: Iterable[tuple[float, float]]) -> list[int]:
    """How many of the spans (begin, end) touch each slot."""
    counts = [0] * window.slots
    for begin_s, end_s in spans:
        for slot in range(window.slot(begin_s), window.slot(end_s) + 1):
            counts[slot] += 1
    return counts


def gathered(window: Window, points: Iterable[tuple[float, float]]) -> list[list[float]]:
    """The values of the points (time, value) in each slot."""
    slots: list[list[float]] = [[] for _ in range(window.slots)]
    for moment_s, value in points:
        slots[window.slot(moment_s)].append(value)
    return slots


def bars(values: Sequence[float], top: float, *, least: float = _LEAST_BAR) -> str:
    """A bar for each slot whose value is above 0; one of `top` is as high as the plot, none lower than `least`.

    >>> bars([0, 2, 2, 0, 1], 2, least=0)
    'M1 100v-100h2v100zM4 100v-50h1v50z'
    """
    parts, left = [], 0
    heights = (round(max(least, HEIGHT * value / top)) if value > 0 else 0 for value in values)
    for height, same in groupby(heights):
        width = len(list(same))
        if height:
            parts.append(f"M{left} {HEIGHT}v-{height}h{width}v{height}z")
        left += width
    return "".join(parts)


def line(slots: Sequence[Sequence[float]], top: float) -> str:
    """The means of the slots, joined over slots without a value; `top` is the value at the upper edge.

    >>> line([[1], [], [2, 4]], 4)
    'M0.1 75L0.9 75L2.5 25'
    """
    means = [(slot + 0.5, sum(values) / len(values)) for slot, values in enumerate(slots) if values]
    if not means:
        return ""
    # What is alone would have no length, and not be seen.
    first, value = means[0]
    points = [(first - 0.4, value), (first + 0.4, value), *means[1:]]
    return "M" + "L".join(f"{x:g} {_y(value, top)}" for x, value in points)


def band(slots: Sequence[Sequence[float]], top: float) -> str:
    """From the least to the most of each slot, as an area for each of them."""
    parts = []
    for slot, values in enumerate(slots):
        if len(values) > 1:
            high, low = _y(max(values), top), _y(min(values), top)
            parts.append(f"M{slot} {high}h1V{low}h-1z")
    return "".join(parts)


def _y(value: float, top: float) -> str:
    return f"{HEIGHT * (1 - min(max(value / top, 0), 1)):.4g}"
