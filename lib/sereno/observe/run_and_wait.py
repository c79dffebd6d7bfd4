"""A run that somebody starts and waits for: `Scheduler.run_job` and `sereno run --wait`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sereno.errors import JobFailed, SystemdError, in_scope
from sereno.manager.names import service_name
from sereno.manager.scope import Scope
from sereno.manager.systemctl import Systemctl, is_running
from sereno.observe.runs import Runs
from sereno.records.account import PROPERTIES, run_of
from sereno.records.run_record import Run

# From the end of a run to what the journal shows of it.
_JOURNAL_S = 5.0
_CONDITION = "it did not start: a condition of its unit (systemd.unit(5), Condition…=) is not met"
_PROPERTIES = (*PROPERTIES, "ConditionResult", "ConditionTimestamp")


def run(job_id: str, manager: Systemctl, *, user: bool) -> Run:
    """Run a job now, wait for its end, and return what became of it.

    A run that is under way already is waited for instead of starting a second one. It is that run which is judged, also
    where somebody restarts the service meanwhile, or the next one follows at once.

    Raises:
        JobFailed: systemd started nothing, in its own words; or nothing can be learnt of the run.
    """
    service = service_name(job_id)
    before = manager.show(service, *_PROPERTIES)
    before_id = before.get("InvocationID", "")
    is_under_way = is_running(before.get("ActiveState"))
    # What ended before this moment is another run; the journal's clock is this one.
    since_s = time.time()
    failure = None
    try:
        manager.start([service])
    except SystemdError as error:
        failure = error
    after = manager.show(service, *_PROPERTIES)
    # A Result= without an invocation of its own is that of a run before, or what every unit begins with.
    if not is_under_way and after.get("InvocationID", "") in ("", before_id):
        if failure is not None:
            hint = in_scope(f"systemctl status {service}", user=user)
            raise JobFailed(f"job {job_id}: it did not start: {failure.message}", hint=hint)
        if _was_skipped(after, since_s):
            return Run(job_id, "", "skipped", error=_CONDITION)

    def is_meant(run: Run) -> bool:
        return (run.run_id == before_id) is is_under_way

    def is_later(run: Run) -> bool:
        # A run that a crash of the machine cut off has no end, and began long before.
        return (run.end_s or run.start_s or since_s) >= since_s

    with Runs(user=user) as past:
        found = past.await_run(
            job_id,
            lambda run: is_meant(run) and (is_under_way or is_later(run)),
            lambda run: run.is_over or _is_done_by(after, run),
            deadline_s=_JOURNAL_S,
        )
    # Where no journal is kept, or it may not be read.
    found = found or run_of(job_id, after)
    if found is not None and is_meant(found):
        return found
    raise JobFailed(
        f"job {job_id}: nothing can be read of the run"
        + (f": {failure.message}" if failure else ", which systemd counts as a success"),
        hint="either the journal is not kept, or this user may not read it:"
        " usermod -aG systemd-journal USER, then log in again",
    )


def statistics(job_id: str, manager: Systemctl, scope: Scope) -> dict[str, Any] | None:
    """`run`, and return its statistics, also of a run that reported an error in them.

    Raises:
        JobFailed: it is no success in any other way.
    """
    found = run(job_id, manager, user=scope.is_user)
    # Its own word is all that there is against it: systemd saw the status that such a run ends with.
    reported = found.said == "failed" and found.result in (None, "exit-code")
    if found.status == "success" or (reported and found.stats is not None):
        return found.stats
    raise JobFailed(
        f"job {job_id}: {found.outcome}",
        hint=found.hint or scope.command(f"journalctl SERENO_RUN={found.run_id}"),
    )


def _is_done_by(after: Mapping[str, str], run: Run) -> bool:
    """Whether the manager has seen a run succeed that says so too: then the journal has nothing to add."""
    return (
        run.said is not None
        and run.run_id == after.get("InvocationID")
        and after.get("Result") == "success"
        and not is_running(after.get("ActiveState"))
    )


def _was_skipped(after: Mapping[str, str], since_s: float) -> bool:
    # "@seconds": whole ones.
    checked = after.get("ConditionTimestamp", "").removeprefix("@")
    is_new = checked.isdigit() and int(checked) >= int(since_s)
    return after.get("ConditionResult") == "no" and is_new
