"""Carry out a `Plan`: files and manager, in the order in which a kill anywhere leaves the old state or the new one.

    announce → stop → (forget) → write and delete → waive → link → reload → start → end

What is announced and not ended is finished by the application's next change. Starting a timer never runs its job:
missed elapses are waived before (a persistent timer reads its stamp when it is started), and the last activation of an
interval timer, or of one without a stamp, is forgotten by the manager (it stays in memory as long as the units are
loaded, and systemd 252 would count from it). Measured on systemd 252 and 257; tests/boot holds it.
"""

from __future__ import annotations

from sereno.plan import Plan
from sereno.systemctl import Systemctl
from sereno.unitdir import UnitDirectory
from sereno.units import Installed, app_target_name, service_name, timer_name


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
        return
    # A removal that is killed leaves jobs unlinked that nobody has paused: should they be registered again.
    units.begin({*plan.link, *plan.forget, *plan.unlink})
    # The first step that can fail for want of space or rights comes while everything still runs as before.
    created = set(plan.create)
    restarted = [timer_name(job) for job in plan.restart if job not in created]
    # These must not change before they are stopped: a reload by anybody would apply the new schedule.
    later = {name: plan.write[name] for name in restarted if name in plan.write}
    units.replace({name: text for name, text in plan.write.items() if name not in later})
    stop = [*(timer_name(job) for job in plan.remove), *restarted]
    if manager is not None and stop:
        manager.stop(stop)
    units.unlink(app, (*plan.remove, *plan.forget))
    if manager is not None and plan.forget:
        manager.reset_failed(service_name(job) for job in plan.forget)
        manager.reload()
    units.replace(later)
    units.delete(plan.delete)
    units.timers.forget_elapses((*plan.remove, *plan.create, *plan.anew))
    units.timers.forget_seeds((*plan.remove, *plan.create, *plan.anew, *plan.waive))
    units.timers.waive_missed(plan.waive)
    if manager is not None:
        units.timers.end_turns(plan.at_boot)
    units.link(app, (*plan.link, *plan.forget))
    if link_app:
        units.link_app(app)
    if manager is not None:
        if plan.changes_files or link_app:
            manager.reload()
        starts_app = app if enable_app and start else None
        _start(manager, starts_app, list(map(timer_name, plan.restart)))
    units.end((*plan.create, *plan.update, *plan.keep, *plan.remove))


def _start(manager: Systemctl, app: str | None, timers: list[str]) -> None:
    if app is not None:
        # The target's one job brings up all timers that are linked: a start by name for each of a thousand costs
        # half as much again. What it could not start is started by name, since only that says why.
        manager.start([app_target_name(app)])
        active = manager.active_units("sereno@*.timer") if timers else set()
        timers = [timer for timer in timers if timer not in active]
    manager.start(timers)


def pause(job: Installed, units: UnitDirectory, manager: Systemctl) -> None:
    """Stop the timer and let nothing start it, also after a reboot; a run that is under way goes on."""
    manager.stop([timer_name(job.id)])
    units.unlink(job.app, [job.id])
    manager.reload()


def resume(job: Installed, units: UnitDirectory, manager: Systemctl, *, start: bool) -> None:
    """Let the application's target start the timer again; what it missed meanwhile is waived."""
    units.begin([job.id])
    if job.by_stamp:
        units.timers.waive_missed([job.id])
    else:
        manager.reset_failed([service_name(job.id)])
        manager.reload()
        units.timers.forget_elapses([job.id])
        units.timers.forget_seeds([job.id])
    if job.at_boot:
        units.timers.end_turns([job.id])
    units.link(job.app, [job.id])
    manager.reload()
    if start:
        manager.start([timer_name(job.id)])
    units.end([job.id])
