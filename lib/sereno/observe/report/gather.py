"""Asks a machine for the `Report` of one scope: unit files, manager, journal and schedules.

The manager and systemd-analyze are other processes: they are asked in the background while the journal is read.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import tzinfo
from typing import Any

from sereno.manager.names import timer_name
from sereno.observe.cache_now import CLEANUP, cache_now
from sereno.observe.report import model
from sereno.observe.report.ahead import ahead
from sereno.observe.report.schedules import schedules_of
from sereno.observe.runs_of_many import RunsOfMany
from sereno.observe.survey import Question, newest_runs, states_of
from sereno.records import messages
from sereno.records.journal_reader import CLOSED, may_read_journal
from sereno.records.run_record import text
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed

KINDS = {
    messages.ALERT_CAPACITY.kind: "cache nearly full",
    messages.ALERT_HIT_RATE.kind: "low hit rate",
    messages.ALERT_ERROR.kind: "cleanup failed",
    messages.OVERRUN_INTERVAL.kind: "overrun",
}
_NEWEST_NOTICES = 200


def gather(
    installation: Installation,
    *,
    days: float,
    now_s: float,
    zone: tzinfo | None = None,
) -> model.Report:
    """The report of the installation's scope.

    Args:
        zone: whose hours the next day is shown by; None: the local one.

    Raises:
        NotAvailable: this interpreter has no python-systemd.
        NotAllowed, SystemdError: the manager refused to tell.
    """
    window = model.window_of(days, now_s)
    with RunsOfMany(user=installation.scope.is_user) as past, ThreadPoolExecutor(1) as background:
        question = Question(installation.manager)
        jobs = dict(sorted(installation.jobs().items()))
        drop_ins = installation.units.drop_ins()
        changed = [job_id for job_id in jobs if timer_name(job_id) in drop_ins]
        in_force_s = {job.id: _in_force_s(installation, job) for job in jobs.values()}
        oldest_s = max(window.since_s, min([now_s, *in_force_s.values()]))
        asked = background.submit(
            schedules_of, jobs, changed, installation.manager, since_s=oldest_s, now_s=now_s
        )
        answer = question.answer()
        cleanups = [job.id for job in jobs.values() if job.function == CLEANUP]
        known = past.histories(jobs, since_s=window.since_s, with_stats=cleanups)
        rare = [job_id for job_id, runs in known.items() if len(runs) < 2]
        newest = known | newest_runs(
            {job_id: jobs[job_id] for job_id in rare}, installation, question
        )
        states = states_of(jobs, installation, answer, newest, drop_ins)
        for state in states:
            if state.last is not None and (known[state.job.id] or state.last.status == "running"):
                # It says "running" where the journal alone could not tell, and may have begun before the window.
                known[state.job.id][-1:] = [state.last]
        begins_s, records = past.begins_s(), past.notices(jobs, *KINDS, since_s=window.since_s)
        schedules = asked.result()
    remarks = [*schedules.remarks]
    if answer.missing:
        remarks.append(f"states and next elapses: {answer.missing}")
    recorded_s = now_s if begins_s is None else begins_s
    if not (installation.scope.is_user or may_read_journal()):
        remarks.append(CLOSED)
        recorded_s = now_s
    since_s = max(window.since_s, schedules.past_since_s, recorded_s)
    views, coming, incomplete = [], {}, list[str]()
    for state in states:
        job_id, job = state.job.id, jobs[state.job.id]
        checked_s = max(since_s, in_force_s[job_id])
        due_s = schedules.due(job, checked_s) if checked_s < now_s else None
        cache = cache_now(job.function, user=installation.scope.is_user)
        view = model.job_view(
            state, known[job_id], window,
            missed_s=model.missed(due_s or (), known[job_id], until_s=now_s, slack_s=job.slack_s),
            checked_since_s=None if due_s is None else checked_s,
            max_size=cache["max_size"] if cache else None, is_cleanup=job.function == CLEANUP,
        )  # fmt: skip
        views.append(view)
        elapse = answer.elapses.get(timer_name(job_id)) if state.active else None
        coming[job_id], is_all = schedules.ahead(job, elapse, now_s)
        incomplete += [] if is_all else [job_id]
    return model.Report(
        host=socket.gethostname(),
        scope=installation.scope.name,
        window=window,
        journal_begins_s=begins_s,
        jobs=tuple(views),
        ahead=ahead(coming, now_s, incomplete, zone=zone),
        notices=tuple(map(_notice, records[: -_NEWEST_NOTICES - 1 : -1])),
        notice_count=len(records),
        failures=tuple(model.failures_of(run for runs in known.values() for run in runs)),
        remarks=tuple(remarks),
    )


def _in_force_s(installation: Installation, job: Installed) -> float:
    """Since when the job's timer has been as it is.

    Before it was written another schedule held, or none, and before it was linked the job, or its application, paused.
    """
    units = installation.units
    try:
        written_s = (units.path / timer_name(job.id)).lstat().st_mtime
        return max(written_s, units.enabled.since_s(job.id, job.app))
    except FileNotFoundError:
        # Paused or removed since it was read.
        return math.inf


def _notice(record: Mapping[str, Any]) -> model.Notice:
    kind, moment_s = text(record, "MESSAGE_ID"), record["__REALTIME_TIMESTAMP"] / 1e6
    return model.Notice(moment_s, text(record, "SERENO_JOB"), KINDS[kind], text(record, "MESSAGE"))
