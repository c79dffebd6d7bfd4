"""The scheduler of the contract: registered jobs in, systemd timers out.

systemd is the engine and the job store. `start()` makes the installed timers of the application equal to the registered
jobs, and they go on firing when this process is gone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import Any, Unpack

from sereno.declare.apscheduler import answered, answering
from sereno.declare.job import FLEET, Job, check_name
from sereno.declare.options import Options, Registration, declare, refusals_name
from sereno.errors import Conflict, InvalidJob, InvalidTrigger, NoSuchJob
from sereno.manager.systemctl import Systemctl
from sereno.observe import run_and_wait
from sereno.observe.job_state import JobState
from sereno.observe.pause_and_resume import switch
from sereno.observe.survey import ask, survey
from sereno.setting_names import APP
from sereno.triggers import IntervalTrigger, Trigger, cron_trigger, from_cron_text, in_words
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed, render

DEFAULT_APP = "sereno"
_logger = logging.getLogger(__name__)
ENTRY_SCRIPTS = Path(__file__).parents[2] / "bin"


@answering
class Scheduler:
    """The jobs of one application.

    Args:
        app: name of the application; None: the environment's SERENO_APP, else "sereno".
        scope: "system" or "user"; None: system for root, user for everybody else.
        root: directory of a staged system; then only files are written, and no manager is asked.
        manager: systemctl's port; tests put their own here.

    Methods that change what is installed raise `NotAllowed` without the right to write units, `NotAvailable` where
    systemd does not run or sereno's own units are not installed, and `Conflict` for what belongs to somebody else.
    """

    def __init__(
        self,
        app: str | None = None,
        *,
        scope: str | None = None,
        root: Path | None = None,
        manager: Systemctl | None = None,
    ) -> None:
        self.app = check_name("app", app or os.environ.get(APP) or DEFAULT_APP)
        self.installation = Installation(scope, root=root, manager=manager)
        self._jobs: dict[str, Job] = {}
        self._run_now: set[str] = set()
        self._started = False
        self._lock = threading.RLock()

    def add_interval_job(
        self,
        func: Callable[..., Any],
        job_id: str,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        *,
        days: float = 0,
        weeks: float = 0,
        **options: Unpack[Registration],
    ) -> str:
        """Register `func` to run every so many hours, minutes, seconds, days and weeks, added; return the job's id.

        The first run comes one interval after the timer was first started; an interval is measured from start to start
        and goes on over reboots. `sereno.declare.options.Registration` explains the options.

        Raises:
            InvalidTrigger: the interval is not above zero.
        """
        with refusals_name(job_id):
            trigger = IntervalTrigger(seconds, minutes, hours, days, weeks)
        return self.add_job(func, job_id, trigger, **options)

    def add_cron_job(
        self,
        func: Callable[..., Any],
        job_id: str,
        hour: int | str | None = None,
        minute: int | str | None = None,
        *,
        day: int | str | None = None,
        month: int | str | None = None,
        day_of_week: int | str | None = None,
        second: int | str | None = None,
        cron_expression: str | None = None,
        timezone: str | tzinfo | None = None,
        **options: Unpack[Registration],
    ) -> str:
        """Register `func` to run at the times of a cron expression or of cron fields; return the job's id.

        Cron text means what Debian's cron means by it (crontab(5)). A field that is finer than the finest one given
        defaults to its minimum, a coarser one to "*": `hour="3"` is 03:00 every day. Times are in the machine's zone
        unless `timezone` names one, or is an object that has such a name. "@reboot" is one run after each boot, for
        the first time after the next one; in the user scope, after each start of the user's manager.
        `sereno.declare.options.Registration` explains the options.

        Raises:
            InvalidTrigger: a field that cron would not take, both forms at once, or neither.
        """
        fields = {"second": second, "minute": minute, "hour": hour}
        fields |= {"day": day, "month": month, "day_of_week": day_of_week}
        with refusals_name(job_id):
            trigger = cron_trigger(cron_expression, fields, timezone)
        return self.add_job(func, job_id, trigger, **options)

    def add_job(
        self,
        func: Callable[..., Any],
        job_id: str,
        trigger: Trigger | str,
        *,
        replace_existing: bool = True,
        run_immediately: bool = False,
        **options: Unpack[Options],
    ) -> str:
        """Register `func` under `trigger`; after `start()` it takes effect at once.

        Args:
            trigger: as text, it is what `cron_expression` of `add_cron_job` is.
            replace_existing, run_immediately, options: see `sereno.declare.options.Registration`.

        Raises:
            InvalidJob: see `declare`.
            Conflict: the id is registered and `replace_existing` is False.
        """
        with refusals_name(job_id):
            if isinstance(trigger, str):
                trigger = from_cron_text(trigger)
            elif not hasattr(trigger, "timer_lines"):
                fault = f"trigger: {trigger!r} is no schedule"
                raise InvalidTrigger(fault, hint="add_interval_job or add_cron_job makes one")
            job = declare(
                func,
                job_id,
                trigger,
                app=self.app,
                user_scope=self.installation.scope.is_user,
                **options,
            )
            if run_immediately and job.once_per == FLEET:
                fault = "run_immediately: each host would have a run of its own, of no elapse"
                raise InvalidJob(fault, hint="once the hosts have it: run_job, on one of them")
        with self._lock:
            if not replace_existing and job_id in self._jobs:
                raise Conflict(
                    f"job id: {job_id!r} is registered already",
                    hint="replace_existing=True replaces it",
                )
            before = self._jobs.get(job_id)
            if before is not None and before.function != job.function:
                _logger.warning(
                    "job id: %r was registered for %s and is %s's from now on: ids are unique on a machine",
                    *(job_id, before.function, job.function),
                )
            if self._started:
                run_now = [job_id] if run_immediately else []
                self.installation.install(self.app, [job], run_now=run_now)
            self._jobs[job_id] = job
            (self._run_now.add if run_immediately else self._run_now.discard)(job_id)
        return job_id

    def start(self) -> None:
        """Make the installed timers of this application equal to the registered jobs, and start them.

        Jobs that a backend registered before and no longer does are removed; those with an entry script in bin/ come
        and go with install.sh, and stay. A paused job stays paused. Doing it twice is doing it once.
        """
        with self._lock:
            self.installation.install(
                self.app,
                self._jobs.values(),
                prune=lambda job: not job.has_entry_script,
                enable_app=True,
                joins=True,
                run_now=self._run_now,
            )
            self._started = True

    def apply(
        self,
        *,
        start: bool = True,
        dry_run: bool = False,
        shipped: bool = True,
        prune: bool = True,
        announce: Callable[[list[str]], None] | None = None,
    ) -> list[str]:
        """What `sereno apply` does: like `start()`, but from outside the backend. Return one line per change.

        Args:
            start: False: no timer is started before the next boot; those that are active go on.
            dry_run: change nothing.
            shipped: the registered jobs are those with an entry script, which come and go with install.sh. False: they
                are a backend's.
            prune: False: jobs of this application and of that kind that are no longer registered stay.
            announce: called with the lines of a unified diff of the unit files, before anything is changed.
        """
        with self._lock:
            self._check_entry_scripts()
            return self.installation.install(
                self.app,
                self._jobs.values(),
                prune=(lambda job: job.has_entry_script is shipped) if prune else None,
                enable_app=True,
                start=start,
                dry_run=dry_run,
                announce=announce,
            )

    @property
    def registered(self) -> list[Job]:
        """The registered jobs, installed or not."""
        return list(self._jobs.values())

    def render(self) -> dict[str, str]:
        """The unit files of the registered jobs, {file name: text}. Touches nothing."""
        self._check_entry_scripts()
        zone = self.installation.local_zone
        return {
            name: text
            for job in self._jobs.values()
            for name, text in render(job, local_zone=zone).items()
        }

    def _check_entry_scripts(self) -> None:
        for job in self._jobs.values():
            script = ENTRY_SCRIPTS / job.id
            if job.has_entry_script and not os.access(script, os.X_OK):
                raise InvalidJob(
                    f"job {job.id}: its entry script bin/{job.id} is missing or not executable",
                    hint="copy bin/cache_cleanup_hourly, change its last line, and chmod +x it",
                )

    @property
    def is_running(self) -> bool:
        """Whether the timers of this application are active: all that are not paused, each with a next elapse."""
        return self.installation.is_running(self.app)

    def shutdown(self, wait: bool = True) -> None:
        """Stop the timers of this application until its next `start()`, also over a reboot.

        While another process lives that called `start()` (another worker, the next release) they go on, and nothing is
        waited for: the last one stops them.

        Args:
            wait: return only when the runs that are under way have ended. Nothing kills them in either case.
        """
        with self._lock:
            self._started = False
            self.installation.shutdown(self.app, wait=wait)

    def get_jobs(self) -> list[dict[str, Any]]:
        """The jobs of this application, installed or registered, by id; their keys: `JobState.as_dict`.

        Where systemd does not run or gives no answer, nothing has a `next_run`.

        Raises:
            NotAllowed, SystemdError: the manager refused or failed.
        """
        return self._statuses("*")

    def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """That element of `get_jobs()`; None if there is none."""
        found = self._statuses(job_id)
        return found[0] if found else None

    def _statuses(self, asked: str) -> list[dict[str, Any]]:
        installed, question = self.installation.jobs(self.app), ask(self.installation, asked)
        asked_for = {*installed, *self._jobs} if asked == "*" else {asked}
        jobs = {job_id: job for job_id, job in installed.items() if job_id in asked_for}
        found = {
            job_id: JobState(job, in_words(job.trigger.text))
            for job_id, job in self._jobs.items()
            if job_id in asked_for
        }
        # What is installed counts.
        found |= {each.job.id: each for each in survey(jobs, self.installation, question)}
        return [state.as_dict() for _, state in sorted(found.items())]

    def pause_job(self, job_id: str) -> None:
        """Stop a job's timer until `resume_job`, also over a reboot and over `start()`.

        A job with once_per="fleet" is paused on all hosts.

        Raises:
            NoSuchJob: no installed job has the id.
            FleetError: the fleet's database cannot be asked; nothing was changed.
        """
        switch(self.installation, self._installed(job_id), on=False)

    def resume_job(self, job_id: str) -> None:
        """Let a paused job elapse again. What it missed is not made up.

        Raises:
            NoSuchJob: no installed job has the id.
            FleetError: as `pause_job`.
        """
        switch(self.installation, self._installed(job_id), on=True)

    def remove_job(self, job_id: str) -> bool:
        """Remove a job, registered or installed; a run that is under way goes on. False when there was none.

        Its metrics and what people were told of it go too.

        Raises:
            Conflict: the job belongs to another application.
            InvalidJob: another installed job comes after it; nothing was changed.
        """
        with self._lock:
            try:
                self.installation.job(job_id, self.app)
                was_installed = bool(self.installation.remove(self.app, [job_id]))
            except NoSuchJob:
                was_installed = False
            self._run_now.discard(job_id)
            return self._jobs.pop(job_id, None) is not None or was_installed

    def run_job(self, job_id: str) -> dict[str, Any] | None:
        """Run a job now, outside its schedule; wait for it and return its statistics.

        A run that is under way already is waited for instead of starting a second one. A run that reported an error in
        its statistics returns them.

        Raises:
            NoSuchJob: no installed job has the id.
            JobFailed: it is no success in any other way: it raised, was stopped, left out, killed or cut off by its
                time limit, left without a record, crashed after it, or systemd started nothing.
        """
        job = self._installed(job_id)
        return run_and_wait.statistics(job.id, self.installation.manager, self.installation.scope)

    def _installed(self, job_id: str) -> Installed:
        try:
            return self.installation.job(job_id, self.app)
        except NoSuchJob as error:
            if job_id in self._jobs:
                error.hint = "it is registered, but not installed: call start() first"
            raise


_schedulers: dict[tuple[str, str], Scheduler] = {}
_schedulers_lock = threading.Lock()


@answered
def get_scheduler(app: str | None = None, *, scope: str | None = None) -> Scheduler:
    """The process's scheduler of an application: the same object for the same arguments.

    Args:
        app: default: the environment's SERENO_APP, else "sereno".
        scope: "system" or "user"; default: system for root, user for everybody else.
    """
    scheduler = Scheduler(app, scope=scope)
    key = (scheduler.app, scheduler.installation.scope.name)
    with _schedulers_lock:
        return _schedulers.setdefault(key, scheduler)
