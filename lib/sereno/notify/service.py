"""What the units of systemd/ start: failures by OnFailure=, everything else by the datagrams of `wake`.

And `trial`, which asks them for a message by every handler, on the way that real ones take.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from select import select

from sereno.errors import NotAllowed, NotAvailable, SerenoError, UsageError, in_scope, rights_hint
from sereno.manager.names import TELLER
from sereno.manager.systemctl import Systemctl
from sereno.notify import health, wake
from sereno.notify.config import Config
from sereno.notify.datagram import Heard, fair, receive, take
from sereno.notify.delivery import Deliveries, Delivery
from sereno.notify.handling import TRY_IT, Handling
from sereno.records import journal, messages
from sereno.records.log import Logger
from sereno.setting_names import NOTIFY_STATE

IDENTIFIER = "sereno-notify"
# SD_LISTEN_FDS_START
_FIRST_DESCRIPTOR = 3
# All of a start: the units' limit is 600 s, and the slowest webhook takes 580 s. What comes after `_LISTEN_S` is left
# to the next start.
DEADLINE_S, _LISTEN_S = 590.0, 560.0
# How long a test waits, which is more than a webhook needs that tries as often as it may.
TRIAL_S = 600.0
# What fails in the same seconds is told together.
GATHER_S = 2.0
# Between two looks at what fails meanwhile; how much later the journal may have it.
_LOOK_S, _JOURNAL_S = 2.0, 5.0
# For the manager's answer, should it not know what is asked.
_BARRIER_S = 5.0
# Between two looks at runs that are not over; how many datagrams are handled between two looks at the socket.
_PAUSE_S, _AT_ONCE = 0.02, 16
_logger = Logger("sereno.notify")


def run(environ: Mapping[str, str], *, of_failures: bool) -> int:
    """Do what a unit asks for: tell of failures, or of what the datagrams in systemd's socket say (sd_listen_fds(3)).

    Returns:
        The exit status: 0; 1 if a handler failed, so that `systemctl --failed` shows it; an error's own.
    """
    journal.set_up_as(IDENTIFIER)
    deliveries = Deliveries(time.monotonic() + DEADLINE_S, gather_s=GATHER_S)
    try:
        if of_failures:
            _tell_failures(environ, deliveries)
        else:
            _listen(environ, deliveries)
    except SerenoError as error:
        _logger.error(messages.NONE_SENT, error.message, extra={"SERENO_ERROR": error.message})
        return error.exit_code
    return int(any(delivery.error is not None for delivery in deliveries.done))


def _tell_failures(environ: Mapping[str, str], deliveries: Deliveries) -> None:
    """Tell what failed since the last start, and what does until that is told.

    A unit that is active is not started by what fails meanwhile. So it says that it stops before it looks for the last
    time: from then on a failure starts it again when this process is gone.
    """
    give_up, since_s = time.monotonic() + _LISTEN_S, _last_look_s(environ)
    handling, is_over = Handling(environ, deliveries), False
    while not is_over and time.monotonic() < give_up:
        deliveries.wait(_LOOK_S)
        now_s = time.monotonic()
        is_over, since_s = handling.look(since_s), max(since_s, now_s - _JOURNAL_S)
    with suppress(OSError):
        _stops(environ.get("NOTIFY_SOCKET", ""))
    handling.look(since_s)
    deliveries.wait()


def _last_look_s(environ: Mapping[str, str]) -> float:
    """When the process before said that it stops (time.monotonic()); 0: none has in this boot, or it was killed."""
    name, restarts, shown = "ActiveExitTimestampMonotonic", "NRestarts", dict[str, str]()
    with suppress(SerenoError):
        shown = Systemctl.of_this_process(environ).show(TELLER, name, restarts)
    return 0.0 if int(shown.get(restarts) or 0) else int(shown.get(name) or 0) / 1e6


def _stops(address: str) -> None:
    """Return when the manager knows that this unit stops (sd_notify(3), STOPPING=1 and BARRIER=1)."""
    if not address:
        return
    reading, writing = os.pipe()
    with open(reading, "rb"), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        with open(writing, "wb"):
            sender.connect("\0" + address[1:] if address[0] == "@" else address)
            sender.send(b"STOPPING=1")
            rights = socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [writing])
            sender.sendmsg([b"BARRIER=1"], [rights])
        # It closes what it was sent after it has handled what came before.
        select([reading], [], [], _BARRIER_S)


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


def address(user: bool, environ: Mapping[str, str]) -> str:
    """Where sereno-notify.socket listens: %t of systemd.unit(5)."""
    runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}") if user else "/run"
    return os.path.join(runtime, "sereno/notify")


def trial(
    config: Config, user: bool, environ: Mapping[str, str], *, deadline_s: float = TRIAL_S
) -> Iterator[Delivery]:
    """Ask the scope's socket for the test message; yield each handler's outcome as its service answers.

    Raises:
        NotAllowed: the caller may not use the socket.
        NotAvailable: the socket is not there, or not every handler's outcome came in time.
    """
    socket_path = address(user, environ)
    waiting, give_up = {handler.name for handler in config.handlers}, time.monotonic() + deadline_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        # An address of the kernel's choice (unix(7), autobind): anybody may write to it, and who did is looked at.
        asking.bind("")
        try:
            wake.send(socket_path, wake.TRIED, "sereno", uuid.uuid4().hex, by=asking)
        except PermissionError:
            raise NotAllowed(
                f"{socket_path}: no right to ask for a test", hint=rights_hint(user=user)
            ) from None
        except OSError as error:
            raise NotAvailable(
                f"{socket_path}: {error.strerror}",
                hint=in_scope("systemctl start sereno-notify.socket", user=user),
            ) from None
        while waiting:
            asking.settimeout(max(give_up - time.monotonic(), 0.001))
            try:
                data, uid, _ = take(asking)
            except TimeoutError:
                raise NotAvailable(
                    f"no answer from {', '.join(sorted(waiting))} within {deadline_s:g} s",
                    hint=in_scope("journalctl -u sereno-notify.service", user=user),
                ) from None
            if uid in health.senders(user):
                delivery = Delivery(*json.loads(data))
                waiting.discard(delivery.handler)
                yield delivery
