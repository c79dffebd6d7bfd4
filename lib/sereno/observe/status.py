"""What is known of a job, as the dictionaries that `get_jobs()` and `get_job_status()` return. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sereno.units.unit_text import Installed

if TYPE_CHECKING:
    from sereno.declare.job import Job
    from sereno.observe.overview import Overview


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
