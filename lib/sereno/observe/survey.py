"""The jobs of a scope as they are now: its unit files, its manager and the journal, each asked once for all of them.

The manager takes longest, so it is asked first; what else is needed is loaded and read meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

from sereno.errors import NoAnswer, NotAvailable
from sereno.manager.names import ALL_APPS, TARGET, service_name, timer_name
from sereno.manager.systemctl import Elapse, Systemctl, is_running, states_in

if TYPE_CHECKING:
    from sereno.observe.job_state import JobState
    from sereno.records.run_record import Run
    from sereno.units.installation import Installation
    from sereno.units.unit_text import Installed


class Answer(NamedTuple):
    """What a manager says of timers, services and the targets above them.

    Attributes:
        elapses: of timers, by unit name.
        units: LoadState, ActiveState and SubState of what is loaded, by unit name.
        missing: why there is no manager to ask, or why it gave no answer; "" if it did. Without one nothing has a next
            elapse.
    """

    elapses: Mapping[str, Elapse] = {}
    units: Mapping[str, Mapping[str, str]] = {}
    missing: str = ""


class Question:
    """Asks a manager in the background.

    Args:
        job_id: of one job; default: of all.
    """

    def __init__(self, manager: Systemctl, job_id: str = "*") -> None:
        self._manager = manager
        self._job_id = job_id
        self._error: BaseException | None = None
        # The error of an answer that is missing.
        self.refusal: NotAvailable | NoAnswer | None = None
        self._answer = Answer()
        self._thread = Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        timers, services = timer_name(self._job_id), service_name(self._job_id)
        try:
            self._answer = Answer(
                self._manager.list_timers(timers),
                self._manager.list_units(timers, services, ALL_APPS, TARGET),
            )
        except (NotAvailable, NoAnswer) as error:
            self._answer, self.refusal = Answer(missing=error.message), error
        except BaseException as error:
            self._error = error

    def answer(self) -> Answer:
        """Wait for it. Raises NotAllowed, SystemdError where the manager refuses to tell."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._answer


def ask(installation: Installation, job_id: str = "*") -> Question | None:
    """Begin to ask the manager for the state of one job, or of all; None for a staged system."""
    return None if installation.is_staged else Question(installation.manager, job_id)


def survey(
    jobs: Mapping[str, Installed], installation: Installation, question: Question | None
) -> list[JobState]:
    """The state of each of these jobs, by id.

    Args:
        question: to the manager; None: there is none, as for a staged system, whose runs are not those of this machine.
    """
    if question is None or not jobs:
        return states_of(jobs, installation, Answer(), {})
    runs = newest_runs(jobs, installation, question)
    return states_of(jobs, installation, question.answer(), runs)


def newest_runs(
    jobs: Mapping[str, Installed], installation: Installation, question: Question
) -> dict[str, list[Run]]:
    """The newest run of each job, as journal and manager know it or as it was kept; of one that runs, the two newest.

    The journal is read before the manager's answer is waited for.
    """
    from sereno.observe.runs_of_many import RunsOfMany
    from sereno.records.account import run_of, shown_of
    from sereno.records.journal_reader import may_read_journal

    user, begins_s = installation.scope.is_user, None
    runs: dict[str, list[Run]] = {}
    with suppress(NotAvailable), RunsOfMany(user=user) as past:
        runs, begins_s = past.latest(jobs, 1), past.begins_s()
    answer = question.answer()
    states = states_in(answer.units)
    running = [job_id for job_id in jobs if is_running(states.get(service_name(job_id)))]
    if running and runs:
        with RunsOfMany(user=user) as past:
            runs |= past.latest(running, 2)
    missing = [job_id for job_id in jobs if not runs.get(job_id)]
    # Where it is not kept, or not for this user, there may be others.
    if missing and (begins_s is None or not (user or may_read_journal())):
        told = shown_of(installation.manager, missing, answer.units).items()
        runs |= {job_id: [run] for job_id, shown in told if (run := run_of(job_id, shown))}
    return remembered(runs, jobs, installation, answer)


def remembered(
    runs: Mapping[str, list[Run]],
    jobs: Mapping[str, Installed],
    installation: Installation,
    answer: Answer,
) -> dict[str, list[Run]]:
    """With what the journal has forgotten, as far as it is known otherwise."""
    from sereno.observe import kept_runs

    newest = {job_id: each[-1] for job_id, each in runs.items() if each and job_id in jobs}
    kept = kept_runs.keep(installation.scope, jobs, newest)
    unknown = [job for job_id, job in sorted(jobs.items()) if job_id not in kept]
    kept |= kept_runs.due(unknown, answer.elapses) if unknown else {}
    return {job_id: runs.get(job_id) or [run] for job_id, run in kept.items()}


def states_of(
    jobs: Mapping[str, Installed],
    installation: Installation,
    answer: Answer,
    runs: Mapping[str, Sequence[Run]],
    drop_ins: Mapping[str, Collection[str]] | None = None,
) -> list[JobState]:
    """The state of each of these jobs, by id.

    Args:
        runs: the newest ones of each job, oldest first; of one that runs the two newest are needed.
        drop_ins: `UnitDirectory.drop_ins`; default: as they are now.
    """
    from sereno.observe.job_state import job_state

    states = states_in(answer.units)
    if drop_ins is None:
        drop_ins = installation.units.drop_ins()
    of_all = drop_ins, installation.scope, answer.missing
    return [
        job_state(job, answer.elapses, states, runs.get(job_id, ()), *of_all)
        for job_id, job in sorted(jobs.items())
    ]
