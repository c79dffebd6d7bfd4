"""What is known of an installed job: its units, its elapses and its newest run, in one value. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any

from sereno.manager.names import (
    SEED_SERVICE,
    TARGET,
    TEMPLATE,
    TIMER_TEMPLATE,
    app_target_name,
    service_name,
    timer_name,
)
from sereno.manager.scope import Scope
from sereno.manager.systemctl import ELAPSED, Elapse, is_running
from sereno.records.run_record import Run, iso
from sereno.units.unit_text import Installed


@dataclass(frozen=True, slots=True)
class Overview:
    """One job.

    Attributes:
        job: as it is installed.
        schedule: when it runs, in words.
        next: the next elapse; None while it runs, is paused or stopped.
        last: its newest run, "running" if it is under way; None if the journal has none, or may not be read.
        active: whether its timer is, and has a next elapse.
        running: whether a run is under way.
        failing: whether the newest run that has ended failed.
        drop_ins: files by which an administrator has changed its timer or service.
        is_over: whether its timer is active without a next elapse.
    """

    job: Installed
    schedule: str
    next: datetime | None
    last: Run | None
    active: bool
    running: bool
    failing: bool
    drop_ins: tuple[str, ...]
    is_over: bool = False

    @property
    def state(self) -> str:
        """The words of the column STATE: what keeps it from running first, then what went wrong."""
        words = []
        if not self.job.enabled:
            words.append("paused")
        elif not self.active:
            words.append("no next elapse" if self.is_over else "stopped")
        if self.running:
            words.append("running")
        if self.failing:
            words.append("failing")
        return ", ".join(words) or "active"

    def as_json(self, zone: tzinfo | None = None) -> dict[str, Any]:
        """For `json.dumps`, with ISO 8601 times in `zone` (None: the local one)."""
        return {
            "id": self.job.id,
            "app": self.job.app,
            "name": self.job.name,
            "function": self.job.function,
            "schedule": self.schedule,
            "trigger": self.job.trigger,
            "next": iso(self.next.timestamp(), zone) if self.next else None,
            "last": self.last.as_json(zone) if self.last else None,
            "paused": not self.job.enabled,
            "active": self.active,
            "running": self.running,
            "failing": self.failing,
            "drop_ins": list(self.drop_ins),
        }


def overview(
    job: Installed,
    schedule: str,
    elapse: Elapse | None,
    service: str | None,
    runs: Sequence[Run],
    drop_ins: Mapping[str, Collection[str]],
) -> Overview:
    """Put together what is known of one job.

    Args:
        schedule: when it runs, in words.
        elapse: of its timer; None: it is not active.
        service: its service's ActiveState; None: it is not loaded.
        runs: its newest ones, oldest first; of a job that runs the two newest are needed.
        drop_ins: those of administrators, {unit name: paths}.
    """
    running = is_running(service)
    # That of @reboot is over once its boot has had its run.
    is_over = elapse is not None and elapse.is_over and not job.at_boot
    last = ended = runs[-1] if runs else None
    # The journal cannot tell a run that goes on from one that was cut off; the manager can. Its closing record is not
    # the end: the process has still to end as it should.
    if last is not None and not last.is_over and running:
        last = Run(last.job_id, last.run_id, "running", last.start_s)
        # What it came to before counts until this run has come to something.
        ended = runs[-2] if len(runs) > 1 else None
    failing = ended is not None and ended.is_bad
    # A run that was stopped, and killed for not heeding it, leaves a unit that has failed, and is no failure.
    stopped = ended is not None and ended.status == "interrupted" and ended.result is not None
    units = (timer_name(job.id), TIMER_TEMPLATE, service_name(job.id), TEMPLATE)
    if timer_name(job.id) in drop_ins:
        schedule += " (changed by a drop-in)"
    return Overview(
        job=job,
        schedule=schedule,
        next=elapse.next if elapse else None,
        last=last,
        active=elapse is not None and not is_over,
        running=running,
        failing=failing or (service == "failed" and not stopped),
        drop_ins=tuple(path for unit in units for path in drop_ins.get(unit, ())),
        is_over=is_over,
    )


def standstill(job: Overview, states: Mapping[str, str], scope: Scope) -> str:
    """What keeps a timer from running that nobody has paused, and the way out; empty if nothing does.

    Args:
        states: ActiveState of the timers and of the targets above them, by unit name.
    """
    if job.active or not job.job.enabled:
        return ""
    timer, command = timer_name(job.job.id), scope.command
    if states.get(timer) == "failed":
        return f"it has failed; {command('sereno doctor')} says why"
    if states.get(TARGET) != "active":
        return f"{TARGET} is stopped: {command(f'systemctl start {TARGET}')}"
    if states.get(app_target_name(job.job.app)) != "active":
        return "its application was shut down: let it call start(), or apply its jobs again"
    if states.get(timer) != ELAPSED:
        return f"it was stopped: {command(f'systemctl start {timer}')}"
    if job.job.interval_s is None:
        return (
            f"no time of its calendar is left, or systemd has lost it: {command('sereno doctor')}"
        )
    return f"its first elapse is missing: {command(f'systemctl start {SEED_SERVICE}')}"
