"""What `MetadataCache` does inside one transaction, for many entries.

Each function takes a store or a write transaction and values, so that `Session` can run it again on new files when the
old ones turn out to be damaged.
"""

from __future__ import annotations

import errno
import math
import os
from zlib import crc32

from sereno.cache import entry
from sereno.cache.board import (
    GENERATION_MASK,
    PREFIX_COUNT,
    PREFIXES_AT,
    REMEMBERED,
    VISITED_MASK,
    Board,
    Damaged,
)
from sereno.cache.clock import NEVER_MS
from sereno.cache.store import MARK_KEY, RESET_KEY, State, Store
from sereno.cache.write import Write
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_ENTRIES = 500
"""Entries in one transaction of a bulk operation: about 5 ms, so that nobody waits longer for the write lock."""

KEPT_LIFETIME = -1
"""As a lifetime: an entry that is there expires when it would have; a new one gets the cache's default."""


class Removed(NamedTuple):
    """Entries that were removed: all, and those that were alive; and where to go on."""

    entries: int
    live: int
    following: bytes | None = None


class Stored(NamedTuple):
    """Entries that were stored, and others that went for them; was what had been there as expected?"""

    entries: int
    evicted: int
    matched: bool = True


class Counted(NamedTuple):
    """Entries, what their keys and values take, what the file takes, the limits, and counters by name."""

    entries: int
    held_bytes: int
    file_bytes: int
    limits: State
    counters: dict[str, int]


class Version(NamedTuple):
    """A key at one moment; compared with itself later, it tells whether anything may have changed the key meanwhile.

    A change moves the generation of the key's slot, also where no entry is removed; so do a `clear` and files that are
    retired. An invalidation by prefix moves those of the entries that it finds, and the key may have none yet; so the
    board has the last `REMEMBERED` prefixes as well, each as one word: its CRC-32 and its length. Some 65,536th of the
    keys share a slot, and prefixes may share a word: then a change is seen that was none.
    """

    board: Board  # files that were closed since tell nothing of those that took their place
    generation: int
    prefixes: int


class Expectation:
    """The type of `ANYTHING` and `NOTHING`."""


ANYTHING, NOTHING = Expectation(), Expectation()
Expected = Expectation | bytes | Version

_LENGTH_MASK = (1 << 32) - 1
_COUNT_MASK = (1 << 63) - 1  # for a board whose word is damaged


def intact(stored: bytes, record: bytes) -> bytes:
    """The record, or Damaged when it is not what was stored under that key."""
    if entry.is_intact(stored, record):
        return record
    raise Damaged(f"the record of key {entry.printable(stored)} has a wrong checksum")


def read(store: Store, keys: list[bytes], now_ms: int, is_visit: bool) -> list[bytes | None]:
    """The texts of live entries, all from one snapshot."""
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


def live_keys(store: Store, start: bytes, now_ms: int) -> tuple[list[str], bytes | None]:
    """Live keys from a store key on, and where to go on; a key that stands twice as long as others does no harm."""
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


def version(store: Store, stored: bytes) -> Version:
    """How a key is now."""
    board = store.board
    generation = board.generations[crc32(stored) & GENERATION_MASK]
    return Version(board, generation, board.words[PREFIX_COUNT])


def counted(store: Store) -> Counted:
    """What there is, and the counters since the last reset."""
    counters = _since(store.board.totals(), store.record(RESET_KEY))
    file_bytes = os.fstat(store.data).st_size
    return Counted(store.size(), store.held_bytes(), file_bytes, store.state(), counters)


def counted_since_report(txn: Write) -> Counted:
    """`counted`, but the counters since the last one of these."""
    totals = txn.board.totals()
    counters = _since(totals, txn.record(MARK_KEY))
    txn.set_record(MARK_KEY, totals)
    return Counted(txn.size(), txn.held_bytes(), 0, txn.state(), counters)


def reset_counters(txn: Write) -> None:
    """Starts the counters of `counted` at 0."""
    txn.set_record(RESET_KEY, txn.board.totals())


def put_batch(
    txn: Write,
    puts: list[tuple[str, bytes, bytes]],
    lifetime_ms: int | None,
    now_ms: int,
    jitter: float,
) -> Stored:
    """Stores (key, store key, text), all with one lifetime."""
    if txn.reserve_steps(len(puts)) < len(puts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stored_count = 0
    for key, stored, text in puts:
        stored_count += put(txn, key, stored, text, lifetime_ms, now_ms, jitter, ANYTHING)[0]
    return Stored(stored_count, txn.evictions)


def put(
    txn: Write,
    key: str,
    stored: bytes,
    text: bytes,
    lifetime_ms: int | None,
    now_ms: int,
    jitter: float,
    expected: Expected,
) -> Stored:
    """Stores one entry, if what is there is as expected."""
    if expected is not ANYTHING and not _is_expected(txn, key, stored, now_ms, expected):
        return Stored(0, 0, False)
    if lifetime_ms == KEPT_LIFETIME:
        lifetime_ms = None
        kept = txn.get(stored)
        expiry_ms = 0 if kept is None else entry.expiry_and_sequence(kept)[0]
        if expiry_ms > now_ms:
            txn.put(stored, key, text, expiry_ms, now_ms)
            return Stored(1, txn.evictions)
    if lifetime_ms is None:
        lifetime_ms = txn.state()[1] or NEVER_MS
    if lifetime_ms == 0:
        txn.delete(stored)
        return Stored(0, 0)
    if lifetime_ms != NEVER_MS:
        lifetime_ms = now_ms + (_shortened(lifetime_ms, jitter) if jitter else lifetime_ms)
    txn.put(stored, key, text, lifetime_ms, now_ms)
    return Stored(1, txn.evictions)


def _shortened(lifetime_ms: int, jitter: float) -> int:
    from random import random

    return max(1, math.ceil(lifetime_ms * (1 - jitter * random())))


def _is_expected(txn: Write, key: str, stored: bytes, now_ms: int, expected: Expected) -> bool:
    if isinstance(expected, Version):
        board = txn.board
        return (
            board is expected.board
            and board.generations[crc32(stored) & GENERATION_MASK] == expected.generation
            and not _is_below(key, board.words, expected.prefixes)
        )
    record = txn.get(stored)
    if record is None or entry.expiry_and_sequence(record)[0] <= now_ms:
        return expected is NOTHING
    return expected is not NOTHING and entry.value_of(intact(stored, record)) == expected


def remove(txn: Write, stored: bytes, now_ms: int) -> Removed:
    """Removes one entry."""
    record = txn.get(stored)
    if record is None:
        txn.touch(stored)
        return Removed(0, 0)
    txn.delete(stored, record)
    return Removed(1, int(entry.expiry_and_sequence(record)[0] > now_ms))


def remove_prefix(txn: Write, prefix: bytes, start: bytes, now_ms: int) -> Removed:
    """Removes the entries from a store key on whose key begins with a prefix (UTF-8)."""
    words = txn.board.words
    count = words[PREFIX_COUNT]
    words[PREFIXES_AT + count % REMEMBERED] = _word(prefix)
    words[PREFIX_COUNT] = (count + 1) & _COUNT_MASK
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


def _is_below(key: str, words: memoryview, since: int) -> bool:
    """Was a prefix of `key` removed after the first `since` of all?"""
    count = words[PREFIX_COUNT]
    if count - since > REMEMBERED:
        return True
    whole = entry.utf8(key)
    for number in range(since, count):
        word = words[PREFIXES_AT + number % REMEMBERED]
        if _word(whole[: word & _LENGTH_MASK]) == word:
            return True
    return False


def _word(prefix: bytes) -> int:
    return crc32(prefix) << 32 | len(prefix)


def _since(totals: dict[str, int], then: dict[str, int]) -> dict[str, int]:
    return {name: max(0, count - then[name]) for name, count in totals.items()}
