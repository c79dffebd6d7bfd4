"""Runs read back from the journal: the newest of many jobs, all of one, and one as it goes.

Of one job the records are looked up by fields that the journal has an index of, so that what else is logged costs
nothing. In each of the journal's files that costs as much as reading a hundred records: for many jobs the records of
all runs are read once, and what is rare among them is looked up. Records that nobody vouches for do not count:
`sereno.records.journal_reader` says which.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from itertools import chain, islice
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
# Of so many of a job's runs records may still come: systemd's about the one before arrive while the next begins.
OPEN_RUNS = 5
# Records that are read in vain, for each job that is looked for, before it is asked for by name.
_PATIENCE = 20


class _Newest:
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
    """The runs of one scope's jobs. Raises NotAvailable where this interpreter has no python-systemd."""

    def __init__(self, *, user: bool = False) -> None:
        self._unit = "USER_UNIT" if user else "UNIT"
        self._mine = {"_UID": str(os.geteuid())} if user else {}
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

        `running_id` is the invocation id of the run that is under way.
        """
        return runs_of(job_id, self.records(job_id, since_s), running_id=running_id)

    def histories(
        self, job_ids: Collection[str], *, since_s: float, with_stats: Collection[str] = ()
    ) -> dict[str, list[Run]]:
        """`history` of many jobs, by job id, in one pass.

        Args:
            with_stats: the jobs whose runs keep their statistics; of others the newest five alone do: most of the
                memory that many runs take is theirs.
        """
        self._match_runs()
        self._reader.seek_realtime(since_s)
        open_runs: dict[str, dict[str, list[dict[str, Any]]]] = {job_id: {} for job_id in job_ids}
        found: dict[str, list[Run]] = {job_id: [] for job_id in job_ids}
        for job_id, record in self._of_jobs(self._reader, job_ids):
            groups = open_runs[job_id]
            groups.setdefault(run_id_of(record), []).append(record)
            if len(groups) > OPEN_RUNS:
                oldest = groups.pop(next(iter(groups)))
                for old in oldest if job_id not in with_stats else ():
                    old.pop("SERENO_STATS", None)
                found[job_id] += runs_of(job_id, oldest)
        for job_id, groups in open_runs.items():
            found[job_id] += runs_of(job_id, chain.from_iterable(groups.values()))
            if any(run.result == "timeout" for run in found[job_id]):
                found[job_id] = self.history(job_id, since_s=since_s)
        return found

    def latest(self, job_ids: Collection[str], count: int = 1) -> dict[str, list[Run]]:
        """`newest` of many jobs, by job id, for what one pass and a few questions cost."""
        # Who never ran need not be looked for.
        units = self._reader.query_unique(self._unit)
        known = self._reader.query_unique("SERENO_JOB")
        found = {
            job_id: _Newest(count)
            for job_id in job_ids
            if job_id in known or service_name(job_id) in units
        }
        missing = set(found)
        self._match_runs()
        self._take_newest(found, missing)
        if missing:
            # The rare ones, by name: dear for each name in each file, but together.
            found |= {job_id: _Newest(count) for job_id in missing}
            self._match_runs(missing)
            self._take_newest(found, missing)
        runs = {job_id: each.runs(job_id) for job_id, each in found.items()}
        # What a limit ended is told from what was left behind by a record that the pass has not.
        again = (id for id, own in runs.items() if any(run.result == "timeout" for run in own))
        for job_id in missing | set(again):
            runs[job_id] = self.newest(job_id, count)
        return {job_id: runs.get(job_id, []) for job_id in job_ids}

    def newest(self, job_id: str, count: int) -> list[Run]:
        """A job's newest `count` runs, the oldest first; one that is under way may be "lost" here."""
        self._match_runs([job_id], limits=True)
        self._reader.seek_tail()
        found = _Newest(count)
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
        reader.add_match(*(f"MESSAGE_ID={kind}" for kind in _OF_RUNS), *own, **self._mine)
        reader.add_disjunction()
        reader.add_match(*(f"MESSAGE_ID={kind}" for kind in BY_MANAGER), *managed, **by_manager)
        if limits:
            said = (text for job_id in job_ids for text in limit_texts(service_name(job_id)))
            reader.add_disjunction()
            reader.add_match(*(f"MESSAGE={text}" for text in said), *managed, **by_manager)

    def _take_newest(self, found: Mapping[str, _Newest], missing: set[str]) -> None:
        """Read backwards what was chosen, until all is found, or it does not pay any more; `missing`: what is not."""
        self._reader.seek_tail()
        passed = 0
        for record in self._backwards() if missing else ():
            passed += 1
            job_id = self._job_of(record, missing)
            if job_id is not None and not found[job_id].take(record):
                missing.remove(job_id)
                passed = 0
            if passed > _PATIENCE * len(missing):
                return
        # There is no older record of any.
        missing.clear()

    def _of_jobs(
        self, records: Iterable[dict[str, Any]], job_ids: Container[str]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for record in records:
            if (job_id := self._job_of(record, job_ids)) is not None:
                yield job_id, record

    def _job_of(self, record: dict[str, Any], job_ids: Container[str]) -> str | None:
        """Which of these jobs a record is of; None: of none, or nobody vouches for it."""
        job_id = text(record, "SERENO_JOB") or job_of_service(text(record, self._unit))
        # Known ones first: any user can name a million others, each of which somebody would have to vouch for.
        return job_id if job_id in job_ids and self._vouching.vouches(record, job_id) else None

    def listen(self) -> None:
        """Choose the records of all jobs' runs from a moment ago on, for `news`; nothing else can be asked then."""
        self._match_runs()
        # Not seek_tail(), as in `follow`; what came a moment ago may become visible only now.
        self._reader.seek_realtime(time.time() - _LATE_S)

    def news(self, job_ids: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What has come of these jobs since `listen` or the call before: (job id, record), oldest first."""
        # Without it, journal files that are new would not be seen (sd_journal_process(3)).
        self._reader.wait(0)
        return self._of_jobs(self._reader, job_ids)

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
