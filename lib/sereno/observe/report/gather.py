"""Asks a machine for the `Report` of one scope: unit files, manager, journal and schedules.

The manager and systemd-analyze are other processes: they are asked in the background while the journal is read.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import tzinfo
from typing import Any

from sereno.errors import NotAvailable
from sereno.jobs import cache_cleanup_job
from sereno.manager.names import TARGET, app_target_name, service_name, timer_name
from sereno.manager.systemctl import Elapse
from sereno.observe.overview import Overview, overview, standstill
from sereno.observe.report import model
from sereno.observe.report.ahead import ahead
from sereno.observe.report.missed import missed
from sereno.observe.report.plots import Window
from sereno.observe.report.schedules import Schedules, schedules_of, slack_s
from sereno.observe.runs import Runs
from sereno.observe.survey import Question
from sereno.records import messages
from sereno.records.journal_reader import may_read_journal
from sereno.records.run_record import Run, text
from sereno.triggers import in_words
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed

KINDS = {
    messages.ALERT_CAPACITY.kind: "cache nearly full",
    messages.ALERT_HIT_RATE.kind: "low hit rate",
    messages.ALERT_ERROR.kind: "cleanup failed",
    messages.OVERRUN_INTERVAL.kind: "overrun",
}
_NEWEST_NOTICES = 200
_CLEANUP = f"{cache_cleanup_job.__name__}:cleanup_expired_cache"
CacheNow = Callable[[str], Mapping[str, Any] | None]


def gather(
    installation: Installation,
    *,
    days: float,
    now_s: float,
    cache_now: CacheNow,
    zone: tzinfo | None = None,
) -> model.Report:
    """The report of the installation's scope.

    Args:
        days: how far back.
        now_s: seconds since the epoch.
        cache_now: called with the function of the cache's cleanup: the cache's `max_size`, …; None: it cannot be read.
        zone: whose hours the next day is shown by; None: the local one.

    Raises:
        NotAvailable: this interpreter has no python-systemd.
        NotAllowed, SystemdError: the manager refused or failed.
    """
    window = model.window_of(days, now_s)
    with Runs(user=installation.scope.is_user) as past, ThreadPoolExecutor(1) as background:
        question = Question(installation.manager)
        jobs = dict(sorted(installation.jobs().items()))
        drop_ins = installation.units.drop_ins()
        changed = [job_id for job_id in jobs if timer_name(job_id) in drop_ins]
        asked = background.submit(
            schedules_of, jobs, changed, installation.manager, since_s=window.since_s, now_s=now_s
        )
        elapses, services = question.answer()
        known = {
            job.id: _runs(past, job, window, elapses, services, drop_ins) for job in jobs.values()
        }
        begins_s, records = past.begins_s(), past.notices(jobs, *KINDS, since_s=window.since_s)
        schedules = asked.result()
    remarks = list(schedules.remarks)
    recorded_s = now_s if begins_s is None else begins_s
    if not (installation.scope.is_user or may_read_journal()):
        remarks.append(
            "runs: only members of the group systemd-journal may read the system's journal"
        )
        recorded_s = now_s
    since_s = max(window.since_s, schedules.past_since_s, recorded_s)
    switches: Mapping[str, str] | None = None
    # One question more only where there is something to explain.
    if any(shown.job.enabled and not shown.active for shown, _ in known.values()):
        with suppress(NotAvailable):
            switches = installation.switches()
    views = [
        _view(installation, shown, runs, window, schedules, since_s, cache_now, switches)
        for shown, runs in known.values()
    ]
    coming = {
        job.id: schedules.ahead(job, elapses.get(timer_name(job.id)), now_s)
        for job in jobs.values()
    }
    return model.Report(
        host=socket.gethostname(),
        scope=installation.scope.name,
        window=window,
        journal_begins_s=begins_s,
        jobs=tuple(views),
        ahead=ahead(
            {job_id: moments for job_id, (moments, _) in coming.items()},
            now_s,
            [job_id for job_id, (_, is_all) in coming.items() if not is_all],
            zone=zone,
        ),
        notices=tuple(_notice(record) for record in records[: -_NEWEST_NOTICES - 1 : -1]),
        notice_count=len(records),
        failures=tuple(model.failures_of(run for _, runs in known.values() for run in runs)),
        remarks=tuple(remarks),
    )


def _runs(
    past: Runs,
    job: Installed,
    window: Window,
    elapses: Mapping[str, Elapse],
    services: Mapping[str, str],
    drop_ins: Mapping[str, Collection[str]],
) -> tuple[Overview, list[Run]]:
    """What a job is now, and its runs of the window."""
    runs = past.history(job.id, since_s=window.since_s)
    shown = overview(
        job,
        in_words(job.trigger),
        elapses.get(timer_name(job.id)),
        services.get(service_name(job.id)),
        runs if len(runs) > 1 else past.newest(job.id, 2),
        drop_ins,
    )
    if shown.last is not None and (runs or shown.last.status == "running"):
        # It says "running" where the journal alone could not tell, and may have begun before the window.
        runs[-1:] = [shown.last]
    if job.function != _CLEANUP:
        # Statistics are shown of the newest runs alone, and are most of the memory that many runs take.
        shown_from = len(runs) - model.RECENT
        runs = [
            run if number >= shown_from else run._replace(stats=None, message="")
            for number, run in enumerate(runs)
        ]
    return shown, runs


def _view(
    installation: Installation,
    shown: Overview,
    runs: list[Run],
    window: Window,
    schedules: Schedules,
    since_s: float,
    cache_now: CacheNow,
    switches: Mapping[str, str] | None,
) -> model.JobView:
    job = shown.job
    is_cleanup = job.function == _CLEANUP
    cache = cache_now(job.function) if is_cleanup else None
    since_s = max(since_s, _in_force_s(installation, job))
    due_s = schedules.due(job, since_s) if since_s < window.until_s else None
    return model.job_view(
        shown,
        runs,
        window,
        missed_s=missed(due_s or (), runs, until_s=window.until_s, slack_s=slack_s(job)),
        checked_since_s=None if due_s is None else since_s,
        max_size=cache["max_size"] if cache else None,
        is_cleanup=is_cleanup,
        standstill="" if switches is None else standstill(shown, switches, installation.scope),
    )


def _in_force_s(installation: Installation, job: Installed) -> float:
    """Since when the job's timer has been as it is.

    Before it was written another schedule held, or none, and before it was linked the job, or its application, paused.
    """
    timer, target = timer_name(job.id), app_target_name(job.app)
    paths = (timer, f"{target}.wants/{timer}", f"{TARGET}.wants/{target}")
    try:
        return max((installation.units.path / path).lstat().st_mtime for path in paths)
    except FileNotFoundError:
        # Paused or removed since it was read.
        return math.inf


def _notice(record: Mapping[str, Any]) -> model.Notice:
    return model.Notice(
        record["__REALTIME_TIMESTAMP"] / 1e6,
        text(record, "SERENO_JOB"),
        KINDS[text(record, "MESSAGE_ID")],
        text(record, "MESSAGE"),
    )
