"""The checks of single jobs: their timers, and what became of runs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from sereno.doctor.facts import PROBLEM, WARNING, Facts, Finding, problem, warning
from sereno.doctor.job_facts import TOLERANCE_S, JobFacts, of_jobs
from sereno.doctor.run_checks import cannot_start
from sereno.errors import in_scope
from sereno.verdict import SYSTEMD_STATUSES

_OVERDUE_S = 60.0


def paused(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        if not job.installed.enabled and job.timer.get("LoadState") != "masked":
            yield Finding(
                WARNING, job.timer_name, "enabled", "no", "the job is paused: nothing starts it",
                facts.sereno(f"resume {job.id}"),
            )  # fmt: skip


def inactive(facts: Facts) -> Iterator[Finding]:
    for job in _to_be_active(facts):
        state = job.timer.get("ActiveState", "")
        if state == "failed":
            yield Finding(
                PROBLEM, job.timer_name, "ActiveState", f"failed ({job.timer.get('Result')})",
                "the timer could not start its service and has given up",
                facts.begin_again(job.id),
            )  # fmt: skip
        elif state != "active":
            yield Finding(
                PROBLEM, job.timer_name, "ActiveState", state or "unknown",
                "the timer is enabled and was stopped", facts.begin_again(job.id),
            )  # fmt: skip


def wedged(facts: Facts) -> Iterator[Finding]:
    for job in _to_be_active(facts):
        # A calendar whose last time is over has none by right.
        comes_again = job.installed.interval_s is not None or job.expected_s is not None
        if job.timer.get("SubState") == "elapsed" and comes_again and not job.is_running:
            yield Finding(
                PROBLEM, job.timer_name, "SubState", "elapsed",
                "the timer is active without a next elapse: it never fires again by itself",
                facts.begin_again(job.id),
            )  # fmt: skip


def elapses(facts: Facts) -> Iterator[Finding]:
    for job in _to_be_active(facts):
        if job.next_s is None or job.is_running:
            continue
        if job.next_s < facts.now_s - job.slack_s - _OVERDUE_S:
            yield _differs(facts, job, "it is over, and nothing ran")
        elif job.next_s <= facts.now_s + TOLERANCE_S:
            continue
        elif not job.interval_is_kept(facts.now_s):
            yield _differs(facts, job, "it is not one interval after the last start")
        elif job.expected_s is not None:
            early = job.next_s < job.expected_s - job.slack_s - TOLERANCE_S
            late = job.next_s > job.expected_s + job.slack_s + TOLERANCE_S
            # A random delay may still hold back an elapse before the one that is expected.
            if late or (early and job.slack_s <= TOLERANCE_S):
                yield _differs(facts, job, f"its schedule means {_shown(job.expected_s)}")


def _differs(facts: Facts, job: JobFacts, why: str) -> Finding:
    assert job.next_s is not None
    # A reload computes a calendar's elapse again, and unlike a restart never runs a job whose timer has not changed.
    is_interval = job.installed.interval_s is not None
    return Finding(
        WARNING, job.timer_name, "next elapse", _shown(job.next_s),
        f"{why} (was the clock set, or the machine suspended?)",
        facts.begin_again(job.id) if is_interval else f"{facts.systemctl} daemon-reload",
    )  # fmt: skip


def zone(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        if (
            job.calendars_now is not None
            and not job.changed_files
            and job.calendars != job.calendars_now
        ):
            yield Finding(
                WARNING, job.timer_name, "OnCalendar", "; ".join(job.calendars),
                f"written now it would be {'; '.join(job.calendars_now)}: the time zone of the machine"
                " was changed, or sereno is newer",
                facts.write_again(job),
            )  # fmt: skip


def twice(facts: Facts) -> Iterator[Finding]:
    for job_id, user in facts.twice:
        other, hint = "system", in_scope(f"sereno remove {job_id}", user=True)
        if facts.scope == "system":
            words = f"XDG_RUNTIME_DIR=/run/user/$(id -u) {hint}"
            other, hint = user, f"runuser -l {shlex.quote(user)} -c {shlex.quote(words)}"
        yield warning(f"sereno@{job_id}.timer", "scope", f"also {other}",
                      'the job is installed in both scopes, and runs twice; a service keeps it by scope="system"',
                      hint)  # fmt: skip


def runs(facts: Facts) -> Iterator[Finding]:
    refused: dict[str, list[JobFacts]] = {}
    for job in facts.jobs:
        job_id, status = job.id, job.service.get("ExecMainStatus", "?")
        at = "" if job.latest_s is None else f", {_shown(job.latest_s)},"
        why = f": {job.latest_error}" if job.latest_error else ""
        log, again = facts.command(f"journalctl SERENO_JOB={job_id}"), facts.sereno(f"run {job_id}")
        hint = f"{log}; mend the cause, then: {again}"
        # A run that somebody stopped, and that was killed for not heeding it, is no failure.
        has_failed = (
            job.service.get("ActiveState") == "failed" and job.latest_status != "interrupted"
        )
        if cannot_start(facts, job):
            continue
        if has_failed and status.isdigit() and int(status) in SYSTEMD_STATUSES:
            refused.setdefault(status, []).append(job)
        elif has_failed:
            yield problem(job.service_name, "Result", f"{job.service.get('Result')} (status {status})",
                          f"the last run failed{why}", hint)  # fmt: skip
        elif job.is_running:
            continue
        elif job.latest_status == "failed":
            yield problem(job.service_name, "SERENO_STATUS", "failed",
                          f"the last run{at} failed{why}", hint)  # fmt: skip
        elif job.latest_status == "lost":
            yield problem(job.service_name, "SERENO_STATUS", "missing",
                          f"the last run{at} has no end{why}",
                          f"{facts.sereno(f'logs {job_id}')}; a job returns, and starts daemons as services of their"
                          f" own; then: {again}")  # fmt: skip
        elif job.latest_status == "skipped" and job.latest_s is not None:
            yield warning(job.service_name, "SERENO_STATUS", "skipped",
                          f"the last run{at} was left out: too late, or what it waits for had failed",
                          again)  # fmt: skip
    for status, jobs in refused.items():
        job, again = jobs[0], " && ".join(facts.sereno(f"run {job.id}") for job in jobs)
        yield problem(job.service_name, "Result", f"exit-code (status {status})",
                      f"systemd could not begin the last run of {of_jobs(jobs)}: {SYSTEMD_STATUSES[int(status)]}",
                      f"{facts.command(f'journalctl -u {job.service_name}')}; mend it, then: {again}")  # fmt: skip


def _to_be_active(facts: Facts) -> Iterator[JobFacts]:
    for job in facts.jobs:
        if (
            job.installed.enabled
            and facts.is_scheduled(job.installed.app)
            # What does not load has a finding of its own.
            and job.timer.get("LoadState", "loaded") in ("loaded", "unloaded")
        ):
            yield job


def _shown(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
