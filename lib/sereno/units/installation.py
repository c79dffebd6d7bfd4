"""The jobs that are installed in one scope, of every application: install, remove, pause, run, ask.

Between the facade (`scheduler`, `cli`) and the parts: it reads the disk and the manager, has `plan` decide and `apply`
carry out. Every change holds the scope's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

from sereno.declare.job import Job
from sereno.errors import Conflict, InvalidJob, NoSuchJob, NotAvailable, SerenoError, did_you_mean
from sereno.manager.names import (
    ALL_TIMERS,
    STARTERS,
    TARGET,
    TEMPLATE,
    app_target_name,
    service_name,
    timer_name,
)
from sereno.manager.scope import Scope, of_this_process
from sereno.manager.systemctl import FEW, Systemctl, is_active
from sereno.records import journal
from sereno.triggers import machine_zone
from sereno.units import cautions, plan
from sereno.units.apply import apply, changing, pause
from sereno.units.living import Living
from sereno.units.unit_text import Installed
from sereno.units.unitdir import UnitDirectory

# How often the manager is asked whether runs have ended, or a boot has started the timers; how long that is waited for.
POLL_S, _BOOT_S = 0.1, 30.0
_logger = logging.getLogger("sereno.scheduler")


class Installation:
    """What sereno has installed in one scope; the arguments are `Scheduler`'s."""

    def __init__(
        self,
        scope: str | None = None,
        *,
        root: Path | None = None,
        manager: Systemctl | None = None,
    ) -> None:
        self.scope: Scope = of_this_process(scope, root=root)
        self.units = UnitDirectory(self.scope)
        self.local_zone = machine_zone(root or Path("/"))
        self._lives: dict[str, Living] = {}
        self._manager = None if root is not None else manager or Systemctl(user=self.scope.is_user)

    @property
    def is_staged(self) -> bool:
        """Whether it is below a directory, where no manager knows of it."""
        return self._manager is None

    @property
    def manager(self) -> Systemctl:
        """The scope's manager; raises `NotAvailable` for a staged system."""
        if self._manager is None:
            raise NotAvailable("systemd: a staged system has no manager", hint="leave --root away")
        return self._manager

    def jobs(self, app: str | None = None) -> dict[str, Installed]:
        """Installed jobs by id; of one application, or of all."""
        found = self.units.find().jobs
        return {job_id: job for job_id, job in found.items() if app in (None, job.app)}

    def job(self, job_id: str, app: str | None = None) -> Installed:
        """One installed job; NoSuchJob if there is none, Conflict if it is not one of `app`."""
        jobs = self.units.find().jobs
        job = jobs.get(job_id)
        if job is None:
            meant = did_you_mean(job_id, list(jobs))
            raise NoSuchJob(
                f"job id: {job_id!r} is not installed in the {self.scope.name} scope",
                hint=(f"{meant} " if meant else "")
                + f"`sereno list --{self.scope.name}` shows those that are;"
                " --system and --user choose the scope",
            )
        if app not in (None, job.app):
            raise Conflict(
                f"job id: {job_id!r} belongs to the application {job.app!r}, not to {app!r}",
                hint=f"get_scheduler(app={job.app!r})",
            )
        return job

    def is_running(self, app: str) -> bool:
        """Whether the timers of `app` are active, all that are not paused."""
        jobs = self.jobs(app)
        try:
            active = self._active(jobs, app_target_name(app))
        except NotAvailable:
            return False
        timers = {timer_name(job.id) for job in jobs.values() if job.enabled}
        return active is not None and active >= {app_target_name(app), *timers}

    def _active(
        self, jobs: Mapping[str, Installed], *targets: str, of: Collection[str] | None = None
    ) -> set[str] | None:
        """The timers and the `targets` that are active; None: there is no manager to ask.

        Of timers those of the jobs `of` matter, with those of the jobs that come after them; default: all.
        """
        if self._manager is None:
            return None
        timers = {ALL_TIMERS}
        if of is not None and len(of) <= FEW:
            timers = {timer_name(job_id) for job_id in of}
            timers.update(timer_name(job.id) for job in plan.held_by(of, jobs))
        states = self._manager.states(*targets, *sorted(timers))
        at_boot = {timer_name(job.id) for job in jobs.values() if job.at_boot}
        return {unit for unit, state in states.items() if is_active(state, at_boot=unit in at_boot)}

    def install(
        self,
        app: str,
        jobs: Iterable[Job],
        *,
        prune: Callable[[Installed], bool] | None = None,
        enable_app: bool = False,
        start: bool = True,
        joins: bool = False,
        run_now: Collection[str] = (),
        dry_run: bool = False,
        announce: Callable[[list[str]], None] | None = None,
    ) -> list[str]:
        """Make the timers of `app` those of `jobs`; return one line per change.

        Args:
            prune: which of the application's other installed jobs to remove; None: none.
            enable_app: start (now, and at boot) the application's target; False: start timers only if it is active.
            joins: this process lives from now on as one of the application: see `shutdown`.
            run_now: ids to run once if their timer is started by this call.
            start, dry_run, announce: see `Scheduler.apply`.

        Raises:
            Conflict, NotAllowed, NotAvailable, SystemdError: nothing was changed, or the next call finishes it.
            InvalidJob: this machine has no such user or group, or no job that another comes after; nothing was changed.
        """
        self.units.require(TEMPLATE)
        jobs, manager = list(jobs), self._manager
        job_ids = [job.id for job in jobs]
        if manager is not None:
            cautions.check_accounts(jobs)
            journal.require_installed()
            if joins and not dry_run:
                with self.units.naming_errors():
                    self._living(app).join()
        with nullcontext() if dry_run else changing(self.units, manager):
            found = self.units.find()
            pruned = [job.id for job in found.jobs.values() if prune and prune(job)]
            targets = (TARGET, app_target_name(app))
            active = self._active(found.jobs, *targets, of={*pruned, *job_ids})
            own = {timer_name(job_id) for job_id in job_ids if job_id in found.jobs}
            if active is not None and not own <= active and self._waited_for_boot():
                active = self._active(found.jobs, *targets, of={*pruned, *job_ids})
            start = start and active is not None and self._may_start(app, enable_app, active)
            todo = plan.build(
                jobs,
                found.jobs,
                app=app,
                foreign=found.foreign,
                active=active,
                start=start,
                prune=pruned,
                local_zone=self.local_zone,
            )
            if announce is not None:
                announce(todo.diff(found.jobs))
            _warn(cautions.without_predecessor(todo))
            other = {*todo.create, *todo.update}
            _warn(cautions.surprising(job for job in jobs if job.id in other))
            if not dry_run:
                start = start and not (active and app_target_name(app) in active)
                self._apply(todo, app, enable_app=enable_app, start=start)
        if manager is not None and not dry_run:
            now = [service_name(job) for job in todo.restart if job in run_now]
            manager.start(now, wait=False)
            _warn(cautions.of_jobs(self.scope, self.units.find().jobs, job_ids))
            if not self.scope.is_user:
                _warn(cautions.out_of_reach(jobs))
        return todo.lines()

    def _waited_for_boot(self) -> bool:
        """Let a start of the timers that is under way come to its end; return whether there was one.

        One that it has yet to start is not active, and would be started as one that somebody stopped is: without what
        it missed, and an interval from its beginning.
        """
        give_up = time.monotonic() + _BOOT_S
        waited = False
        while self.manager.is_starting(*STARTERS) and time.monotonic() < give_up:
            waited = True
            time.sleep(POLL_S)
        return waited

    def _living(self, app: str) -> Living:
        return self._lives.setdefault(app, Living(self.scope.state / f"lives@{app}"))

    def _apply(
        self, todo: plan.Plan, app: str, *, enable_app: bool = False, start: bool = True
    ) -> None:
        """Carry out a plan; what runs of the jobs that it removes have left goes with them."""
        left = []
        if todo.remove and self._manager is not None:
            from sereno.units import traces

            left = traces.places(self._manager, todo.remove, self.units.drop_ins())
        apply(todo, app, self.units, self._manager, enable_app=enable_app, start=start)
        if left:
            for error in traces.delete(left):
                _logger.warning("%s was not deleted: %s", error.filename, error.strerror)

    def _may_start(self, app: str, enable_app: bool, active: Collection[str]) -> bool:
        if TARGET not in active:
            # The administrator's switch. Timers are written and enabled, and start with it.
            _logger.warning("%s is stopped: the timers of %s start when it does", TARGET, app)
            return False
        return enable_app or app_target_name(app) in active

    def remove(self, app: str, job_ids: Collection[str], *, forced: bool = False) -> list[str]:
        """Remove jobs of `app`; runs that are under way go on. Return one line per change.

        InvalidJob, and nothing was changed, where a job that stays comes after one of them, unless it is `forced`.
        """
        with changing(self.units, self._manager):
            found = self.units.find()
            active = self._active(found.jobs, of=job_ids)
            todo = plan.build([], found.jobs, app=app, active=active, prune=job_ids)
            for job_id, gone in () if forced else todo.without_predecessor:
                raise InvalidJob(
                    f"job id: {gone!r} cannot be removed: {job_id!r} comes after it",
                    hint=f"remove {job_id!r} first, or register it without; or pause {gone!r}",
                )
            self._apply(todo, app)
        return todo.lines()

    def remove_all(self) -> list[str]:
        """Remove every job of every application, and the applications' targets."""
        lines = []
        apps = {job.app for job in self.jobs().values()}
        for app in sorted(apps | self.units.enabled.apps()):
            lines += self.remove(app, list(self.jobs(app)), forced=True)
            with self.units.locked():
                self._disable_app(app)
        with changing(self.units, self._manager):
            self.units.sweep()
        return lines

    def _disable_app(self, app: str) -> None:
        was_linked = app in self.units.enabled.apps()
        self.units.enabled.unlink_app(app)
        if self._manager is None:
            return
        try:
            self._manager.stop([app_target_name(app)])
        except SerenoError:
            if was_linked:
                self.units.enabled.link_app(app)
            raise

    def shutdown(self, app: str, *, wait: bool) -> None:
        """See `Scheduler.shutdown`."""
        with changing(self.units, self._manager), self._living(app).left() as is_last:
            if is_last:
                self._disable_app(app)
        if not is_last:
            _logger.info("another process of %s lives: its timers go on", app)
            return
        services = [service_name(job_id) for job_id in self.jobs(app)]
        while wait and self._manager is not None and self._manager.running(services):
            time.sleep(POLL_S)

    def pause(self, job: Installed) -> None:
        """See `Scheduler.pause_job`."""
        with changing(self.units, self._manager):
            pause(self.job(job.id, job.app), self.units, self.manager)

    def resume(self, job: Installed) -> None:
        """See `Scheduler.resume_job`."""
        with changing(self.units, self._manager):
            found = self.units.find().jobs
            # As it is now: it may have been removed since it was looked up.
            job = self.job(job.id, job.app)
            if not job.enabled:
                target = app_target_name(job.app)
                active = self._active(found, target, of=[job.id]) or set()
                todo = plan.resumption(job, found, active, start=target in active)
                apply(todo, job.app, self.units, self.manager)


def _warn(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        _logger.warning("%s", sentence)
