"""The checks of jobs' timers, and of what became of runs. Pure. One cause is one finding, of however many jobs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sereno.declare.job import FLEET
from sereno.errors import in_scope
from sereno.manager.names import timer_name
from sereno.observe.doctor.facts import Facts, Finding, for_each, problem, shown_time, warning
from sereno.observe.doctor.job_facts import TOLERANCE_S, JobFacts, by_cause, of_jobs
from sereno.observe.doctor.run_checks import cannot_start
from sereno.records.verdict import CUT_OFF, SYSTEMD_STATUSES

_OVERDUE_S = 60.0
_NOT_WELL = ("failed", "lost", "skipped")


def paused(facts: Facts) -> Iterator[Finding]:
    found = [job for job in facts.jobs
             if not job.installed.enabled and job.timer.get("LoadState") != "masked"]  # fmt: skip
    if found:
        yield warning(found[0].timer_name, "enabled", "no", f"paused: nothing starts {of_jobs(found)}",
                      facts.for_jobs(found, "resume"))  # fmt: skip


def inactive(facts: Facts) -> Iterator[Finding]:
    stopped = (job for job in _to_be_active(facts) if job.timer.get("ActiveState") != "active")
    causes = by_cause(stopped, lambda job: (job.timer.get("ActiveState"), job.timer.get("Result")))
    for (state, result), jobs in causes:
        value, what = state or "unknown", "is enabled and was stopped"
        if state == "failed":
            value, what = f"failed ({result})", "could not start its service and has given up"
        yield problem(jobs[0].timer_name, "ActiveState", value, f"the timer of {of_jobs(jobs)} {what}",
                      facts.begin_again(*jobs))  # fmt: skip


def wedged(facts: Facts) -> Iterator[Finding]:
    # A calendar whose last time is over has none by right.
    found = [
        job
        for job in _to_be_active(facts)
        if job.timer.get("SubState") == "elapsed"
        and (job.installed.interval_s is not None or job.expected_s is not None)
        and not job.state.running
    ]
    if found:
        yield problem(found[0].timer_name, "SubState", "elapsed",
                      f"the timer of {of_jobs(found)} is active without a next elapse: it never fires again by itself",
                      facts.begin_again(*found))  # fmt: skip


def elapses(facts: Facts) -> Iterator[Finding]:
    odd = by_cause(_to_be_active(facts), lambda job: _odd_elapse(facts, job))
    for (why, is_interval), jobs in odd:
        first = jobs[0]
        assert first.next_s is not None
        means = shown_time(first.expected_s) if first.expected_s else ""
        # A reload computes a calendar's elapse again, and unlike a restart runs no job whose timer has not changed.
        yield warning(first.timer_name, "next elapse", shown_time(first.next_s),
                      f"of {of_jobs(jobs)}: {why.format(means)} (was the clock set, or the machine suspended?)",
                      facts.begin_again(*jobs) if is_interval else facts.reload)  # fmt: skip


def _odd_elapse(facts: Facts, job: JobFacts) -> tuple[str, bool] | None:
    """What is wrong with its next elapse, and whether the job is an interval's."""
    is_interval = job.installed.interval_s is not None
    if job.next_s is None or job.state.running:
        return None
    if job.next_s < facts.now_s - job.slack_s - _OVERDUE_S:
        return "it is over, and nothing ran", is_interval
    if job.next_s <= facts.now_s + TOLERANCE_S:
        return None
    if not job.interval_is_kept(facts.now_s):
        return "it is not one interval after the last start", is_interval
    if job.expected_s is None:
        return None
    early = job.next_s < job.expected_s - job.slack_s - TOLERANCE_S
    late = job.next_s > job.expected_s + job.slack_s + TOLERANCE_S
    # A random delay may still hold back an elapse before the one that is expected.
    is_odd = late or (early and job.slack_s <= TOLERANCE_S)
    return ("its schedule means {}", is_interval) if is_odd else None


def zone(facts: Facts) -> Iterator[Finding]:
    others = (
        job
        for job in facts.jobs
        if job.calendars_now not in (None, job.calendars) and not job.changed_files
    )
    for way, jobs in by_cause(others, facts.write_again):
        first = jobs[0]
        yield warning(first.timer_name, "OnCalendar", "; ".join(first.calendars),
                      f"written now, that of {of_jobs(jobs)} would be {'; '.join(first.calendars_now or ())}:"
                      " the time zone of the machine was changed, or sereno is newer", way)  # fmt: skip


def twice(facts: Facts) -> Iterator[Finding]:
    for user in dict.fromkeys(user for _, user in facts.twice):
        ids = sorted(job_id for job_id, other in facts.twice if other == user)
        other, hint = "system", for_each(ids, in_scope("sereno remove $job", user=True))
        if facts.scope == "system":
            words = f"export XDG_RUNTIME_DIR=/run/user/$(id -u); {hint}"
            other, hint = user, f"runuser -l {shlex.quote(user)} -c {shlex.quote(words)}"
        yield warning(timer_name(ids[0]), "scope", f"also {other}",
                      f"{of_jobs(ids)} in both scopes: what runs twice; a service keeps it by scope=\"system\"",
                      hint)  # fmt: skip


def runs(facts: Facts) -> Iterator[Finding]:
    """A failure is the job's own; but what systemd or the machine did to runs is one cause for all of them."""
    open_ones = (job for job in facts.jobs if _has_failed(job) or _is_not_well(job))
    judged = [job for job in open_ones if not cannot_start(facts, job)]
    begun = (job for job in judged if _refusal(job) is None)
    for _, jobs in by_cause(begun, _fate):
        yield from _last_run(facts, jobs)
    for status, jobs in by_cause(judged, _refusal):
        name = jobs[0].service_name
        again = " && ".join(facts.sereno(f"run {job.id}") for job in jobs)
        yield problem(name, "Result", f"exit-code (status {status})",
                      f"systemd could not begin the last run of {of_jobs(jobs)}: {SYSTEMD_STATUSES[status]}",
                      f"{facts.command(f'journalctl -u {name}')}; mend it, then: {again}")  # fmt: skip


def _has_failed(job: JobFacts) -> bool:
    # A run that somebody stopped, and that was killed for not heeding it, is no failure.
    return job.service.get("ActiveState") == "failed" and job.last.status != "interrupted"


def _is_not_well(job: JobFacts) -> bool:
    # Of a job of the fleet another host has the run.
    is_elsewhere = job.last.status == "skipped" and job.installed.once_per == FLEET
    return job.last.status in _NOT_WELL and not is_elsewhere


def _refusal(job: JobFacts) -> int | None:
    """The exit status by which systemd says that it could not begin the last run."""
    status = job.service.get("ExecMainStatus", "")
    is_one = _has_failed(job) and status.isdigit() and int(status) in SYSTEMD_STATUSES
    return int(status) if is_one else None


def _fate(job: JobFacts) -> str:
    """What its last run shares with those of other jobs: the machine went down, or was off; else the job itself."""
    if job.state.running or _has_failed(job):
        return job.id
    is_shared = job.last.status == "skipped" or job.last.error == CUT_OFF
    return f"{job.last.status} {job.last.error}" if is_shared else job.id


def _last_run(facts: Facts, jobs: list[JobFacts]) -> Iterator[Finding]:
    job, again = jobs[0], facts.for_jobs(jobs, "run")
    name, whose = job.service_name, f" of {of_jobs(jobs)}" if len(jobs) > 1 else ""
    at = "" if job.last.end_s is None else f", {shown_time(job.last.end_s)},"
    # In the message: what a run says of itself is no command of sereno's.
    said = "; ".join(filter(None, (job.last.error, job.last.hint)))
    why = f": {said}" if said else ""
    log = facts.command(f"journalctl SERENO_JOB={job.id}")
    hint = f"{log}; mend the cause, then: {again}"
    if _has_failed(job):
        value = f"{job.service.get('Result')} (status {job.service.get('ExecMainStatus', '?')})"
        yield problem(name, "Result", value, f"the last run failed{why}", hint)
    elif job.state.running:
        return
    elif job.last.status == "failed":
        yield problem(name, "SERENO_STATUS", "failed", f"the last run{at} failed{why}", hint)
    elif job.last.status == "lost":
        yield problem(name, "SERENO_STATUS", "missing", f"the last run{whose}{at} has no end{why}",
                      f"{facts.sereno(f'logs {job.id}')}; a job returns, and starts daemons as services of their own;"
                      f" then: {again}")  # fmt: skip
    elif job.last.status == "skipped" and job.last.end_s is not None:
        yield warning(name, "SERENO_STATUS", "skipped",
                      f"the last run{whose}{at} was left out: too late, or what it waits for had failed",
                      again)  # fmt: skip


def _to_be_active(facts: Facts) -> Iterator[JobFacts]:
    # What does not load has a finding of its own.
    return (
        job
        for job in facts.jobs
        if job.installed.enabled
        and facts.is_scheduled(job.installed.app)
        and job.timer.get("LoadState", "loaded") in ("loaded", "unloaded")
    )
