"""Journal records → the runs of a job. Pure.

A run is known by its closing record. One that could not send it (killed, over its time limit, out of memory, not even
started) is known by what systemd says of the unit, and one of which nothing tells the end was lost: the machine went
down, or the process left by `os._exit()`.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple, TypeGuard

from sereno.journal import CLOSING, STARTED

# systemd's own records of a unit (sd-messages.h): SD_MESSAGE_UNIT_FAILURE_RESULT and SD_MESSAGE_UNIT_PROCESS_EXIT.
UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
PROCESS_EXITED = "98e322203f7a4ed290d09fe03c09fe15"
# What a run can have come to; those that need a look.
BAD = frozenset(("failed", "lost"))
LOST = "no end was recorded: the machine went down, or the process left by os._exit()"
# A unit's result (systemd.service(5), $SERVICE_RESULT) in words.
_RESULTS = {
    "timeout": "over its time limit",
    "oom-kill": "out of memory",
    "resources": "systemd could not start it",
    "start-limit-hit": "started too often",
    "exec-condition": "its ExecCondition= failed",
}
# systemd.exec(5), "Process Exit Codes": what systemd itself ends with where it cannot start the program.
_EXITS = {
    200: "its working directory cannot be entered",
    203: "its program cannot be executed",
    216: "its group is missing",
    217: "its user is missing",
    226: "its sandbox cannot be set up",
    243: "a credential cannot be read",
}
# The fields of a record that `runs_of` looks at.
FIELDS = frozenset(
    (
        *("MESSAGE_ID", "MESSAGE", "__REALTIME_TIMESTAMP", "SERENO_RUN", "SERENO_STATUS"),
        *("SERENO_DURATION_MS", "SERENO_ERROR", "SERENO_STATS", "INVOCATION_ID"),
        *(
            "USER_INVOCATION_ID",
            "_SYSTEMD_INVOCATION_ID",
            "UNIT_RESULT",
            "EXIT_CODE",
            "EXIT_STATUS",
        ),
    )
)


class Run(NamedTuple):
    """One run.

    Attributes:
        job_id, run_id: the job, and systemd's invocation id.
        status: "success", "failed", "skipped" or whatever else its closing record says; "running"; "lost".
        start_s, end_s: seconds since the epoch; None where it is not known (a start that failed) or not over.
        duration_ms: as the run measured it; of a run without a closing record, what lies between its records.
        stats: its statistics.
        message: the closing record's text, or why there is none.
        error: why it failed, in one line.
        result: systemd's word for how the unit failed: "exit-code", "timeout", "signal", "oom-kill", …
    """

    job_id: str
    run_id: str
    status: str
    start_s: float | None = None
    end_s: float | None = None
    duration_ms: float | None = None
    stats: dict[str, Any] | None = None
    message: str = ""
    error: str | None = None
    result: str | None = None

    @property
    def is_bad(self) -> bool:
        return self.status in BAD

    def as_json(self, zone: tzinfo | None = None) -> dict[str, Any]:
        """For `json.dumps`, with ISO 8601 times in `zone` (None: the local one)."""
        return {
            "run": self.run_id,
            "status": self.status,
            "start": iso(self.start_s, zone),
            "end": iso(self.end_s, zone),
            "duration_ms": None if self.duration_ms is None else round(self.duration_ms, 2),
            "error": self.error,
            "result": self.result,
            "stats": self.stats,
        }


def iso(moment_s: float | None, zone: tzinfo | None = None) -> str | None:
    """Seconds since the epoch as ISO 8601 with milliseconds and the zone's offset."""
    if moment_s is None:
        return None
    return datetime.fromtimestamp(moment_s, UTC).astimezone(zone).isoformat(timespec="milliseconds")


def run_id_of(record: Mapping[str, Any]) -> str:
    """The run that a record is of; "" if it does not say."""
    names = ("SERENO_RUN", "INVOCATION_ID", "USER_INVOCATION_ID", "_SYSTEMD_INVOCATION_ID")
    return next((text(record, name) for name in names if name in record), "")


def text(record: Mapping[str, Any], name: str) -> str:
    """A field as text; of one that was given twice the first, "" if it is not there."""
    value = record.get(name, "")
    if isinstance(value, list):
        value = value[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def is_figure(value: object) -> TypeGuard[float]:
    """Whether a statistic is a number that can be added up and drawn: a job may give anything, as JSON holds it."""
    # Neither not-a-number is, nor what is so large that a sum or a difference would be more than a float holds.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e300


def runs_of(
    job_id: str, records: Iterable[Mapping[str, Any]], *, running_id: str | None = None
) -> list[Run]:
    """The runs that `records` tell of, by their first records.

    Args:
        records: fields by name, `__REALTIME_TIMESTAMP` in microseconds, in the journal's order.
        running_id: invocation id of the run that is under way.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        groups.setdefault(run_id_of(record), []).append(record)
    return [_run(job_id, run_id, group, running_id) for run_id, group in groups.items()]


def _run(
    job_id: str, run_id: str, records: Sequence[Mapping[str, Any]], running_id: str | None
) -> Run:
    started = closed = failed = exited = None
    for record in records:
        kind = record.get("MESSAGE_ID")
        if kind == STARTED:
            started = record
        elif kind in CLOSING:
            closed = record
        elif kind == UNIT_FAILED:
            failed = record
        elif kind == PROCESS_EXITED:
            exited = record
    start_s = None if started is None else _seconds(started)
    if closed is not None:
        return _closed(job_id, run_id, closed, failed, start_s)
    if failed is None:
        if running_id is not None and run_id == running_id:
            return Run(job_id, run_id, "running", start_s)
        return Run(job_id, run_id, "lost", start_s, message=LOST, error=LOST)
    end_s = _seconds(failed)
    why = _why(text(failed, "UNIT_RESULT"), exited)
    return Run(
        job_id,
        run_id,
        "failed",
        start_s,
        end_s,
        None if start_s is None else (end_s - start_s) * 1000,
        message=f"ended without a record: {why}",
        error=why,
        result=text(failed, "UNIT_RESULT"),
    )


def _closed(
    job_id: str,
    run_id: str,
    record: Mapping[str, Any],
    failed: Mapping[str, Any] | None,
    start_s: float | None,
) -> Run:
    end_s = _seconds(record)
    duration_ms = float(text(record, "SERENO_DURATION_MS") or 0)
    status, error = text(record, "SERENO_STATUS"), text(record, "SERENO_ERROR") or None
    result = None if failed is None else text(failed, "UNIT_RESULT")
    if result is not None and status == "success":
        # It did its work and said so, and then its process did not end as it should.
        status, error = "failed", _why(result, None)
    stats = text(record, "SERENO_STATS")
    return Run(
        job_id,
        run_id,
        status,
        end_s - duration_ms / 1000 if start_s is None else start_s,
        end_s,
        duration_ms,
        _stats(stats) if stats else None,
        text(record, "MESSAGE"),
        error,
        result,
    )


def _stats(value: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        stats = json.loads(value)
        if isinstance(stats, dict):
            return stats
    return None


def _why(result: str, exited: Mapping[str, Any] | None) -> str:
    words = _RESULTS.get(result)
    status = "" if exited is None else text(exited, "EXIT_STATUS")
    if words is None and status.isdigit():
        number = int(status)
        if text(exited or {}, "EXIT_CODE") == "exited":
            known = _EXITS.get(number)
            words = f"exit status {number}" if known is None else f"{known} (status {number})"
        else:
            with suppress(ValueError):
                words = f"killed by {signal.Signals(number).name}"
    return words or f"systemd's result is {result!r}"


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["__REALTIME_TIMESTAMP"]) / 1e6
