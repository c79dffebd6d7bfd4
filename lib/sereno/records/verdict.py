"""One truth of a run: its closing record and systemd's account of it, put together by one rule. Pure.

A run is a success only if both say so. What systemd saw outweighs what the run said of itself, for a process can crash
after its record; and whether somebody stopped it, or its time limit did, only systemd knows.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import NamedTuple

from sereno import errors

SUCCESS = "success"
# What a run can have come to; those that need a look.
BAD = frozenset(("failed", "lost"))
LEFT = (
    "it left without a closing record (os._exit(), exec, or a daemon of its own?): systemd saw no"
    " failure, and whatever the process left behind was ended with it"
)
CUT_OFF = "no end was recorded: the machine went down"
STOPPED = "it was stopped, and left no word of its own"
TIMEOUT = "killed, for its time limit or for not ending in time"
LEFT_BEHIND = "processes that it left behind did not end and were killed"
EXITS = {"success": errors.SUCCESS, "skipped": errors.SKIPPED, "interrupted": errors.INTERRUPTED}
# A unit's result (systemd.service(5), $SERVICE_RESULT) in words.
_RESULTS = {
    "oom-kill": "out of memory",
    "resources": "systemd could not start it",
    "start-limit-hit": "started too often",
    "exec-condition": "its ExecCondition= failed",
}
# systemd.exec(5), "Process Exit Codes": what systemd itself ends with where it cannot start the program.
SYSTEMD_STATUSES = {
    200: "its working directory cannot be entered",
    203: "its program cannot be executed, and the doctor knows why",
    216: "its group is missing",
    217: "its user is missing",
    226: "its sandbox cannot be set up",
    243: "a credential cannot be read",
}


class Seen(NamedTuple):
    """What is known of one run, all of it vouched for.

    Attributes:
        record: what its closing record says: "success", "failed", "skipped", "interrupted"; None: there is none.
        error: that record's error.
        result: systemd's result of the unit (systemd.service(5), $SERVICE_RESULT); "success" where it saw no failure.
        exit_code, exit_status: how its process ended, as systemd.exec(5) names it: "exited", "killed", "dumped", and a
            number; "" if not known.
        stopped: a job of systemd's to stop or restart the unit ended it.
        limit: its start timed out; None: not known.
        running: it goes on.
        ended: systemd has recorded its end.
    """

    record: str | None = None
    error: str | None = None
    result: str = SUCCESS
    exit_code: str = ""
    exit_status: str = ""
    stopped: bool = False
    limit: bool | None = False
    running: bool = False
    ended: bool = True


class Verdict(NamedTuple):
    """What became of a run.

    Attributes:
        status: "running", "success", "failed", "skipped", "interrupted" or "lost".
        error: why, in one line; None for what needs no reason.
        told: whether people are told of it.
    """

    status: str
    error: str | None
    told: bool


def exit_of(status: str) -> int:
    """The exit status of a run that came to this, and of a command that waited for it."""
    return EXITS.get(status, errors.FAILURE)


def verdict(seen: Seen) -> Verdict:
    """What became of a run of which so much is known."""
    if seen.running:
        return Verdict("running", None, told=False)
    if seen.result == SUCCESS:
        return _without_failure(seen)
    words = _words(seen)
    if seen.stopped and seen.result != "oom-kill":
        # Also where something of it outlasted the stop, or its own handler made another end of SIGTERM.
        error = seen.error if seen.record in ("failed", "interrupted") else None
        return Verdict("interrupted", error or f"it was stopped, then: {words}", told=False)
    if seen.record == "skipped" and seen.error and seen.exit_status == str(errors.FAILURE):
        # It could not ask whether it may run.
        words = seen.error
    elif seen.record in ("success", "skipped"):
        words = f"it had ended as {seen.record!r}, then: {words}"
    elif seen.record == "failed" and seen.error:
        # The status 1 is how such a run ends; a limit is told of by the record itself.
        as_said = seen.result in ("exit-code", "timeout")
        words = seen.error if as_said else f"{seen.error}; then: {words}"
    elif seen.record == "interrupted":
        if seen.result == "exit-code":
            words = "ended by a signal that systemd did not send"
        words = f"{words}: {seen.error}" if seen.error else words
    return Verdict("failed", words, told=True)


def _without_failure(seen: Seen) -> Verdict:
    if seen.record is not None:
        # A failure that an administrator's SuccessExitStatus= takes for none is one, but calls nobody.
        return Verdict(seen.record, seen.error, told=False)
    if seen.stopped:
        return Verdict("interrupted", STOPPED, told=False)
    return Verdict("lost", LEFT if seen.ended else CUT_OFF, told=False)


def _words(seen: Seen) -> str:
    if seen.result == "timeout":
        # A stop that outlasted TimeoutStopSec= has the same result.
        return TIMEOUT if seen.limit is None else errors.OVER_LIMIT if seen.limit else LEFT_BEHIND
    words = _RESULTS.get(seen.result)
    if words is None and seen.exit_status.isdigit():
        number = int(seen.exit_status)
        if seen.exit_code == "exited":
            known = SYSTEMD_STATUSES.get(number)
            words = f"exit status {number}" if known is None else f"{known} (status {number})"
        else:
            with suppress(ValueError):
                words = f"killed by {signal.Signals(number).name}"
    return words or f"systemd's result is {seen.result!r}"
