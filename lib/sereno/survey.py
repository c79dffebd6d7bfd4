"""The jobs of a scope as they are now: its unit files, its manager and the journal, each asked once for all of them.

The manager takes longest, so it is asked first; what else is needed is loaded and read meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from sereno.errors import NotAvailable
from sereno.systemctl import Elapse, Systemctl, is_running

if TYPE_CHECKING:
    from sereno.installation import Installation
    from sereno.overview import Overview
    from sereno.runs import Runs

Read = TypeVar("Read")


class Question:
    """What a manager says of timers and services, asked in the background.

    Args:
        job_id: of one job; default: of all.
    """

    def __init__(self, manager: Systemctl, job_id: str = "*") -> None:
        self._manager = manager
        self._job_id = job_id
        self._error: BaseException | None = None
        self._elapses: dict[str, Elapse] = {}
        self._states: dict[str, str] = {}
        self._thread = Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            timers = f"sereno@{self._job_id}.timer"
            elapses = self._manager.list_timers(timers)
            self._states = self._manager.states(timers, f"sereno@{self._job_id}.service")
            # Those that have failed are listed as well.
            self._elapses = {
                timer: elapse
                for timer, elapse in elapses.items()
                if self._states.get(timer) == "active"
            }
        except NotAvailable:
            # Where systemd does not run, nothing has a next elapse.
            pass
        except BaseException as error:
            self._error = error

    def answer(self) -> tuple[dict[str, Elapse], dict[str, str]]:
        """Elapses of the active timers and ActiveState of the loaded timers and services, by unit name.

        Raises:
            NotAllowed, SystemdError: the manager refused or failed.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._elapses, self._states


def survey(
    installation: Installation, question: Question, job_id: str | None = None
) -> list[Overview]:
    """An overview of each job, or of one, by id.

    Raises:
        NoSuchJob: `job_id` is not installed.
    """
    from sereno.overview import overview
    from sereno.triggers import in_words
    from sereno.units import service_name, timer_name

    jobs = installation.jobs() if job_id is None else {job_id: installation.job(job_id)}
    drop_ins = installation.units.drop_ins()
    latest = _read(installation, lambda runs: runs.latest(jobs))
    known = {job_id: [run] for job_id, run in latest.items()}
    words = {job.id: in_words(job.trigger) for job in jobs.values()}
    elapses, services = question.answer()
    running = [job_id for job_id in jobs if is_running(services.get(service_name(job_id)))]
    if running:
        known |= _read(installation, lambda runs: {each: runs.last_two(each) for each in running})
    return [
        overview(
            job,
            words[job.id],
            elapses.get(timer_name(job.id)),
            services.get(service_name(job.id)),
            known.get(job.id, ()),
            drop_ins,
        )
        for _, job in sorted(jobs.items())
    ]


def _read(installation: Installation, read: Callable[[Runs], dict[str, Read]]) -> dict[str, Read]:
    from sereno.runs import Runs

    try:
        with Runs(user=installation.scope.is_user) as runs:
            return read(runs)
    except NotAvailable:
        return {}
