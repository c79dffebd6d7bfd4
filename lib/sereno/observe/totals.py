"""What the runs of a period amount to: totals, means and lines of blocks. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sereno.records.run_record import Run, is_figure

# A level and not an amount: its sum over several runs means nothing.
_LEVEL = re.compile(r"(^|_)(rate|percent|ratio|before|after|size|current)$")
_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = "_.:-=+*#"


class Statistic(NamedTuple):
    """One figure over the runs of a period; `total` is None where a sum has no meaning (a rate, a size)."""

    total: float | None
    mean: float
    least: float
    most: float
    last: float


class Period(NamedTuple):
    """What runs amount to.

    Attributes:
        counts: how many runs came to each status, {status: number}.
        duration_ms: of the runs that were not skipped; None without any.
        statistics: each number that the runs returned, by name, over the runs that returned it.
    """

    counts: dict[str, int]
    duration_ms: Statistic | None
    statistics: dict[str, Statistic]

    def as_json(self) -> dict[str, Any]:
        return {
            "runs": sum(self.counts.values()),
            "counts": self.counts,
            "duration_ms": self.duration_ms and self.duration_ms._asdict(),
            "statistics": {name: each._asdict() for name, each in self.statistics.items()},
        }


def period_of(runs: Iterable[Run]) -> Period:
    """Totals and means of `runs`, which are in the order of time."""
    runs = list(runs)
    counts: dict[str, int] = {}
    values: dict[str, list[float]] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
        for name, value in (run.stats or {}).items():
            if is_figure(value):
                values.setdefault(name, []).append(value)
    durations = durations_ms(runs)
    return Period(
        dict(sorted(counts.items())),
        _statistic("duration", durations) if durations else None,
        {name: _statistic(name, found) for name, found in values.items()},
    )


def _statistic(name: str, values: list[float]) -> Statistic:
    total = sum(values)
    return Statistic(
        None if _LEVEL.search(name) else total,
        total / len(values),
        min(values),
        max(values),
        values[-1],
    )


def durations_ms(runs: Iterable[Run]) -> list[float]:
    """How long the runs took, in their order, of those that were not skipped."""
    return [
        run.duration_ms for run in runs if run.duration_ms is not None and run.status != "skipped"
    ]


def series(runs: Iterable[Run], name: str) -> list[float]:
    """The values of one statistic, in the order of the runs that have it."""
    found = ((run.stats or {}).get(name) for run in runs)
    return [value for value in found if is_figure(value)]


def sparkline(values: Sequence[float], width: int = 40, *, ascii_only: bool = False) -> str:
    """`values` as a line of at most `width` blocks, from the least to the most; each block is the mean of its share.

    >>> sparkline([1, 2, 3, 4, 5, 6, 7, 8])
    '▁▂▃▄▅▆▇█'
    """
    count = min(width, len(values))
    shares = [
        values[index * len(values) // count : (index + 1) * len(values) // count]
        for index in range(count)
    ]
    means = [sum(share) / len(share) for share in shares]
    if not means:
        return ""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    low, high = min(means), max(means)
    step = (high - low) / (len(blocks) - 1) or 1.0
    return "".join(blocks[round((mean - low) / step)] for mean in means)
