"""`Event`: what happened to a job, as a value."""

from __future__ import annotations

from dataclasses import dataclass

FAILURE, RECOVERY, ALERT, LOST, TEST = "failure", "recovery", "alert", "lost", "test"


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
