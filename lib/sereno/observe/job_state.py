"""A job as it is now: its units, its elapses and its newest run in one value, and one vocabulary for it. Pure.

`get_jobs()`, `list`, `status`, `watch`, `doctor` and `report` all show this value, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any

from sereno.declare.job import Job
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
from sereno.manager.systemctl import ELAPSED, NOT_BOOTED, Elapse, is_active, is_running
from sereno.records.run_record import Run
from sereno.triggers import in_words
from sereno.units.unit_text import Installed

_NO_ANSWER = "systemd gave no answer: it may still go on"
# The keys of what is as it is here.
_OWN_KEYS = "schedule state installed paused active running failing why_stopped".split()


@dataclass(frozen=True, slots=True)
class JobState:
    """One job.

    Attributes:
        job: as it is installed; one that is registered only is not.
        schedule: when it runs, in words.
        next: the next elapse; None while it runs, is paused or stopped.
        last: its newest run, "running" if it is under way; None if none is known.
        active: whether its timer is, and has a next elapse.
        running: whether a run is under way.
        failing: whether the newest run that has ended failed.
        drop_ins: files by which an administrator has changed its timer or service.
        why_stopped: what keeps its timer from running that nobody has paused, and the way out; "" if nothing does.
        how_stopped: what its state is called while its timer does not run.
    """

    job: Installed | Job
    schedule: str
    next: datetime | None = None
    last: Run | None = None
    active: bool = False
    running: bool = False
    failing: bool = False
    drop_ins: tuple[str, ...] = ()
    why_stopped: str = ""
    how_stopped: str = "stopped"

    @property
    def installed(self) -> bool:
        return isinstance(self.job, Installed)

    @property
    def paused(self) -> bool:
        return isinstance(self.job, Installed) and not self.job.enabled

    @property
    def stopped(self) -> bool:
        """Whether its timer does not run although nobody has paused it."""
        return not self.active and not self.paused

    @property
    def state(self) -> str:
        """What keeps it from running first, then what went wrong: "active", "paused, failing", …"""
        if not self.installed:
            return "not installed"
        words = []
        if self.paused:
            words.append("paused")
        elif self.stopped:
            words.append(self.how_stopped)
        if self.running:
            words.append("running")
        if self.failing:
            words.append("failing")
        return ", ".join(words) or "active"

    def as_dict(self) -> dict[str, Any]:
        """What `get_jobs()` and `list --json` have of a job.

        Returns:
            id, app, name, function ("module:name"), kwargs (its arguments), after (ids), trigger (text), schedule (in
            words), state (see there); installed, paused, active, running, failing (bool); why_stopped; drop_ins
            (paths); next_run (aware datetime or None).

            Of the newest run, None where there was none: last_run (aware datetime of its start), last_run_id,
            last_status ("success", "failed", "skipped", "interrupted", "lost", "running", as everywhere; "unknown": it
            was due then, and no record of it is left, or nobody says whether it goes on), last_error (why, in one
            line), last_hint (a way out), last_result (how a unit failed, in systemd's word: "exit-code", "timeout",
            "signal", …; else as last_status; None while it runs), last_exit_status, last_duration_s (seconds),
            last_stats (what it returned; None also where the journal has forgotten it).
        """
        job, last = self.job, self.last or Run(self.job.id, "", "running")
        moment_s, took_ms = last.at_s, last.duration_ms
        has_ended = last.status != "running"
        return {
            **{name: getattr(job, name) for name in ("id", "app", "name", "function")},
            "kwargs": job.kwargs if isinstance(job, Installed) else job.inputs.kwargs,
            "after": list(job.after),
            "trigger": job.trigger if isinstance(job, Installed) else job.trigger.text,
            **{name: getattr(self, name) for name in _OWN_KEYS},
            "drop_ins": list(self.drop_ins),
            "next_run": self.next,
            "last_run": None if moment_s is None else datetime.fromtimestamp(moment_s, UTC),
            "last_run_id": last.run_id or None,
            "last_status": last.status if self.last else None,
            "last_error": last.error,
            "last_hint": last.hint,
            "last_result": (last.result or last.status) if has_ended else None,
            "last_exit_status": last.exit_status if has_ended else None,
            "last_duration_s": took_ms / 1000 if took_ms is not None and has_ended else None,
            "last_stats": last.stats,
        }

    def as_json(self, zone: tzinfo | None = None) -> dict[str, Any]:
        """The same for `json.dumps`, with ISO 8601 times in `zone` (None: the local one)."""
        return {
            key: value.astimezone(zone).isoformat(timespec="milliseconds")
            if isinstance(value, datetime)
            else value
            for key, value in self.as_dict().items()
        }


def job_state(
    job: Installed,
    elapses: Mapping[str, Elapse],
    states: Mapping[str, str],
    runs: Sequence[Run],
    drop_ins: Mapping[str, Collection[str]],
    scope: Scope,
    no_manager: str = "",
) -> JobState:
    """Put together what is known of one job.

    Args:
        elapses: of timers, by unit name.
        states: `Systemctl.states` of timers, services and the targets above them; one that is not loaded is missing.
        runs: its newest ones, oldest first; of a job that runs the two newest are needed.
        drop_ins: those of administrators, {unit name: paths}.
        no_manager: why there is no manager to ask, or why it gave no answer; "" if it did.
    """
    timer, service = timer_name(job.id), states.get(service_name(job.id))
    running = is_running(service)
    active = is_active(states.get(timer), at_boot=job.at_boot)
    elapse = elapses.get(timer) if active else None
    last = ended = runs[-1] if runs else None
    # The journal cannot tell a run that goes on from one that was cut off; the manager can. Its closing record is not
    # the end: the process has still to end as it should.
    if last is not None and not last.is_over and running:
        last = Run(last.job_id, last.run_id, "running", last.start_s)
        # What it came to before counts until this run has come to something.
        ended = runs[-2] if len(runs) > 1 else None
    elif last is not None and is_unanswered(no_manager):
        last = ended = without_answer(last)
    # A run that was stopped, and killed for not heeding it, leaves a unit that has failed, and is no failure.
    stopped = ended is not None and ended.status == "interrupted" and ended.result is not None
    units = (timer, TIMER_TEMPLATE, service_name(job.id), TEMPLATE)
    why_stopped, how_stopped = "", "stopped"
    if states.get(timer) == ELAPSED:
        how_stopped = "no next elapse"
    elif is_unanswered(no_manager):
        how_stopped = "unknown"
    if job.enabled and not active:
        why_stopped = no_manager or _why_stopped(job, states, scope.command)
    return JobState(
        job=job,
        schedule=in_words(job.trigger) + " (changed by a drop-in)" * (timer in drop_ins),
        next=elapse.next if elapse else None,
        last=last,
        active=active,
        running=running,
        failing=(ended is not None and ended.is_bad) or (service == "failed" and not stopped),
        drop_ins=tuple(path for unit in units for path in drop_ins.get(unit, ())),
        why_stopped=why_stopped,
        how_stopped=how_stopped,
    )


def is_unanswered(no_manager: str) -> bool:
    """Whether there is a manager, which did not answer: who could not ask does not know."""
    return bool(no_manager) and NOT_BOOTED not in no_manager


def without_answer(run: Run) -> Run:
    """A run as it is known where the manager does not say whether it goes on: "unknown", if it has no end."""
    if run.is_over or run.status != "lost":
        return run
    return Run(run.job_id, run.run_id, "unknown", run.start_s, error=_NO_ANSWER)


def _why_stopped(job: Installed, states: Mapping[str, str], command: Callable[[str], str]) -> str:
    timer = timer_name(job.id)
    if states.get(timer) == "failed":
        return f"it has failed; {command('sereno doctor')} says why"
    if states.get(TARGET) != "active":
        return f"{TARGET} is stopped: {command(f'systemctl start {TARGET}')}"
    if states.get(app_target_name(job.app)) != "active":
        return "its application was shut down: let it call start(), or apply its jobs again"
    if states.get(timer) != ELAPSED:
        return f"it was stopped: {command(f'systemctl start {timer}')}"
    if job.interval_s is None:
        return (
            f"no time of its calendar is left, or systemd has lost it: {command('sereno doctor')}"
        )
    return f"its first elapse is missing: {command(f'systemctl start {SEED_SERVICE}')}"
