"""One write transaction: what it changes, in which order it says so, and what it evicts.

The law of a write, and whom each part is for:

1. the generation of every key that it changes is set to its own id, before the commit (`_supersede`): a reader between
   the two gets the old value and a generation that is newer than its snapshot, so it keeps nothing;
2. the second of an expiry stands on the board before the entry is there (`board.note`): no cleanup misses
   it;
3. the tally says what was and what will be (`board.announce`), before the commit: whoever is killed leaves a count
   that is right;
4. a mark of a clean end is gone from the disk before anything is written that may not reach it (`sereno.cache.mark`).
"""

from __future__ import annotations

import math
import os
import time
from fcntl import LOCK_UN, flock
from zlib import crc32

import lmdb

from sereno.cache import board, entry, mark, order, waiting
from sereno.cache.board import (
    GENERATION_MASK,
    HAND,
    LAST_WRITE,
    LIMITS_AT,
    NEXT_SEQUENCE,
    RESERVE_IS_SPENT,
    SYNCED,
    TALLY_AT,
    VISITED_MASK,
    WRITING,
)
from sereno.cache.clock import NEVER_MS
from sereno.cache.entry import ORDER, Damaged, order_key
from sereno.cache.store import (
    MARK_KEY,
    RECORDS,
    RESET_KEY,
    STATE_KEY,
    Store,
    is_full,
    pack_counters,
    pack_state,
    since,
    unpack_counters,
    unpack_state,
)
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Result = TypeVar("Result")

BATCH_ENTRIES = 100
"""Entries in one transaction of a bulk operation: about 1 ms. In larger ones LMDB leaves so long a list of free pages
that each later write costs 1.6 times as much (27 µs after batches of 500, 17 after these)."""

BOX_SLOTS = 128
"""Slots that one box of the cleanup looks at: about half a millisecond."""

MOST_EVICTED = 32
"""Entries that one `put` evicts: a value that takes the place of many makes the cache too large for a while, and nobody
wait."""

_MERGE_KEY = b"\xfdmerge"
_expiry_of = entry.expiry_and_sequence


class Boxed(NamedTuple):
    """When it began, how many slots were looked at, how many entries were removed, and the bytes these held."""

    began_s: float
    looked_at: int
    entries: int
    held_bytes: int


class Write:
    """The write transactions of a store; one object for all, one after the other.

    Its other methods are for the action that `run` runs. The caller sees to it that a process runs one at a time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.board = store.board
        self._words = store.board.words
        self._generations = store.board.generations
        self._visited = store.board.visited
        self._expiries = store.board.expiries
        self._begin = store.begin
        self._right = f"cache {os.path.dirname(self.board.path)}: the right to write"
        # The limits as they were read last, so that most transactions need not read them.
        self._state: State
        self._state_at = -1
        self._stores = False

    def run(self, action: Callable[..., Result], *arguments: Any) -> Result:
        """`action(self, *arguments)` in a transaction.

        Waits for those of other processes. What the action did is visible to all at once, or, when anything was
        raised before that, to nobody. One that stores no entry has a reserve where the disk is full.

        Raises:
            CacheError: another process did not let go of the lock in time.
            lmdb.Error, OSError: it cannot be written.
        """
        try:
            # LMDB has a lock for that too, which it waits for without an end. This one stands before it.
            waiting.lock(self.board.fd, self._right)
            self.board.line[WRITING] = 1
            try:
                return self._transaction(action, arguments)
            except lmdb.Error as error:
                if self._stores or not is_full(error, self._store.directory.path):
                    raise
                self._store.spend_reserve()
            result = self._transaction(action, arguments)
            self._store.reserve()
            return result
        finally:
            self.board.line[WRITING] = 0
            # In C: a signal handler may raise at the start of any Python function.
            flock(self.board.fd, LOCK_UN)

    def _transaction(self, action: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
        txn: Any = None
        try:
            txn = self._begin(None, None, True)
            self._txn = txn
            words = self._words
            self.generation = words[LAST_WRITE] = generation = txn.id()
            if words[SYNCED]:
                mark.remove(self._store.directory, words)
            before = self._size, self._held_bytes = board.committed(words, generation - 1)
            self.evictions = 0
            self._stores = False
            result = action(self, *arguments)
            # Also where a killed writer announced something else under the same id.
            if (self._size, self._held_bytes) != before or words[TALLY_AT] >= generation:
                board.announce(words, generation, before, self._size, self._held_bytes)
            txn.commit()
            return result
        except BaseException:
            # A signal handler may raise after any call of C code and at the start of any Python function, also when
            # something was raised already. There is neither between here and the abort, which must not be missed: it
            # releases the lock that every writer of the machine waits for. After a commit it does nothing.
            if txn is not None:
                txn.abort()
            raise

    # Verbs, each the action of one transaction

    def put_many(
        self,
        puts: list[tuple[str, bytes, bytes]],
        lifetime_ms: int | None,
        now_ms: int,
        jitter: float,
    ) -> Stored:
        """Stores (key, store key, text), all with one lifetime."""
        count = 0
        for key, stored, text in puts:
            count += self.put_one(key, stored, text, lifetime_ms, now_ms, jitter, ANYTHING)[0]
        return Stored(count, self.evictions)

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
        """Stores one entry, if what is there is as expected."""
        if expected is not ANYTHING and not self._is_expected(key, stored, now_ms, expected):
            return Stored(0, 0, False)
        kept = self._live(stored, now_ms) if lifetime_ms == KEPT_LIFETIME else None
        if lifetime_ms is None or lifetime_ms == KEPT_LIFETIME:
            lifetime_ms = self.state()[1] or NEVER_MS
        if lifetime_ms == 0:
            self.delete(stored, self._txn.get(stored))
            return Stored(0, 0)
        if kept is not None:
            lifetime_ms = _expiry_of(kept)[0]
        elif lifetime_ms != NEVER_MS:
            lifetime_ms = now_ms + (_shortened(lifetime_ms, jitter) if jitter else lifetime_ms)
        self.put(stored, key, text, lifetime_ms, now_ms)
        return Stored(1, self.evictions)

    def remove(self, stored: bytes, now_ms: int) -> Removed:
        """Removes one entry."""
        record = self._txn.get(stored)
        # Also where there is none: there may be one in a snapshot, or about to be computed.
        if not self.delete(stored, record):
            return Removed(0, 0)
        return Removed(1, int(_expiry_of(record)[0] > now_ms))

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
        """Removes every entry."""
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
        # `delete` in a loop, with everything at hand: a purge of 150,000 is mostly this.
        txn, words, generations = self._txn, self._expiries, self._generations
        generation, following = self.generation, self._words[NEXT_SEQUENCE]
        cursor = txn.cursor()
        oldest = order.sequence_of(cursor.key()) if cursor.set_range(ORDER) else following
        size, held_bytes, looked_at = self._size, self._held_bytes, 0
        began_s = time.monotonic()
        for slot in slots[:BOX_SLOTS]:
            earliest_ms, before = 0, size
            sequences = board.sequences(slot, oldest, following)
            for sequence in order.in_use(cursor, sequences):
                at = order_key(ORDER, sequence)
                stored = txn.get(at)
                if stored is None:
                    continue
                record = txn.get(stored)
                if record is None:
                    raise Damaged(f"sequence number {sequence} has no entry")
                expiry_ms = _expiry_of(record)[0]
                if expiry_ms > now_ms:
                    earliest_ms = min(expiry_ms, earliest_ms or expiry_ms)
                    continue
                generations[crc32(stored) & GENERATION_MASK] = generation
                txn.delete(stored)
                txn.delete(at)
                held_bytes -= entry.size_bytes(stored, len(record))
                size -= 1
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

    def merge_free_pages(self) -> None:
        """Has LMDB put the list of its free pages in order, which many removals leave in as many pieces."""
        self._txn.put(_MERGE_KEY, bytes(1 << 20))
        self._txn.delete(_MERGE_KEY)

    def set_limits(self, changes: dict[str, int | None]) -> None:
        """Changes limits by name and leaves the others."""
        self.set_state(self.state().changed(changes))

    def counted_since_report(self) -> Counted:
        """What there is, and the counters since the last one of these."""
        totals = self.board.totals()
        counters = since(totals, unpack_counters(self._txn.get(MARK_KEY)))
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

    # Parts of them

    def state(self) -> State:
        """The cache's limits."""
        if self._words[LIMITS_AT] > self._state_at:
            self._state = unpack_state(self._txn.get(STATE_KEY))
            self._state_at = self.generation - 1
        return self._state

    def set_state(self, state: State) -> None:
        """Stores the limits."""
        self._words[LIMITS_AT] = self.generation
        self._txn.put(STATE_KEY, pack_state(state))

    def put(self, stored: bytes, key: str, value: bytes, expiry_ms: int, now_ms: int) -> None:
        """Stores an entry, evicting where the limits ask for it.

        Raises:
            TooLarge: it would not fit even alone; nothing was changed.
        """
        state = self.state()
        state.check(stored, value)
        self._stores = True
        if self._words[RESERVE_IS_SPENT]:
            self._store.leave_room_for_removals(self._txn, len(value))
        start = crc32(stored)
        self._supersede(stored, start)
        txn = self._txn
        old = txn.get(stored)
        if old is None:
            more = len(value) + entry.size_bytes(stored, entry.OVERHEAD_BYTES)
            self._make_room(state, 1, more, now_ms, 0)
            sequence = self._next_sequence(stored)
            record = entry.pack(stored, key, expiry_ms, sequence, value, start)
            self._size += 1
            self._held_bytes += entry.size_bytes(stored, len(record))
        else:
            sequence = _expiry_of(old)[1]
            record = entry.pack(stored, key, expiry_ms, sequence, value, start)
            more = len(record) - len(old)
            if more > 0:
                self._make_room(state, 0, more, now_ms, sequence)
            self._held_bytes += more
        board.note(self._expiries, sequence, expiry_ms)
        txn.put(stored, record)

    def delete(self, stored: bytes, record: bytes | None) -> bool:
        """Removes an entry; False when there was none."""
        self._supersede(stored, crc32(stored))
        if record is None:
            return False
        self._size -= 1
        self._held_bytes -= entry.size_bytes(stored, len(record))
        self._txn.delete(stored)
        self._txn.delete(ORDER + record[8:16][::-1])
        return True

    def _supersede(self, stored: bytes, start: int) -> None:
        """Makes what was read of a key, or is being computed for it, one of before.

        Its slot may have this generation already: of a transaction that was killed or changed nothing LMDB uses the id
        again. Who noted it in between would not see that it was set once more; the count of removals tells him.
        """
        slot = start & GENERATION_MASK
        if self._generations[slot] == self.generation:
            board.note_removal(
                self.board.words, stored[: entry.KEPT_BYTES] if stored != entry.EMPTY else b""
            )
        self._generations[slot] = self.generation

    def _is_above(self, state: State, size: int, held_bytes: int) -> bool:
        max_size, _, max_bytes, _ = state
        return (max_size is not None and size > max_size) or (
            max_bytes is not None and held_bytes > max_bytes
        )

    def _make_room(self, state: State, entries: int, more: int, now_ms: int, spare: int) -> None:
        """Evicts until so many entries and bytes more are within the limits; never the entry with the number `spare`.

        A limit may have been lowered, and whoever did it is still trimming or was killed. So a `put` takes a few at
        most, and the cache shrinks with each.
        """
        if self._store.is_nearly_full(self._held_bytes):
            # The map's size is a limit too, and removals need some of it.
            state = state.changed({"max_bytes": self._held_bytes})
        for _ in range(MOST_EVICTED if state.max_bytes is not None else 2):
            if not self._is_above(state, self._size + entries, self._held_bytes + more):
                return
            if not self._evict(now_ms, spare):
                return

    def _next_sequence(self, stored: bytes) -> int:
        # The word goes first: killed in between, a number is lost. The other way round one would be given twice.
        header = self._words
        sequence = header[NEXT_SEQUENCE]
        header[NEXT_SEQUENCE] = sequence + 1
        self._visited[sequence & VISITED_MASK] = 0
        if not self._txn.put(order_key(ORDER, sequence), stored, True, False):
            raise Damaged(f"sequence number {sequence} is in use already")
        return sequence

    def _evict(self, now_ms: int, spare: int = 0) -> bool:
        """Evicts one entry; False where there is none but the spared one."""
        if self._size <= (1 if spare else 0):
            return False
        try:
            circle = order.circle(self._txn.cursor(), self._words[HAND])
            sequence, stored = order.choose(
                (at for at in circle if at[0] != spare),
                self._visited,
                VISITED_MASK,
                lambda stored: self._live(stored, now_ms) is None,
            )
        except LookupError:
            raise Damaged("entries that stand in no order") from None
        # After the newest comes the oldest, not the entry that is about to be stored.
        newest = sequence + 1 >= self._words[NEXT_SEQUENCE]
        self._words[HAND] = 0 if newest else sequence + 1
        if not self.delete(stored, self._txn.get(stored)):
            raise Damaged(f"sequence number {sequence} has no entry")
        self.evictions += 1
        return True

    def _live(self, stored: bytes, now_ms: int) -> bytes | None:
        """The record of a live entry."""
        record: bytes | None = self._txn.get(stored)
        return None if record is None or _expiry_of(record)[0] <= now_ms else record

    def _is_expected(self, key: str, stored: bytes, now_ms: int, expected: Expected) -> bool:
        if isinstance(expected, Version):
            return (
                self.board is expected.files
                and self._generations[crc32(stored) & GENERATION_MASK] == expected.generation
                and not board.was_removed(self.board.words, entry.utf8(key), expected.removals)
            )
        record = self._live(stored, now_ms)
        if record is None or expected is NOTHING:
            return record is None and expected is NOTHING
        return entry.value_of(entry.intact(stored, record)) == expected


def _shortened(lifetime_ms: int, jitter: float) -> int:
    from random import random

    return max(1, math.ceil(lifetime_ms * (1 - jitter * random())))
