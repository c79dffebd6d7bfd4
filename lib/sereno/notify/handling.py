"""What the units of systemd/ start: a failure by OnFailure=, everything else by the datagrams of `wake`."""

from __future__ import annotations

import logging
import os
import platform
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from sereno import journal, messages
from sereno.errors import SerenoError, UsageError
from sereno.notify import config, evidence, failures, throttle, wake
from sereno.notify.datagram import Datagram, datagrams
from sereno.notify.delivery import Delivery, deliver, fields_of
from sereno.notify.event import ALERT, FAILURE, RECOVERY, TEST, Event
from sereno.notify.state import States

IDENTIFIER = "sereno-notify"
_BY_HAND = "by hand: sereno notify --test"
# SD_LISTEN_FDS_START
_FIRST_DESCRIPTOR = 3
# No datagram is begun later than this: with the slowest webhook's 580 s that stays within TimeoutStartSec= of the unit.
_BEGIN_S = 10.0
# From a failure to its handler, on a busy machine.
_START_S = 5.0
# The run's end is in the journal before the manager starts a handler; this is for a slow disk.
_EVIDENCE_S = 2.0
_logger = logging.getLogger("sereno.notify")


class Handling:
    """Judges events and has them told.

    Args:
        environ: of the unit that started this process: CONFIG and STATE of `wake`, and what systemd tells it.
        now_s: the clock.
        tell, gather: `deliver` and `evidence.gather`; tests put their own here.

    Raises:
        UsageError: this process was not started by the units, or (InvalidConfig) the file cannot be right.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        now_s: Callable[[], float] = time.time,
        tell: Callable[..., list[Delivery]] = deliver,
        gather: Callable[..., evidence.Evidence] = evidence.gather,
    ) -> None:
        missing = [name for name in (wake.CONFIG, wake.STATE) if name not in environ]
        if missing:
            raise UsageError(f"{missing[0]}: not set; sereno's units set it", hint=_BY_HAND)
        self._config = config.load(environ[wake.CONFIG])
        self._states = States(environ[wake.STATE])
        # systemd.exec(5): $MANAGERPID is set by a user's manager only.
        self._scope = "user" if "MANAGERPID" in environ else "system"
        self._now_s, self._tell = now_s, tell
        self._gather = partial(
            gather,
            lines=self._config.log_lines,
            user=self._scope == "user",
            deadline_s=_EVIDENCE_S,
        )

    def failed(self, job_id: str, environ: Mapping[str, str]) -> list[Delivery]:
        """The job's run failed; `environ` has systemd's MONITOR_* variables about it (systemd.exec(5))."""
        run_id = environ.get("MONITOR_INVOCATION_ID", "")
        result = environ.get("MONITOR_SERVICE_RESULT", "")
        found = self._gather(job_id, run_id)
        if found.status == "interrupted" and result == "signal":
            # Stopped, and killed before it was gone. A run that was only stopped is no failure for systemd; the same
            # record with "exit-code" is the end by a signal that the manager did not send (`ending`), as of an early
            # out-of-memory daemon.
            return []
        now_s = self._now_s()
        event = self._event(
            FAILURE,
            job_id,
            run_id,
            now_s,
            result=result,
            exit_code=environ.get("MONITOR_EXIT_CODE", ""),
            exit_status=environ.get("MONITOR_EXIT_STATUS", ""),
            error=found.error,
            log=found.lines,
        )
        judge = partial(
            throttle.failed,
            now_s=now_s,
            repeat_after_s=self._config.repeat_after_s,
            max_failures=self._config.max_failures,
        )
        return self._judge(event, judge)

    def failed_again(
        self,
        job_id: str,
        run_id: str,
        since_s: float,
        read: Callable[..., list[dict[str, str]]] = failures.read,
    ) -> list[Delivery]:
        """The job may have failed again, since `since_s`, while its failure in the run `run_id` was being told."""
        deliveries: list[Delivery] = []
        user = self._scope == "user"
        while joined := read(job_id, run_id, user=user, since_s=since_s):
            for failure in joined:
                deliveries += self.failed(job_id, failure)
            run_id = joined[-1]["MONITOR_INVOCATION_ID"]
        return deliveries

    def succeeded(self, job_id: str, run_id: str, alerts: tuple[str, ...] = ()) -> list[Delivery]:
        """A run succeeded that follows a failure, or that raised `alerts`: whatever of it the journal confirms."""
        found = self._gather(job_id, run_id, alerts=alerts)
        if found.status != "success":
            return []
        now_s = self._now_s()
        event = self._event(RECOVERY, job_id, run_id, now_s, result="success", log=found.lines)
        deliveries = self._judge(event, throttle.succeeded)
        for alert, text in found.alerts.items():
            event = self._event(
                ALERT,
                job_id,
                run_id,
                now_s,
                result="success",
                alert=alert,
                error=text,
                log=found.lines,
            )
            judge = partial(
                throttle.alerted,
                alert=alert,
                now_s=now_s,
                repeat_after_s=self._config.repeat_after_s,
            )
            deliveries += self._judge(event, judge)
        return deliveries

    def tried(self, run_id: str) -> list[Delivery]:
        """The administrator asks for a message by every handler."""
        return self._tell(self._event(TEST, "sereno", run_id, self._now_s()), self._config.handlers)

    def heard(self, heard: Datagram) -> list[Delivery]:
        """A datagram of `wake` came."""
        if heard.what == wake.SUCCEEDED:
            return self.succeeded(heard.job_id, heard.run_id, heard.alerts)
        if heard.what == wake.TRIED and heard.uid in (0, os.getuid()):
            return self.tried(heard.run_id)
        return []

    def _event(self, kind: str, job_id: str, run_id: str, time_s: float, **details: Any) -> Event:
        return Event(kind, job_id, run_id, platform.node(), self._scope, time_s, **details)

    def _judge(
        self, event: Event, judge: Callable[[throttle.State], throttle.Verdict]
    ) -> list[Delivery]:
        """Keep the new state, and tell the event unless it is held back."""
        before = throttle.State()
        verdict = judge(before)
        try:
            with self._states.locked():
                before = self._states.read(event.job)
                verdict = judge(before)
                if verdict.state != before:
                    self._states.write(event.job, verdict.state)
        except OSError as error:
            # A full disk is what jobs fail of: better told too often than not at all.
            _logger.warning(messages.NO_MEMORY, event.job, error)
        # A recovery tells of the failures that it ends.
        counted = before if event.kind == RECOVERY else verdict.state
        event = replace(
            event,
            failing_since_s=None if event.kind == ALERT else counted.failing_since_s,
            failures=0 if event.kind == ALERT else counted.failures,
            untold=verdict.told or 0,
            quiet_until_s=verdict.quiet_until_s,
        )
        if verdict.told is None:
            if event.kind != RECOVERY:
                _note_held_back(event)
            return []
        deliveries = self._tell(event, self._config.handlers)
        if deliveries and all(delivery.error is not None for delivery in deliveries):
            # Nobody was told: the next one must not be held back for the sake of this one.
            with suppress(OSError), self._states.locked():
                state = throttle.undelivered(self._states.read(event.job), event.alert, verdict)
                self._states.write(event.job, state)
        return deliveries


def _note_held_back(event: Event) -> None:
    what = event.alert or str(messages.FAILURES_IN_A_ROW) % event.failures
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.quiet_until_s))
    _logger.info(
        messages.HELD_BACK,
        event.job,
        until,
        what,
        extra={"MESSAGE_ID": journal.HELD_BACK, **fields_of(event)},
    )


def run(
    failed: str | None,
    environ: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Do what a unit asks for: the job `failed` failed, or None: datagrams wait in systemd's socket (sd_listen_fds(3)).

    Returns:
        The exit status: 0; 1 if a handler failed, so that `systemctl --failed` shows it; an error's own.
    """
    journal.set_up_as(IDENTIFIER)
    try:
        if failed is None:
            deliveries = _listen(environ, clock)
        else:
            handling, since_s = Handling(environ), time.time() - _START_S
            deliveries = handling.failed(failed, environ)
            run_id = environ.get("MONITOR_INVOCATION_ID", "")
            deliveries += handling.failed_again(failed, run_id, since_s)
    except SerenoError as error:
        _logger.error(
            messages.NONE_SENT,
            error.message,
            extra={
                "MESSAGE_ID": journal.NOT_DELIVERED,
                "SERENO_ERROR": error.message,
                "SERENO_JOB": failed,
            },
        )
        return error.exit_code
    return int(any(delivery.error is not None for delivery in deliveries))


def _listen(environ: Mapping[str, str], clock: Callable[[], float]) -> list[Delivery]:
    """Handle what waits in the socket, one after the other: what is still in it when this ends starts it again."""
    if environ.get("LISTEN_FDS") != "1":
        raise UsageError("LISTEN_FDS: systemd gave no socket", hint=_BY_HAND)
    give_up = clock() + _BEGIN_S
    deliveries: list[Delivery] = []
    handling = None
    with socket.socket(fileno=_FIRST_DESCRIPTOR) as receiver:
        for heard in datagrams(receiver):
            try:
                handling = handling or Handling(environ)
            except SerenoError:
                # Nothing here mends itself, and what stays in the socket would start this for ever.
                list(datagrams(receiver))
                raise
            deliveries += handling.heard(heard)
            if clock() > give_up:
                break
    return deliveries
