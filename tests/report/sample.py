"""A report with every kind of run, and with names and messages that no page should take at their word."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sereno.cli.terminal import duration, number
from sereno.observe.job_state import JobState
from sereno.observe.report import model
from sereno.observe.report.ahead import DAY_S, ahead
from sereno.observe.report.page import page
from sereno.records.run_record import Run
from sereno.records.verdict import CUT_OFF
from sereno.units.unit_text import Installed

NOW_S = 1_762_351_200.0  # 2025-11-05 14:00:00 UTC, a Wednesday
WINDOW = model.window_of(7, NOW_S)
HOUR_S = 3_600.0
NASTY = (
    "<script>window.taken = 1</script><img src=x onerror='window.taken = 2'>"
    "\"'></title></style>&amp;\x1b[31m\u202e https://example.org/a.png {{ 7 * 7 }}"
)


def a_run(job_id: str, begin_s: float, status: str = "success", **fields: Any) -> Run:
    ended = {} if status == "running" else {"end_s": begin_s + 2, "duration_ms": 2000.0}
    return Run(job_id, f"{int(begin_s):032x}", status, begin_s, **{**ended, **fields})


def a_state(job_id: str, last: Run | None = None, **fields: Any) -> JobState:
    name = fields.pop("name", "A job")
    installed = Installed(
        job_id, "shop", name, "shop.jobs:work", "cron[0 * * * *]", False, None, False, 0, True, True, (), {}, {}
    )  # fmt: skip
    next_at = datetime.fromtimestamp(NOW_S + HOUR_S, UTC)
    values = {"active": True, "running": False, "failing": False, "drop_ins": ()}
    return JobState(installed, "every hour", next_at, last, **{**values, **fields})


def hourly(job_id: str, **fields: Any) -> list[Run]:
    return [a_run(job_id, WINDOW.since_s + HOUR_S * each + 60, **fields) for each in range(168)]


def cleanup() -> model.JobView:
    runs = [
        run._replace(
            stats={
                "entries_removed": index % 50, "memory_freed_kb": index % 70, "hit_rate": 60 + index % 30,
                "entries_after": 900 + index,
            }
        )
        for index, run in enumerate(hourly("cache_cleanup_hourly"))
    ]  # fmt: skip
    return model.job_view(
        a_state("cache_cleanup_hourly", runs[-1]), runs, WINDOW, max_size=2000, is_cleanup=True
    )


def mixed() -> model.JobView:
    """A job whose runs came to everything that there is."""
    statuses = ("failed", "lost", "interrupted", "skipped", "running")
    runs = [
        *hourly("mixed")[:100],
        *(
            a_run("mixed", NOW_S - (9 - index) * HOUR_S, status, error=NASTY if index < 2 else None)
            for index, status in enumerate(statuses)
        ),
    ]
    missed_s = [NOW_S - 20 * HOUR_S, NOW_S - 19 * HOUR_S]
    shown = a_state("mixed", runs[-1], name=NASTY, failing=True, running=True)
    return model.job_view(shown, runs, WINDOW, missed_s=missed_s, checked_since_s=NOW_S - 2 * DAY_S)


def a_report(*jobs: model.JobView) -> model.Report:
    jobs = jobs or (cleanup(), mixed(), model.job_view(a_state("never_ran"), [], WINDOW))
    failed = [run for job in jobs for run in job.recent]
    lost = a_run("mixed", NOW_S - 90_000, "lost", error=CUT_OFF)
    return model.Report(
        host="server",
        scope="system",
        window=WINDOW,
        journal_begins_s=NOW_S - 5 * DAY_S,
        jobs=tuple(jobs),
        ahead=ahead(
            {"mixed": [NOW_S + 900 * each for each in range(1, 97)], "cache_cleanup_hourly": [NOW_S + HOUR_S]}, NOW_S
        ),
        notices=(
            model.Notice(NOW_S - 900, "mixed", "low hit rate", NASTY),
            model.Notice(NOW_S - 950, "gone", "overrun", "of a job that was removed"),
        ),
        notice_count=2,
        failures=tuple(model.failures_of([*failed, lost])),
        remarks=(),
    )  # fmt: skip


def html(report: model.Report) -> str:
    return page(report, filters={"duration": duration, "number": number}, zone=UTC)
