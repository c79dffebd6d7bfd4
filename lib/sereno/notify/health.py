"""Whether messages would arrive: what `sereno doctor` and `sereno notify --test` ask."""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

from sereno import journal
from sereno.errors import NotAllowed, SerenoError
from sereno.notify import config

# User= of the system's units.
SYSTEM_USER = "sereno-notify"


class LastDelivery(NamedTuple):
    """A handler's latest attempt: `error` is None when it took the message; `time_s` since the epoch."""

    handler: str
    time_s: float
    error: str | None


def last_deliveries(
    user: bool, *, days: float = 30, event: str | None = None
) -> dict[str, LastDelivery]:
    """The latest attempt of each handler in the last `days`, by its name, as the journal has it.

    Args:
        user: True for the calling user's scope.
        event: the id of one event (SERENO_RUN) to look at, None: of all.
    """
    journal.require_installed()
    from systemd.journal import Reader

    found: dict[str, LastDelivery] = {}
    with Reader() as reader:
        reader.add_match(MESSAGE_ID=journal.DELIVERED)
        reader.add_match(MESSAGE_ID=journal.NOT_DELIVERED)
        for uid in senders(user):
            reader.add_match(_UID=str(uid))
        if event is not None:
            reader.add_match(SERENO_RUN=event)
        reader.seek_realtime(time.time() - timedelta(days=days).total_seconds())
        for record in reader:
            name = str(record.get("SERENO_HANDLER", ""))
            found[name] = _delivery(name, record)
    return found


def senders(user: bool) -> set[int]:
    """Whose records of deliveries count: any user may send some that look the same, but for the id of the user."""
    if user:
        return {os.geteuid()}
    # Root's too, as which an administrator's drop-in may have the units run.
    with suppress(KeyError):
        return {0, pwd.getpwnam(SYSTEM_USER).pw_uid}
    return {0}


def _delivery(name: str, record: Mapping[str, Any]) -> LastDelivery:
    error = record.get("SERENO_ERROR")
    return LastDelivery(
        name, record["__REALTIME_TIMESTAMP"].timestamp(), None if error is None else str(error)
    )


def problems(user: bool, environ: Mapping[str, str] = os.environ) -> list[str]:
    """What is wrong with telling people, one line each: the file, and handlers whose latest message did not leave.

    No file is no problem: nobody wants to be told. What the caller may not read is not judged.
    """
    path = config.path_of(user, environ)
    if not os.path.exists(path):
        return []
    try:
        handlers = config.load(path).handlers
    except NotAllowed:
        return []
    except SerenoError as error:
        return [error.message]
    last = last_deliveries(user)
    return [
        f"{path}: handler {handler.name}: its latest message did not leave: {last[handler.name].error}"
        for handler in handlers
        if handler.name in last and last[handler.name].error is not None
    ]
