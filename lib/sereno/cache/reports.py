"""Limits, counters, reports: which arguments a cache refuses, and what it makes of the numbers of its store."""

from __future__ import annotations

import math
import os
import time

from sereno.cache import place
from sereno.cache.board import FORMAT
from sereno.cache.clock import NEVER_MS
from sereno.cache.entry import short
from sereno.errors import UsageError
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

    from sereno.cache.values import Counted

    Seconds = float | timedelta
    """A number of any kind, or a timedelta."""
else:
    # For tools that evaluate the annotations of a backend's endpoint.
    Seconds = object


class Unset:
    """The type of `UNSET`: an argument that was left out, where None means something."""

    def __repr__(self) -> str:
        return "<as stored with the cache>"


UNSET = Unset()

_LONGEST_MS = 1 << 52  # 142,000 years; sums with a wall clock stay far below NEVER_MS
_next_warning_s: dict[str, float] = {}


def refused(name: str, value: object, right: str) -> UsageError:
    return UsageError(
        f"{name}: {short(value)} of type {type(value).__qualname__}, {right} is needed"
    )


def checked_limit(name: str, value: object, unit: str) -> int | Unset | None:
    """A limit as it was given, or UsageError unless it is left out, None or an int of at least 1."""
    if value is None or isinstance(value, Unset):
        return value
    return checked_count(name, value, f"None (no limit) or an int of at least 1 ({unit})", 1)


def checked_count(name: str, value: Any, right: str, least: int) -> int:
    """An int, also of numpy, or UsageError unless it is at least `least`."""
    try:
        number: int = value.__index__()
    except (AttributeError, TypeError):
        number = least - 1
    if isinstance(value, bool) or not least <= number < 1 << 63:
        raise refused(name, value, right)
    return number


def checked_default_ttl_ms(value: object) -> int | Unset | None:
    """`value` in milliseconds, or UsageError unless it is left out, None or above 0."""
    if value is None or isinstance(value, Unset):
        return value
    right = "None (no expiry), or a number of seconds or timedelta above 0"
    lifetime_ms = ttl_ms(value, "default_ttl", right)
    if lifetime_ms == 0:
        raise refused("default_ttl", value, right)
    return None if lifetime_ms == NEVER_MS else lifetime_ms


def checked_number(name: str, value: object, right: str, most: float) -> float:
    """A number or timedelta (its seconds) from 0 to `most`, or UsageError."""
    number = _number(value)
    if number is None or not 0 <= number <= most:
        raise refused(name, value, right)
    return float(number)


def checked_name(value: str) -> str:
    """The name of a directory, or TypeError, UsageError."""
    right = "a name that a directory can have"
    checked_type("name", value, str, right)
    if value in ("", ".", "..") or {"/", "\0"} & {*value} or not can_be_path(value):
        raise refused("name", value, right)
    return value


def can_be_path(text: str) -> bool:
    """Can the file system be asked for it?"""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def checked_path(path: str | os.PathLike[str]) -> str:
    """A directory's path as it was given, absolute and with the home that `~` stands for, or TypeError, UsageError."""
    right = "None or the path of a directory"
    checked_type("path", path, str | bytes | os.PathLike, right)
    expanded = os.path.expanduser(os.fsdecode(path))
    if not expanded or not can_be_path(expanded):
        raise refused("path", path, right)
    if expanded.startswith("~"):
        raise refused(
            "path", path, "~ or ~user of somebody who has a home, or ./~… for such a name,"
        )
    return os.path.abspath(expanded)


def warn_of_a_private_one(path: str) -> None:
    """Says once that this process has a cache of its own although the machine has one that is shared."""
    machine = place.MACHINE_DIRECTORY
    if os.environ.get(place.SETTING) or path.startswith(machine + os.sep):
        return
    if os.path.isdir(machine):
        text = "cache %s: this user's own, for the machine's, in %s, cannot be used: %s"
        warn(machine, text, path, machine, place.join_hint(), every_s=math.inf)


def checked_type(name: str, value: object, kind: Any, right: str) -> None:
    """Raises TypeError for a value of another type."""
    if not isinstance(value, kind):
        raise TypeError(str(refused(name, value, right)))


def ttl_ms(
    value: object,
    name: str = "ttl",
    right: str = "None (the cache's default_ttl), or a number of seconds or timedelta",
) -> int | None:
    """A lifetime in milliseconds, rounded up; `NEVER_MS` for infinity, 0 for nothing and less, None for None.

    Raises:
        UsageError: neither a number of seconds nor a timedelta.
    """
    if value is None:
        return None
    ttl_s = _number(value)
    if ttl_s is None:
        raise refused(name, value, right)
    if ttl_s == math.inf:
        return NEVER_MS
    return math.ceil(max(0, min(ttl_s, _LONGEST_MS / 1000)) * 1000)


def seconds(lifetime_ms: int | None) -> int | float | None:
    """Milliseconds as the number of seconds that was given: an int where it is one."""
    if lifetime_ms is None:
        return None
    return lifetime_ms // 1000 if lifetime_ms % 1000 == 0 else lifetime_ms / 1000


def _number(value: Any) -> int | float | None:
    """What stands for a number of seconds, in whichever type; None for what does not."""
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is not float:
        if kind is bool or kind is str:
            return None
        try:
            value = value.total_seconds() if hasattr(value, "total_seconds") else value.__float__()
        except (AttributeError, TypeError, ValueError, OverflowError):
            return None
    return None if math.isnan(value) else float(value)


class CleanupReport(NamedTuple):
    """What one `run_cleanup` did, and what the cache did since the one before.

    `bytes_freed`: bytes of the keys and values that were removed; the file itself does not shrink, its pages are
    used again. `hits` to `expired_removals` and `hit_rate_percent` (0 to 100, 0.0 without requests) count since the
    previous report. `default_ttl` is in seconds. `server_bytes`: of a cache on a server what its memory holds and may
    hold; None: it is on this machine, or may hold anything.
    """

    entries_before: int
    entries_after: int
    entries_removed: int
    bytes_freed: int
    hits: int
    misses: int
    evictions: int
    expired_removals: int
    hit_rate_percent: float
    size: int
    max_size: int | None
    default_ttl: int | float | None
    server_bytes: tuple[int, int] | None = None


def overview(counted: Counted) -> dict[str, Any]:
    """What `get_stats` says, without the cache's name and path."""
    return {
        "size": counted.entries,
        "max_size": counted.limits.max_size,
        "max_bytes": counted.limits.max_bytes,
        "max_value_bytes": counted.limits.max_value_bytes,
        "default_ttl": seconds(counted.limits.default_ttl_ms),
        **counted.counters,
        "hit_rate_percent": _rate_percent(counted.counters),
        "total_requests": counted.counters["hits"] + counted.counters["misses"],
        "memory_bytes": counted.held_bytes,
        "file_bytes": counted.file_bytes,
        "format_version": FORMAT,
    }


def report(counted: Counted, before: int, removed: int, freed_bytes: int) -> CleanupReport:
    """The report of a cleanup that found `before` entries."""
    names = ("hits", "misses", "evictions", "expired_removals")
    return CleanupReport(
        entries_before=before,
        entries_after=counted.entries,
        entries_removed=removed,
        bytes_freed=freed_bytes,
        **{name: counted.counters[name] for name in names},
        hit_rate_percent=_rate_percent(counted.counters),
        size=counted.entries,
        max_size=counted.limits.max_size,
        default_ttl=seconds(counted.limits.default_ttl_ms),
        server_bytes=counted.server_bytes,
    )


def _rate_percent(counters: dict[str, int]) -> float:
    """Hits among all requests, 0.0 to 100.0 with two digits; 0.0 without requests."""
    hits, requests = counters["hits"], counters["hits"] + counters["misses"]
    return round(100.0 * hits / requests, 2) if requests else 0.0


def warn(about: str, text: str, *values: object, every_s: float = 60.0) -> None:
    """Logs a warning, at most once in `every_s` seconds for whatever it is about."""
    now_s = time.monotonic()
    if now_s < _next_warning_s.get(about, -math.inf):
        return
    _next_warning_s[about] = now_s + every_s
    import logging

    logging.getLogger("sereno.cache").warning(text, *values)
