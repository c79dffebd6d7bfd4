"""The runs of one job read back from the journal: the newest, all since a moment, and one as it goes.

The records are looked up by fields that the journal has an index of, so that what else is logged costs nothing.
Records that nobody vouches for do not count: `sereno.records.journal_reader` says which.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Self

from sereno.manager.names import service_name
from sereno.records import journal_reader
from sereno.records.journal import STARTED, STATUS_OF
from sereno.records.journal_reader import JournalFile
from sereno.records.run_record import (
    BY_MANAGER,
    FIELDS,
    UNIT_FAILED,
    UNIT_STOPPED,
    Run,
    limit_texts,
    run_id_of,
    runs_of,
    text,
)

_FOLLOW_S = 0.2
# Runs among which one that has just ended is looked for: others may have followed it.
_FOLLOWERS = 20
_OF_RUNS = (STARTED, *STATUS_OF)
_OF_ANY_RUN = (*_OF_RUNS, UNIT_FAILED, UNIT_STOPPED)


class Newest:
    """Takes a job's records backwards, until it has all of its newest runs."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._records: list[dict[str, Any]] = []
        # Whether what has this id is a run: what the manager says of a start that was none is not.
        self._is_run: dict[str, bool] = {}

    def take(self, record: dict[str, Any]) -> bool:
        """Take the next older record; False: nothing that is older is wanted."""
        run_id, kind = run_id_of(record), text(record, "MESSAGE_ID")
        is_full = sum(self._is_run.values()) >= self._count
        if run_id not in self._is_run and is_full:
            return False
        self._records.append(record)
        self._is_run[run_id] = self._is_run.get(run_id, False) or kind in _OF_ANY_RUN
        return not (kind == STARTED and self._count == 1)

    def runs(self, job_id: str) -> list[Run]:
        return runs_of(job_id, self._records[::-1])


class Runs:
    """A scope's runs, of one job at a time, in these files of the journal (default: all), read back until `since_s`.

    Raises NotAvailable where this interpreter has no python-systemd, and OSError as `journal_reader.reader` does.
    """

    def __init__(
        self, *, user: bool = False, files: Sequence[JournalFile] = (), since_s: float = 0.0
    ) -> None:
        self._since_us = since_s * 1e6
        self._user = user
        self._unit = "USER_UNIT" if user else "UNIT"
        self._mine = {"_UID": str(os.geteuid())} if user else {}
        self._reader = journal_reader.reader(FIELDS | journal_reader.FIELDS, files)
        self._vouching = journal_reader.Vouching(user=user)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def history(self, job_id: str, *, since_s: float, running_id: str | None = None) -> list[Run]:
        """The runs of a job that began or ended after `since_s` (seconds since the epoch), oldest first.

        `running_id` is the invocation id of the run that is under way.
        """
        return runs_of(job_id, self.records(job_id, since_s), running_id=running_id)

    def newest(self, job_id: str, count: int) -> list[Run]:
        """A job's newest `count` runs, the oldest first; one that is under way may be "lost" here."""
        self._match_runs([job_id], limits=True)
        self._reader.seek_tail()
        found = Newest(count)
        for record in self._own(job_id, self._backwards()):
            if not found.take(record):
                break
        return found.runs(job_id)

    def _match_runs(self, job_ids: Collection[str] = (), *, limits: bool = False) -> None:
        """Choose the records of these jobs' runs (default: all jobs'), and systemd's of them (of whatever it starts).

        Args:
            limits: also what it says of a time limit, which has no field of its own: for one job.
        """
        reader, by_manager = self._reader, self._mine or {"_PID": "1"}
        own = {f"SERENO_JOB={job_id}" for job_id in job_ids}
        managed = {f"{self._unit}={service_name(job_id)}" for job_id in job_ids}
        reader.flush_matches()
        # libsystemd looks for the last match first: what is rare comes last.
        reader.add_match(*(f"MESSAGE_ID={kind}" for kind in _OF_RUNS), **self._mine)
        reader.add_match(*own)
        reader.add_disjunction()
        reader.add_match(*(f"MESSAGE_ID={kind}" for kind in BY_MANAGER), **by_manager)
        reader.add_match(*managed)
        if limits:
            said = (text for job_id in job_ids for text in limit_texts(service_name(job_id)))
            reader.add_disjunction()
            reader.add_match(*managed, **by_manager)
            reader.add_match(*(f"MESSAGE={text}" for text in said))

    def await_run(
        self,
        job_id: str,
        is_meant: Callable[[Run], bool],
        is_done: Callable[[Run], bool],
        *,
        deadline_s: float,
    ) -> Run | None:
        """The oldest of a job's newest runs that `is_meant`, when it `is_done` or as it is known after `deadline_s`.

        journald may show a record a moment after its sender has ended (systemd#28650). None: nothing is known of it.
        """
        give_up = time.monotonic() + deadline_s
        while True:
            run = next(filter(is_meant, self.newest(job_id, _FOLLOWERS)), None)
            if (run is not None and is_done(run)) or time.monotonic() > give_up:
                return run
            self._reader.wait(0.05)

    def records(self, job_id: str, since_s: float = 0.0) -> Iterator[dict[str, Any]]:
        """The records of a job's runs after `since_s` (seconds since the epoch), oldest first."""
        self._match_runs([job_id], limits=True)
        self._reader.seek_realtime(since_s)
        return self._own(job_id, self._reader)

    def begins_s(self) -> float | None:
        """Time of the oldest record that there is, seconds since the epoch; None without any."""
        self._reader.flush_matches()
        self._reader.seek_head()
        record = self._reader.get_next()
        return record["__REALTIME_TIMESTAMP"] / 1e6 if record else None

    def tail(self, job_id: str, count: int) -> list[dict[str, Any]]:
        """The last `count` records about a job: its own and systemd's, oldest first."""
        self._match(job_id)
        self._reader.seek_tail()
        return list(islice(self._own(job_id, self._backwards()), count))[::-1]

    def follow(self, job_id: str, has_ended: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """The records about a job from now on, as they come, until `has_ended`.

        The position is taken at the first `next()`, which gives an empty record: ask for it before the run is started.
        """
        self._match(job_id)
        # Not seek_tail(): where nothing matches yet, it stays at the end whatever comes (sd_journal_seek_tail(3)).
        self._reader.seek_realtime(time.time())
        yield {}
        ended = False
        while True:
            yield from self._own(job_id, self._reader)
            if ended:
                return
            # What was logged before the end is read once more after it.
            ended = has_ended()
            if not ended:
                self._reader.wait(_FOLLOW_S)

    def _backwards(self) -> Iterator[dict[str, Any]]:
        while record := self._reader.get_previous():
            if record["__REALTIME_TIMESTAMP"] < self._since_us:
                return
            yield record

    def _match(self, job_id: str) -> None:
        """Choose all records of a job: its own, systemd's about its unit, and what its processes print, which has no
        field of its own in a user's manager."""
        reader, service = self._reader, service_name(job_id)
        reader.flush_matches()
        reader.add_match(SERENO_JOB=job_id, **self._mine)
        reader.add_disjunction()
        reader.add_match(**{self._unit: service}, **(self._mine or {"_PID": "1"}))
        reader.add_disjunction()
        reader.add_match(**{f"_SYSTEMD_{self._unit}": service}, **self._mine)

    def _own(self, job_id: str, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (record for record in records if self._vouching.vouches(record, job_id))
