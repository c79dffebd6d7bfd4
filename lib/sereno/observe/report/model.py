"""What is known of jobs and their runs → the values that the page shows. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sereno.observe.job_state import JobState
from sereno.observe.report.ahead import DAY_S, Ahead
from sereno.observe.report.plots import HEIGHT, Window, band, bars, counted, gathered, line
from sereno.records.run_record import Run, is_figure

# In the order of their lanes; what else a record says comes after them.
STATUSES = ("success", "failed", "lost", "interrupted", "skipped", "missed", "running")
# Runs in a job's table, failures in the list of all.
RECENT, NEWEST_FAILURES = 5, 50
# A timer may be early by nothing, and a clock that is being set by a little.
_EARLY_S = 1.0
# How long after its elapse a run may still be about to begin.
_PATIENCE_S = 60.0
# Statistics of the cache's cleanup that are drawn: name, title, unit, whether their sums are.
_OF_CLEANUP = (
    ("entries_removed", "Entries removed", "entries", True),
    ("memory_freed_kb", "Memory freed", "KiB", True),
    ("hit_rate", "Hit rate", "%", False),
    ("entries_after", "Fill after the cleanup", "entries", False),
)


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
        state: as it is now.
        lanes: its runs by status; elapses without a run are "missed".
        checked_since_s: since when elapses without a run were looked for; None: not at all.
        recent: its newest runs, the newest first.
    """

    state: JobState
    lanes: tuple[Lane, ...]
    plots: tuple[Plot, ...]
    checked_since_s: float | None
    recent: tuple[Run, ...]

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
    state: JobState,
    runs: Sequence[Run],
    window: Window,
    *,
    missed_s: Sequence[float] = (),
    checked_since_s: float | None = None,
    max_size: int | None = None,
    is_cleanup: bool = False,
) -> JobView:
    """Make a job's part of the page.

    Args:
        runs: those of the window, in the order of their beginning.
        missed_s: elapses without a run.
        max_size: the limit of the cache, if there is one and the job is its cleanup.
        is_cleanup: whether the runs have the statistics of the cache's cleanup.
    """
    took = [
        (run.at_s or 0.0, run.duration_ms)
        for run in runs
        if run.status != "skipped" and is_figure(run.duration_ms)
    ]
    plots = [_plot(took, window, "Duration", "ms")]
    if is_cleanup:
        tops = {"hit_rate": 100, "entries_after": max_size}
        plots += [
            _plot(_points(runs, name), window, title, unit, tops.get(name), summed=summed)
            for name, title, unit, summed in _OF_CLEANUP
        ]
    return JobView(
        state,
        _lanes(runs, missed_s, window),
        tuple(plot for plot in plots if plot is not None),
        checked_since_s,
        tuple(runs[: -RECENT - 1 : -1]),
    )


def missed(
    elapses_s: Sequence[float], runs: Iterable[Run], *, until_s: float, slack_s: float = 0
) -> list[float]:
    """The elapses of a calendar schedule that have neither run nor skip: none began between one and the next.

    No record tells of these, only the schedule does. A run that starts late (it waits for another job, or makes up for
    a time in which the machine was off) counts for the elapse before it, and one that passes while a run goes on is an
    overrun and not missed.

    Args:
        elapses_s: ascending, seconds since the epoch.
        runs: every run that began or ended in that time, skipped ones too.
        until_s: now.
        slack_s: how late the timer itself may be (jitter and accuracy).
    """
    spans = sorted(_span_s(run, until_s) for run in runs if run.at_s is not None)
    begins = [begin_s for begin_s, _ in spans]
    found = []
    for elapse_s, next_s in zip(elapses_s, (*elapses_s[1:], until_s + _EARLY_S), strict=False):
        if elapse_s > until_s - slack_s - _PATIENCE_S:
            break
        before = bisect_right(begins, elapse_s)
        if before and spans[before - 1][1] >= elapse_s:
            continue
        first = bisect_left(begins, elapse_s - _EARLY_S)
        if first == len(begins) or begins[first] >= next_s - _EARLY_S:
            found.append(elapse_s)
    return found


def _span_s(run: Run, until_s: float) -> tuple[float, float]:
    begin_s = run.at_s or 0.0
    return begin_s, until_s if run.status == "running" else run.end_s or begin_s


def _lanes(runs: Iterable[Run], missed_s: Sequence[float], window: Window) -> tuple[Lane, ...]:
    spans: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        spans.setdefault(run.status, []).append(_span_s(run, window.until_s))
    if missed_s:
        spans["missed"] = [(elapse_s, elapse_s) for elapse_s in missed_s]
    order = [*STATUSES, *sorted(spans.keys() - set(STATUSES))]
    counts = {status: counted(window, spans[status]) for status in order if status in spans}
    most = max((max(found) for found in counts.values()), default=1)
    return tuple(
        Lane(status, len(spans[status]), bars(found, most), number * HEIGHT)
        for number, (status, found) in enumerate(counts.items())
    )


def _plot(
    points: Sequence[tuple[float, float]], window: Window, title: str, unit: str, top: float | None = None,
    *, summed: bool = False,
) -> Plot | None:  # fmt: skip
    """The means of each slot between least and most, or, `summed`, their sums; `top`: at least as high as this."""
    if not points:
        return None
    values = [value for _, value in points]
    slots = gathered(window, points)
    if summed:
        sums = [sum(each) for each in slots]
        top = max(sums) or 1
        area, means, total = bars(sums, top, least=2), "", sum(values)
    else:
        top = max(top or 0, *values) or 1
        area, means, total = band(slots, top), line(slots, top), None
    mean = sum(values) / len(values)
    return Plot(title, unit, area, means, top, total, mean, max(values), values[-1])


def _points(runs: Iterable[Run], name: str) -> list[tuple[float, float]]:
    found = ((run.at_s or 0.0, (run.stats or {}).get(name)) for run in runs)
    return [(moment_s, value) for moment_s, value in found if is_figure(value)]


def failures_of(runs: Iterable[Run]) -> list[Run]:
    """The newest of the runs that need a look, the newest first."""
    bad = sorted((run for run in runs if run.is_bad), key=lambda run: run.at_s or 0.0, reverse=True)
    return bad[:NEWEST_FAILURES]
