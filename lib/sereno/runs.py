"""Runs read back from the journal: the newest of many jobs, all of one, and one as it goes.

Exact and in bulk: every query is by fields that the journal has an index of, so that what else is logged on the machine
costs nothing. A record that any user could send with a job's name does not count: journald's own fields say which unit
it came from. They are missing when the sender was gone before journald looked (systemd#2913), so a record without them
is taken.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from sereno import journal
from sereno.history import (
    FIELDS,
    PROCESS_EXITED,
    UNIT_FAILED,
    Run,
    run_id_of,
    runs_of,
    text,
)
from sereno.journal import CLOSING, STARTED
from sereno.units import service_name

# Records of one run that are looked at to learn what became of it: failed, exited, closed, started.
_OF_ONE_RUN = 8
_FOLLOW_S = 0.2
_LATE_S = 5.0
_FIELDS = FIELDS | {
    *("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT", "_PID", "SERENO_JOB")
}


class Runs:
    """The runs of one scope's jobs.

    Args:
        user: True for the calling user's scope.

    Raises:
        NotAvailable: this interpreter has no python-systemd.
    """

    def __init__(self, *, user: bool = False) -> None:
        journal.require_installed()
        self._user = user
        self._reader = _reader()

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def history(
        self, job_id: str, *, since_s: float | None = None, running_id: str | None = None
    ) -> list[Run]:
        """The runs of a job that began or ended after `since_s` (seconds since the epoch), oldest first.

        Args:
            running_id: invocation id of the run that is under way.
        """
        self._match(job_id, STARTED, *CLOSING)
        if since_s is None:
            self._reader.seek_head()
        else:
            self._reader.seek_realtime(since_s)
        return runs_of(job_id, self._own(job_id, self._reader), running_id=running_id)

    def latest(self, job_ids: Iterable[str]) -> dict[str, Run]:
        """The newest run of each job that ever ran, by job id; one that is under way is "lost" here."""
        found = {}
        for job_id in job_ids:
            self._match(job_id, STARTED, *CLOSING)
            self._reader.seek_tail()
            records = self._newest_run(job_id)
            if records:
                (found[job_id],) = runs_of(job_id, records)
        return found

    def last_two(self, job_id: str) -> list[Run]:
        """The two newest runs of a job, the older first; one that is under way is "lost" here."""
        return runs_of(job_id, self.recent(job_id, 2))

    def _newest_run(self, job_id: str) -> list[dict[str, Any]]:
        """The records of the newest run, up to the first that needs no older one."""
        records: list[dict[str, Any]] = []
        for record in self._own(job_id, self._backwards()):
            if records and run_id_of(record) != run_id_of(records[0]):
                break
            records.append(record)
            if record["MESSAGE_ID"] in (STARTED, *CLOSING) or len(records) == _OF_ONE_RUN:
                break
        return records

    def recent(self, job_id: str, count: int) -> list[dict[str, Any]]:
        """The records of a job's newest `count` runs, oldest first."""
        self._match(job_id, STARTED, *CLOSING)
        self._reader.seek_tail()
        records: list[dict[str, Any]] = []
        runs: set[str] = set()
        for record in self._own(job_id, self._backwards()):
            runs.add(run_id_of(record))
            if len(runs) > count:
                break
            records.append(record)
        return records[::-1]

    def listen(self) -> None:
        """Choose the records of all jobs' runs from a moment ago on, for `news`; nothing else can be asked then."""
        self._reader.flush_matches()
        for kind in (STARTED, *CLOSING, UNIT_FAILED, PROCESS_EXITED):
            self._reader.add_match(MESSAGE_ID=kind)
        if self._user:
            self._reader.add_match(_UID=str(os.geteuid()))
        # Not seek_tail(), as in `follow`; what came a moment ago may become visible only now.
        self._reader.seek_realtime(time.time() - _LATE_S)

    def news(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What has come since `listen` or the call before: (job id, record), oldest first."""
        # Without it, journal files that are new would not be seen (sd_journal_process(3)).
        self._reader.wait(0)
        for record in self._reader:
            unit = text(record, "USER_UNIT" if self._user else "UNIT")
            job_id = text(record, "SERENO_JOB") or unit[len("sereno@") : -len(".service")]
            if job_id and unit in ("", service_name(job_id)) and any(self._own(job_id, [record])):
                yield job_id, record

    def closing(
        self,
        job_id: str,
        run_id: str | None,
        *,
        but_not: str | None = None,
        since_s: float,
        deadline_s: float = 5.0,
    ) -> Run | None:
        """A run that has ended, the newest; None if the journal does not show its closing record within `deadline_s`.

        Args:
            run_id: the invocation id; None: any run of the job that was closed after `since_s`.
            but_not: the invocation id of one that is not meant.
            since_s: seconds since the epoch.
            deadline_s: journald may show a record a moment after the process that sent it has ended (systemd#28650).
        """
        give_up = time.monotonic() + deadline_s
        while True:
            self._match(job_id, *CLOSING, run_id=run_id)
            self._reader.seek_tail()
            own = self._own(job_id, self._backwards())
            record = next((record for record in own if run_id_of(record) != but_not), None)
            if record is not None and record["__REALTIME_TIMESTAMP"] >= since_s * 1e6:
                return runs_of(job_id, [record])[0]
            if time.monotonic() > give_up:
                return None
            self._reader.wait(0.05)

    def with_prefix(self, job_id: str, prefix: str) -> list[str]:
        """Ids of the job's runs that begin with `prefix`."""
        self._match(job_id, STARTED, *CLOSING)
        self._reader.seek_head()
        found = (run_id_of(record) for record in self._own(job_id, self._reader))
        return list(dict.fromkeys(run_id for run_id in found if run_id.startswith(prefix)))

    def begins_s(self) -> float | None:
        """Time of the oldest record that there is, seconds since the epoch; None without any."""
        self._reader.flush_matches()
        self._reader.seek_head()
        record = self._reader.get_next()
        return record["__REALTIME_TIMESTAMP"] / 1e6 if record else None

    def notices(self, *kinds: str, since_s: float) -> list[dict[str, Any]]:
        """The records of these kinds, of any job's runs, after `since_s` (seconds since the epoch), oldest first."""
        self._reader.flush_matches()
        if self._user:
            self._reader.add_match(_UID=str(os.geteuid()))
        for kind in kinds:
            self._reader.add_match(MESSAGE_ID=kind)
        self._reader.seek_realtime(since_s)
        return [
            record for record in self._reader for _ in self._own(text(record, "SERENO_JOB"), [record])
        ]  # fmt: skip

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

    def _match(self, job_id: str, *kinds: str, run_id: str | None = None) -> None:
        """Choose a job's own records of these kinds (none: all), and systemd's about its unit where they can matter."""
        reader, service = self._reader, service_name(job_id)
        reader.flush_matches()
        reader.add_match(SERENO_JOB=job_id)
        if self._user:
            reader.add_match(_UID=str(os.geteuid()))
        for kind in kinds:
            reader.add_match(MESSAGE_ID=kind)
        if run_id:
            reader.add_match(SERENO_RUN=run_id)
        if kinds and STARTED not in kinds:
            return
        reader.add_disjunction()
        if self._user:
            reader.add_match(USER_UNIT=service, _UID=str(os.geteuid()))
        else:
            reader.add_match(UNIT=service, _PID="1")
        if kinds:
            reader.add_match(MESSAGE_ID=UNIT_FAILED)
            reader.add_match(MESSAGE_ID=PROCESS_EXITED)
        else:
            # What a job prints has no field of its own in a user's manager.
            reader.add_disjunction()
            reader.add_match(
                **{"_SYSTEMD_USER_UNIT" if self._user else "_SYSTEMD_UNIT": service},
                **({"_UID": str(os.geteuid())} if self._user else {}),
            )

    def _own(self, job_id: str, records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        service = service_name(job_id)
        for record in records:
            of_user = "_SYSTEMD_USER_UNIT" in record
            unit = text(record, "_SYSTEMD_USER_UNIT" if of_user else "_SYSTEMD_UNIT")
            # Every match of the user scope names the user, so its manager's records are that user's own.
            by_manager = "USER_UNIT" in record if self._user else text(record, "_PID") == "1"
            if by_manager or not unit or (unit == service and of_user == self._user):
                yield record


def _reader() -> Any:
    """A reader of the journal whose records have the fields in `_FIELDS` alone, as text.

    Of thirty fields a record, dates and UUIDs among them, ten are wanted: without the others 10,000 runs are read four
    times as fast. Should python-systemd no longer call the method, there is all of it, as text still.
    """
    from systemd import journal as systemd_journal

    class Slim(systemd_journal.Reader):  # type: ignore[misc]
        def _convert_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
            # A comprehension without calls: of many runs it is a fifth of the time.
            return {
                name: value.decode("utf-8", "replace") if type(value) is bytes else value
                for name in _FIELDS & entry.keys()
                for value in (entry[name],)
            }

    as_it_is = ("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "__CURSOR")
    plain = dict.fromkeys(systemd_journal.DEFAULT_CONVERTERS, _decoded)
    return Slim(converters={**plain, **dict.fromkeys(as_it_is, _same)})


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _same(value: Any) -> Any:
    return value
