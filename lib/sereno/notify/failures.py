"""Failures of a job that nothing was started for.

systemd starts a unit once at a time: what OnFailure= asks for while the job's failure before is still being told joins
the start under way, and leaves a trace in the journal alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from sereno import journal
from sereno.history import PROCESS_EXITED, UNIT_FAILED, text
from sereno.notify.account import Account, exit_status
from sereno.notify.evidence import id_in, is_of_job
from sereno.notify.throttle import Moment


def read(job_id: str, run_id: str, *, user: bool, since_s: float) -> list[Account]:
    """What systemd tells of the failures of a job after that of the run `run_id`, oldest first, as `joined`.

    Args:
        since_s: none before this counts, should the journal not have that one; seconds since the epoch.
    """
    journal.require_installed()
    from systemd.journal import Reader

    service, records = f"sereno@{job_id}.service", []
    with Reader() as reader:
        own = {"USER_UNIT": service, "_UID": str(os.geteuid())}
        for name, value in (own if user else {"UNIT": service, "_PID": "1"}).items():
            reader.add_match(f"{name}={value}")
        for kind in (UNIT_FAILED, PROCESS_EXITED):
            reader.add_match(f"MESSAGE_ID={kind}")
        reader.add_disjunction()
        reader.add_match(f"SERENO_JOB={job_id}")
        reader.add_match(f"MESSAGE_ID={journal.FINISHED}")
        reader.seek_tail()
        while entry := reader.get_previous():
            kind = id_in(entry, "MESSAGE_ID")
            if kind == journal.FINISHED and not is_of_job(entry, job_id, user):
                continue
            # What a success has followed is over.
            is_over = (
                kind == journal.FINISHED or entry["__REALTIME_TIMESTAMP"].timestamp() < since_s
            )
            if is_over or _run_id(entry) == run_id:
                break
            records.append(entry)
    return joined(records[::-1])


def last_moment(run_id: str, *, user: bool) -> Moment | None:
    """When the manager last said something of a run, which was its end if it is over; None: the journal has nothing."""
    journal.require_installed()
    from systemd.journal import Reader

    own = {"USER_INVOCATION_ID": run_id, "_UID": str(os.geteuid())}
    with Reader() as reader:
        for name, value in (own if user else {"INVOCATION_ID": run_id, "_PID": "1"}).items():
            reader.add_match(f"{name}={value}")
        reader.seek_tail()
        if not run_id or not (record := reader.get_previous()):
            return None
    time = record["__MONOTONIC_TIMESTAMP"]
    return Moment(time.bootid.hex, time.timestamp.total_seconds())


def joined(records: Iterable[Mapping[str, Any]]) -> list[Account]:
    """The failures in a manager's records of a service."""
    exits: dict[str, tuple[str, str]] = {}
    failures = []
    for record in records:
        run_id = _run_id(record)
        if id_in(record, "MESSAGE_ID") == PROCESS_EXITED:
            code = text(record, "EXIT_CODE")
            exits[run_id] = code, exit_status(code, text(record, "EXIT_STATUS"))
        else:
            how = exits.get(run_id, ("", ""))
            failures.append(Account(run_id, True, text(record, "UNIT_RESULT"), *how))
    return failures


def _run_id(record: Mapping[str, Any]) -> str:
    return id_in(record, "INVOCATION_ID") or id_in(record, "USER_INVOCATION_ID")
