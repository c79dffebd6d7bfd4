"""Carry out a `Plan`: files and manager, in the order in which a kill anywhere leaves the old state or the new one.

    announce → write → stop → date stamps → rewrite and delete → seed → link → have it loaded → start → end

What is announced and not ended is finished by the next change. Starting a timer never runs its job: its stamp, which a
persistent timer reads when it is started, is dated so that no elapse counts as missed, and the last activation of an
interval timer, or of one without a stamp, is forgotten by the manager, which would count from it.

Both that and the new text come by themselves: systemd unloads a timer that is stopped, and with it its service, unless
something names them, and reads them from the disk when it loads them again. So a daemon-reload, which reads every unit
of the machine, is only for what stays loaded: a service that runs or failed, a timer that goes on. Measured on systemd
252 and 257; tests/boot holds it.

When a step fails, what was active before is started again, or the error says what is not.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial

from sereno.errors import NotAvailable, SerenoError, SystemdError
from sereno.manager.analyze import next_elapses
from sereno.manager.names import (
    ALL_APPS,
    ALL_JOBS,
    ALL_TIMERS,
    app_target_name,
    jobs_target_name,
    service_name,
    timer_name,
    unit_of,
)
from sereno.manager.systemctl import ELAPSED, FEW, Elapse, Systemctl
from sereno.units.plan import Plan
from sereno.units.seed import first_elapse, machine_id, seed_text
from sereno.units.unit_text import ACCURACY_S, Installed
from sereno.units.unitdir import UnitDirectory

# More timers than this are started by a target: by name each costs the manager more than twice as much, and the target
# one run of the seed's service.
_BY_NAME = 20


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
    link_app = enable_app and not units.enabled.app_is_linked(app)
    if plan.is_empty and not link_app:
        units.write_presets()
        return
    # The first step that can fail for want of space or rights comes while everything still runs as before. What is
    # stopped must not change before it is: a reload by anybody would apply the new schedule.
    units.begin((*plan.create, *plan.update, *plan.remove, *plan.resume), plan.held)
    created = set(map(timer_name, plan.create))
    later = {
        name: plan.write[name]
        for name in map(timer_name, plan.restart)
        if name in plan.write and name not in created
    }
    # A new job is there with its timer, which its link comes before: without one it would be a paused job.
    units.enabled.link(dict.fromkeys(plan.create, app))
    units.replace({name: text for name, text in plan.write.items() if name not in later})
    elapses: Mapping[str, Elapse] = {}
    asked = {timer_name(job.id) for job in (*plan.skip_missed, *plan.held)}
    if manager is not None and (asked := asked.intersection(plan.active)):
        elapses = manager.list_timers(*asked)
    stopped_s = time.time()
    old = (*plan.remove, *(job for job in plan.restart if job not in plan.create))
    held = [timer_name(job.id) for job in plan.held]
    with _restarted_on_failure(plan.active, {}, units, manager):
        if manager is not None:
            manager.stop([*map(timer_name, old), *held])
        forgotten = (*plan.remove, *plan.create, *plan.forget_elapse)
        units.timers.forget_elapses(forgotten)
        units.timers.forget_seeds((*forgotten, *(job.id for job in plan.skip_missed)))
        _skip_missed(plan.skip_missed, units, elapses, stopped_s)
        for job_id in plan.at_boot if manager is not None else ():
            units.timers.set_booted(job_id)
        units.replace(later)
        units.delete(plan.delete)
        units.enabled.unlink(app, plan.remove)
        _seed(plan, units, elapses)
        units.enabled.link(dict.fromkeys(plan.resume, app))
        if link_app:
            units.enabled.link_app(app)
        if manager is not None:
            _have_it_loaded(plan, manager)
            again = (timer for timer in held if timer in plan.active)
            timers = [*map(timer_name, plan.restart), *again]
            _start(manager, app, timers, units, with_app=enable_app and start)
    units.end()


@contextmanager
def changing(units: UnitDirectory, manager: Systemctl | None) -> Iterator[None]:
    """Hold the lock of `units`, when what an older sereno or a killed change left is put right."""
    with units.locked():
        held, is_old = units.interrupted(), units.enabled.is_old()
        if is_old:
            if held is None:
                units.begin(())
            units.enabled.move()
        if is_old or held is not None:
            if manager is not None:
                # It still has what there was before.
                manager.reload()
            _start_held(held or (), units, manager)
            units.end()
        yield


def _start_held(held: Collection[str], units: UnitDirectory, manager: Systemctl | None) -> None:
    """Start timers again that a killed change had stopped for its own sake."""
    jobs = [job for job in units.find().jobs.values() if job.id in held] if held else []
    units.enabled.link({job.id: job.app for job in jobs})
    if jobs and manager is not None:
        apps = manager.active_units(ALL_APPS)
        manager.start(timer_name(job.id) for job in jobs if app_target_name(job.app) in apps)


def _have_it_loaded(plan: Plan, manager: Systemctl) -> None:
    """See that the manager will go by what is on the disk, and counts from no activation that is to be forgotten."""
    held = [job.id for job in plan.held]
    removed = {name(job_id) for job_id in plan.remove for name in (timer_name, service_name)}
    changed = {unit_of(name) for name in (*plan.write, *plan.delete)} - removed
    # A failed unit stays loaded until that is reset.
    reset = {service_name(job_id) for job_id in (*plan.remove, *plan.forget_activation, *held)}
    reset.update(timer_name(job_id) for job_id in (*plan.remove, *plan.restart, *held))
    loaded = _loaded(manager, changed | reset)
    if failed := [unit for unit in loaded if unit in reset and loaded[unit] == "failed"]:
        manager.reset_failed(failed)
        loaded = _loaded(manager, changed.intersection(loaded))
    if changed & loaded.keys():
        manager.reload()


def _loaded(manager: Systemctl, names: Collection[str]) -> dict[str, str]:
    """ActiveState of those of the units that are loaded."""
    # The manager compares each name with each unit.
    states = manager.states(*(names if len(names) <= FEW else (ALL_JOBS,))) if names else {}
    return {unit: state for unit, state in states.items() if unit in names}


def _skip_missed(
    jobs: Iterable[Installed],
    units: UnitDirectory,
    elapses: Mapping[str, Elapse],
    stopped_s: float,
) -> None:
    """Skip what a new schedule would have missed until its timer was stopped; what it misses from then on is made up.

    So is an elapse of the old one for which the timer was a little late (`AccuracySec=`), or that its jitter held back.
    """
    for job in jobs:
        elapse = elapses.get(timer_name(job.id))
        had_s = units.timers.last_elapse_s(job.id)
        if had_s is None or not stopped_s <= had_s <= time.time():
            due_s = _due_s(job, elapse.next.timestamp(), had_s) if elapse and elapse.next else None
            # One millisecond: an elapse at the very time of the stamp would count as had.
            at_s = stopped_s if due_s is None else min(stopped_s, due_s - 0.001)
            units.timers.set_last_elapse(job.id, at_s)


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
    """Write first elapses: the timers are started without the seed's service, which would read every job."""
    machine, now_s = machine_id(), time.time()
    for interval in plan.first:
        text = first_elapse(units, interval, now_s, machine)
        units.timers.write_seed(interval.id, text)
    # Timers that were stopped for another's sake elapse when they would have. One that is over meanwhile is made up,
    # since its stamp is older.
    for job in plan.held:
        elapse = elapses.get(timer_name(job.id))
        if job.interval_s is not None and elapse is not None and elapse.next is not None:
            first_s = elapse.next.timestamp() - job.interval_s
            units.timers.write_seed(
                job.id, seed_text(timer_name(job.id), first_s, job.interval_s, now_s)
            )


def _start(
    manager: Systemctl, app: str, timers: list[str], units: UnitDirectory, *, with_app: bool
) -> None:
    """Start these timers, whose first elapses are there; with the target of `app`, all others of it that are linked."""
    target = [app_target_name(app)] if with_app else []
    others = units.enabled.timers(app).difference(timers) if with_app else set()
    if len(timers) + len(others) > _BY_NAME:
        # What it could not start is started by name, since only that says why.
        manager.start_alone(target)
        manager.start([jobs_target_name(app)])
        states = manager.states(ALL_TIMERS)
        timers = [timer for timer in timers if states.get(timer) not in ("active", ELAPSED)]
        target, others = [], set()
    manager.start_alone([*target, *timers])
    manager.start(sorted(others))


@contextmanager
def _restarted_on_failure(
    stopped: Collection[str],
    unlinked: Mapping[str, str],
    units: UnitDirectory,
    manager: Systemctl | None,
) -> Iterator[None]:
    """Start these timers again, which were active before, if what is done meanwhile fails, and link those of the jobs
    `unlinked`, {id: application}."""
    try:
        with units.naming_errors():
            yield
    except BaseException as error:
        there = [timer for timer in stopped if (units.path / timer).exists()]
        if manager is None or not there:
            raise
        active: Collection[str] = ()
        with suppress(OSError, SerenoError):
            units.enabled.link({job: unlinked[job] for job in unlinked if timer_name(job) in there})
        for again in (manager.reload, partial(manager.start, there)):
            with suppress(OSError, SerenoError):
                again()
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
    with _restarted_on_failure(stopped, {job.id: job.app}, units, manager):
        units.enabled.unlink(job.app, [job.id])
        manager.stop([timer])
        units.write_presets()
