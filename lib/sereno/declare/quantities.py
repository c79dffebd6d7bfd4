"""Quantities as people write them, "5min", "512M", "50%", → numbers in the unit that their name says. Pure."""

from __future__ import annotations

import re
from datetime import timedelta

from sereno.errors import InvalidJob, UsageError

# A span of time as people give it: seconds, text such as "5min", or an object that knows its seconds.
Span = float | str | timedelta
# systemd.time(7) has more; these are the ones that nobody misreads.
_SECONDS_IN = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(?:\d{1,9} *(?:s|min|m|h|d|w) *)+")
_SPAN_PART = re.compile(r"(\d+) *([a-z]+)")
# systemd.resource-control(5): to the base of 1024.
_BYTES_IN = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d{1,12})([KMGT])")
_PERCENT = re.compile(r"(\d{1,6})%")


def read_span_s(field: str, text: str, *, error: type[UsageError] = InvalidJob) -> int:
    """Seconds of a span such as `90m`, `1h30min` or `2w 3d`: whole numbers of s, m (or min), h, d and w.

    Raises `error`, which names `field`, for text that is not written so or has a unit twice.
    """
    parts = [(_SECONDS_IN.get(unit, 0), int(number)) for number, unit in _SPAN_PART.findall(text)]
    if not _SPAN.fullmatch(text.strip()) or len(dict(parts)) != len(parts):
        raise error(
            f"{field}: {text!r} is not a time span",
            hint="whole numbers of s, m, h, d and w, each unit once: 90m, 1h30m, 2w",
        )
    return sum(unit_s * number for unit_s, number in parts)


def seconds(field: str, value: Span | None) -> float | None:
    """A number of seconds, or None, as it is; text as `read_span_s` reads it; a timedelta's seconds."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    return read_span_s(field, value) if isinstance(value, str) else value


def size_bytes(field: str, value: int | str) -> int:
    """A number of bytes as it is; text is a whole number with K, M, G or T, to the base of 1024, else `InvalidJob`."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value)
    if not match:
        raise InvalidJob(
            f"{field}: {value!r} is not a size",
            hint="a number of bytes, or a whole number with K, M, G or T: '512M'",
        )
    return int(match[1]) * _BYTES_IN[match[2]]


def percent(field: str, value: str | None) -> int | None:
    """The number in text such as "50%", or None; else `InvalidJob`: bare, 0.5 and 50 would both be read as half."""
    if value is None:
        return None
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise InvalidJob(
            f"{field}: {value!r} is not a percentage",
            hint="a whole number with '%', of one processor: '50%', '200%'",
        )
    return int(match[1])


def check_seconds(
    field: str, value: object, *, above: float = -1, least: float = 0, most: float
) -> None:
    """Raise `InvalidJob` that names `field` unless `value` is a number of seconds in the range."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidJob(f"{field}: {value!r} is not a number of seconds")
    # Written so that not-a-number is refused too.
    if not (above < value and least <= value <= most):
        low = f"above {above:g}" if above >= 0 else f"{least:.6f}".rstrip("0").rstrip(".")
        raise InvalidJob(f"{field}: {value!r} s is not in the range {low} to {most:.0f} s")


def check_truth(field: str, value: object) -> None:
    """Raise `InvalidJob` that names `field` unless `value` is True or False."""
    if not isinstance(value, bool):
        raise InvalidJob(f"{field}: {value!r} is neither True nor False")


def check_whole(field: str, value: object, *, least: int, most: int, hint: str = "") -> None:
    """Raise `InvalidJob` that names `field` unless `value` is a whole number in the range."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidJob(
            f"{field}: {value!r} is not a whole number from {least} to {most}", hint=hint or None
        )
