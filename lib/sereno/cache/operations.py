"""What `MetadataCache` does inside one transaction, for many entries.

Each function takes a store or a write transaction and one argument, so that `Session` can run it again on new files
when the old ones turn out to be damaged.
"""

from __future__ import annotations

import errno
import os

from sereno.cache import entry
from sereno.cache.board import VISITED_MASK, Damaged
from sereno.cache.clock import NEVER_MS
from sereno.cache.store import Store
from sereno.cache.write import Write
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_ENTRIES = 500
"""Entries in one transaction of a bulk operation: about 5 ms, so that nobody waits longer for the write lock."""


Put = tuple[str, bytes, bytes, int | None]
"""An entry to store: key, store key, the value's text, lifetime in ms. The lifetime None is the cache's default, 0
stores nothing and removes what was there."""


class Removed(NamedTuple):
    """Entries that were removed: all, and those that were alive; and where to go on."""

    entries: int
    live: int
    following: bytes | None = None


def intact(stored: bytes, record: bytes) -> bytes:
    """The record, or Damaged when it is not what was stored under that key."""
    if entry.is_intact(stored, record):
        return record
    raise Damaged(f"the record of key {entry.printable(stored)} has a wrong checksum")


def read(store: Store, argument: tuple[list[bytes], int, bool]) -> list[bytes | None]:
    """The texts of live entries, all from one snapshot; whether they count as visited is the argument's last part."""
    keys, now_ms, is_visit = argument
    texts: list[bytes | None] = []
    with store.begin(store.entries) as txn:
        for stored in keys:
            text = None
            record = txn.get(stored)
            if record is not None:
                expiry_ms, sequence = entry.expiry_and_sequence(intact(stored, record))
                if expiry_ms > now_ms:
                    text = entry.value_of(record)
                    if is_visit:
                        store.board.visited[sequence & VISITED_MASK] = 1
            texts.append(text)
    return texts


def live_keys(store: Store, argument: tuple[bytes, int]) -> tuple[list[str], bytes | None]:
    """Live keys from a store key on, and where to go on; a key that stands twice as long as others does no harm."""
    start, now_ms = argument
    keys: list[str] = []
    with store.begin(store.entries) as txn:
        cursor = txn.cursor()
        if not cursor.set_range(start):
            return [], None
        for looked_at, (stored, record) in enumerate(cursor.iternext(True, True)):
            if looked_at == BATCH_ENTRIES:
                return keys, stored
            if entry.expiry_and_sequence(record)[0] > now_ms:
                keys.append(entry.key_text(stored, intact(stored, record)))
    return keys, None


def put_batch(
    txn: Write, argument: tuple[list[Put], int, Callable[[int], int] | None]
) -> tuple[int, int]:
    """Stores entries; returns how many it stored and how many went for them.

    `shorten` makes a lifetime in ms what it shall be in the end (jitter).
    """
    puts, now_ms, shorten = argument
    if txn.reserve_steps(len(puts)) < len(puts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stored_count = 0
    for put in puts:
        stored_count += _put(txn, *put, now_ms, shorten)
    return stored_count, txn.evictions


def put_one(txn: Write, argument: tuple[Put, int, Callable[[int], int] | None]) -> tuple[int, int]:
    """`put_batch` of one entry."""
    put, now_ms, shorten = argument
    return _put(txn, *put, now_ms, shorten), txn.evictions


def _put(
    txn: Write,
    key: str,
    stored: bytes,
    text: bytes,
    lifetime_ms: int | None,
    now_ms: int,
    shorten: Callable[[int], int] | None,
) -> int:
    if lifetime_ms is None:
        lifetime_ms = txn.state()[1] or NEVER_MS
    if lifetime_ms == 0:
        txn.delete(stored)
        return 0
    if lifetime_ms != NEVER_MS:
        lifetime_ms = now_ms + (lifetime_ms if shorten is None else shorten(lifetime_ms))
    txn.put(stored, key, text, lifetime_ms, now_ms)
    return 1


def remove(txn: Write, argument: tuple[bytes, int]) -> Removed:
    """Removes one entry."""
    stored, now_ms = argument
    record = txn.get(stored)
    if record is None:
        txn.touch(stored)
        return Removed(0, 0)
    txn.delete(stored, record)
    return Removed(1, int(entry.expiry_and_sequence(record)[0] > now_ms))


def remove_prefix(txn: Write, argument: tuple[bytes, bytes, int]) -> Removed:
    """Removes the entries from a store key on whose key begins with a prefix (UTF-8)."""
    prefix, start, now_ms = argument
    at_most = txn.reserve_steps(BATCH_ENTRIES)
    common = prefix[: entry.KEPT_BYTES]
    doomed = []
    following = None
    for looked_at, (stored, record) in enumerate(txn.scan(start)):
        if not stored.startswith(common):
            break
        if looked_at == at_most:
            following = stored
            break
        if entry.key_bytes(stored, record).startswith(prefix):
            doomed.append((stored, record))
    live = 0
    for stored, record in doomed:
        live += entry.expiry_and_sequence(record)[0] > now_ms
        txn.delete(stored, record)
    return Removed(len(doomed), live, following)
