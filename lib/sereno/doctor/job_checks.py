"""The checks of single jobs: timers, services, unit files and runs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from sereno.doctor.facts import TOLERANCE_S, Facts, JobFacts
from sereno.doctor.findings import PROBLEM, WARNING, Finding
from sereno.units import DROP_IN

_OVERDUE_S = 60.0


def masked(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        for unit, shown in ((job.timer_name, job.timer), (job.service_name, job.service)):
            if shown.get("LoadState") == "masked":
                yield Finding(
                    PROBLEM, unit, "LoadState", "masked", "a masked unit is never started",
                    f"{facts.systemctl} unmask {unit} && {facts.systemctl} start {job.timer_name}",
                )  # fmt: skip
    for path, is_mask in facts.foreign:
        if is_mask:
            yield Finding(
                PROBLEM, path, "link to", "/dev/null",
                "a masked unit is never started; a backend's job comes back when the backend is started again",
                f"rm {path} && {facts.systemctl} daemon-reload && {facts.sereno('apply')}",
            )  # fmt: skip


def foreign(facts: Facts) -> Iterator[Finding]:
    for path, is_mask in facts.foreign:
        if not is_mask:
            yield Finding(
                PROBLEM, path, "[X-Sereno]", "missing",
                "the file has a job's name and is not sereno's, so that the job cannot be installed",
                f"mv {path} ~/ && {facts.systemctl} daemon-reload",
            )  # fmt: skip


def paused(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        if not job.installed.enabled and job.timer.get("LoadState") != "masked":
            yield Finding(
                WARNING, job.timer_name, "enabled", "no", "the job is paused: nothing starts it",
                facts.sereno(f"resume {job.installed.id}"),
            )  # fmt: skip


def inactive(facts: Facts) -> Iterator[Finding]:
    for job in _to_be_active(facts):
        state = job.timer.get("ActiveState", "")
        if state == "failed":
            yield Finding(
                PROBLEM, job.timer_name, "ActiveState", f"failed ({job.timer.get('Result')})",
                "the timer could not start its service and has given up",
                f"{facts.systemctl} status {job.service_name}; mend it, then:"
                f" {facts.systemctl} restart {job.timer_name}",
            )  # fmt: skip
        elif state != "active":
            yield Finding(
                PROBLEM, job.timer_name, "ActiveState", state or "unknown",
                "the timer is enabled and was stopped", f"{facts.systemctl} start {job.timer_name}",
            )  # fmt: skip


def wedged(facts: Facts) -> Iterator[Finding]:
    for job in _to_be_active(facts):
        # A calendar whose last time is over has none by right.
        comes_again = job.installed.interval_s is not None or job.expected_s is not None
        if job.timer.get("SubState") == "elapsed" and comes_again and not job.is_running:
            yield Finding(
                PROBLEM, job.timer_name, "SubState", "elapsed",
                "the timer is active without a next elapse: it never fires again by itself",
                # A start of the service is what such a timer counts from again.
                f"{facts.systemctl} start {job.service_name}",
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
    # An interval counts anew from a run. A calendar's elapse is computed anew by a reload, which unlike a restart never
    # runs a job whose timer has not changed.
    is_interval = job.installed.interval_s is not None
    return Finding(
        WARNING, job.timer_name, "next elapse", _shown(job.next_s),
        f"{why} (was the clock set, or the machine suspended?)",
        facts.sereno(f"run {job.installed.id}") if is_interval else f"{facts.systemctl} daemon-reload",
    )  # fmt: skip


def changed(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        for name in job.changed_files:
            yield Finding(
                PROBLEM, name, "Digest", "differs",
                "the file is not as sereno wrote it: changed by hand, or by another version"
                + ("; changes belong into a drop-in of another name" if DROP_IN in name else ""),
                facts.write_again(job),
            )  # fmt: skip


def stale(facts: Facts) -> Iterator[Finding]:
    if facts.stale_files:
        others = len(facts.stale_files) - 1
        yield Finding(
            WARNING, facts.stale_files[0], "changed", "after the last daemon-reload",
            f"systemd does not know this file as it is now{f', nor {others} more' if others else ''}",
            f"{facts.systemctl} daemon-reload",
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


def programs(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        if job.program is None or job.program_fault is None:
            continue
        if job.program_fault == "not executable":
            hint = f"chmod +x {job.program}"
        elif job.installed.has_entry_script:
            hint = (
                f"{facts.install} in the checkout, or: {facts.sereno(f'remove {job.installed.id}')}"
            )
        else:
            hint = facts.write_again(job)
        kind = "entry script" if job.installed.has_entry_script else "interpreter"
        yield Finding(
            PROBLEM, job.service_name, "ExecStart", job.program,
            f"the job's {kind} is {job.program_fault}", hint,
        )  # fmt: skip


def runs(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        job_id, status = job.installed.id, job.latest_status
        at = "" if job.latest_s is None else f", {_shown(job.latest_s)},"
        why = f": {job.latest_error}" if job.latest_error else ""
        hint = (
            f"journalctl SERENO_JOB={job_id}; mend the cause, then: {facts.sereno(f'run {job_id}')}"
        )
        # A run that somebody stopped, and that was killed for not heeding it, is no failure.
        if job.service.get("ActiveState") == "failed" and status != "interrupted":
            exit_status = job.service.get("ExecMainStatus", "?")
            yield Finding(
                PROBLEM, job.service_name, "Result",
                f"{job.service.get('Result')} (status {exit_status})", f"the last run failed{why}", hint,
            )  # fmt: skip
        elif status == "failed" and not job.is_running:
            yield Finding(
                PROBLEM, job.service_name, "SERENO_STATUS", "failed",
                f"the last run{at} failed{why}", hint,
            )  # fmt: skip
        elif status == "lost" and not job.is_running:
            yield Finding(
                PROBLEM, job.service_name, "SERENO_STATUS", "missing",
                f"the last run{at} has no end{why}",
                f"sereno logs {job_id}; a job returns, and starts daemons as services of their own; then:"
                f" {facts.sereno(f'run {job_id}')}",
            )  # fmt: skip
        elif status == "skipped" and job.latest_s is not None:
            yield Finding(
                WARNING, job.service_name, "SERENO_STATUS", "skipped",
                f"the last run{at} was left out: too late, or what it waits for had failed",
                facts.sereno(f"run {job_id}"),
            )  # fmt: skip


def _to_be_active(facts: Facts) -> Iterator[JobFacts]:
    for job in facts.jobs:
        if (
            job.installed.enabled
            and facts.is_scheduled(job.installed.app)
            and job.timer.get("LoadState") != "masked"
        ):
            yield job


def _shown(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


CHECKS: dict[str, Callable[[Facts], Iterator[Finding]]] = {
    "masked": masked,
    "foreign file": foreign,
    "paused": paused,
    "timer inactive": inactive,
    "timer wedged": wedged,
    "next elapse": elapses,
    "unit changed by hand": changed,
    "daemon-reload": stale,
    "time zone": zone,
    "entry script": programs,
    "run": runs,
}
