"""`Event`: what happened to a job, as a value; and what people and programs get to read of it. Pure.

A job's own words (its error, its log) come from outside: every character that is not printable is escaped, so that they
can neither add a line to a header nor write to a terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sereno.errors import OVER_LIMIT, in_scope
from sereno.records import messages
from sereno.records.printable import printable

FAILURE, RECOVERY, ALERT, LOST, TEST = "failure", "recovery", "alert", "lost", "test"
SUBJECT_LENGTH, LINE_LENGTH = 200, 1000
_OF_MANY = {
    FAILURE: messages.TITLE_FAILURES,
    RECOVERY: messages.TITLE_RECOVERIES,
    ALERT: messages.TITLE_ALERTS,
    LOST: messages.TITLE_LOST,
}
# Of what shares a message, each has these in the one payload; the log of each is in the journal.
_OF_ALL = ("subject", "text", "log", "more")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that people are told of.

    Attributes:
        kind: FAILURE, RECOVERY, ALERT, LOST (a run of the fleet that nobody ended) or TEST.
        job, run: the job's id, and the run's invocation id.
        scope: "system" or "user".
        time_s: when, in seconds since the epoch.
        result: systemd's result of the run ("exit-code", "signal", "timeout", "oom-kill", …; "success").
        exit_code: how the process ended: "exited", "killed", "dumped"; "" if there was none.
        exit_status: its status, or the name of the signal.
        error: the run's own words, None if it left none.
        alert: name of the alert; of a lost run LOST.
        failing_since_s: when the first of the failures in a row was.
        failures: how many in a row, this one included.
        untold: how many events like this one there were since the last message.
        quiet_until_s: what follows is counted only, up to this time; None: nothing is held back.
        log: the last lines of the run's log.
    """

    kind: str
    job: str
    run: str
    host: str
    scope: str
    time_s: float
    result: str = ""
    exit_code: str = ""
    exit_status: str = ""
    error: str | None = None
    alert: str | None = None
    failing_since_s: float | None = None
    failures: int = 0
    untold: int = 0
    quiet_until_s: float | None = None
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One message in all its forms.

    Attributes:
        payload: what webhooks and commands get as JSON. `text` is the subject and the body, under the key that the
            incoming webhooks of Slack, Mattermost and their kin read.
    """

    subject: str
    body: str
    payload: dict[str, Any]


def compose(event: Event) -> Message:
    """The message about an event; times are in the machine's zone."""
    subject = printable(f"[sereno] {event.host}: {_headline(event)}", SUBJECT_LENGTH)
    body = "\n".join(_body(event)) + "\n"
    payload = {
        "event": event.kind,
        "job": event.job,
        "run": event.run,
        "host": event.host,
        "scope": event.scope,
        "time": _iso(event.time_s),
        "result": event.result or None,
        "exit_code": event.exit_code or None,
        "exit_status": event.exit_status or None,
        "error": event.error and event.error[:LINE_LENGTH],
        "alert": event.alert and event.alert[:SUBJECT_LENGTH],
        "failing_since": _iso(event.failing_since_s),
        "failures": event.failures,
        "untold": event.untold,
        "quiet_until": _iso(event.quiet_until_s),
        "log": [line[:LINE_LENGTH] for line in event.log],
        "more": [],
        "subject": subject,
        "text": f"{subject}\n\n{body}",
    }
    return Message(subject, body, payload)


def compose_all(events: Sequence[Event]) -> Message:
    """The message about events of one kind. Its payload is that of the first, with the others in `more`."""
    first = compose(events[0])
    if len(events) == 1:
        return first
    jobs = ", ".join(event.job for event in events)
    headline = str(_OF_MANY[events[0].kind]) % (len(events), jobs)
    subject = printable(f"[sereno] {events[0].host}: {headline}", SUBJECT_LENGTH)
    is_failure = events[0].kind == FAILURE
    rows = [
        f"{_headline(one)}: {_error(one)}" if is_failure and one.error else _headline(one)
        for one in events
    ]
    rows += ["", in_scope("journalctl SERENO_JOB=JOB", user=events[0].scope == "user")]
    body = "".join(f"{printable(row, SUBJECT_LENGTH)}\n" for row in rows)
    others = (compose(event).payload for event in events[1:])
    more = [{key: one[key] for key in one if key not in _OF_ALL} for one in others]
    text = f"{subject}\n\n{body}"
    return Message(subject, body, {**first.payload, "more": more, "subject": subject, "text": text})


def _headline(event: Event) -> str:
    if event.kind == FAILURE:
        return str(messages.TITLE_FAILURE) % (event.job, _how(event))
    if event.kind == RECOVERY:
        return str(messages.TITLE_RECOVERY) % event.job
    if event.kind in (ALERT, LOST):
        return f"{event.job}: {event.error or event.alert}"
    return str(messages.TITLE_TEST)


def _how(event: Event) -> str:
    ended = event.exit_status
    if event.exit_code not in ("", "exited"):
        ended = str(messages.SIGNAL) % ended
    return f"{event.result}, {ended}" if event.exit_status else event.result


def _error(event: Event) -> str | None:
    """In the reader's language, as far as it is sereno's own words."""
    kind, _, why = (event.error or "").partition(": ")
    return str(messages.OVER_TIME_LIMIT) % why if kind == OVER_LIMIT else event.error


def _body(event: Event) -> list[str]:
    if event.kind == TEST:
        return [str(messages.BODY_TEST) % event.host]
    since, quiet = _local(event.failing_since_s), _local(event.quiet_until_s)
    rows = (
        (messages.ROW_JOB, event.job),
        (messages.ROW_HOST, event.host),
        (messages.ROW_TIME, _local(event.time_s)),
        (messages.ROW_RESULT, _how(event) if event.kind not in (ALERT, LOST) else None),
        (messages.ROW_ERROR if event.kind == FAILURE else messages.ROW_MESSAGE, _error(event)),
        (messages.ROW_FAILURES, since and str(messages.FAILURES_SINCE) % (event.failures, since)),
        (messages.ROW_UNTOLD, event.untold and str(messages.UNTOLD) % event.untold),
        (messages.ROW_QUIET, quiet and str(messages.QUIET_UNTIL) % quiet),
        (messages.ROW_RUN, event.run),
    )
    log = in_scope(f"journalctl SERENO_RUN={event.run}", user=event.scope == "user")
    lines = [f"{f'{name}:':11}{value}" for name, value in rows if value]
    if event.log:
        lines += ["", str(messages.LAST_LINES), *(f"  {line}" for line in event.log)]
    lines += ["", log]
    return [printable(line, LINE_LENGTH) for line in lines]


def _at(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s).astimezone()


def _iso(time_s: float | None) -> str | None:
    return None if time_s is None else _at(time_s).isoformat(timespec="seconds")


def _local(time_s: float | None) -> str | None:
    return None if time_s is None else f"{_at(time_s):%Y-%m-%d %H:%M:%S %Z}"
