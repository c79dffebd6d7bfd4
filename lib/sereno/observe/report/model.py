"""What is known of jobs and their runs → the values that the page shows. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sereno.observe.overview import Overview
from sereno.observe.report.ahead import DAY_S, Ahead
from sereno.observe.report.plots import HEIGHT, Window, band, bars, counted, gathered, line
from sereno.records.run_record import Run, is_figure

# In the order of their lanes; what else a record says comes after them.
STATUSES = ("success", "failed", "lost", "interrupted", "skipped", "missed", "running")
# Runs in a job's table, failures in the list of all.
RECENT, NEWEST_FAILURES = 5, 50


@dataclass(frozen=True, slots=True)
class Lane:
    """The runs of one status: how many, and where they are, as path data."""

    status: str
    count: int
    path: str
    y: int


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure over time.

    Attributes:
        title, unit: what it is; the unit is "ms" for durations, which are shown in the fitting one.
        area, line: path data.
        top: the value at the upper edge; the lower one is 0.
        total: None where a sum has no meaning.
    """

    title: str
    unit: str
    area: str
    line: str
    top: float
    total: float | None
    mean: float
    most: float
    last: float


@dataclass(frozen=True, slots=True)
class JobView:
    """One job on the page.

    Attributes:
        overview: schedule, next elapse, newest run, state.
        standstill: what keeps its timer from running that nobody has paused, and the way out.
        lanes: its runs by status; elapses without a run are "missed".
        checked_since_s: since when elapses without a run were looked for; None: not at all.
        recent: its newest runs, the newest first.
    """

    overview: Overview
    lanes: tuple[Lane, ...]
    plots: tuple[Plot, ...]
    checked_since_s: float | None
    recent: tuple[Run, ...]
    standstill: str = ""

    def count(self, status: str) -> int:
        return sum(lane.count for lane in self.lanes if lane.status == status)

    @property
    def runs(self) -> int:
        return sum(lane.count for lane in self.lanes if lane.status != "missed")


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert or overrun."""

    moment_s: float
    job_id: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """All of the page. `failures` are the newest; `remarks` say what could not be looked at."""

    host: str
    scope: str
    window: Window
    journal_begins_s: float | None
    jobs: tuple[JobView, ...]
    ahead: Ahead
    notices: tuple[Notice, ...]
    notice_count: int
    failures: tuple[Run, ...]
    remarks: tuple[str, ...]

    def count(self, status: str) -> int:
        return sum(job.count(status) for job in self.jobs)

    @property
    def runs(self) -> int:
        return sum(job.runs for job in self.jobs)

    @property
    def failure_count(self) -> int:
        return self.count("failed") + self.count("lost")


def window_of(days: float, until_s: float) -> Window:
    """The window of so many days: slots of an hour for a week, from half an hour to 1/240 of it for others."""
    return Window(until_s - days * DAY_S, until_s, int(min(max(days * 24, 48), 240)))


def job_view(
    overview: Overview,
    runs: Sequence[Run],
    window: Window,
    *,
    missed_s: Sequence[float] = (),
    checked_since_s: float | None = None,
    max_size: int | None = None,
    is_cleanup: bool = False,
    standstill: str = "",
) -> JobView:
    """Make a job's part of the page.

    Args:
        runs: those of the window, in the order of their beginning.
        missed_s: elapses without a run.
        checked_since_s: since when they were looked for.
        max_size: the limit of the cache, if there is one and the job is its cleanup.
        is_cleanup: whether the runs have the statistics of the cache's cleanup.
        standstill: see `JobView`.
    """
    plots = [_durations(runs, window)]
    if is_cleanup:
        plots += [
            _amounts(runs, window, "entries_removed", "Entries removed", "entries"),
            _amounts(runs, window, "memory_freed_kb", "Memory freed", "KiB"),
            _level(runs, window, "hit_rate", "Hit rate", "%", 100),
            _level(runs, window, "entries_after", "Fill after the cleanup", "entries", max_size),
        ]
    return JobView(
        overview,
        _lanes(runs, missed_s, window),
        tuple(plot for plot in plots if plot is not None),
        checked_since_s,
        tuple(runs[: -RECENT - 1 : -1]),
        standstill,
    )


def _lanes(runs: Iterable[Run], missed_s: Sequence[float], window: Window) -> tuple[Lane, ...]:
    spans: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        begin_s = moment_of(run)
        end_s = window.until_s if run.status == "running" else run.end_s or begin_s
        spans.setdefault(run.status, []).append((begin_s, end_s))
    if missed_s:
        spans["missed"] = [(elapse_s, elapse_s) for elapse_s in missed_s]
    order = [*STATUSES, *sorted(spans.keys() - set(STATUSES))]
    counts = {status: counted(window, spans[status]) for status in order if status in spans}
    most = max((max(found) for found in counts.values()), default=1)
    return tuple(
        Lane(status, len(spans[status]), bars(found, most), number * HEIGHT)
        for number, (status, found) in enumerate(counts.items())
    )


def moment_of(run: Run) -> float:
    """When a run began, or ended where its beginning is not known."""
    return run.start_s if run.start_s is not None else run.end_s or 0.0


def _durations(runs: Iterable[Run], window: Window) -> Plot | None:
    points = [
        (moment_of(run), value)
        for run in runs
        if run.status != "skipped" and (value := _number(run.duration_ms)) is not None
    ]
    return _plot(points, window, "Duration", "ms", None)


def _level(
    runs: Iterable[Run], window: Window, name: str, title: str, unit: str, top: float | None
) -> Plot | None:
    return _plot(_points(runs, name), window, title, unit, top)


def _amounts(runs: Iterable[Run], window: Window, name: str, title: str, unit: str) -> Plot | None:
    points = _points(runs, name)
    if not points:
        return None
    sums = [sum(values) for values in gathered(window, points)]
    values = [value for _, value in points]
    top = max(sums) or 1
    return Plot(
        *(title, unit, bars(sums, top, least=2), "", top),
        *(sum(values), sum(values) / len(values), max(values), values[-1]),
    )


def _plot(
    points: Sequence[tuple[float, float]],
    window: Window,
    title: str,
    unit: str,
    top: float | None,
) -> Plot | None:
    if not points:
        return None
    values = [value for _, value in points]
    slots = gathered(window, points)
    top = max(top or 0, max(values)) or 1
    return Plot(
        *(title, unit, band(slots, top), line(slots, top), top),
        *(None, sum(values) / len(values), max(values), values[-1]),
    )


def _points(runs: Iterable[Run], name: str) -> list[tuple[float, float]]:
    return [
        (moment_of(run), value)
        for run in runs
        if (value := _number((run.stats or {}).get(name))) is not None
    ]


def _number(value: Any) -> float | None:
    return float(value) if is_figure(value) else None


def failures_of(runs: Iterable[Run]) -> list[Run]:
    """The newest of the runs that need a look, the newest first."""
    bad = sorted((run for run in runs if run.is_bad), key=moment_of, reverse=True)
    return bad[:NEWEST_FAILURES]


def tally(jobs: Iterable[JobView]) -> dict[str, int]:
    """How many jobs are in each state."""
    return dict(Counter(job.overview.state for job in jobs).most_common())
