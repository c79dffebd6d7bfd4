"""Journal records → the runs of a job. Pure.

A run is known by its closing record and by what the manager said of its unit; `verdict` makes one truth of both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple, TypeGuard

from sereno.records import verdict
from sereno.records.journal import STARTED, STATUS_OF, to_json
from sereno.records.journal_reader import is_of_manager
from sereno.records.journal_reader import text as text
from sereno.records.verdict import BAD, Seen

# systemd's own records of a unit (sd-messages.h): SD_MESSAGE_UNIT_FAILURE_RESULT and SD_MESSAGE_UNIT_PROCESS_EXIT.
UNIT_FAILED = "d9b373ed55a64feb8242e02dbe79a49c"
PROCESS_EXITED = "98e322203f7a4ed290d09fe03c09fe15"
# How its job for the unit ended: of each run there is exactly one, its last (SD_MESSAGE_UNIT_STARTED, which a oneshot
# has when it is done, SD_MESSAGE_UNIT_FAILED and SD_MESSAGE_UNIT_STOPPED).
START_DONE = "39f53479d3a045ac8e11786248231fbf"
START_FAILED = "be02cf6855d2428ba40df7e9d022f03d"
UNIT_STOPPED = "9d1aaa27d60140bd96365438aad20286"
_OVER = (START_DONE, START_FAILED, UNIT_STOPPED)
BY_MANAGER = (UNIT_FAILED, PROCESS_EXITED, *_OVER)
# What it says of a unit whose time limit is over has no MESSAGE_ID.
_LIMIT = "start operation timed out. "
# Of what is one line for people; a job can send more in the name of its run.
_MOST_CHARACTERS = 2000
# The fields of a record that `runs_of` looks at.
FIELDS = frozenset(
    (
        *("MESSAGE_ID", "MESSAGE", "__REALTIME_TIMESTAMP", "SERENO_RUN", "SERENO_DURATION_MS"),
        *("SERENO_ERROR", "SERENO_HINT", "SERENO_STATS", "INVOCATION_ID", "USER_INVOCATION_ID"),
        *("_SYSTEMD_INVOCATION_ID", "UNIT_RESULT", "EXIT_CODE", "EXIT_STATUS", "JOB_RESULT"),
    )
)


def limit_texts(service: str) -> list[str]:
    """What the manager says of a service whose time limit is over, by its TimeoutStartFailureMode=."""
    return [f"{service}: {_LIMIT}{what}" for what in ("Terminating.", "Aborting.", "Killing.")]


class Run(NamedTuple):
    """One run.

    Attributes:
        job_id, run_id: the job, and systemd's invocation id.
        status: "success", "failed", "skipped", "interrupted", "running" or "lost": see `verdict`; "unknown": no record
            of it can be read any more.
        start_s, end_s: seconds since the epoch; None where it is not known (a start that failed) or not over.
        duration_ms: as the run measured it; of a run without a closing record, what lies between its records.
        stats: its statistics.
        message: the closing record's text, or why there is none.
        error: why it failed, in one line.
        result: systemd's word for how the unit failed: "exit-code", "timeout", "signal", "oom-kill", …
        hint: a way out that the run itself knew.
        said: the status in its closing record; None: there is none.
        exit_status: of its process, or the number of the signal; None: not known.
        is_over: systemd has recorded its end.
        told: whether people are told of it.
        host: where it was, of a run of the fleet; "": here.
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
    hint: str | None = None
    said: str | None = None
    exit_status: int | None = None
    is_over: bool = False
    told: bool = False
    host: str = ""

    @property
    def is_bad(self) -> bool:
        return self.status in BAD

    @property
    def at_s(self) -> float | None:
        """When it began, or ended where its beginning is not known."""
        return self.end_s if self.start_s is None else self.start_s

    @property
    def outcome(self) -> str:
        """Its status and why, which the closing record's own text has in the log's language."""
        return f"{self.status}: {self.error}" if self.error else self.status

    @property
    def what(self) -> str:
        """Why it failed, else what it returned: `name=value name=value`."""
        shown = ((name, to_json(value)) for name, value in (self.stats or {}).items())
        return self.error or " ".join(f"{name}={value}" for name, value in shown)

    def as_json(self, zone: tzinfo | None = None) -> dict[str, Any]:
        """For `json.dumps`, with ISO 8601 times in `zone` (None: the local one)."""
        return {
            "run": self.run_id,
            "status": self.status,
            "start": iso(self.start_s, zone),
            "end": iso(self.end_s, zone),
            "duration_ms": None if self.duration_ms is None else round(self.duration_ms, 2),
            "error": self.error,
            "hint": self.hint,
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
    for name in ("SERENO_RUN", "INVOCATION_ID", "USER_INVOCATION_ID", "_SYSTEMD_INVOCATION_ID"):
        if value := text(record, name):
            return value
    return ""


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
    found = (_run(job_id, run_id, group, running_id) for run_id, group in groups.items())
    return [run for run in found if run is not None]


def _run(
    job_id: str, run_id: str, records: Sequence[Mapping[str, Any]], running_id: str | None
) -> Run | None:
    started = closed = None
    by_manager: dict[str, Mapping[str, Any]] = {}
    limit = False
    for record in records:
        kind = text(record, "MESSAGE_ID")
        if is_of_manager(record):
            limit = limit or f": {_LIMIT}" in text(record, "MESSAGE")
            # A failed dependency or assertion starts nothing, and is recorded with the id of the run before.
            if kind != START_FAILED or text(record, "JOB_RESULT") == "failed":
                by_manager[kind] = record
        elif kind == STARTED:
            started = record
        elif kind in STATUS_OF:
            closed = record
    failed, exited = by_manager.get(UNIT_FAILED), by_manager.get(PROCESS_EXITED, {})
    if not (started or closed or failed or UNIT_STOPPED in by_manager):
        # Of a start that a condition has kept from being one.
        return None
    over = [by_manager[kind] for kind in (*_OVER, UNIT_FAILED) if kind in by_manager]
    seen = Seen(
        None if closed is None else STATUS_OF[text(closed, "MESSAGE_ID")],
        None if closed is None else text(closed, "SERENO_ERROR")[:_MOST_CHARACTERS] or None,
        verdict.SUCCESS if failed is None else text(failed, "UNIT_RESULT"),
        text(exited, "EXIT_CODE"),
        text(exited, "EXIT_STATUS"),
        stopped=UNIT_STOPPED in by_manager,
        limit=limit,
        running=not over and running_id is not None and run_id == running_id,
        ended=bool(over),
    )
    end = closed or (over[0] if over else None)
    start_s, end_s = (None if each is None else _seconds(each) for each in (started, end))
    is_over = any(kind in by_manager for kind in _OVER)
    return judged(job_id, run_id, start_s, end_s, seen, closed or {}, is_over=is_over)


def judged(
    job_id: str, run_id: str, start_s: float | None, end_s: float | None, seen: Seen, closed: Mapping[str, Any],
    *, is_over: bool,
) -> Run:  # fmt: skip
    """A run of which the times are known, with what became of it and what its closing record tells."""
    found = verdict.verdict(seen)
    duration_ms = _duration_ms(text(closed, "SERENO_DURATION_MS"), end_s)
    if found.status == "running":
        end_s = None
    if start_s is None and end_s is not None and duration_ms is not None:
        start_s = end_s - duration_ms / 1000
    if duration_ms is None and start_s is not None and end_s is not None:
        duration_ms = max(0.0, (end_s - start_s) * 1000)
    message = text(closed, "MESSAGE")
    if found.error is not None and (not closed or found.error != seen.error):
        died = found.status == "failed" and seen.record is None
        message = f"ended without a record: {found.error}" if died else found.error
    is_number = seen.exit_status.isdigit() and len(seen.exit_status) < 4
    by_status = None if found.status in ("running", "lost") else verdict.exit_of(found.status)
    return Run(
        job_id,
        run_id,
        found.status,
        start_s,
        end_s,
        duration_ms,
        stats=_stats(text(closed, "SERENO_STATS")),
        message=message,
        error=found.error,
        result=None if seen.result == verdict.SUCCESS else seen.result,
        hint=text(closed, "SERENO_HINT")[:_MOST_CHARACTERS] or None,
        said=seen.record,
        exit_status=int(seen.exit_status) if is_number else by_status,
        is_over=is_over,
        told=found.told,
    )


def _duration_ms(value: str, end_s: float | None) -> float | None:
    """A record's own measure; None where it cannot be one."""
    # Most have one, and an exception takes longer than all else here.
    with suppress(ValueError):
        duration_ms = float(value or "nan")
        if math.isfinite(duration_ms) and end_s is not None and 0 <= duration_ms <= end_s * 1000:
            return duration_ms
    return None


def _stats(value: str) -> dict[str, Any] | None:
    if not value:
        return None
    with suppress(ValueError, RecursionError):
        stats = json.loads(value)
        if isinstance(stats, dict):
            return stats
    return None


def _seconds(record: Mapping[str, Any]) -> float:
    return float(record["__REALTIME_TIMESTAMP"]) / 1e6
