"""What stands on the server, entries and epochs as bytes; and what it does with them in one step, as Lua.

A stored entry is 8 random bytes, a CRC-32 and the text. The random ones make each `put` differ from all others, so a
put may ask for exactly what it saw. Without text it is a mark: somebody computes the value of this key.

The epoch of a cache names the server's process and its time as a primary, the generation under which its entries stand,
and the limits: `digest of both (40) | generation (16) | : default_ttl_ms : max_value_bytes`. It is read with every
command, so that nobody goes on with a generation that is over.
"""

from __future__ import annotations

import math
import os
import re
from hashlib import sha1
from random import random
from zlib import crc32

from sereno.cache.clock import NEVER_MS
from sereno.cache.values import KEPT_LIFETIME, State

RUN_ID_BYTES, GENERATION_BYTES = 40, 16
EPOCH_BYTES = RUN_ID_BYTES + GENERATION_BYTES + len("::")
HEADER_BYTES = 12
FOR_EVER_MS = 30 * 86_400_000
"""A server evicts only what has a lifetime, so that nothing of its own goes with the entries."""


class Script:
    """A text, and the name under which a server knows it once it has run."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        # The protocol's own name for a script; nothing rests on it.
        self._name = sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def command(self, *arguments: bytes | int, keys: int = 1) -> tuple[bytes | int, ...]:
        """The command that runs it; the first `keys` of the arguments are keys."""
        return (b"EVALSHA", self._name, keys, *arguments)


# KEYS: epoch. ARGV: a new generation, limits. Another process than the one that wrote the epoch may have read an old
# file, or was a replica that had not heard of everything: what it has is not to be found any more. So may have been
# this one, in between: whenever it becomes a primary its replid is another.
EPOCH = Script("""
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
run = redis.sha1hex(run .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)'))
local kept = redis.pcall('GET', KEYS[1])
local head, limits = string.match(type(kept) == 'string' and kept or '', '^(%x+)(:%d*:%d*)$')
if head and #head == 56 and string.sub(head, 1, 40) == run then return kept end
local fresh = run .. ARGV[1] .. (limits or ARGV[2])
redis.call('SET', KEYS[1], fresh)
return fresh
""")

# KEYS: epoch. ARGV: what it was, what it shall be.
REPLACE = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
""")

# KEYS: entry. ARGV: what is expected ('nothing', 'text', 'entry'), which one; the new entry, its ms (0: none is stored,
# -1: it expires when what is there would).
PUT = Script("""
local there = redis.call('GET', KEYS[1])
local text = there and string.sub(there, 13) or ''
if ARGV[1] == 'nothing' and text ~= '' then return 0 end
if ARGV[1] == 'text' and text ~= ARGV[2] then return 0 end
if ARGV[1] == 'entry' and there ~= ARGV[2] then return 0 end
if ARGV[4] == '0' then redis.call('DEL', KEYS[1])
elseif ARGV[4] == '-1' then redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
else redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4]) end
return 1
""")

# KEYS: entries. Gives how many had a text.
UNLINK = Script("""
local live = 0
for _, key in ipairs(KEYS) do
  local bytes = redis.pcall('STRLEN', key)
  if type(bytes) == 'number' and bytes > 12 then live = live + 1 end
end
for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end
return live
""")

# KEYS: flight. ARGV: token, what to leave ('': nothing), for how many ms.
LAND = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""")

# KEYS: counters. ARGV: a name; then name and value of what the server counts. Notes all under the name; gives what was.
MARK = Script("""
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if not string.find(all[i], ':') then redis.call('HSET', KEYS[1], ARGV[1] .. ':' .. all[i], all[i + 1]) end
end
return all
""")

ALL = (EPOCH, REPLACE, PUT, UNLINK, LAND, MARK)


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
