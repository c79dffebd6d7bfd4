"""`sereno notify --test`: a message by every handler, on the way that real ones take, and how each of them did."""

from __future__ import annotations

import json
import os
import socket as sockets
import time
import uuid
from collections.abc import Iterator, Mapping

from sereno.errors import NotAllowed, NotAvailable, in_scope, rights_hint
from sereno.notify import health, wake
from sereno.notify.config import Config
from sereno.notify.datagram import take
from sereno.notify.delivery import Delivery

# More than a webhook needs that tries as often as it may; sereno-notify.service has as much.
DEADLINE_S = 600.0


def address(user: bool, environ: Mapping[str, str]) -> str:
    """Where sereno-notify.socket listens: %t of systemd.unit(5)."""
    runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}") if user else "/run"
    return os.path.join(runtime, "sereno/notify")


def run(
    config: Config, user: bool, environ: Mapping[str, str], *, deadline_s: float = DEADLINE_S
) -> Iterator[Delivery]:
    """Ask the scope's socket for the test message; yield each handler's outcome as its service answers.

    Raises:
        NotAllowed: the caller may not use the socket.
        NotAvailable: the socket is not there, or not every handler's outcome came in time.
    """
    socket = address(user, environ)
    waiting, give_up = {handler.name for handler in config.handlers}, time.monotonic() + deadline_s
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM) as asking:
        asking.setsockopt(sockets.SOL_SOCKET, sockets.SO_PASSCRED, 1)
        # An address of the kernel's choice (unix(7), autobind): anybody may write to it, and who did is looked at.
        asking.bind("")
        try:
            wake.send(socket, wake.TRIED, "sereno", uuid.uuid4().hex, by=asking)
        except PermissionError:
            raise NotAllowed(
                f"{socket}: no right to ask for a test", hint=rights_hint(user=user)
            ) from None
        except OSError as error:
            raise NotAvailable(
                f"{socket}: {error.strerror}",
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
