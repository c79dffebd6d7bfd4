"""The jobs of a scope, one line for each, those that need a look first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo

from sereno.cli.terminal import Line, Table, colour_of, duration, short_span, when
from sereno.observe.job_state import JobState
from sereno.observe.look import Snapshot
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


def in_order(jobs: Iterable[JobState]) -> list[JobState]:
    """What fails, what runs, what is stopped, the others, what is paused."""
    return sorted(jobs, key=lambda job: (list(_KINDS).index(kind(job)), job.job.id))


def kind(job: JobState) -> str:
    """What a job is first of all: one of "failing", "running", "stopped", "active", "paused"."""
    if job.failing:
        return "failing"
    if job.running:
        return "running"
    if job.paused:
        return "paused"
    return "stopped" if job.stopped else "active"


def counts(jobs: Sequence[JobState]) -> Line:
    """How many jobs there are, and how many of them need a look or are at work."""
    found = {
        "failing": sum(job.failing for job in jobs),
        "running": sum(job.running for job in jobs),
        "stopped": sum(job.stopped for job in jobs),
        "paused": sum(job.paused for job in jobs),
    }
    line: Line = [(f"{len(jobs)} job{'' if len(jobs) == 1 else 's'}", "bold")]
    for name, count in found.items():
        if count:
            line += [(", ", None), (f"{count} {name}", _KINDS[name][1])]
    return line


def _cells(job: JobState, now_s: float) -> dict[str, str]:
    last = job.last
    took = "-" if last is None else duration(last.duration_ms)
    result = "-" if last is None else printable(last.status)
    if job.running:
        # The record of its start may be on its way still.
        began_s = last.start_s if last is not None and last.status == "running" else None
        took = "-" if began_s is None else short_span(now_s - began_s)
        result = "running"
    moment_s = None if last is None else last.at_s
    return {
        "  JOB": f"{_KINDS[kind(job)][0]} {printable(job.job.id)}",
        "SCHEDULE": printable(job.schedule),
        "NEXT IN": _next(job, now_s),
        "AGO": "-" if moment_s is None else short_span(now_s - moment_s, units=1),
        "RESULT": result,
        "TOOK": took,
        "WHY": printable(last.error or "") if last is not None else "",
    }


def _next(job: JobState, now_s: float) -> str:
    if job.paused:
        return "paused"
    if job.stopped:
        return "stopped"
    if job.next is None:
        # Of a boot job for good; else the run that was under way when the timers were looked at has just ended.
        return "now" if job.running else "-"
    ahead_s = job.next.timestamp() - now_s
    return short_span(ahead_s) if ahead_s >= 1 else "now"


def _colours(job: JobState) -> dict[str, str | None]:
    status = "running" if job.running else job.last.status if job.last else None
    result = None if status is None else colour_of(status)
    waits = "yellow" if job.paused or job.stopped else None
    name = _KINDS[kind(job)][1]
    return {"  JOB": name, "NEXT IN": waits, "RESULT": result, "TREND": "dim", "WHY": "red"}


class WatchTable:
    """The lines of a snapshot, in order, on a terminal of so many columns.

    Args:
        now_s: seconds since the epoch.
        width: None: as wide as they are.
    """

    def __init__(
        self, snapshot: Snapshot, now_s: float, width: int | None, *, is_ascii: bool = False
    ) -> None:
        self._jobs = in_order(snapshot.jobs)
        trend = _TREND_NARROW if width is not None and width < _WIDE else _TREND_WIDE
        self._rows = []
        for job in self._jobs:
            # The newest ones: a block is a run.
            took = snapshot.durations_ms.get(job.job.id, ())[-trend:]
            cells = _cells(job, now_s) | {"TREND": sparkline(took, trend, ascii_only=is_ascii)}
            self._rows.append([cells[name] for name in HEADER])
        least = [{**_LEAST, "TREND": trend}.get(name, 0) for name in HEADER]
        self._table = Table(
            HEADER, self._rows, width, cut=_CUT, drop=_DROP, least=least, is_ascii=is_ascii
        )
        self.header = self._table.header

    def line(self, number: int) -> Line:
        return self._table.line(self._rows[number], _colours(self._jobs[number]))


def detail(job: JobState, zone: tzinfo | None) -> str:
    """The selected job in one line: why it failed, else when it runs next, and its name."""
    if job.failing and job.last is not None and job.last.error:
        return f"{printable(job.job.id)}: {printable(job.last.error)}"
    then = f", next {when(job.next, zone)}" if job.next is not None else ""
    return f"{printable(job.job.id)}: {printable(job.schedule)}{then}"
