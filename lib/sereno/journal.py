"""Records: their kinds and fields, and sending them to the journal (or stderr).

Every record of a run carries `SERENO_JOB` and `SERENO_RUN` (systemd's invocation id), so `journalctl SERENO_JOB=…`
shows a job and `journalctl SERENO_RUN=…` one run. The closing record also has `SERENO_STATUS` ("success", "failed",
"interrupted" or, for a run that was left out, "skipped"), `SERENO_DURATION_MS`, `SERENO_TRIES`, `SERENO_STATS` (JSON)
and one `SERENO_STAT_<NAME>` for each statistic.

Only the parts of python-systemd that a caller needs are imported, and only when it needs them.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from sereno.errors import NotAvailable

if TYPE_CHECKING:
    from collections.abc import Mapping

# One id per kind of record, for ever: `journalctl MESSAGE_ID=…`, the catalogue and `sereno.runs` find it by this.
STARTED = "5e6016bdb0a94162b63c3f18577a34a6"
FINISHED = "d273f3f974d24dcca798ba71c698c7c5"
FAILED = "c8db476b7d964ab2bd2d7abc51d7b261"
SKIPPED = "b2cd3c4d8cd044c392c152a1cdb22abe"
INTERRUPTED = "41d737715db34f399ecab3f142b40e50"
# A run's last record is one of these.
CLOSING = (FINISHED, FAILED, SKIPPED, INTERRUPTED)
TRY_FAILED = "74c63f1b04a141e6abd2df573682eab9"
OVERRUN = "405ad1c80d9f46258c3c6f80fe95b15a"
ALERT_CAPACITY = "6b70ac9b8cc943ffb3fe04c7fcfd0502"
ALERT_HIT_RATE = "4cc3ac700904425cbc9d7816665c8d54"
ALERT_ERROR = "48ed658150c846b4a05bf9aefdc6ae9b"
DELIVERED = "b82a1f12aa2447cf978f113b9238b1b8"
NOT_DELIVERED = "2f34b1d9ea8d4da596dc0aa613190056"
HELD_BACK = "b51a5728d6554f62a9dbc541e2f79cf3"
PING_FAILED = "393f47682b3f407a81122d82e311c9b5"

SOCKET = "/run/systemd/journal/socket"
# systemd.journal-fields(7) and journal_field_valid(): upper case, digits, "_", at most 64 bytes, no leading digit; a
# leading "_" is reserved. The journal drops other fields without a word.
_FIELD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_NOT_IN_FIELD = re.compile(r"[^A-Z0-9_]")
# Names of the alerts that this process has sent: what a run that succeeds may have to tell.
alerts: set[str] = set()


def installed() -> bool:
    """Whether python-systemd can be imported."""
    try:
        from systemd import journal  # noqa: F401
    except ImportError:
        return False
    return True


def require_installed() -> None:
    """Raise `NotAvailable` if this interpreter has no python-systemd."""
    if not installed():
        raise NotAvailable(
            f"python-systemd: {sys.executable} cannot import it",
            hint="apt install python3-systemd, and create virtual environments with --system-site-packages"
            " (or: pip install systemd-python, which needs gcc, pkg-config and libsystemd-dev)",
        )


def is_connected() -> bool:
    """Whether this process was started by systemd and the journal's socket is there."""
    return "INVOCATION_ID" in os.environ and os.path.exists(SOCKET)


def stat_field(name: str) -> str:
    """Journal field of one statistic: `entries_removed` → `SERENO_STAT_ENTRIES_REMOVED`."""
    return ("SERENO_STAT_" + _NOT_IN_FIELD.sub("_", name.upper()))[:64]


def set_up(job_id: str, run_id: str) -> None:
    """Send every log record of this process, from INFO, to the journal with the run's fields.

    Without the journal's socket, or without systemd as the parent, they go to stderr as `LEVEL: message`.
    """
    set_up_as(job_id, SERENO_JOB=job_id, SERENO_RUN=run_id)


def set_up_as(identifier: str, **fields: str) -> None:
    """Like `set_up`, for a program that is no run: with SYSLOG_IDENTIFIER and these fields in every record."""
    handler: logging.Handler
    if is_connected() and installed():
        from systemd.journal import JournalHandler

        handler = JournalHandler(sender_function=_send, SYSLOG_IDENTIFIER=identifier, **fields)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _send(message: str, /, **fields: Any) -> None:
    """`journal.send` without the fields that journald would drop, and with text that it can hold."""
    from systemd import journal

    clean = {
        name: value if isinstance(value, (int, bytes)) else _encodable(str(value))
        for name, value in fields.items()
        if value is not None and _FIELD.fullmatch(name)
    }
    journal.send(_encodable(message), **clean)
    if "SERENO_ALERT" in clean:
        alerts.add(str(clean["SERENO_ALERT"]))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def closing_fields(
    status: str, duration_ms: float, stats: Mapping[str, Any] | None
) -> dict[str, str]:
    """Fields of a run's last record."""
    fields = {"SERENO_STATUS": status, "SERENO_DURATION_MS": f"{duration_ms:.2f}"}
    if stats is not None:
        fields["SERENO_STATS"] = to_json(stats)
        for name, value in stats.items():
            text = value if isinstance(value, str) else to_json(value)
            fields.setdefault(stat_field(str(name)), text)
    return fields


def to_json(value: Any) -> str:
    """JSON for people and queries: what JSON has no form for is given as text, not-a-number as null."""
    return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
