"""What stands on the server: entries and epochs as bytes (`scripts` has what they are), patterns, INFO. Pure."""

from __future__ import annotations

import math
import os
import re
from random import random
from zlib import crc32

from sereno.cache.clock import NEVER_MS
from sereno.cache.fleet.scripts import GENERATION_BYTES, HEADER_BYTES, RUN_ID_BYTES
from sereno.cache.values import KEPT_LIFETIME, State

FOR_EVER_MS = 30 * 86_400_000
"""A server evicts only what has a lifetime, so that nothing of its own goes with the entries."""


def text_of(stored: bytes | None) -> bytes | None:
    """The text of an entry; None where there is none, or something that is not one."""
    if (
        stored is None
        or len(stored) <= HEADER_BYTES
        or stored[8:12] != _check(stored[:8], stored[12:])
    ):
        return None
    return stored[HEADER_BYTES:]


def packed_entry(text: bytes) -> bytes:
    """An entry that differs from every other, also with the same text."""
    once = os.urandom(8)
    return once + _check(once, text) + text


def _check(once: bytes, text: bytes) -> bytes:
    return crc32(text, crc32(once)).to_bytes(4, "little")


def generation_of(epoch: bytes) -> bytes:
    """What the keys of entries have of an epoch."""
    return epoch[RUN_ID_BYTES : RUN_ID_BYTES + GENERATION_BYTES]


def new_generation() -> bytes:
    return os.urandom(GENERATION_BYTES // 2).hex().encode()


def emptied(epoch: bytes) -> bytes:
    return epoch[:RUN_ID_BYTES] + new_generation() + epoch[RUN_ID_BYTES + GENERATION_BYTES :]


def limited(epoch: bytes, changes: dict[str, int | None]) -> bytes:
    """The epoch with other limits in the place of those that `changes` names."""
    return epoch[: RUN_ID_BYTES + GENERATION_BYTES] + packed_limits(
        limits_of(epoch).changed(changes)
    )


def packed_limits(limits: State) -> bytes:
    return b":%b:%b" % tuple(
        b"" if limit is None else b"%d" % limit
        for limit in (limits.default_ttl_ms, limits.max_value_bytes)
    )


def limits_of(epoch: bytes) -> State:
    default, most = (
        int(word) if word else None
        for word in epoch[RUN_ID_BYTES + GENERATION_BYTES :].split(b":")[1:3]
    )
    return State(None, default, None, most)


def escaped(prefix: bytes) -> bytes:
    """A prefix as a pattern of SCAN that matches nothing else."""
    return re.sub(rb"([*?\[\]^\\])", rb"\\\1", prefix)


def info_of(told: bytes) -> dict[str, str]:
    """INFO's answer: lines of name:value, and headings."""
    lines = told.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and line[0] != "#")


def granted_ms(lifetime_ms: int | None, limits: State, jitter: float) -> int:
    """The lifetime of an entry for which a put asks that; 0: nothing is stored, `KEPT_LIFETIME`: as it is."""
    if lifetime_ms is None:
        lifetime_ms = limits.default_ttl_ms or NEVER_MS
    if lifetime_ms == NEVER_MS:
        return FOR_EVER_MS
    if lifetime_ms == KEPT_LIFETIME or not jitter:
        return lifetime_ms
    return max(min(lifetime_ms, 1), math.ceil(lifetime_ms * (1 - jitter * random())))
