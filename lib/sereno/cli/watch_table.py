"""The jobs of a scope at a glance: one line for each, those that need a look first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from sereno.cli.terminal import colour_of, duration, fit, layout, when
from sereno.observe.look import Snapshot
from sereno.observe.overview import Overview
from sereno.observe.totals import sparkline
from sereno.records.printable import printable

HEADER = ("  JOB", "SCHEDULE", "NEXT IN", "AGO", "RESULT", "TOOK", "TREND", "WHY")
_CUT = ("  JOB", "SCHEDULE", "WHY")
# What is least missed goes first where the terminal is narrow.
_DROP = ("WHY", "TREND", "AGO", "SCHEDULE", "TOOK", "RESULT")
# So that columns stay where they are while times pass.
_LEAST = {"NEXT IN": 9, "AGO": 5, "RESULT": 7, "TOOK": 8, "WHY": 12}
_WIDE = 100
_TREND_NARROW, _TREND_WIDE = 5, 16
# In this order: what the mark is, the colour of the job's name, the word in the first line.
_KINDS = {
    "failing": ("!", "red"),
    "running": (">", "cyan"),
    "stopped": ("-", "yellow"),
    "active": (" ", None),
    "paused": ("=", "yellow"),
}

# A line's pieces: text and its colour, None for none.
Line = list[tuple[str, str | None]]


class Glance(NamedTuple):
    """What is on the screen at one moment.

    Attributes:
        jobs: in the order of the lines.
        cells: for each job, the cells of `HEADER` but TREND.
        colours: for each job, {column's name: colour}.
        durations_ms: as in the snapshot.
    """

    jobs: Sequence[Overview]
    cells: Sequence[Mapping[str, str]]
    colours: Sequence[Mapping[str, str | None]]
    durations_ms: Mapping[str, Sequence[float]]


def glance(snapshot: Snapshot, now_s: float) -> Glance:
    """Put a snapshot in order: what fails, what runs, what is stopped, the others, what is paused.

    Args:
        now_s: seconds since the epoch.
    """
    jobs = sorted(snapshot.jobs, key=lambda job: (list(_KINDS).index(kind(job)), job.job.id))
    return Glance(
        jobs,
        [_cells(job, now_s) for job in jobs],
        [_colours(job) for job in jobs],
        snapshot.durations_ms,
    )


def kind(job: Overview) -> str:
    """What a job is first of all: one of "failing", "running", "stopped", "active", "paused"."""
    if job.failing:
        return "failing"
    if job.running:
        return "running"
    if not job.job.enabled:
        return "paused"
    return "active" if job.active else "stopped"


def counts(jobs: Sequence[Overview]) -> Line:
    """How many jobs there are, and how many of them need a look or are at work."""
    found = {
        "failing": sum(job.failing for job in jobs),
        "running": sum(job.running for job in jobs),
        "stopped": sum(job.job.enabled and not job.active for job in jobs),
        "paused": sum(not job.job.enabled for job in jobs),
    }
    line: Line = [(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}", "bold")]
    for name, count in found.items():
        if count:
            line += [(", ", None), (f"{count} {name}", _KINDS[name][1])]
    return line


def _cells(job: Overview, now_s: float) -> dict[str, str]:
    last = job.last
    took = "-" if last is None else duration(last.duration_ms)
    result = "-" if last is None else printable(last.status)
    if job.running:
        # The record of its start may be on its way still.
        began_s = last.start_s if last is not None and last.status == "running" else None
        took = "-" if began_s is None else short_span(now_s - began_s)
        result = "running"
    moment_s = None if last is None else last.start_s or last.end_s
    return {
        "  JOB": f"{_KINDS[kind(job)][0]} {printable(job.job.id)}",
        "SCHEDULE": printable(job.schedule),
        "NEXT IN": _next(job, now_s),
        "AGO": "-" if moment_s is None else short_span(now_s - moment_s, units=1),
        "RESULT": result,
        "TOOK": took,
        "WHY": printable(last.error or "") if last is not None else "",
    }


def _next(job: Overview, now_s: float) -> str:
    if not job.job.enabled:
        return "paused"
    if not job.active:
        return "stopped"
    if job.next is None:
        # Of a boot job for good; else the run that was under way when the timers were looked at has just ended.
        return "now" if job.running else "-"
    ahead_s = job.next.timestamp() - now_s
    return short_span(ahead_s) if ahead_s >= 1 else "now"


def _colours(job: Overview) -> dict[str, str | None]:
    status = "running" if job.running else job.last.status if job.last else None
    result = None if status is None else colour_of(status)
    waits = "yellow" if not (job.job.enabled and job.active) else None
    name = _KINDS[kind(job)][1]
    return {"  JOB": name, "NEXT IN": waits, "RESULT": result, "TREND": "dim", "WHY": "red"}


def short_span(seconds: float, units: int = 2) -> str:
    """A length of time in its largest `units` units, whole seconds: `45s`, `4min 5s`, `1h 12min`, `3d 4h`."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for name, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts or name == "s":
            parts.append(f"{count}{name}")
    return " ".join(part for part in parts[:units] if part[0] != "0" or len(parts) == 1)


class Table:
    """The lines of a glance on a terminal of so many columns."""

    def __init__(self, glance: Glance, width: int | None, *, is_ascii: bool = False) -> None:
        """width: None: as wide as they are."""
        self._glance = glance
        self._is_ascii = is_ascii
        self._trend = _TREND_NARROW if width is not None and width < _WIDE else _TREND_WIDE
        self._rows = [self._row(number) for number in range(len(glance.jobs))]
        least = tuple(" " * self._least(name) for name in HEADER)
        self._keep, self._widths = fit(HEADER, [least, *self._rows], width, cut=_CUT, drop=_DROP)

    def _least(self, name: str) -> int:
        return self._trend if name == "TREND" else _LEAST.get(name, 0)

    def _row(self, number: int) -> tuple[str, ...]:
        cells = self._glance.cells[number]
        job_id = self._glance.jobs[number].job.id
        # The newest ones: a block is a run.
        took = self._glance.durations_ms.get(job_id, ())[-self._trend :]
        trend = sparkline(took, self._trend, ascii_only=self._is_ascii)
        return tuple(trend if name == "TREND" else cells[name] for name in HEADER)

    def header(self) -> Line:
        return self._line(HEADER, dict.fromkeys(HEADER, "bold"))

    def line(self, number: int) -> Line:
        return self._line(self._rows[number], self._glance.colours[number])

    def _line(self, cells: Sequence[str], colours: Mapping[str, str | None]) -> Line:
        pieces = layout(cells, self._keep, self._widths, is_ascii=self._is_ascii)
        return [(text, colours.get(HEADER[at]) if at >= 0 else None) for text, at in pieces]


def detail(job: Overview, zone: tzinfo | None) -> str:
    """The selected job in one line: why it failed, else when it runs next, and its name."""
    if job.failing and job.last is not None and job.last.error:
        return f"{printable(job.job.id)}: {printable(job.last.error)}"
    next_: datetime | None = job.next
    then = f", next {when(next_, zone)}" if next_ is not None else ""
    return f"{printable(job.job.id)}: {printable(job.schedule)}{then}"
