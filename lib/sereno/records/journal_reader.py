"""Reading the journal: records as text, and whose records count as a job's.

Any local user can send a record with any fields. Which unit and user it came from, journald says itself, in fields that
nobody can forge (systemd.journal-fields(7), "Trusted Journal Fields"). The unit is missing where the sender was gone
before journald looked (systemd#2913); then the user alone vouches. `_EXE`, `_COMM` and `_SYSTEMD_INVOCATION_ID` are
missing far more often, or are those of a later run: they vouch for nothing.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from sereno.manager.names import service_name
from sereno.records import journal
from sereno.records.files import line_of

JOURNAL, VOLATILE_JOURNAL = Path("/var/log/journal"), Path("/run/log/journal")
# Of a message: a line of megabytes is for `journalctl` alone.
MOST_MESSAGE_BYTES = 16 << 10
# libsystemd's own, 64 KiB, could cut a run's statistics.
_MOST_FIELD_BYTES = 1 << 20
_AS_IT_IS = ("__REALTIME_TIMESTAMP", "__MONOTONIC_TIMESTAMP", "__CURSOR")
CLOSED = "runs: only members of the group systemd-journal may read the system's journal"
# What `Vouching` looks at.
FIELDS = frozenset(
    ("_SYSTEMD_UNIT", "_SYSTEMD_USER_UNIT", "UNIT", "USER_UNIT", "_PID", "_UID", "SERENO_JOB")
)


def text(record: Mapping[str, Any], name: str) -> str:
    """A field as text; of one that was given twice the first, "" if it is not there."""
    value = record.get(name, "")
    if type(value) is str:
        return value
    if isinstance(value, list):
        value = value[0] if value else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def is_of_manager(record: Mapping[str, Any]) -> bool:
    """Whether a record is that of a manager: process 1, or a user's (systemd.special(7), "init.scope")."""
    return text(record, "_PID") == "1" or text(record, "_SYSTEMD_USER_UNIT") == "init.scope"


class JournalFile(NamedTuple):
    """One of the journal's files; `is_active`: journald still writes to it. The first in order was written last."""

    is_active: bool
    written_s: float
    path: str
    inode: int
    size_bytes: int


def journal_files() -> list[JournalFile]:
    """This machine's files that this user may read, those that are written to first, then the newest."""
    found = []
    for place in _places():
        with suppress(OSError), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.endswith((".journal", ".journal~")) and os.access(entry, os.R_OK):
                    at = entry.stat()
                    is_active = "@" not in entry.name
                    found.append(
                        JournalFile(is_active, at.st_mtime, entry.path, at.st_ino, at.st_size)
                    )
    return sorted(found, reverse=True)


def reader(fields: frozenset[str], files: Sequence[JournalFile] = ()) -> Any:
    """A reader of the journal whose records have these fields alone, as text, and the time in microseconds.

    Args:
        files: of these alone; default: of all. Raises OSError if one of them was rotated away or cannot be opened.

    Of thirty fields a record, dates and UUIDs among them, ten are wanted: without the others 10,000 runs are read four
    times as fast. Should python-systemd no longer call the method, there is all of it, as text still. Raises
    NotAvailable where this interpreter has no python-systemd.
    """
    journal.require_installed()
    from systemd import journal as systemd_journal

    class Slim(systemd_journal.Reader):  # type: ignore[misc]
        def _convert_entry(self, entry: dict[str, Any]) -> dict[str, Any]:
            message = entry.get("MESSAGE")
            if type(message) is bytes and len(message) > MOST_MESSAGE_BYTES:
                entry["MESSAGE"] = message[:MOST_MESSAGE_BYTES]
            # A comprehension without calls: of many runs it is a fifth of the time.
            return {
                name: value.decode("utf-8", "replace") if type(value) is bytes else value
                for name in fields & entry.keys()
                for value in (entry[name],)
            }

    plain: dict[str, Callable[[Any], Any]]
    plain = dict.fromkeys(systemd_journal.DEFAULT_CONVERTERS, _decoded)
    found = Slim(
        files=[file.path for file in files] or None,
        converters={**plain, **dict.fromkeys(_AS_IT_IS, lambda value: value)},
    )
    found.data_threshold = _MOST_FIELD_BYTES
    if any(os.stat(file.path).st_ino != file.inode for file in files):
        found.close()
        raise FileNotFoundError("a file of the journal was rotated away")
    return found


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def may_read_journal() -> bool:
    """Whether the system's own records are shown to this user; without the right only a user's own are."""
    found = [place / "system.journal" for place in _places()]
    return next((os.access(path, os.R_OK) for path in found if path.exists()), True)


def _places() -> list[Path]:
    machine_id = line_of("/etc/machine-id")
    return [place / machine_id for place in (JOURNAL, VOLATILE_JOURNAL)] if machine_id else []


class Vouching:
    """Decides which records count as a job's, in one scope.

    Args:
        users_of: the ids of the users whose records of a job count where journald has no unit for them. It is asked at
            most once for a job, and only if there is such a record; default: `run_uids`.
    """

    def __init__(
        self, *, user: bool, users_of: Callable[[str], frozenset[str]] | None = None
    ) -> None:
        self._user = user
        self._users_of = users_of or run_uids
        self._uids: dict[str, frozenset[str]] = {}

    def vouches(self, record: Mapping[str, Any], job_id: str) -> bool:
        """Whether a record is what one of the job's runs said, or what the scope's manager said of it."""
        service, of_user = service_name(job_id), "_SYSTEMD_USER_UNIT" in record
        if self._user and text(record, "_UID") != str(os.geteuid()):
            return False
        if is_of_manager(record):
            name = "USER_UNIT" if self._user else "UNIT"
            return of_user is self._user and text(record, name) == service
        unit = text(record, "_SYSTEMD_USER_UNIT" if of_user else "_SYSTEMD_UNIT")
        if unit:
            return unit == service and of_user is self._user
        # What a process printed has no name of a job but by its unit.
        if text(record, "SERENO_JOB") != job_id:
            return False
        if self._user or (uid := text(record, "_UID")) == "0":
            return True
        if job_id not in self._uids:
            self._uids[job_id] = self._users_of(job_id)
        return uid in self._uids[job_id]


def run_uids(job_id: str) -> frozenset[str]:
    """The id of the user that the system's manager runs a job as, drop-ins included; none if it cannot be asked."""
    from sereno.errors import SerenoError
    from sereno.manager.systemctl import Systemctl

    try:
        user = Systemctl().show(service_name(job_id), "User").get("User", "")
        return frozenset((user if user.isdigit() else str(pwd.getpwnam(user).pw_uid),))
    except (SerenoError, OSError, KeyError):
        return frozenset()
