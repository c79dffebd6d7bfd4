"""The jobs of a scope as they are now, asked again and again at little cost.

The manager is asked each time. Unit files are read again only when one was added, replaced or removed. Of the
journal, what has come since is read; how long older runs took is looked up little by little.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

from sereno.errors import NotAvailable
from sereno.manager.names import service_name
from sereno.manager.systemctl import is_running
from sereno.observe.job_state import JobState, is_unanswered
from sereno.observe.runs_of_many import OPEN_RUNS, RunsOfMany
from sereno.observe.survey import Question, remembered, states_of
from sereno.observe.totals import durations_ms
from sereno.records.run_record import Run
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed

KEPT_RUNS = 24
# Of each answer, for looking up the past of jobs.
_PAST_S = 0.3


class Snapshot(NamedTuple):
    """All jobs at one moment, and by job id how long the newest runs took, oldest first."""

    jobs: list[JobState]
    durations_ms: dict[str, list[float]]


class Poll:
    """One scope's jobs. Not for several threads at once. Tests put their own clock here."""

    def __init__(
        self, installation: Installation, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._installation = installation
        self._clock = clock
        self._fingerprint: object = None
        self._jobs: dict[str, Installed] = {}
        self._drop_ins: dict[str, list[str]] = {}
        # The newest of each job, oldest first.
        self._runs: dict[str, list[Run]] = {}
        # Also of those that the journal has forgotten, as of the time when unit files were read; None: not asked yet.
        self._old: dict[str, list[Run]] | None = None
        self._without_past: list[str] = []
        # Runs of which the journal has no end while nothing runs, as of the answer before; None: there was none.
        self._endless: set[str] | None = None
        self._news: RunsOfMany | None = None
        with suppress(NotAvailable):
            self._news = RunsOfMany(user=installation.scope.is_user)
            self._news.listen()

    def ask(self) -> Snapshot:
        """The jobs now. Raises NotAvailable, NotAllowed, SystemdError without an answer; the next call asks again."""
        self._read_units()
        self._read_news()
        known = {run.run_id for run in self._newest() if _is_open(run)}
        question = Question(self._installation.manager)
        answer = question.answer()
        if question.refusal is not None and is_unanswered(answer.missing):
            # What was shown before is more than nothing, and the error says how old it is.
            raise question.refusal
        # Again after the manager: what has begun or ended meanwhile.
        self._read_news()
        idle = {
            run.run_id: run.job_id
            for run in self._newest()
            if _is_open(run)
            and not is_running(answer.units.get(service_name(run.job_id), {}).get("ActiveState"))
        }
        lost = idle.keys() & (known if self._endless is None else self._endless)
        self._endless = set(idle)
        # Begun after the manager answered, or its last record is still on its way (systemd#28650): a moment later it
        # is known.
        unclear = {
            service_name(job_id): {"ActiveState": "deactivating", "SubState": ""}
            for run_id, job_id in idle.items()
            if run_id not in lost
        }
        answer = answer._replace(units={**answer.units, **unclear})
        if self._old is None:
            self._old = remembered(self._runs, self._jobs, self._installation, answer)
        runs = self._old | self._runs
        jobs = states_of(self._jobs, self._installation, answer, runs, self._drop_ins)
        self._read_past()
        took = {job_id: durations_ms(self._runs.get(job_id, ())) for job_id in self._jobs}
        return Snapshot(jobs, took)

    def _newest(self) -> Iterable[Run]:
        return (runs[-1] for job_id in self._jobs if (runs := self._runs.get(job_id)))

    def _read_units(self) -> None:
        units = self._installation.units
        fingerprint = units.fingerprint()
        if fingerprint == self._fingerprint:
            return
        jobs, self._drop_ins = self._installation.jobs(), units.drop_ins()
        new = [job_id for job_id in jobs if job_id not in self._jobs]
        self._jobs, self._fingerprint, self._old = jobs, fingerprint, None
        if self._news is None or not new:
            return
        with RunsOfMany(user=self._installation.scope.is_user) as past:
            for job_id, runs in past.latest(new).items():
                self._keep(job_id, runs)
        self._without_past += new

    def _read(self, job_ids: Iterable[str], count: int) -> None:
        """Look the newest `count` runs of jobs up."""
        with RunsOfMany(user=self._installation.scope.is_user) as past:
            for job_id in job_ids:
                self._keep(job_id, past.newest(job_id, count))

    def _keep(self, job_id: str, runs: Iterable[Run]) -> None:
        newest = [run._replace(stats=None) for run in runs]
        ids = {run.run_id for run in newest}
        older = [run for run in self._runs.get(job_id, ()) if run.run_id not in ids]
        if older or newest:
            self._runs[job_id] = [*older, *newest][-KEPT_RUNS:]

    def _read_news(self) -> None:
        if self._news is not None:
            changed = dict.fromkeys(job_id for job_id, _ in self._news.news(self._jobs))
            if changed:
                self._read(changed, OPEN_RUNS)

    def _read_past(self) -> None:
        """Look older runs up, of as many jobs as the time allows."""
        give_up = self._clock() + _PAST_S
        while self._without_past and self._clock() < give_up:
            self._read([self._without_past.pop(0)], KEPT_RUNS)


def _is_open(run: Run) -> bool:
    return run.status == "lost" and not run.is_over
