"""The jobs of a scope as they are now: its unit files, its manager and the journal, each asked once for all of them.

The manager takes longest, so it is asked first; what else is needed is loaded and read meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from threading import Thread
from typing import TYPE_CHECKING

from sereno.errors import NotAvailable
from sereno.manager.names import service_name, timer_name
from sereno.manager.systemctl import Elapse, Systemctl, is_running, of_active

if TYPE_CHECKING:
    from sereno.observe.overview import Overview
    from sereno.records.run_record import Run
    from sereno.units.installation import Installation
    from sereno.units.unit_text import Installed


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
            timers = timer_name(self._job_id)
            elapses = self._manager.list_timers(timers)
            self._states = self._manager.states(timers, service_name(self._job_id))
            self._elapses = of_active(elapses, self._states)
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


def ask(installation: Installation, job_id: str = "*") -> Question | None:
    """Begin to ask the manager for the state of one job, or of all; None for a staged system."""
    return None if installation.is_staged else Question(installation.manager, job_id)


def survey(
    jobs: Mapping[str, Installed],
    installation: Installation,
    question: Question | None,
) -> list[Overview]:
    """An overview of each of these jobs, by id.

    Args:
        question: to the manager; None: there is none, as for a staged system, whose runs are not those of this machine.

    Raises:
        NotAllowed, SystemdError: the manager refused or failed.
    """
    from sereno.manager.names import service_name, timer_name
    from sereno.observe.overview import overview
    from sereno.records.account import run_of, shown_of
    from sereno.triggers import in_words

    drop_ins = installation.units.drop_ins()
    words = {job.id: in_words(job.trigger) for job in jobs.values()}
    elapses: dict[str, Elapse] = {}
    services: dict[str, str] = {}
    known: dict[str, list[Run]] = {}
    if question is not None and jobs:
        known, is_blind = _past(installation, jobs, 1)
        elapses, services = question.answer()
        running = [job_id for job_id in jobs if is_running(services.get(service_name(job_id)))]
        if running:
            known |= _past(installation, running, 2)[0]
        if is_blind:
            missing = [job_id for job_id in jobs if not known.get(job_id)]
            told = shown_of(installation.manager, missing, services).items()
            known |= {job_id: [run] for job_id, shown in told if (run := run_of(job_id, shown))}
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


def _past(
    installation: Installation, job_ids: Iterable[str], count: int
) -> tuple[dict[str, list[Run]], bool]:
    """The newest runs of each job that the journal knows, and whether there may be others: it is not kept, or not for
    this user."""
    from sereno.observe.runs import Runs
    from sereno.records.journal_reader import may_read_journal

    user = installation.scope.is_user
    try:
        with Runs(user=user) as runs:
            found = {job_id: runs.newest(job_id, count) for job_id in job_ids}
            is_blind = not all(found.values()) and (
                runs.begins_s() is None or not (user or may_read_journal())
            )
            return found, is_blind
    except NotAvailable:
        return {}, True
