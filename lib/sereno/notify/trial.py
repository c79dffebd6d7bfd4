"""`sereno notify --test`: a message by every handler, on the way that real ones take, and how each of them did."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping

from sereno.errors import NotAllowed, NotAvailable
from sereno.notify import wake
from sereno.notify.config import Config
from sereno.notify.health import LastDelivery, last_deliveries

# More than a webhook needs that tries as often as it may; sereno-notify.service has as much.
DEADLINE_S = 600.0
_POLL_S = 0.1


def address(user: bool, environ: Mapping[str, str]) -> str:
    """Where sereno-notify.socket listens: %t of systemd.unit(5)."""
    runtime = environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}") if user else "/run"
    return os.path.join(runtime, "sereno/notify")


def run(
    config: Config, user: bool, environ: Mapping[str, str], *, deadline_s: float = DEADLINE_S
) -> Iterator[LastDelivery]:
    """Ask the scope's socket for the test message; yield each handler's outcome as the journal shows it.

    Raises:
        NotAllowed: the caller may not use the socket.
        NotAvailable: the socket is not there, or not every handler left a record in time.
    """
    event, socket = uuid.uuid4().hex, address(user, environ)
    try:
        wake.send(socket, wake.TRIED, "sereno", event)
    except PermissionError:
        raise NotAllowed(f"{socket}: no right to ask for a test", hint="run as root") from None
    except OSError as error:
        raise NotAvailable(
            f"{socket}: {error.strerror}", hint="systemctl start sereno-notify.socket"
        ) from None
    waiting = {handler.name for handler in config.handlers}
    give_up = time.monotonic() + deadline_s
    while waiting:
        done = last_deliveries(user, days=1, event=event)
        for name in sorted(waiting & done.keys()):
            waiting.remove(name)
            yield done[name]
        if waiting and time.monotonic() > give_up:
            raise NotAvailable(
                f"no record of {', '.join(sorted(waiting))} within {deadline_s:g} s",
                hint="journalctl -u sereno-notify.service",
            )
        if waiting:
            time.sleep(_POLL_S)
