"""What the journal says of one run: its own words, its alerts, the last lines of its log.

Every part may be missing: the run was killed before it could say anything, or the journal is not readable. Then the
message goes without it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from sereno import journal
from sereno.history import UNIT_FAILED, text

# Of a run's end only; a job may log without limit.
_RECORDS = 500
_POLL_S = 0.05


class Evidence(NamedTuple):
    """`status` is SERENO_STATUS, "" if the run closed with no record; `alerts` are {name: message}."""

    status: str
    error: str | None
    alerts: dict[str, str]
    lines: tuple[str, ...]


def read_tail(run_id: str, count: int) -> list[dict[str, Any]]:
    """The last `count` records of a run, and of the manager about it, oldest first; those that the caller may read."""
    return list(islice(_newest_first(run_id), count))[::-1]


def read_alert(run_id: str, alert: str) -> dict[str, Any] | None:
    """The last record by which a run raised this alert, however much it logged afterwards."""
    # As `journal` writes it.
    value = alert.encode("utf-8", "backslashreplace")
    return next(_newest_first(run_id, b"SERENO_ALERT=" + value), None)


def _newest_first(run_id: str, *matches: bytes) -> Iterator[dict[str, Any]]:
    """The records of a run, and of the manager about it, that have these fields.

    By `SERENO_RUN` too: journald may not know any more whose record it was when a process ended at once (systemd#2913).
    What another unit's process claims about the run is left out.
    """
    journal.require_installed()
    from systemd.journal import Reader

    with Reader() as reader:
        for field in (
            "_SYSTEMD_INVOCATION_ID",
            "SERENO_RUN",
            "INVOCATION_ID",
            "USER_INVOCATION_ID",
        ):
            for match in (f"{field}={run_id}", *matches):
                reader.add_match(match)
            reader.add_disjunction()
        reader.seek_tail()
        while entry := reader.get_previous():
            if is_of_run(entry, run_id):
                yield entry


def is_of_run(record: Mapping[str, Any], run_id: str) -> bool:
    """Whether a record that names a run may: by the fields that journald itself adds, which nobody can forge.

    It is the run's own, nobody's (see `read_tail`), or that of a manager: process 1, or a user's (systemd.special(7)).
    """
    sender = id_in(record, "_SYSTEMD_INVOCATION_ID")
    manager = record.get("_PID") == 1 or record.get("_SYSTEMD_USER_UNIT") == "init.scope"
    return sender in ("", run_id) or manager


def is_of_job(record: Mapping[str, Any], job_id: str, user: bool) -> bool:
    """Whether a run's record is of this job in this scope: by the unit that journald saw, else by its own word."""
    of_user = "_SYSTEMD_USER_UNIT" in record
    unit = text(record, "_SYSTEMD_USER_UNIT" if of_user else "_SYSTEMD_UNIT")
    if not unit:
        return text(record, "SERENO_JOB") == job_id
    return unit == f"sereno@{job_id}.service" and of_user is user


def gather(
    job_id: str,
    run_id: str,
    lines: int,
    *,
    user: bool,
    deadline_s: float,
    alerts: Sequence[str] = (),
    read: Callable[[str, int], Sequence[Mapping[str, Any]]] = read_tail,
    find: Callable[[str, str], Mapping[str, Any] | None] = read_alert,
) -> Evidence:
    """Read a run's end; wait for it up to `deadline_s`: journald may show it a moment later (systemd#28650).

    The end is the run's closing record, or that of the manager about its failure. That of a run of another job is none:
    whoever named the run may have named the wrong job. `alerts` are names of alerts that the run may have raised long
    before: each is looked for.
    """
    give_up = time.monotonic() + deadline_s
    while True:
        records = [
            record
            for record in (read(run_id, _RECORDS) if run_id else ())
            if "SERENO_STATUS" not in record or is_of_job(record, job_id, user)
        ]
        if any(_closes(record) for record in records) or time.monotonic() > give_up:
            break
        time.sleep(_POLL_S)
    found = judge(records, lines)
    earlier = [find(run_id, alert) for alert in alerts if alert not in found.alerts]
    older = judge([record for record in earlier if record is not None], 0)
    return found._replace(alerts={**older.alerts, **found.alerts})


def _closes(record: Mapping[str, Any]) -> bool:
    return "SERENO_STATUS" in record or id_in(record, "MESSAGE_ID") == UNIT_FAILED


def id_in(record: Mapping[str, Any], name: str) -> str:
    """An id without hyphens, "" if there is none."""
    # python-systemd gives some ids as UUID, which prints itself with hyphens.
    return text(record, name).replace("-", "")


def judge(records: Sequence[Mapping[str, Any]], lines: int) -> Evidence:
    """The evidence in a run's last records, oldest first."""
    status, error = "", None
    alerts = {}
    for record in records:
        if "SERENO_STATUS" in record:
            status, error = text(record, "SERENO_STATUS"), text(record, "SERENO_ERROR") or None
        if "SERENO_ALERT" in record:
            alerts[text(record, "SERENO_ALERT")] = text(record, "MESSAGE")
    log = [line for record in records for line in text(record, "MESSAGE").split("\n") if line]
    return Evidence(status, error, alerts, tuple(log[-lines:] if lines else ()))
