"""A crontab's jobs → plain services and timers, for a person to read and install. Pure.

They need nothing of sereno: the command runs as cron runs it, and what it prints goes to the journal.
"""

from __future__ import annotations

import re

from sereno.crontab import Entry
from sereno.quoting import plain, quote, quote_argument

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_.]+")
_MOST_IN_NAME, _MOST_IN_DESCRIPTION = 40, 100


def unit_name(entry: Entry) -> str:
    """The name of an entry's units without suffix: `cron-backup-12` for /usr/local/bin/backup in line 12."""
    program = entry.command.partition(" ")[0].rpartition("/")[2]
    word = _NOT_IN_NAME.sub("-", program)[:_MOST_IN_NAME].strip("-.") or "job"
    return f"cron-{word}-{entry.line}"


def render_entry(
    entry: Entry, *, user_scope: bool = False, local_zone: str | None = None
) -> dict[str, str]:
    """The unit files of an entry, {file name: text}: a service, and its timer unless each boot starts it.

    Args:
        user_scope: for a user's own manager.
        local_zone: name of the machine's zone, which an hourly schedule needs to lose no run when the clocks change.
    """
    name = unit_name(entry)
    description = _shortened(entry.command)
    service = [
        "[Unit]",
        f"Description={description}",
        "",
        "[Service]",
        "Type=oneshot",
        *([f"User={entry.user}"] if entry.user else []),
        f"WorkingDirectory={entry.home or '~'}",
        *(f"Environment={quote(f'{key}={value}')}" for key, value in entry.environment.items()),
        f"ExecStart={entry.shell} -c {quote_argument(entry.command)}",
    ]
    if entry.stdin is not None:
        service += ["StandardInput=data", f"StandardInputText={_escaped(entry.stdin)}"]
    if entry.trigger is None:
        target = "default.target" if user_scope else "multi-user.target"
        service += ["", "[Install]", f"WantedBy={target}"]
        return {f"{name}.service": "\n".join(service) + "\n"}
    timer = [
        "[Unit]",
        f"Description=Timer of {description}",
        "",
        "[Timer]",
        *entry.trigger.timer_lines(local_zone=local_zone),
        # systemd's default would let it slip by up to a minute.
        "AccuracySec=1s",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return {
        f"{name}.service": "\n".join(service) + "\n",
        f"{name}.timer": "\n".join(timer) + "\n",
    }


def _shortened(command: str) -> str:
    """One printable line; a backslash at its end would join the next one (systemd.syntax(7))."""
    text = "".join(one if one.isprintable() else " " for one in command)
    if len(text) > _MOST_IN_DESCRIPTION:
        text = text[: _MOST_IN_DESCRIPTION - 1] + "…"
    return plain(text.rstrip("\\ "))


def _escaped(text: str) -> str:
    r"""Text for `StandardInputText=`, which reads C escapes and specifiers and ends with a line break of its own
    (systemd.exec(5)). Blanks at either end would be cut off."""
    inner = "".join(
        {"\\": "\\\\", "%": "%%", "\n": "\\n"}.get(one, one)
        if one.isprintable() or one == "\n"
        else "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogateescape"))
        for one in text
    )
    if inner.startswith(" "):
        inner = "\\x20" + inner[1:]
    if inner.endswith(" "):
        inner = inner[:-1] + "\\x20"
    return inner
