"""The verbs of the cache that write, each the action of one transaction (`sereno.cache.transaction`)."""

from __future__ import annotations

import math
import time
from zlib import crc32

from sereno.cache import board, entry
from sereno.cache.board import GENERATION_MASK, LIMITS_AT, NEXT_SEQUENCE, RESERVE_IS_SPENT
from sereno.cache.clock import NEVER_MS
from sereno.cache.entry import ORDER, Damaged, order_key
from sereno.cache.store import (
    MARK_KEY,
    RECORDS,
    RESET_KEY,
    pack_counters,
    since,
)
from sereno.cache.transaction import Transaction, in_use, is_live, sequence_of
from sereno.cache.values import (
    ANYTHING,
    KEPT_LIFETIME,
    NOTHING,
    Counted,
    Expected,
    Removed,
    State,
    Stored,
    Version,
)
from sereno.named_tuple import NamedTuple

BATCH_ENTRIES = 100
"""Entries in one transaction of a bulk operation: about 1 ms. In larger ones LMDB leaves so long a list of free pages
that each later write costs 1.6 times as much (27 µs after batches of 500, 17 after these)."""

BOX_SLOTS = 256
"""Slots that one box of the cleanup looks at: about half a millisecond; half as many take a sixth longer an entry."""

_ONE_STORED = Stored(1, 0)
_NOTHING_REMOVED, _ONE_REMOVED, _ONE_EXPIRED = Removed(0, 0), Removed(1, 1), Removed(1, 0)
_expiry_of = entry.expiry_and_sequence


class Boxed(NamedTuple):
    """When it began, how many slots were looked at, how many entries were removed, and the bytes these held."""

    began_s: float
    looked_at: int
    entries: int
    held_bytes: int


class Write(Transaction):
    """See its methods; for `Session.written`."""

    def put_many(
        self,
        puts: list[tuple[str, bytes, bytes]],
        lifetime_ms: int | None,
        now_ms: int,
        jitter: float,
    ) -> Stored:
        """Stores (key, store key, text), all with one lifetime."""
        done = [self.put_one(*put, lifetime_ms, now_ms, jitter, ANYTHING) for put in puts]
        return Stored(sum(each[0] for each in done), self.evictions)

    def put_one(
        self,
        key: str,
        stored: bytes,
        text: bytes,
        lifetime_ms: int | None,
        now_ms: int,
        jitter: float,
        expected: Expected,
    ) -> Stored:
        """Stores one entry, if what is there is as expected, evicting where the limits ask for it.

        Raises:
            TooLarge: it would not fit even alone.
        """
        words, txn = self._words, self._txn
        if words[LIMITS_AT] > self._state_at:
            self.state()
        old = txn.get(stored)
        if expected is not ANYTHING and not self._is_expected(key, stored, old, now_ms, expected):
            return Stored(0, 0, False)
        if lifetime_ms is None:
            lifetime_ms = self._default_ms
        if 0 < lifetime_ms < NEVER_MS and not jitter:
            expiry_ms = now_ms + lifetime_ms
        elif lifetime_ms:
            expiry_ms = self._expiry_ms(lifetime_ms, old, now_ms, jitter)
        else:
            self.delete(stored, old)
            return Stored(0, 0)
        text_bytes = len(text)
        if text_bytes > self._small_bytes:
            self._state.check(stored, text)
        self._stores = True
        if words[RESERVE_IS_SPENT]:
            self._store.leave_room_for_removals(txn, text_bytes)
        start = crc32(stored)
        self._supersede(stored, start)
        sequence = words[NEXT_SEQUENCE] if old is None else _expiry_of(old)[1]
        record = entry.pack(stored, key, expiry_ms, sequence, text, start)
        if old is None:
            entries, more, spare = 1, entry.size_bytes(stored, len(record)), 0
        else:
            entries, more, spare = 0, len(record) - len(old), sequence
        size, held_bytes = self._size + entries, self._held_bytes + more
        if more > 0 and (size > self._roomy_size or held_bytes > self._roomy_bytes):
            self._make_room(entries, more, now_ms, spare)
        if old is None:
            self._take_sequence(sequence, stored)
        self._size += entries
        self._held_bytes += more
        board.note(self._expiries, sequence, expiry_ms)
        txn.put(stored, record)
        return Stored(1, self.evictions, True) if self.evictions else _ONE_STORED

    def remove(self, stored: bytes, now_ms: int) -> Removed:
        record = self._txn.get(stored)
        # Also where there is none: there may be one in a snapshot, or about to be computed.
        if not self.delete(stored, record):
            return _NOTHING_REMOVED
        return _ONE_REMOVED if _expiry_of(record)[0] > now_ms else _ONE_EXPIRED

    def remove_prefix(self, prefix: bytes, start: bytes, now_ms: int) -> Removed:
        """Removes the entries from a store key on whose key begins with a prefix (UTF-8)."""
        board.note_removal(self.board.words, prefix)
        common = prefix[: entry.KEPT_BYTES]
        doomed = []
        following = None
        cursor = self._txn.cursor()
        found = cursor.iternext(True, True) if cursor.set_range(start) else ()
        for looked_at, (stored, record) in enumerate(found):
            if not stored.startswith(common) or stored > entry.EMPTY:
                break
            if looked_at == BATCH_ENTRIES:
                following = stored
                break
            if entry.key_bytes(stored, record).startswith(prefix):
                doomed.append((stored, record))
        live = 0
        for stored, record in doomed:
            live += _expiry_of(record)[0] > now_ms
            self.delete(stored, record)
        return Removed(len(doomed), live, following)

    def clear(self) -> None:
        self.board.forget_all(self.generation)
        board.note_removal(self.board.words, b"")
        txn = self._txn
        records = {name: txn.get(name) for name in RECORDS}
        txn.drop(self._store.env.open_db(None, txn), False)
        for name, record in records.items():
            txn.put(name, record)
        self._size = self._held_bytes = 0

    def delete_expired(self, slots: list[int], now_ms: int, box_s: float) -> Boxed:
        """Removes what has expired in those slots of `sereno.cache.board`, for `box_s` seconds at most."""
        # `delete` in a loop, with everything at hand: a purge of 150,000 is mostly this. By cursors, which have found
        # already what they are to delete.
        words, generations, generation = self._expiries, self._generations, self.generation
        cursor, places, entries = self._txn.cursor(), self._txn.cursor(), self._txn.cursor()
        following = self._words[NEXT_SEQUENCE]
        oldest = sequence_of(cursor.key()) if cursor.set_range(ORDER) else following
        size, held_bytes, looked_at = self._size, self._held_bytes, 0
        began_s = time.monotonic()
        for slot in slots[:BOX_SLOTS]:
            earliest_ms, before = 0, size
            for sequence in in_use(cursor, slot, oldest, following):
                if not places.set_key(order_key(ORDER, sequence)):
                    continue
                stored = places.value()
                if not entries.set_key(stored):
                    raise Damaged(f"sequence number {sequence} has no entry")
                record = entries.value()
                expiry_ms = _expiry_of(record)[0]
                if expiry_ms > now_ms:
                    earliest_ms = min(expiry_ms, earliest_ms or expiry_ms)
                    continue
                generations[crc32(stored) & GENERATION_MASK] = generation
                held_bytes -= entry.size_bytes(stored, len(record))
                size -= 1
                entries.delete()
                places.delete()
            looked_at += 1
            # A word whose entries go waits for the next cleanup: this transaction may yet be killed.
            if size == before:
                words[slot] = board.second(earliest_ms) if earliest_ms else 0
            if not looked_at & 15 and time.monotonic() > began_s + box_s:
                break
        removed, freed_bytes = self._size - size, self._held_bytes - held_bytes
        self._size, self._held_bytes = size, held_bytes
        return Boxed(began_s, looked_at, removed, freed_bytes)

    def trim(self, at_most: int, now_ms: int) -> int:
        """Evicts up to `at_most` entries that are above the limits; returns how many it evicted."""
        state = self.state()
        while self.evictions < at_most and self._is_above(state, self._size, self._held_bytes):
            self._evict(now_ms)
        return self.evictions

    def set_limits(self, changes: dict[str, int | None]) -> None:
        self.set_state(self.state().changed(changes))

    def counted_since_report(self) -> Counted:
        """What there is, and the counters since the last one of these."""
        totals = self.board.totals()
        counters = since(totals, self._txn.get(MARK_KEY))
        self._txn.put(MARK_KEY, pack_counters(totals))
        # Counted by LMDB; the tally, should it ever say something else, follows.
        self._size = self._store.entries_in(self._txn)
        return Counted(self._size, self._held_bytes, 0, self.state(), counters)

    def reset_counters(self) -> None:
        """Starts the counters of `Store.counted` at 0."""
        self._txn.put(RESET_KEY, pack_counters(self.board.totals()))

    def begin(self, state: State) -> None:
        """Stores the records of a new cache."""
        self.set_state(state)
        for name in (RESET_KEY, MARK_KEY):
            self._txn.put(name, b"")

    def _expiry_ms(self, lifetime_ms: int, old: bytes | None, now_ms: int, jitter: float) -> int:
        """When an entry expires that does so never, when it would have, or somewhat earlier than others."""
        if lifetime_ms == KEPT_LIFETIME:
            if is_live(old, now_ms):
                return int(_expiry_of(old)[0])
            lifetime_ms = self._default_ms
        if lifetime_ms == NEVER_MS:
            return NEVER_MS
        if jitter:
            from random import random

            lifetime_ms = max(1, math.ceil(lifetime_ms * (1 - jitter * random())))
        return now_ms + lifetime_ms

    def _is_expected(
        self, key: str, stored: bytes, record: bytes | None, now_ms: int, expected: Expected
    ) -> bool:
        if isinstance(expected, Version):
            return (
                self.board is expected.files
                and self._generations[crc32(stored) & GENERATION_MASK] == expected.generation
                and not board.was_removed(self._words, entry.utf8(key), expected.removals)
            )
        if not is_live(record, now_ms) or expected is NOTHING:
            return expected is NOTHING and not is_live(record, now_ms)
        return entry.value_of(entry.intact(stored, record)) == expected
