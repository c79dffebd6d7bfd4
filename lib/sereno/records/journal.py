"""Records: their kinds and fields, and where the words of this process go.

Every record of a run carries `SERENO_JOB` and `SERENO_RUN` (systemd's invocation id), so `journalctl SERENO_JOB=…`
shows a job and `journalctl SERENO_RUN=…` one run. The closing record also has `SERENO_STATUS` ("success", "failed",
"interrupted" or, for a run that was left out, "skipped"), `SERENO_DURATION_MS`, `SERENO_TRIES`, `SERENO_STATS` (JSON)
and one `SERENO_STAT_<NAME>` for each statistic; of a failure `SERENO_ERROR`, `EXCEPTION_TEXT`, and, where sereno knows
a way out, `SERENO_HINT`.
"""

from __future__ import annotations

import os
import sys

try:
    # `json` itself loads regular expressions, and those take longer than a short run.
    from _json import encode_basestring
except ImportError:
    from json.encoder import encode_basestring

from sereno.errors import NotAvailable
from sereno.records import log, messages, sending
from sereno.records.printable import printable_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping
    from typing import Any

    Send = Callable[[Mapping[str, Any]], None]

# The ids by which a run's records are found; `messages` has those of all kinds, with their texts.
STARTED = messages.STARTED.kind
FINISHED = messages.FINISHED.kind
FAILED = messages.FAILED.kind
SKIPPED = messages.SKIPPED_LATE.kind
INTERRUPTED = messages.INTERRUPTED.kind
# A run's last record is one of these.
STATUS_OF = {FINISHED: "success", FAILED: "failed", SKIPPED: "skipped", INTERRUPTED: "interrupted"}
DELIVERED = messages.DELIVERED.kind
NOT_DELIVERED = messages.NOT_DELIVERED.kind

# What one record holds of a run's statistics. The journal takes a field of a hundred megabytes, and would keep it for
# months; a record of more than 1024 fields it drops.
MOST_STATS, MOST_STATS_CHARACTERS = 256, 64 << 10
_MOST_DEPTH, _MOST_VALUES, _MOST_BITS = 32, 100_000, 4096
_FIELD_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
# Names of the alerts that this process has sent: what a run that succeeds may have to tell.
alerts: set[str] = set()


def installed() -> bool:
    """Whether python-systemd can be imported."""
    try:
        import systemd.journal  # noqa: F401
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


def stat_field(name: str) -> str:
    """Journal field of one statistic: `entries_removed` → `SERENO_STAT_ENTRIES_REMOVED`."""
    kept = (one if one in _FIELD_CHARACTERS else "_" for one in name.upper())
    return f"SERENO_STAT_{''.join(kept)}"[:64]


def set_up(job_id: str, run_id: str, send: Send | None) -> None:
    """Send what sereno says in this process, and what the job logs from INFO on, by `send` with the run's fields.

    None: it goes to stderr, as `LEVEL: message`.
    """
    _set_up(job_id, {"SERENO_JOB": job_id, "SERENO_RUN": run_id}, send)


def set_up_as(identifier: str) -> None:
    """Like `set_up`, for a program that is no run, whoever starts it, with SYSLOG_IDENTIFIER in every record."""
    connected = "INVOCATION_ID" in os.environ and os.path.exists(sending.SOCKET)
    _set_up(identifier, {}, to_journal if connected else None)


def _set_up(identifier: str, fields: Mapping[str, str], send: Send | None) -> None:
    if send is not None:
        own = {"SYSLOG_IDENTIFIER": identifier, **fields}
        log.set_up(lambda *record: _send(send, own, *record), lambda: _attach(send, own))
    else:
        log.set_up(_print, _attach_stderr)


def to_journal(fields: Mapping[str, Any]) -> None:
    # A record that cannot be sent goes nowhere: stderr may lead to a connection of the job's by now.
    sending.send(fields)


def _send(
    send: Send, own: Mapping[str, str], level: int, text: str, fields: Mapping[str, Any]
) -> None:
    send({"MESSAGE": text, **fields, **own, "PRIORITY": _priority(level)})
    _note_alert(fields)


def _print(level: int, text: str, fields: Mapping[str, Any]) -> None:
    name = {log.INFO: "INFO", log.WARNING: "WARNING", log.ERROR: "ERROR"}[level]
    lines = [f"{name}: {text}"]
    if fields.get("SERENO_HINT"):
        lines.append(f"hint: {fields['SERENO_HINT']}")
    if level >= log.ERROR and fields.get("EXCEPTION_TEXT"):
        lines.append(fields["EXCEPTION_TEXT"].rstrip("\n"))
    try:
        print("\n".join(lines), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        # Closed by whoever started it, or by the job.
        pass


def _attach_stderr() -> None:
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    _add(handler)


def _attach(send: Send, own: Mapping[str, str]) -> None:
    """Have `logging` send its records too, until the job has it do something else."""
    from logging import Handler, LogRecord

    class ToJournal(Handler):
        def emit(self, record: LogRecord) -> None:
            try:
                # With what `extra=` gave it. The records by which a run is judged are sereno's own.
                extra = dict(record.__dict__)
                if extra.get("MESSAGE_ID") in (STARTED, *STATUS_OF):
                    del extra["MESSAGE_ID"]
                send(
                    {
                        "MESSAGE": self.format(record),
                        "EXCEPTION_TEXT": record.exc_text,
                        "CODE_ARGS": str(record.args) if record.args else None,
                        **extra,
                        **own,
                        "PRIORITY": _priority(record.levelno),
                        "LOGGER": record.name,
                        "THREAD_NAME": record.threadName,
                        "PROCESS_NAME": record.processName,
                        "CODE_FILE": record.pathname,
                        "CODE_LINE": record.lineno,
                        "CODE_FUNC": record.funcName,
                    }
                )
                _note_alert(extra)
            except Exception:
                self.handleError(record)

    _add(ToJournal())


def _add(handler: logging.Handler) -> None:
    import logging

    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _note_alert(fields: Mapping[str, Any]) -> None:
    if fields.get("SERENO_ALERT") is not None:
        alerts.add(str(fields["SERENO_ALERT"]))


def _priority(level: int) -> int:
    """syslog(3)'s priority for a level of `logging`: 7 debug, 6 info, 4 warning, 3 err, 2 crit."""
    return 7 if level <= 10 else 6 if level <= 20 else 4 if level <= 30 else 3 if level <= 40 else 2


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
    return printable_json(_json(plain(value)))


def plain(value: Any) -> Any:
    """`value` with nothing in it but what JSON holds; numbers of others' types (numpy, Decimal) as Python's own."""
    return _plain(value, _MOST_DEPTH, [_MOST_VALUES])


def _plain(value: Any, depth: int, values_left: list[int]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if not isinstance(value, (dict, list, tuple, int, float)):
        value = _number(value)
        if isinstance(value, bool):
            return value
    if isinstance(value, float):
        return float(value) if value - value == 0 else None
    if isinstance(value, int):
        # Python itself refuses to write a longer number in decimal digits.
        return int(value) if value.bit_length() < _MOST_BITS else hex(value)
    if not isinstance(value, (dict, list, tuple)):
        return value
    # Counted, for what holds itself twice would double with each level.
    values_left[0] -= len(value)
    if depth == 0 or values_left[0] < 0:
        return "…"
    if isinstance(value, dict):
        # A copy: a thread that the job left may still be writing to it.
        pairs = list(value.items())
        return {_text(key): _plain(item, depth - 1, values_left) for key, item in pairs}
    return [_plain(item, depth - 1, values_left) for item in value]


def _number(value: Any) -> bool | int | float | str:
    """The number that `value` says it is, by what numpy, Decimal and Fraction have in common; else its text."""
    try:
        item = value.item() if hasattr(value, "item") else None
        if isinstance(item, bool):
            return item
        if hasattr(value, "__index__"):
            return value.__index__()  # type: ignore[no-any-return]
        # Of numpy's, moments, spans and complex numbers too would become one.
        kind = getattr(getattr(value, "dtype", None), "kind", "f")
        if hasattr(value, "__float__") and kind == "f":
            return float(value)
    except Exception:
        # An array of several, a signalling not-a-number.
        pass
    return _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__}: {type(error).__name__}>"


def _json(value: Any) -> str:
    if isinstance(value, dict):
        pairs = (f"{encode_basestring(name)}: {_json(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
