"""Text and numbers as a unit file holds them: the only place that escapes. Pure."""

from __future__ import annotations

import re

_SAFE_WORD = re.compile(r"[A-Za-z0-9_@/.:+,=-]+")
_ESCAPES = {'"': r"\"", "\\": r"\\", "%": "%%"}


def quote(value: str) -> str:
    r"""Quote one word for a unit file: `"…"` with `\`, `"` and control characters escaped, `%` doubled.

    Rules: systemd.syntax(7) for quotes and C escapes, systemd.unit(5) for specifiers. Inside `ExecStart=` also `$` has
    a meaning: see `quote_argument`. A word that needs no quotes is returned as it is.
    """
    if _SAFE_WORD.fullmatch(value):
        return value
    return f'"{"".join(map(_escaped, value))}"'


def _escaped(character: str) -> str:
    if character.isprintable():
        return _ESCAPES.get(character, character)
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


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
