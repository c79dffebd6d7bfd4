"""Whether messages would arrive: what `sereno doctor` and `sereno notify --test` ask."""

from __future__ import annotations

import os
import pwd
import time
from contextlib import suppress
from datetime import timedelta

from sereno.errors import NotAllowed, SerenoError
from sereno.notify import config
from sereno.records import journal, journal_reader

# User= of the system's units.
SYSTEM_USER = "sereno-notify"


def last_errors(user: bool) -> dict[str, str | None]:
    """Of each handler, by its name, why its latest message in the last 30 days did not leave; None: it did."""
    found: dict[str, str | None] = {}
    fields = frozenset(("SERENO_HANDLER", "SERENO_ERROR"))
    with journal_reader.reader(fields) as reader:
        for kind in (journal.DELIVERED, journal.NOT_DELIVERED):
            reader.add_match(MESSAGE_ID=kind)
        for uid in senders(user):
            reader.add_match(_UID=str(uid))
        reader.seek_realtime(time.time() - timedelta(days=30).total_seconds())
        for record in reader:
            handler = journal_reader.text(record, "SERENO_HANDLER")
            found[handler] = journal_reader.text(record, "SERENO_ERROR") or None
    return found


def senders(user: bool) -> set[int]:
    """Whose records of deliveries count: any user may send some that look the same, but for the id of the user."""
    if user:
        return {os.geteuid()}
    # Root's too, as which an administrator's drop-in may have the units run.
    with suppress(KeyError):
        return {0, pwd.getpwnam(SYSTEM_USER).pw_uid}
    return {0}


def problems(user: bool) -> list[str]:
    """What is wrong with telling people, one line each: the file, and handlers whose latest message did not leave.

    No file is no problem: nobody wants to be told. What the caller may not read is not judged.
    """
    path = config.path_of(user, os.environ)
    if not os.path.exists(path):
        return []
    try:
        handlers = config.load(path).handlers
    except NotAllowed:
        return []
    except SerenoError as error:
        return [error.message]
    why = last_errors(user)
    return [
        f"{path}: handler {handler.name}: its latest message did not leave: {why[handler.name]}"
        for handler in handlers
        if why.get(handler.name) is not None
    ]
