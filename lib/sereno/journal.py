"""Records: their kinds and fields, and sending them to the journal (or stderr).

Every record of a run carries `SERENO_JOB` and `SERENO_RUN` (systemd's invocation id), so `journalctl SERENO_JOB=…`
shows a job and `journalctl SERENO_RUN=…` one run. The closing record also has `SERENO_STATUS` ("success", "failed",
"interrupted" or, for a run that was left out, "skipped"), `SERENO_DURATION_MS`, `SERENO_TRIES`, `SERENO_STATS` (JSON)
and one `SERENO_STAT_<NAME>` for each statistic.

Only the parts of python-systemd that a caller needs are imported, and only when it needs them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from functools import partial

from sereno import log, messages
from sereno.errors import NotAvailable
from sereno.printable import printable_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from typing import Any

# The ids by which each kind of record is found; the table has them with their texts.
STARTED = messages.STARTED.kind
FINISHED = messages.FINISHED.kind
FAILED = messages.FAILED.kind
SKIPPED = messages.SKIPPED_LATE.kind
INTERRUPTED = messages.INTERRUPTED.kind
# A run's last record is one of these.
CLOSING = (FINISHED, FAILED, SKIPPED, INTERRUPTED)
TRY_FAILED = messages.TRY_FAILED.kind
OVERRUN = messages.OVERRUN_INTERVAL.kind
ALERT_CAPACITY = messages.ALERT_CAPACITY.kind
ALERT_HIT_RATE = messages.ALERT_HIT_RATE.kind
ALERT_ERROR = messages.ALERT_ERROR.kind
DELIVERED = messages.DELIVERED.kind
NOT_DELIVERED = messages.NOT_DELIVERED.kind
HELD_BACK = messages.HELD_BACK.kind
PING_FAILED = messages.PING_FAILED.kind

SOCKET = "/run/systemd/journal/socket"
# What one record holds of a run's statistics. The journal takes a field of a hundred megabytes, and would keep it for
# months; a record of more than 1024 fields it drops.
MOST_STATS, MOST_STATS_CHARACTERS = 256, 64 << 10
_MOST_DEPTH, _MOST_VALUES, _MOST_BITS = 32, 100_000, 4096
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
    if is_connected() and _sendv() is not None:
        fields = {"SYSLOG_IDENTIFIER": identifier, **fields}
        log.set_up(partial(_send_directly, fields), partial(_attach, fields))
        return
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _add(handler)


def _add(handler: logging.Handler) -> None:
    import logging

    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _attach(fields: Mapping[str, str]) -> None:
    """Have `logging` send to the journal.

    By a handler of our own: loading python-systemd's brings uuid, the reader and more, and may be what loads `logging`.
    """
    from logging import Handler, LogRecord

    class ToJournal(Handler):
        def emit(self, record: LogRecord) -> None:
            try:
                _send(
                    {
                        "MESSAGE": self.format(record),
                        "EXCEPTION_TEXT": record.exc_text,
                        "CODE_ARGS": str(record.args) if record.args else None,
                        **fields,
                        # With what `extra=` gave it.
                        **record.__dict__,
                        "PRIORITY": _priority(record.levelno),
                        "LOGGER": record.name,
                        "THREAD_NAME": record.threadName,
                        "PROCESS_NAME": record.processName,
                        "CODE_FILE": record.pathname,
                        "CODE_LINE": record.lineno,
                        "CODE_FUNC": record.funcName,
                    }
                )
            except Exception:
                self.handleError(record)

    _add(ToJournal())


def _send_directly(
    own: Mapping[str, str], level: int, text: str, fields: Mapping[str, Any]
) -> None:
    try:
        _send({"MESSAGE": text, **own, **fields, "PRIORITY": _priority(level)})
    except OSError as error:
        # As with logging: a record that is lost is no reason for a run to fail. Nor is a stderr that leads to the same
        # journal, or that the job has closed.
        with suppress(OSError, ValueError):
            print(f"{text}\n(journal: {error})", file=sys.stderr)


def _priority(level: int) -> int:
    """syslog(3)'s priority for a level of `logging`: 7 debug, 6 info, 4 warning, 3 err, 2 crit."""
    return 7 if level <= 10 else 6 if level <= 20 else 4 if level <= 30 else 3 if level <= 40 else 2


def _sendv() -> Callable[..., None] | None:
    """python-systemd's sd_journal_sendv(3), which takes b"NAME=value" or text; None if it is not installed."""
    try:
        # `systemd.journal` itself loads logging, uuid and the reader: three times what a run takes without them.
        from systemd._journal import sendv
    except ImportError:
        try:
            from systemd.journal import sendv
        except ImportError:
            return None
    return sendv  # type: ignore[no-any-return]


def _send(fields: Mapping[str, Any]) -> None:
    """Send one record, without the fields that journald would drop and with text that it can hold."""
    sendv = _sendv()
    assert sendv is not None
    sendv(
        *(
            _line(name, value)
            for name, value in fields.items()
            if value is not None and _FIELD.fullmatch(name)
        )
    )
    if fields.get("SERENO_ALERT") is not None:
        alerts.add(str(fields["SERENO_ALERT"]))


def _line(name: str, value: Any) -> bytes:
    if not isinstance(value, bytes):
        value = str(value).encode("utf-8", "backslashreplace")
        if name == "MESSAGE_ID":
            # A uuid.UUID is good too, as python-systemd's own handler has it.
            value = value.replace(b"-", b"")
    return name.encode() + b"=" + value  # type: ignore[no-any-return]


def closing_fields(
    status: str, duration_ms: float, stats: Mapping[str, Any] | None
) -> dict[str, str]:
    """Fields of a run's last record."""
    fields = {"SERENO_STATUS": status, "SERENO_DURATION_MS": f"{duration_ms:.2f}"}
    if stats is not None:
        fields["SERENO_STATS"] = to_json(stats)
        for name, value in stats.items():
            text = value if isinstance(value, str) else to_json(value)
            fields.setdefault(stat_field(_text(name)), text)
    return fields


def bounded(stats: Mapping[Any, Any]) -> tuple[dict[Any, Any], int]:
    """As many of the statistics as one record shall hold, in their order, and how many these are not."""
    if len(stats) <= MOST_STATS and len(to_json(stats)) <= MOST_STATS_CHARACTERS:
        return dict(stats), 0
    kept: dict[Any, Any] = {}
    room = MOST_STATS_CHARACTERS
    for name, value in stats.items():
        size = len(to_json({name: value}))
        if size <= room and len(kept) < MOST_STATS:
            kept[name] = value
            room -= size
    return kept, len(stats) - len(kept)


def to_json(value: Any) -> str:
    """JSON for people and queries: one printable line, whatever is in `value`.

    What JSON has no form for is given as text, not-a-number as null, what is nested too deeply, or too much, as "…".
    """
    return printable_json(
        json.dumps(_plain(value, _MOST_DEPTH, [_MOST_VALUES]), ensure_ascii=False)
    )


def _plain(value: Any, depth: int, values_left: list[int]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, int):
        # Python itself refuses to write a longer number in decimal digits.
        return int(value) if value.bit_length() < _MOST_BITS else hex(value)
    if not isinstance(value, (dict, list, tuple)):
        return _text(value)
    # Counted, for what holds itself twice would double with each level.
    values_left[0] -= len(value)
    if depth == 0 or values_left[0] < 0:
        return "…"
    if isinstance(value, dict):
        return {_text(key): _plain(item, depth - 1, values_left) for key, item in value.items()}
    return [_plain(item, depth - 1, values_left) for item in value]


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"
