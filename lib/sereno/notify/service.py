"""What the units of systemd/ start: a failure by OnFailure=, everything else by the datagrams of `wake`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from select import select

from sereno.errors import SerenoError, UsageError
from sereno.notify.datagram import Heard, fair, receive
from sereno.notify.delivery import Deliveries
from sereno.notify.handling import TRY_IT, Handling
from sereno.records import account, journal, messages
from sereno.records.log import Logger
from sereno.setting_names import NOTIFY_STATE

IDENTIFIER = "sereno-notify"
# SD_LISTEN_FDS_START
_FIRST_DESCRIPTOR = 3
# All of a start: TimeoutStartSec= of the units is 600 s, and the slowest webhook takes 580 s. What comes after
# `_LISTEN_S` is left to the next start.
DEADLINE_S, _LISTEN_S = 590.0, 560.0
# From a failure to its handler, on a busy machine.
_START_S = 5.0
# Between two looks at runs that are not over; how many datagrams are handled between two looks at the socket.
_PAUSE_S, _AT_ONCE = 0.02, 16
_logger = Logger("sereno.notify")


def run(failed: str | None, environ: Mapping[str, str]) -> int:
    """Do what a unit asks for: the job `failed` failed, or None: datagrams wait in systemd's socket (sd_listen_fds(3)).

    Returns:
        The exit status: 0; 1 if a handler failed, so that `systemctl --failed` shows it; an error's own.
    """
    journal.set_up_as(IDENTIFIER)
    deliveries = Deliveries(time.monotonic() + DEADLINE_S)
    try:
        if failed is None:
            _listen(environ, deliveries)
        else:
            since_s = time.time() - _START_S
            handling = Handling(environ, deliveries)
            first = account.of_monitored(environ)
            handling.failed(failed, first)
            handling.follow(failed, first.run_id, since_s)
    except SerenoError as error:
        fields = {"SERENO_ERROR": error.message, "SERENO_JOB": failed}
        _logger.error(messages.NONE_SENT, error.message, extra=fields)
        return error.exit_code
    return int(any(delivery.error is not None for delivery in deliveries.done))


def _listen(environ: Mapping[str, str], deliveries: Deliveries) -> None:
    """Handle what comes out of the socket until nothing does: what is still in it when this ends starts it again.

    It goes on while a handler is slow, which holds up no message of another.
    """
    if environ.get("LISTEN_FDS") != "1":
        raise UsageError("LISTEN_FDS: systemd gave no socket", hint=TRY_IT)
    give_up = time.monotonic() + _LISTEN_S
    heard = Heard(environ.get(NOTIFY_STATE, os.devnull))
    waiting, pause_s = heard.read(), _PAUSE_S
    with socket.socket(fileno=_FIRST_DESCRIPTOR) as receiver:
        try:
            handling = Handling(environ, deliveries)
        except SerenoError:
            # Nothing here mends itself, and what stays in the socket would start this for ever.
            for _ in range(100):
                heard.add(receive(receiver))
            raise
        while time.monotonic() < give_up:
            heard.add(new := receive(receiver))
            waiting = fair([*waiting, *new])
            waiting = [*waiting[_AT_ONCE:], *handling.heard(waiting[:_AT_ONCE])]
            is_over = not waiting and deliveries.are_over
            pause_s = _PAUSE_S if new else min(2 * pause_s, 1.0)
            if not select([receiver], [], [], 0 if is_over else pause_s)[0] and is_over:
                break
    deliveries.wait()
    heard.keep_only(waiting)
