"""What is known of a job, as the dictionaries that `get_jobs()` and `get_job_status()` return. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sereno import exits
from sereno.systemctl import Elapse, is_running
from sereno.units import Installed

# systemd.exec(5), "Process Exit Codes", and org.freedesktop.systemd1(5) name these properties of a service.
SERVICE_PROPERTIES = (
    "ActiveState",
    "Result",
    "ExecMainStartTimestamp",
    "ExecMainExitTimestamp",
    "ExecMainStatus",
    "InvocationID",
)
# What the template's SuccessExitStatus= has systemd count as a success, beside 0: "15" is SIGTERM before Python was up.
_NO_FAILURES = {
    str(exits.SKIPPED): "skipped",
    str(exits.INTERRUPTED): "interrupted",
    "15": "interrupted",
}

if TYPE_CHECKING:
    from sereno.job import Job


def job_status(
    registered: Job | None, installed: Installed | None, elapse: Elapse | None
) -> dict[str, Any]:
    """One job, of which at least one of `registered` and `installed` is known; what is installed counts.

    Returns:
        id, name, trigger (text), function ("module:name"), kwargs (its arguments), after (ids), app; next_run (aware
        datetime or None); installed, paused and active (bool).
    """
    job = installed or registered
    assert job is not None
    return {
        "id": job.id,
        "name": job.name,
        "trigger": job.trigger if isinstance(job, Installed) else job.trigger.text,
        "function": job.function,
        "kwargs": job.kwargs if isinstance(job, Installed) else job.inputs.kwargs,
        "after": list(job.after),
        "app": job.app,
        "next_run": elapse.next if elapse else None,
        "installed": installed is not None,
        "paused": installed is not None and not installed.enabled,
        "active": elapse is not None,
    }


def last_run(properties: Mapping[str, str]) -> dict[str, Any]:
    """The latest run as the manager remembers it: since boot, and while the timer is loaded.

    Returns:
        running (bool); last_run (aware datetime of its start), last_result ("success", "exit-code", "timeout",
        "signal", … as `systemctl show -P Result`; "skipped" and "interrupted" for runs that ended so, which systemd
        counts as a success), last_exit_status, last_duration_s and last_run_id: None where there
        was none.
    """
    running = is_running(properties.get("ActiveState"))
    start = _moment(properties.get("ExecMainStartTimestamp", ""))
    end = _moment(properties.get("ExecMainExitTimestamp", ""))
    status = properties.get("ExecMainStatus")
    result = properties.get("Result")
    if result == "success":
        result = _NO_FAILURES.get(status or "", result)
    ended = start is not None and end is not None and end >= start and not running
    return {
        "running": running,
        "last_run": start,
        "last_result": result if ended else None,
        "last_exit_status": int(status) if ended and status else None,
        "last_duration_s": (end - start).total_seconds() if ended and start and end else None,
        "last_run_id": properties.get("InvocationID") or None,
    }


def _moment(text: str) -> datetime | None:
    """`systemctl show --timestamp=unix` prints "@seconds", or nothing."""
    return datetime.fromtimestamp(int(text[1:]), UTC) if text.startswith("@") else None
