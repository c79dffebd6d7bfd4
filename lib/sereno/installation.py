"""The jobs that are installed in one scope, of every application: install, remove, pause, run, ask.

Between the facade (`scheduler`, `cli`) and the parts: it reads the disk and the manager, has `plan` decide and `apply`
carry out. Every change holds the scope's lock.
"""

from __future__ import annotations

import grp
import logging
import pwd
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from sereno import by_hand, journal, plan
from sereno.apply import apply, pause, resume
from sereno.errors import Conflict, InvalidJob, NoSuchJob, NotAvailable
from sereno.scope import Scope, of_this_process
from sereno.survey import Question
from sereno.systemctl import Systemctl
from sereno.triggers import machine_zone
from sereno.unitdir import UnitDirectory
from sereno.units import TARGET, Installed, app_target_name, service_name

if TYPE_CHECKING:
    from sereno.history import Run
    from sereno.job import Job

TEMPLATE = "sereno@.service"
# How often the manager is asked whether runs have ended.
POLL_S = 0.1
_logger = logging.getLogger("sereno.scheduler")


class Installation:
    """What sereno has installed in one scope.

    Args:
        scope: "system" or "user"; None: system for root, user for everybody else.
        root: directory of a staged system; then only files are read and written, and no manager is asked.
        manager: systemctl's port; tests put their own here.
    """

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
        self._manager = None if root is not None else manager or Systemctl(user=self.scope.is_user)

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
        """One installed job.

        Raises:
            NoSuchJob: there is none.
            Conflict: it is not one of `app`.
        """
        job = self.units.find().jobs.get(job_id)
        if job is None:
            raise NoSuchJob(
                f"job id: {job_id!r} is not installed in the {self.scope.name} scope",
                hint=f"`sereno list --{self.scope.name}` shows those that are;"
                " --system and --user choose the scope",
            )
        if app not in (None, job.app):
            raise Conflict(
                f"job id: {job_id!r} belongs to the application {job.app!r}, not to {app!r}",
                hint=f"get_scheduler(app={job.app!r})",
            )
        return job

    def ask(self, job_id: str = "*") -> Question | None:
        """Begin to ask the manager for the state of one job, or of all; None for a staged system."""
        return None if self._manager is None else Question(self._manager, job_id)

    def is_running(self, app: str) -> bool:
        """Whether the timers of `app` are active."""
        try:
            return self._manager is not None and self._manager.is_active(app_target_name(app))
        except NotAvailable:
            return False

    def install(
        self,
        app: str,
        jobs: Iterable[Job],
        *,
        prune: Callable[[Installed], bool] | None = None,
        enable_app: bool = False,
        start: bool = True,
        run_now: Collection[str] = (),
        dry_run: bool = False,
        announce: Callable[[list[str]], None] | None = None,
    ) -> list[str]:
        """Make the timers of `app` those of `jobs`; return one line per change.

        Args:
            prune: which of the application's other installed jobs to remove; None: none.
            enable_app: start (now, and at boot) the application's target; False: start timers only if it is active.
            start: False: start nothing now. A timer that is active goes on, with the new schedule.
            run_now: ids to run once if their timer is started by this call.
            dry_run: change nothing.
            announce: called with the lines of a unified diff of the unit files, before anything is changed.

        Raises:
            Conflict, NotAllowed, NotAvailable, SystemdError: nothing was changed, or the next call finishes it.
            InvalidJob: this machine has no such user or group, or no job that another comes after; nothing was changed.
        """
        self.units.require(TEMPLATE)
        jobs = list(jobs)
        if self._manager is not None:
            _check_accounts(jobs)
            journal.require_installed()
        if dry_run:
            return self._plan(app, jobs, prune, enable_app, start, announce)[0].lines()
        with self.units.locked():
            todo, start = self._plan(app, jobs, prune, enable_app, start, announce)
            self._apply(todo, app, enable_app=enable_app, start=start)
        if self._manager is not None:
            now = [service_name(job) for job in todo.restart if job in run_now]
            self._manager.start(now, wait=False)
        return todo.lines()

    def _apply(
        self, todo: plan.Plan, app: str, *, enable_app: bool = False, start: bool = True
    ) -> None:
        """Carry out a plan; what runs of the jobs that it removes have left goes with them."""
        left = []
        if todo.remove and self._manager is not None:
            from sereno import leavings

            left = leavings.places(self._manager, todo.remove)
        apply(todo, app, self.units, self._manager, enable_app=enable_app, start=start)
        if left:
            for error in leavings.delete(left):
                _logger.warning("%s was not deleted: %s", error.filename, error.strerror)

    def _plan(
        self,
        app: str,
        jobs: Iterable[Job],
        prune: Callable[[Installed], bool] | None,
        enable_app: bool,
        start: bool,
        announce: Callable[[list[str]], None] | None,
    ) -> tuple[plan.Plan, bool]:
        """What `install` is to do, and whether it may start what is not active."""
        active = None
        if self._manager is not None:
            active = self._manager.active_units(TARGET, app_target_name(app), "sereno@*.timer")
        start = start and active is not None and self._may_start(app, enable_app, active)
        found = self.units.find()
        todo = plan.build(
            jobs,
            found.jobs,
            app=app,
            foreign=found.foreign,
            active=active,
            start=start,
            interrupted=found.interrupted,
            prune=[job.id for job in found.jobs.values() if prune and prune(job)],
            local_zone=self.local_zone,
        )
        if announce is not None:
            from sereno.unit_diff import unit_diff

            announce(unit_diff(todo, found.jobs))
        for job_id, gone in todo.bereft:
            # No refusal: an application's start must not depend on what another one has registered.
            _logger.warning(
                "the job %r comes after %r, which is removed: register it without, or its start() fails",
                job_id,
                gone,
            )
        return todo, start

    def _may_start(self, app: str, enable_app: bool, active: Collection[str]) -> bool:
        if TARGET not in active:
            # The administrator's switch. Timers are written and enabled, and start with it.
            _logger.warning("%s is stopped: the timers of %s start when it does", TARGET, app)
            return False
        return enable_app or app_target_name(app) in active

    def remove(self, app: str, job_ids: Collection[str], *, forced: bool = False) -> list[str]:
        """Remove jobs of `app`; runs that are under way go on. Return one line per change.

        Args:
            forced: also those that others come after.

        Raises:
            InvalidJob: a job that stays comes after one of them; nothing was changed.
        """
        with self.units.locked():
            found = self.units.find()
            todo = plan.build([], found.jobs, app=app, active=None, prune=job_ids)
            for job_id, gone in () if forced else todo.bereft:
                raise InvalidJob(
                    f"job id: {gone!r} cannot be removed: {job_id!r} comes after it",
                    hint=f"remove {job_id!r} first, or register it without; or pause {gone!r}",
                )
            self._apply(todo, app)
        if self._manager is not None:
            self._manager.reset_failed(service_name(job_id) for job_id in todo.remove)
        return todo.lines()

    def remove_all(self) -> list[str]:
        """Remove every job of every application, and the applications' targets."""
        lines = []
        apps = {job.app for job in self.jobs().values()}
        for app in sorted(apps | self.units.linked_apps()):
            lines += self.remove(app, list(self.jobs(app)), forced=True)
            self._disable_app(app)
        with self.units.locked():
            self.units.sweep_all()
        return lines

    def _disable_app(self, app: str) -> None:
        with self.units.locked():
            if self._manager is not None:
                self._manager.stop([app_target_name(app)])
            self.units.unlink_app(app)
            if self._manager is not None:
                self._manager.reload()

    def shutdown(self, app: str, *, wait: bool) -> None:
        """Stop the timers of `app` until they are installed again, also over a reboot.

        Args:
            wait: return only when the runs that are under way have ended. Nothing kills them in either case.
        """
        self._disable_app(app)
        services = [service_name(job_id) for job_id in self.jobs(app)]
        while wait and self.manager.running(services):
            time.sleep(POLL_S)

    def pause(self, job: Installed) -> None:
        """Stop a job's timer until `resume`, also over a reboot and over `install`."""
        with self.units.locked():
            pause(job, self.units, self.manager)

    def resume(self, job: Installed) -> None:
        """Let a paused job elapse again. What it missed is not made up."""
        with self.units.locked():
            if not job.enabled:
                resume(job, self.units, self.manager, start=self.is_running(job.app))

    def start_run(self, job_id: str) -> None:
        """Start a run of a job now, and do not wait for it; one that is under way already stays the only one."""
        self.manager.start([service_name(job_id)], wait=False)

    def run(self, job_id: str) -> Run:
        """Run a job now and wait for it; see `sereno.by_hand.run`."""
        return by_hand.run(job_id, self.manager, user=self.scope.is_user)


def _check_accounts(jobs: Iterable[Job]) -> None:
    """systemd would fail each run of such a job with status 217 or 216. A staged system has users of its own."""
    for job in jobs:
        for kind, name, by_id, by_name in (
            ("user", job.user, pwd.getpwuid, pwd.getpwnam),
            ("group", job.group, grp.getgrgid, grp.getgrnam),
        ):
            try:
                name is None or (by_id(int(name)) if name.isdigit() else by_name(name))
            except (KeyError, OverflowError):
                raise InvalidJob(
                    f"{kind}: {name!r} is not a {kind} of this machine",
                    hint=f"{kind}add --system {name}, or leave {kind}= away",
                ) from None
