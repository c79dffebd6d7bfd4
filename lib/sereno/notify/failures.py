"""Failures of a job that nothing was started for.

systemd starts a unit once at a time: what OnFailure= asks for while the job's failure before is still being told joins
the start under way, and leaves a trace in the journal alone.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from sereno import journal
from sereno.history import PROCESS_EXITED, UNIT_FAILED, text
from sereno.notify.evidence import id_in, is_of_job


def read(job_id: str, run_id: str, *, user: bool, since_s: float) -> list[dict[str, str]]:
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


def joined(records: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The failures in a manager's records of a service, as the variables of systemd.exec(5) that it would have set."""
    exits: dict[str, dict[str, str]] = {}
    failures = []
    for record in records:
        run_id = _run_id(record)
        if id_in(record, "MESSAGE_ID") == PROCESS_EXITED:
            status = text(record, "EXIT_STATUS")
            if text(record, "EXIT_CODE") != "exited" and status.isdigit():
                with suppress(ValueError):
                    status = signal.Signals(int(status)).name.removeprefix("SIG")
            exits[run_id] = {
                "MONITOR_EXIT_CODE": text(record, "EXIT_CODE"),
                "MONITOR_EXIT_STATUS": status,
            }
        else:
            failures.append(
                {
                    "MONITOR_INVOCATION_ID": run_id,
                    "MONITOR_SERVICE_RESULT": text(record, "UNIT_RESULT"),
                    **exits.get(run_id, {}),
                }
            )
    return failures


def _run_id(record: Mapping[str, Any]) -> str:
    return id_in(record, "INVOCATION_ID") or id_in(record, "USER_INVOCATION_ID")
