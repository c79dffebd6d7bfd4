"""What is known of a job, as the dictionaries that `get_jobs()` and `get_job_status()` return. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sereno import exits
from sereno.history import Run, judged
from sereno.systemctl import is_running
from sereno.units import Installed
from sereno.verdict import Seen

# systemd.exec(5), "Process Exit Codes", and org.freedesktop.systemd1(5) name these properties of a service.
SERVICE_PROPERTIES = (
    *("ActiveState", "Result", "ExecMainStatus", "ExecMainCode", "InvocationID"),
    *("ExecMainStartTimestamp", "ExecMainExitTimestamp"),
    *("ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic"),
)
# What a run has said by its status alone. The template's SuccessExitStatus= has systemd count these as a success; "15"
# is SIGTERM before Python was up.
_SAID = {
    str(exits.SUCCESS): "success",
    str(exits.SKIPPED): "skipped",
    str(exits.INTERRUPTED): "interrupted",
    "15": "interrupted",
}
# waitid(2), si_code, as the manager prints it.
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}

if TYPE_CHECKING:
    from sereno.job import Job
    from sereno.overview import Overview


def job_status(registered: Job | None, found: Overview | None) -> dict[str, Any]:
    """One job, of which at least one of `registered` and what was `found` installed is known; the latter counts.

    Returns:
        id, name, trigger (text), function ("module:name"), kwargs (its arguments), after (ids), app; next_run (aware
        datetime or None); installed, paused, active and running (bool).

        Of the latest run, None where there was none: last_run (aware datetime of its start), last_run_id, last_status
        ("success", "failed", "skipped", "interrupted", "lost", "running", as everywhere), last_error (why, in one
        line), last_result (how a unit failed, in systemd's word: "exit-code", "timeout", "signal", …; else as
        last_status; None while it runs), last_exit_status, last_duration_s (seconds).
    """
    job = found.job if found is not None else registered
    assert job is not None
    last = found.last if found is not None else None
    moment_s = None if last is None else last.start_s or last.end_s
    took_ms = None if last is None else last.duration_ms
    ended = last is not None and last.status != "running"
    return {
        "id": job.id,
        "name": job.name,
        "trigger": job.trigger if isinstance(job, Installed) else job.trigger.text,
        "function": job.function,
        "kwargs": job.kwargs if isinstance(job, Installed) else job.inputs.kwargs,
        "after": list(job.after),
        "app": job.app,
        "next_run": found.next if found else None,
        "installed": found is not None,
        "paused": isinstance(job, Installed) and not job.enabled,
        "active": found is not None and found.active,
        "running": found is not None and found.running,
        "last_run": None if moment_s is None else datetime.fromtimestamp(moment_s, UTC),
        "last_run_id": last.run_id if last else None,
        "last_status": last.status if last else None,
        "last_error": last.error if last else None,
        "last_result": (last.result or last.status) if last and ended else None,
        "last_exit_status": last.exit_status if last and ended else None,
        "last_duration_s": None if took_ms is None or not ended else took_ms / 1000,
    }


def run_by_manager(job_id: str, properties: Mapping[str, str]) -> Run | None:
    """The latest run as the manager remembers it, since boot and while its timer is loaded; None: it knows none.

    Where no journal tells: without statistics, and by the status of its process.
    """
    run_id, status = properties.get("InvocationID"), properties.get("ExecMainStatus", "")
    # Without an invocation its result is what a unit begins with.
    start_s = _moment_s(properties.get("ExecMainStartTimestamp", ""))
    if not run_id or start_s is None:
        return None
    running = is_running(properties.get("ActiveState"))
    end_s = None if running else _moment_s(properties.get("ExecMainExitTimestamp", ""))
    began, ended = (
        properties.get(f"ExecMain{which}TimestampMonotonic", "") for which in ("Start", "Exit")
    )
    if end_s is not None and began.isdigit() and ended.isdigit():
        # The others come in whole seconds.
        end_s = start_s + max(0, int(ended) - int(began)) / 1e6
    result = properties.get("Result") or "success"
    seen = Seen(
        _SAID.get(status) if result == "success" else None,
        result=result,
        exit_code=_CODES.get(properties.get("ExecMainCode", ""), ""),
        exit_status=status,
        limit=None,
        running=running,
    )
    return judged(Run(job_id, run_id, "", start_s, end_s), seen, {})._replace(is_over=not running)


def _moment_s(text: str) -> float | None:
    """`systemctl show --timestamp=unix` prints "@seconds", or nothing."""
    return float(text[1:]) if text.startswith("@") else None
