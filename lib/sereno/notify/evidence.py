"""What the journal says of a job's runs.

Every part may be missing: a run was killed before it could say anything, or no journal is kept, or it cannot be read.
Then the message goes without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, takewhile
from typing import Any, NamedTuple

from sereno.errors import SerenoError
from sereno.manager.names import is_of_a_job, job_of_service, service_name
from sereno.notify.throttle import Moment
from sereno.records import journal, journal_reader, run_record
from sereno.records.account import Account, exit_status
from sereno.records.files import line_of
from sereno.records.journal_reader import is_of_manager, text
from sereno.records.log import Logger
from sereno.records.run_record import PROCESS_EXITED, START_FAILED, UNIT_FAILED, run_id_of, runs_of

# Of a run's end, or of the runs since another; a job may log without limit. Of the failures of all jobs.
_RECORDS, _MOST_OF_MANAGER = 500, 10_000
# What becomes of a start that never was one, and is a failure all the same (OnFailure= in systemd.unit(5)).
_NOT_STARTED = ("dependency", "timeout")
# The run's end is in the journal before the manager starts a handler; this is for a slow disk.
_WAIT_S, _POLL_S = 2.0, 0.05
_FIELDS = run_record.FIELDS | journal_reader.FIELDS | {"SERENO_ALERT", "__MONOTONIC_TIMESTAMP"}
_logger = Logger("sereno.notify")
Record = Mapping[str, Any]


class Evidence(NamedTuple):
    """What is known of a run.

    Attributes:
        status: what it came to, "" where the journal does not tell.
        error: why.
        alerts: {name: message}.
        lines: the last of its log.
        hint: a way out that the run itself knew.
        told: False where it is certain that people are not to be told of a failure: somebody stopped the run.
    """

    status: str
    error: str | None
    alerts: dict[str, str]
    lines: tuple[str, ...]
    hint: str | None = None
    told: bool = True


NOTHING = Evidence("", None, {}, ())


def newest_first(*alternatives: Sequence[str | bytes]) -> Iterator[Record]:
    """The records that have all fields ("NAME=value") of one of the alternatives, whoever sent them."""
    with journal_reader.reader(_FIELDS) as reader:
        for matches in alternatives:
            for match in matches:
                reader.add_match(match)
            reader.add_disjunction()
        reader.seek_tail()
        while entry := reader.get_previous():
            yield entry


class Journal:
    """The journal in one scope; one that cannot be read has nothing, and that is said once.

    Only what a job's own processes said counts, and what the manager said of them: anybody may name a run.

    Args:
        read: as `newest_first`; tests put their own here.
    """

    def __init__(self, user: bool, read: Callable[..., Iterator[Record]] = newest_first) -> None:
        self._prefix, self._read = "USER_" if user else "", read
        self._vouching = journal_reader.Vouching(user=user)
        self._is_readable, self._wait_s, self._waited_for = True, _WAIT_S, set[str]()
        self._boot: Any = None

    def _own(self, job_id: str, *alternatives: Sequence[str | bytes]) -> Iterator[Record]:
        found = self._all(*alternatives)
        return (record for record in found if self._vouching.vouches(record, job_id))

    def _all(self, *alternatives: Sequence[str | bytes]) -> Iterator[Record]:
        try:
            yield from self._read(*alternatives)
        except (OSError, SerenoError) as error:
            if self._is_readable:
                _logger.warning("%s", error)
            self._is_readable = False

    def gather(
        self, job_id: str, run_id: str, lines: int, alerts: Sequence[str] = (), *, wait: bool
    ) -> Evidence:
        """The evidence of a run, with so many lines of its log.

        Args:
            alerts: names of alerts that it may have raised long before its end: each is looked for.
            wait: for its end, a little: journald may show it a moment later (systemd#28650). That is the manager's last
                record of it, which comes after that of a failure and alone says whether somebody stopped the run.
        """

        def own(*matches: bytes) -> Iterator[Record]:
            # By `SERENO_RUN` too: journald may not know any more whose record it was when a process ended at once
            # (systemd#2913).
            names = ("_SYSTEMD_INVOCATION_ID", "SERENO_RUN", "INVOCATION_ID", "USER_INVOCATION_ID")
            named: list[Sequence[str | bytes]]
            named = [(f"{name}={run_id}", *matches) for name in names]
            return self._own(job_id, *named) if run_id else iter(())

        # Once for each run: whoever may send datagrams may send the same ones all the time.
        wait_s = self._wait_s if wait and run_id and run_id not in self._waited_for else 0.0
        self._waited_for.add(run_id)
        give_up = time.monotonic() + wait_s
        while True:
            records = list(islice(own(), _RECORDS))[::-1]
            is_over = any(run.is_over for run in runs_of(job_id, records))
            if is_over or not self._is_readable or time.monotonic() > give_up:
                break
            time.sleep(_POLL_S)
        if wait_s:
            # Where there is nothing at all is no journal, or it is far behind: what follows does not wait for it.
            self._wait_s = _WAIT_S if records else 0.0
        found = judge(job_id, records, lines)
        for alert in alerts:
            # As `journal` writes it; the last of several.
            match = b"SERENO_ALERT=" + alert.encode("utf-8", "backslashreplace")
            record = None if alert in found.alerts else next(own(match), None)
            if record is not None:
                found = found._replace(alerts={alert: text(record, "MESSAGE"), **found.alerts})
        return found

    def last_moment(self, job_id: str, run_id: str) -> Moment | None:
        """When the manager last said something of a run, which was its end if it is over; None: it has nothing."""
        found = self._own(job_id, [f"{self._prefix}INVOCATION_ID={run_id}"]) if run_id else ()
        for record in filter(is_of_manager, found):
            at_s, boot = self._recorded(record)
            return Moment(boot, at_s) if boot else moment(at_s)
        return None

    def _recorded(self, record: Record) -> tuple[float, str]:
        """When a record was made: seconds since a boot, and the id of that; "": this one."""
        monotonic_us, boot = record["__MONOTONIC_TIMESTAMP"]
        if self._boot is None:
            # In a container /proc of a sandbox may have the boot id of the host: the newest record is of this boot.
            _, self._boot = next(self._all(), record)["__MONOTONIC_TIMESTAMP"]
        return monotonic_us / 1e6, "" if boot == self._boot else boot.hex()

    def failures(self, since_s: float) -> dict[str, dict[str, Account]]:
        """What the manager recorded of failed runs since then (time.monotonic()), by job and run, oldest first."""
        by_job: dict[str, list[Record]] = {}
        manager = "_SYSTEMD_USER_UNIT=init.scope" if self._prefix else "_PID=1"
        kinds = (UNIT_FAILED, PROCESS_EXITED, START_FAILED)
        records = self._all(*([manager, f"MESSAGE_ID={kind}"] for kind in kinds))
        for record in islice(records, _MOST_OF_MANAGER):
            at_s, other_boot = self._recorded(record)
            if other_boot or at_s < since_s:
                break
            unit = text(record, f"{self._prefix}UNIT")
            job_id = job_of_service(unit)
            if is_of_a_job(unit) and self._vouching.vouches(record, job_id):
                by_job.setdefault(job_id, []).append(record)
        return {
            job_id: {run.run_id: run for run in joined(records[::-1])}
            for job_id, records in by_job.items()
        }

    def since(self, job_id: str, run_id: str, since_s: float = 0.0) -> list[Account]:
        """The job's runs after the run `run_id` as `joined` has them, oldest first.

        Args:
            since_s: none before this counts, should the journal not have that run; seconds since the epoch.
        """
        unit = f"{self._prefix}UNIT={service_name(job_id)}"
        own = self._own(
            job_id,
            *((unit, f"MESSAGE_ID={kind}") for kind in (UNIT_FAILED, PROCESS_EXITED)),
            (f"SERENO_JOB={job_id}", f"MESSAGE_ID={journal.FINISHED}"),
        )

        def is_later(record: Record) -> bool:
            return run_id_of(record) != run_id and record["__REALTIME_TIMESTAMP"] >= since_s * 1e6

        return joined([*takewhile(is_later, islice(own, _RECORDS))][::-1])


def judge(job_id: str, records: Sequence[Record], lines: int) -> Evidence:
    """The evidence in a run's last records, oldest first."""
    alerts = {
        text(record, "SERENO_ALERT"): text(record, "MESSAGE")
        for record in records
        if "SERENO_ALERT" in record
    }
    log = [line for record in records for line in text(record, "MESSAGE").split("\n") if line]
    last = tuple(log[-lines:] if lines else ())
    run = next(iter(runs_of(job_id, records)), None)
    if run is None or not (run.said or run.is_over):
        return Evidence("", None, alerts, last)
    told = run.told or not run.is_over
    return Evidence(run.status, run.error, alerts, last, run.hint, told)


def joined(records: Sequence[Record]) -> list[Account]:
    """The failures in a manager's records of a service, and the runs that said that they succeeded and did not fail."""
    of_kind: dict[str, dict[str, Record]] = {UNIT_FAILED: {}, PROCESS_EXITED: {}}
    for record in records:
        of_kind.setdefault(text(record, "MESSAGE_ID"), {})[run_id_of(record)] = record
    found = {}
    for run_id in map(run_id_of, records):
        # It is recorded with the id of the run before.
        start = of_kind.get(START_FAILED, {}).get(run_id, {})
        if (result := text(start, "JOB_RESULT")) in _NOT_STARTED:
            found[""] = Account("", True, result)
        if failed := of_kind[UNIT_FAILED].get(run_id):
            exited = of_kind[PROCESS_EXITED].get(run_id, {})
            code, status = text(exited, "EXIT_CODE"), text(exited, "EXIT_STATUS")
            result = text(failed, "UNIT_RESULT")
            found[run_id] = Account(run_id, True, result, code, exit_status(code, status))
        elif run_id in of_kind.get(journal.FINISHED, ()):
            found[run_id] = Account(run_id, True, "success", "exited", "0")
    return list(found.values())


def moment(monotonic_s: float | None = None) -> Moment:
    """A time of this boot; None: now."""
    # In a sandbox of an administrator's own /proc/sys may be missing; then all is taken to be of one boot.
    boot = (line_of("/proc/sys/kernel/random/boot_id") or "").replace("-", "")
    return Moment(boot, time.monotonic() if monotonic_s is None else monotonic_s)
