"""The `Report` of a fleet's jobs by its database: runs, results and hosts. What a host alone knows is not in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sereno.observe.job_state import JobState
from sereno.observe.report import model
from sereno.observe.report.ahead import ahead
from sereno.records.run_record import Run, is_figure
from sereno.units.unit_text import Installed

if TYPE_CHECKING:
    from sereno.fleet.claim import FleetHost, FleetJob, FleetRun
    from sereno.fleet.postgresql import PostgreSQL

SCOPE = "fleet"


def gather_fleet(store: PostgreSQL, *, days: float, now_s: float) -> model.Report:
    """The report of all jobs of the fleet.

    Raises:
        FleetError: its database cannot be asked.
    """
    window, hosts = model.window_of(days, now_s), store.hosts()
    found: dict[tuple[str, str], list[Run]] = {}
    for run in store.runs_since(window.since_s):
        found.setdefault((run.app, run.job), []).append(_run(run))
    views = [
        model.job_view(_state(job, hosts), found.get((job.app, job.id), []), window)
        for job in store.jobs()
    ]
    failures = model.failures_of(run for runs in found.values() for run in runs)
    return model.Report(
        host="the fleet", scope=SCOPE, window=window, journal_begins_s=None, jobs=tuple(views),
        ahead=ahead({}, now_s), notices=(), notice_count=0, failures=tuple(failures), remarks=(),
    )  # fmt: skip


def _run(run: FleetRun) -> Run:
    # Whoever may write to the tables may have put anything there.
    took_ms = run.duration_ms if is_figure(run.duration_ms) else None
    end_s = None if took_ms is None else run.began_s + took_ms / 1000
    stats = run.stats if isinstance(run.stats, dict) else None
    why = "nobody recorded its end" if run.status == "lost" else ""
    return Run(
        run.job, run.run_id, run.status, run.began_s, end_s, took_ms, stats, why, run.error, host=run.host
    )  # fmt: skip


def _state(job: FleetJob, hosts: Iterable[FleetHost]) -> JobState:
    own = [host for host in hosts if (host.app, host.job) == (job.app, job.id)]
    said = sorted({f"{host.declaration} on {host.host}" for host in own})
    last = job.latest and _run(job.latest)
    installed = Installed(
        id=job.id, app=job.app, name=job.id, function="", trigger="", has_entry_script=False,
        interval_s=None, at_boot=False, jitter_s=0, persistent=False, enabled=job.paused_s is None,
        after=(), kwargs={}, files={}, once_per=SCOPE,
    )  # fmt: skip
    return JobState(
        installed, "; ".join(said), last=last, active=True,
        running=last is not None and last.status == "running", failing=last is not None and last.is_bad,
    )  # fmt: skip
