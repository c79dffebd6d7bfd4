"""A run by hand that is waited for: `Scheduler.run_job` and `sereno run --wait`."""

from __future__ import annotations

import time

from sereno import status
from sereno.errors import JobFailed, SystemdError
from sereno.history import Run
from sereno.runs import Runs
from sereno.systemctl import Systemctl
from sereno.units import service_name


def run(job_id: str, manager: Systemctl, *, user: bool) -> Run:
    """Run a job now, wait for its end, and return its closing record.

    A run that is under way already is waited for instead of starting a second one.

    Args:
        user: True for the calling user's scope.

    Raises:
        JobFailed: the run left no record: it was killed, exceeded its time limit, or the caller may not read it.
    """
    service = service_name(job_id)
    # What was closed before this moment is another run; the journal's clock is this one.
    since_s = time.time()
    failure = ""
    try:
        manager.start([service])
    except SystemdError as error:
        failure = error.message
    shown = manager.show(service, *status.SERVICE_PROPERTIES)
    run_id, successor = shown.get("InvocationID"), None
    if shown.get("ActiveState") == "activating":
        # One longer than its interval is followed at once by the next, which the manager then tells of.
        run_id, successor = None, run_id
    with Runs(user=user) as past:
        closed = past.closing(
            job_id,
            run_id,
            but_not=successor,
            since_s=since_s,
            deadline_s=1 if failure else 5,
        )
    if closed is not None:
        return closed
    if failure:
        raise JobFailed(
            f"job {job_id}: the run ended without a record, with the result"
            f" {shown.get('Result', 'unknown')!r} and the status {shown.get('ExecMainStatus', '?')}",
            hint=f"journalctl -u {service}",
        )
    raise JobFailed(
        f"job {job_id}: the run ended with status 0, and no closing record of it can be read",
        hint="either the job left by os._exit(), or this user may not read the journal:"
        " usermod -aG systemd-journal USER, then log in again",
    )
