"""Runs read back from the journal: the newest of many jobs, all of one, and one as it goes.

Exact and in bulk: every query is by fields that the journal has an index of, so that what else is logged on the machine
costs nothing. Records that nobody vouches for do not count: `sereno.records.journal_reader` says which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from sereno.manager.names import job_of_service, service_name
from sereno.records import journal_reader
from sereno.records.journal import STARTED, STATUS_OF
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
_LATE_S = 5.0
# Runs among which one that has just ended is looked for: others may have followed it.
_FOLLOWERS = 20
_OF_RUNS = (STARTED, *STATUS_OF)
_OF_ANY_RUN = (*_OF_RUNS, UNIT_FAILED, UNIT_STOPPED)


class Runs:
    """The runs of one scope's jobs.

    Args:
        user: True for the calling user's scope.

    Raises:
        NotAvailable: this interpreter has no python-systemd.
    """

    def __init__(self, *, user: bool = False) -> None:
        self._user = user
        self._mine = journal_reader.of_user() if user else {}
        self._reader = journal_reader.reader(FIELDS | journal_reader.FIELDS)
        self._vouching = journal_reader.Vouching(user=user)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def history(self, job_id: str, *, since_s: float, running_id: str | None = None) -> list[Run]:
        """The runs of a job that began or ended after `since_s` (seconds since the epoch), oldest first.

        Args:
            running_id: invocation id of the run that is under way.
        """
        return runs_of(job_id, self.records(job_id, since_s), running_id=running_id)

    def latest(self, job_ids: Iterable[str]) -> dict[str, Run]:
        """The newest run of each job that ever ran, by job id; one that is under way may be "lost" here."""
        return {job_id: runs[-1] for job_id in job_ids if (runs := self.newest(job_id, 1))}

    def newest(self, job_id: str, count: int) -> list[Run]:
        """A job's newest `count` runs, the oldest first; one that is under way may be "lost" here."""
        self._match(job_id, *_OF_RUNS)
        self._reader.seek_tail()
        records: list[dict[str, Any]] = []
        runs: dict[str, bool] = {}
        for record in self._own(job_id, self._backwards()):
            run_id, kind = run_id_of(record), text(record, "MESSAGE_ID")
            if run_id not in runs and sum(runs.values()) >= count:
                break
            records.append(record)
            # What the manager says of a start that was none is no run.
            runs[run_id] = runs.get(run_id, False) or kind in _OF_ANY_RUN
            if kind == STARTED and count == 1:
                # Nothing of it is older.
                break
        return runs_of(job_id, records[::-1])

    def listen(self) -> None:
        """Choose the records of all jobs' runs from a moment ago on, for `news`; nothing else can be asked then."""
        self._reader.flush_matches()
        for kind in (*_OF_RUNS, *BY_MANAGER):
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.add_match(**self._mine)
        # Not seek_tail(), as in `follow`; what came a moment ago may become visible only now.
        self._reader.seek_realtime(time.time() - _LATE_S)

    def news(self, job_ids: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What has come of these jobs since `listen` or the call before: (job id, record), oldest first."""
        # Without it, journal files that are new would not be seen (sd_journal_process(3)).
        self._reader.wait(0)
        for record in self._reader:
            unit = text(record, "USER_UNIT" if self._user else "UNIT")
            job_id = text(record, "SERENO_JOB") or job_of_service(unit)
            # Of known ones only: any user can name a million others, each of which somebody would have to vouch for.
            if job_id in job_ids and self._vouching.vouches(record, job_id):
                yield job_id, record

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
        self._match(job_id, *_OF_RUNS)
        self._reader.seek_realtime(since_s)
        return self._own(job_id, self._reader)

    def begins_s(self) -> float | None:
        """Time of the oldest record that there is, seconds since the epoch; None without any."""
        self._reader.flush_matches()
        self._reader.seek_head()
        record = self._reader.get_next()
        return record["__REALTIME_TIMESTAMP"] / 1e6 if record else None

    def notices(
        self, job_ids: Collection[str], *kinds: str, since_s: float
    ) -> list[dict[str, Any]]:
        """The records of these kinds, of these jobs' runs, after `since_s` (seconds since the epoch), oldest first."""
        self._reader.flush_matches()
        self._reader.add_match(**self._mine)
        for kind in kinds:
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.seek_realtime(since_s)
        return [
            record
            for record in self._reader
            if (job_id := text(record, "SERENO_JOB")) in job_ids
            and self._vouching.vouches(record, job_id)
        ]

    def tail(self, job_id: str, count: int) -> list[dict[str, Any]]:
        """The last `count` records about a job: its own and systemd's, oldest first."""
        self._match(job_id)
        self._reader.seek_tail()
        records = []
        for record in self._own(job_id, self._backwards()):
            records.append(record)
            if len(records) >= count:
                break
        return records[::-1]

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
            yield record

    def _match(self, job_id: str, *kinds: str) -> None:
        """Choose a job's own records of these kinds (none: all), and systemd's about its unit."""
        reader, service = self._reader, service_name(job_id)
        manager = journal_reader.of_manager(service, user=self._user)
        reader.flush_matches()
        reader.add_match(SERENO_JOB=job_id, **self._mine)
        for kind in kinds:
            reader.add_match(MESSAGE_ID=kind)
        reader.add_disjunction()
        reader.add_match(**manager)
        if kinds:
            for kind in BY_MANAGER:
                reader.add_match(MESSAGE_ID=kind)
            reader.add_disjunction()
            reader.add_match(**manager)
            for said in limit_texts(service):
                reader.add_match(MESSAGE=said)
        else:
            # What a job prints has no field of its own in a user's manager.
            reader.add_disjunction()
            unit = "_SYSTEMD_USER_UNIT" if self._user else "_SYSTEMD_UNIT"
            reader.add_match(**{unit: service}, **self._mine)

    def _own(self, job_id: str, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return (record for record in records if self._vouching.vouches(record, job_id))
