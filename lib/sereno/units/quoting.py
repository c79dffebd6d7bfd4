"""Text and numbers as a unit file holds them: the only place that escapes. Pure."""

from __future__ import annotations

import re

_SAFE_WORD = re.compile(r"[A-Za-z0-9_@/.:+,=-]+")


def quote(value: str) -> str:
    r"""Quote one word for a unit file: `"…"` with `\`, `"` and control characters escaped, `%` doubled.

    Rules: systemd.syntax(7) for quotes and C escapes, systemd.unit(5) for specifiers. Inside `ExecStart=` also `$` has
    a meaning: see `quote_argument`. A word that needs no quotes is returned as it is.
    """
    if _SAFE_WORD.fullmatch(value):
        return value
    escaped = []
    for character in value:
        if character in '"\\':
            escaped.append("\\" + character)
        elif character == "%":
            escaped.append("%%")
        elif character.isprintable():
            escaped.append(character)
        else:
            escaped.extend(
                f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape")
            )
    return '"' + "".join(escaped) + '"'


def quote_argument(value: str) -> str:
    """Quote one argument of `ExecStart=`, where `$` would start a variable (systemd.service(5), COMMAND LINES)."""
    return quote(value).replace("$", "$$")


def plain(value: str) -> str:
    """Escape a checked one-line value of a setting that takes its text as it is (`Description=`)."""
    return value.replace("%", "%%")


def exact_span(seconds: float) -> str:
    """A time span for a unit file, in the largest unit that needs no fraction (systemd.time(7))."""
    microseconds = round(seconds * 1_000_000)
    for size, unit in ((1_000_000, "s"), (1_000, "ms")):
        if microseconds % size == 0:
            return f"{microseconds // size}{unit}"
    return f"{microseconds}us"
