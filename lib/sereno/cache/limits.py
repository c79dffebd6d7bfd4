"""Arguments of the cache: what is refused, and what is written down."""

from __future__ import annotations

import math

from sereno.cache.clock import NEVER_MS
from sereno.errors import UsageError


class Unset:
    """The type of `UNSET`: an argument that was left out, where None means something."""

    def __repr__(self) -> str:
        return "<as stored with the cache>"


UNSET = Unset()

_LONGEST_MS = 1 << 52  # 142,000 years; sums with a wall clock stay far below NEVER_MS


def checked_max_size(value: int | Unset | None) -> int | Unset | None:
    """`value`, or UsageError unless it is None or an int of at least 1."""
    if value is None or isinstance(value, Unset) or (type(value) is int and 1 <= value < 1 << 63):
        return value
    raise UsageError(
        f"max_size: {value!r} is neither None (no limit) nor an int of at least 1 (entries)"
    )


def checked_default_ttl_ms(value: float | Unset | None) -> int | Unset | None:
    """`value` in milliseconds, or UsageError unless it is None or a number above 0 (seconds)."""
    if value is None or isinstance(value, Unset):
        return value
    if _is_number(value) and value > 0:
        lifetime_ms = ttl_ms(value)
        return None if lifetime_ms == NEVER_MS else lifetime_ms
    raise UsageError(
        f"default_ttl: {value!r} is neither None (no expiry) nor a number above 0 (seconds)"
    )


def checked_jitter(value: float) -> float:
    """`value`, or UsageError unless it is a number from 0 to 1."""
    if _is_number(value) and 0 <= value <= 1:
        return value
    raise UsageError(f"ttl_jitter: {value!r} is not a number from 0 to 1 (share of the TTL)")


def checked_name(value: str) -> str:
    """`value`, or UsageError unless it can be the name of a directory."""
    if isinstance(value, str) and value not in ("", ".", "..") and not {"/", "\0"} & {*value}:
        return value
    raise UsageError(f"name: {value!r} cannot be the name of a directory")


def ttl_ms(ttl_s: float) -> int:
    """A lifetime in milliseconds, rounded up; `NEVER_MS` for infinity, 0 for nothing and less.

    Raises:
        UsageError: not a number.
    """
    if not _is_number(ttl_s):
        raise UsageError(
            f"ttl: {ttl_s!r} is neither None (the cache's default_ttl) nor a number (seconds)"
        )
    if ttl_s <= 0:
        return 0
    if ttl_s == math.inf:
        return NEVER_MS
    return _LONGEST_MS if ttl_s >= _LONGEST_MS / 1000 else math.ceil(ttl_s * 1000)


def seconds(lifetime_ms: int | None) -> int | float | None:
    """Milliseconds as the number of seconds that was given: an int where it is one."""
    if lifetime_ms is None:
        return None
    return lifetime_ms // 1000 if lifetime_ms % 1000 == 0 else lifetime_ms / 1000


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
