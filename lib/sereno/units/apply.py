"""Carry out a `Plan`: files and manager, in the order in which a kill anywhere leaves the old state or the new one.

    announce → stop → (forget) → waive → write and delete → link → reload → start → end

What is announced and not ended is finished by the application's next change. Starting a timer never runs its job:
missed elapses are waived before (a persistent timer reads its stamp when it is started), and the last activation of an
interval timer, or of one without a stamp, is forgotten by the manager (it stays in memory as long as the units are
loaded, and systemd 252 would count from it). Measured on systemd 252 and 257; tests/boot holds it.

When a step fails, what was active before is started again, or the error says what is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from sereno.errors import NotAvailable, SerenoError, SystemdError
from sereno.manager.analyze import next_elapses
from sereno.manager.names import ALL_TIMERS, app_target_name, service_name, timer_name
from sereno.manager.systemctl import ELAPSED, Elapse, Systemctl
from sereno.units.plan import Plan
from sereno.units.seed import first_elapse, machine_id, seed_text
from sereno.units.unit_text import ACCURACY_S, Installed
from sereno.units.unitdir import UnitDirectory

_logger = logging.getLogger("sereno.scheduler")


def apply(
    plan: Plan,
    app: str,
    units: UnitDirectory,
    manager: Systemctl | None,
    *,
    enable_app: bool = False,
    start: bool = True,
) -> None:
    """Apply `plan` to the timers of `app`, under the lock of `units`.

    Args:
        manager: None: only files and links, for a staged system or one that systemd has not booted.
        enable_app: let sereno.target start the application's target.
        start: with `enable_app`, start the application's target now.
    """
    units.sweep()
    link_app = enable_app and not units.app_is_linked(app)
    if plan.is_empty and not link_app:
        units.write_presets()
        return
    # A removal that is killed leaves jobs unlinked that nobody has paused: should they be registered again.
    units.begin({*plan.link, *plan.forget, *plan.unlink}, plan.held)
    # The first step that can fail for want of space or rights comes while everything still runs as before. What is
    # stopped must not change before it is: a reload by anybody would apply the new schedule.
    created = set(map(timer_name, plan.create))
    later = {
        name: plan.write[name]
        for name in map(timer_name, plan.restart)
        if name in plan.write and name not in created
    }
    units.replace({name: text for name, text in plan.write.items() if name not in later})
    elapses = manager.list_timers() if manager is not None and plan.active else {}
    stopped_s = time.time()
    old = (*plan.remove, *(job for job in plan.restart if job not in plan.create))
    held = {job.id: job.app for job in plan.held}
    linked = {*plan.unlink, *plan.forget}.difference(plan.link)
    with _revived(plan.active, {**dict.fromkeys(linked, app), **held}, units, manager):
        if manager is not None:
            manager.stop(map(timer_name, (*old, *held)))
        units.unlink(app, (*plan.remove, *plan.forget))
        if manager is not None and plan.forget:
            _forget(plan.forget, plan.held, units, manager)
        units.timers.forget_elapses((*plan.remove, *plan.create, *plan.anew))
        waived = (job.id for job in plan.waive)
        units.timers.forget_seeds((*plan.remove, *plan.create, *plan.anew, *waived))
        _waive(plan.waive, units, elapses, stopped_s)
        if manager is not None:
            units.timers.end_turns(plan.at_boot)
        units.replace(later)
        units.delete(plan.delete)
        _seed(plan, units, elapses)
        units.link({**dict.fromkeys((*plan.link, *plan.forget), app), **held})
        if link_app:
            units.link_app(app)
        if manager is not None:
            if plan.changes_files or link_app:
                manager.reload()
            starts_app = app if enable_app and start else None
            again = [timer for timer in map(timer_name, held) if timer in plan.active]
            _start(manager, starts_app, [*map(timer_name, plan.restart), *again])
    units.end((*plan.create, *plan.update, *plan.keep, *plan.remove, *held))


def _forget(
    job_ids: Collection[str], held: Iterable[Installed], units: UnitDirectory, manager: Systemctl
) -> None:
    """Have the manager forget the last activation of these jobs, whose timers are stopped and unlinked: it unloads what
    nothing names, and would name them as long as a job that comes after them is loaded."""
    for job in held:
        units.unlink(job.app, [job.id])
    manager.reset_failed(service_name(job_id) for job_id in (*job_ids, *(job.id for job in held)))
    manager.reload()


def _waive(
    jobs: Iterable[Installed],
    units: UnitDirectory,
    elapses: Mapping[str, Elapse],
    stopped_s: float,
) -> None:
    """Waive what a new schedule would have missed until its timer was stopped; what it misses from then on is made up.

    So is an elapse of the old one for which the timer was a little late (`AccuracySec=`), or that its jitter held back.
    """
    for job in jobs:
        elapse = elapses.get(timer_name(job.id))
        had_s = units.timers.last_elapse_s(job.id)
        if had_s is None or not stopped_s <= had_s <= time.time():
            due_s = _due_s(job, elapse.next.timestamp(), had_s) if elapse and elapse.next else None
            # One millisecond: an elapse at the very time of the stamp would count as had.
            at_s = stopped_s if due_s is None else min(stopped_s, due_s - 0.001)
            units.timers.waive_missed([job.id], at_s)


def _due_s(job: Installed, next_s: float, had_s: float | None) -> float:
    """When the elapse was due that comes at `next_s`: as systemd does, counted from the last one."""
    if job.delay_s and had_s is not None:
        with suppress(NotAvailable, SystemdError):
            for first in next_elapses(job.calendars, 1, after_s=had_s):
                # A drop-in may have another calendar.
                if next_s - job.delay_s - ACCURACY_S <= first.timestamp() <= next_s:
                    return first.timestamp()
    return next_s


def _seed(plan: Plan, units: UnitDirectory, elapses: Mapping[str, Elapse]) -> None:
    """Write first elapses, which the timers need not wait for the seed's service to have."""
    machine, now_s = machine_id(), time.time()
    for job_id, (interval_s, jitter_s) in plan.first.items():
        text = first_elapse(units, job_id, interval_s, jitter_s, now_s, machine)
        units.timers.write_seed(job_id, text)
    # Timers that were stopped for another's sake elapse when they would have. One that is over meanwhile is made up,
    # since its stamp is older.
    for job in plan.held:
        elapse = elapses.get(timer_name(job.id))
        if job.interval_s is not None and elapse is not None and elapse.next is not None:
            first_s = elapse.next.timestamp() - job.interval_s
            units.timers.write_seed(
                job.id, seed_text(timer_name(job.id), first_s, job.interval_s, now_s)
            )


def _start(manager: Systemctl, app: str | None, timers: list[str]) -> None:
    if app is not None:
        # The target's one job brings up all timers that are linked: a start by name for each of a thousand costs
        # half as much again. What it could not start is started by name, since only that says why.
        manager.start([app_target_name(app)])
        states = manager.states(ALL_TIMERS) if timers else {}
        timers = [timer for timer in timers if states.get(timer) not in ("active", ELAPSED)]
    manager.start(timers)


@contextmanager
def _revived(
    stopped: Collection[str],
    unlinked: Mapping[str, str],
    units: UnitDirectory,
    manager: Systemctl | None,
) -> Iterator[None]:
    """Start these timers again if what is done meanwhile fails.

    Args:
        stopped: names of the timers that were active before.
        unlinked: the jobs whose timers may be unlinked, {id: application}.
    """
    try:
        with units.told():
            yield
    except BaseException as error:
        there = [timer for timer in stopped if (units.path / timer).exists()]
        if manager is None or not there:
            raise
        active: Collection[str] = ()
        with suppress(OSError, SerenoError):
            units.link(
                {
                    job: app
                    for job, app in unlinked.items()
                    if (units.path / timer_name(job)).exists()
                }
            )
        with suppress(OSError, SerenoError):
            manager.reload()
        with suppress(OSError, SerenoError):
            manager.start(there)
        with suppress(OSError, SerenoError):
            active = manager.active_units(ALL_TIMERS)
        dead = [timer for timer in there if timer not in active]
        if dead and isinstance(error, SerenoError):
            error.message += f"; stopped, and not started again: {', '.join(dead)}"
        raise


def pause(job: Installed, units: UnitDirectory, manager: Systemctl) -> None:
    """Stop the timer and let nothing start it, also after a reboot; a run that is under way goes on."""
    timer = timer_name(job.id)
    stopped = [timer] if manager.is_active(timer) else []
    with _revived(stopped, {job.id: job.app}, units, manager):
        units.unlink(job.app, [job.id])
        manager.stop([timer])
        manager.reload()
        units.write_presets()
