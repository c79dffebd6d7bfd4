"""One write transaction on a store and its board: what it changes, and the order in which it says so.

Before the commit, the generation of every key that it changes is set to its own id. A reader that reads between the
two gets the old value and a generation that is newer than its snapshot, so it keeps nothing.
"""

from __future__ import annotations

import time
from fcntl import LOCK_UN, flock
from zlib import crc32

from sereno.cache import entry, expiries, policy, synced, tally
from sereno.cache.board import (
    ALLOCATED,
    GENERATION_MASK,
    HAND,
    LIMITS_AT,
    NEXT_SEQUENCE,
    SYNCED,
    TAIL,
    TALLY_AT,
    VISITED_MASK,
    Damaged,
)
from sereno.cache.order import circle, first, in_use
from sereno.cache.room import (
    LISTED_BYTES,
    PAGES_A_STEP,
    PAGES_A_WRITE,
    pages_of,
    pages_to_list,
)
from sereno.cache.store import (
    STATE_KEY,
    State,
    Store,
    pack_counters,
    pack_state,
    unpack_counters,
    unpack_state,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    Result = TypeVar("Result")


_expiry_of = entry.expiry_and_sequence
BOX_STEPS = 128
"""Slots that one box of the cleanup looks at: about half a millisecond."""

FEW = 32
"""Sequence numbers of a slot that are asked for one by one. An entry that stays while millions come and go makes them
many, most of them nobody's."""

_LARGEST_IN_A_LEAF = 1900
"""Bytes of a value from which on it may have pages of its own (LMDB: two nodes must fit into a page)."""


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
        self._room = store.room
        self._begin = store.begin
        self._entries, self._order, self._main = store.entries, store.order, store.main
        # The limits as they were read last, so that most transactions need not read them.
        self._state = State(None, None)
        self._state_at = -1

    def run(self, action: Callable[..., Result], *arguments: Any) -> Result:
        """`action(self, *arguments)` in a transaction, with room for one change of a value that fits into a leaf.

        Waits for those of other processes. What the action did is visible to all at once, or, when anything was
        raised before that, to nobody.

        Raises:
            CacheError: another process did not let go of the lock in time.
            OSError: the disk is full.
        """
        txn: Any = None
        try:
            self.board.lock_writers()
            txn = self._begin(self._entries, None, True)
            self._txn = txn
            words = self._words
            self.generation = generation = txn.id()
            if words[TAIL] + PAGES_A_WRITE > words[ALLOCATED]:
                self._room.take(PAGES_A_WRITE)
            else:
                words[TAIL] += PAGES_A_WRITE
                self._room.taken = PAGES_A_WRITE
            if words[SYNCED]:
                synced.unmark(self._store.directory, words)
            before = self._size, self._held_bytes = tally.committed(words, generation - 1)
            self.evictions = 0
            result = action(self, *arguments)
            # Also where a killed writer announced something else under the same id.
            if (self._size, self._held_bytes) != before or words[TALLY_AT] >= generation:
                tally.announce(words, generation, before, self._size, self._held_bytes)
            txn.commit()
            return result
        except BaseException:
            # A signal handler may raise after any call of C code and at the start of any Python function, also when
            # something was raised already. There is neither between here and the abort, which must not be missed: it
            # releases the lock that every writer of the machine waits for. After a commit it does nothing.
            if txn is not None:
                txn.abort()
            raise
        finally:
            # In C, for the same reason.
            flock(self.board.fd, LOCK_UN)

    # What is in the store

    def get(self, stored: bytes) -> bytes | None:
        record: bytes | None = self._txn.get(stored)
        return record

    def size(self) -> int:
        """Entries, counted by LMDB; the tally, should it ever say something else, follows."""
        self._size = int(self._txn.stat(self._entries)["entries"])
        return self._size

    def held_bytes(self) -> int:
        """What the keys and values of all entries take."""
        return self._held_bytes

    def state(self) -> State:
        """The cache's limits."""
        if self._words[LIMITS_AT] > self._state_at:
            self._state = unpack_state(self._txn.get(STATE_KEY, None, self._main))
            self._state_at = self.generation - 1
        return self._state

    def set_state(self, state: State) -> None:
        self._words[LIMITS_AT] = self.generation
        self._txn.put(STATE_KEY, pack_state(state), db=self._main)

    def set_limits(self, changes: dict[str, int | None]) -> None:
        """Changes limits by name and leaves the others."""
        self.set_state(self.state()._replace(**changes))

    def record(self, name: bytes) -> dict[str, int]:
        """See `Store.record`."""
        return unpack_counters(self._txn.get(name, None, self._main))

    def set_record(self, name: bytes, counters: dict[str, int]) -> None:
        self._txn.put(name, pack_counters(counters), db=self._main)

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(store key, record) from `start` on, as this transaction sees them."""
        cursor = self._txn.cursor(self._entries)
        if not cursor.set_range(start):
            return iter(())
        return iter(cursor.iternext(True, True))

    # Changes

    def touch(self, stored: bytes) -> None:
        """Makes every process ask the store again for the keys of this slot."""
        self._generations[crc32(stored) & GENERATION_MASK] = self.generation

    def reserve_steps(self, steps: int) -> int:
        """Before the first of many changes: room for them; how many of them there is room for, at least one.

        Raises:
            OSError: the disk is full.
        """
        return self._room.take_steps(steps)

    def _reserve_list(self, record: bytes) -> None:
        self._room.take_more(pages_to_list(pages_of(len(record))))

    def put(self, stored: bytes, key: str, value: bytes, expiry_ms: int, now_ms: int) -> None:
        """Stores an entry, evicting where `max_size` asks for it."""
        start = crc32(stored)
        self._generations[start & GENERATION_MASK] = self.generation
        txn = self._txn
        old = txn.get(stored)
        if len(value) > _LARGEST_IN_A_LEAF:
            self._room.take_more(pages_of(len(value)))
        if old is None:
            max_size = self.state()[0]
            if max_size is not None and self._size >= max_size:
                self._evict(1, now_ms)
                if self._size >= max_size:
                    # The limit was lowered, and whoever did it is still trimming or was killed. So the cache shrinks
                    # by one, not by all at once, which would take seconds and more pages than have blocks.
                    self._room.take_more(PAGES_A_STEP)
                    self._evict(1, now_ms)
            sequence = self._next_sequence(stored)
            record = entry.pack(stored, key, expiry_ms, sequence, value, start)
            self._size += 1
            self._held_bytes += entry.size_bytes(stored, len(record))
        else:
            if len(old) > LISTED_BYTES:
                self._reserve_list(old)
            sequence = entry.expiry_and_sequence(old)[1]
            record = entry.pack(stored, key, expiry_ms, sequence, value, start)
            self._held_bytes += len(record) - len(old)
        expiries.note(self._expiries, sequence, expiry_ms)
        txn.put(stored, record)

    def delete(self, stored: bytes, record: bytes | None = None) -> bool:
        """Removes an entry; False when there was none."""
        self._generations[crc32(stored) & GENERATION_MASK] = self.generation
        txn = self._txn
        if record is None:
            record = txn.get(stored)
            if record is None:
                return False
        if len(record) > LISTED_BYTES:
            self._reserve_list(record)
        self._size -= 1
        self._held_bytes -= entry.size_bytes(stored, len(record))
        txn.delete(stored)
        txn.delete(record[8:16][::-1], b"", self._order)
        return True

    def delete_expired(self, slots: list[int], now_ms: int, box_s: float) -> tuple[int, int, int]:
        """Removes what has expired in those slots of `sereno.cache.expiries`, for `box_s` seconds at most.

        Returns how many slots it looked at, how many entries it removed, and the bytes these held.
        """
        # `delete` in a loop, with everything at hand: a purge of 150,000 is mostly this.
        txn, order, words, generations = self._txn, self._order, self._expiries, self._generations
        generation, following = self.generation, self._words[NEXT_SEQUENCE]
        cursor = txn.cursor(order)
        oldest = first(cursor) or following
        size, held_bytes, looked_at = self._size, self._held_bytes, 0
        end_s = time.monotonic() + box_s
        steps = self.reserve_steps(min(len(slots), BOX_STEPS))
        smallest = size - steps
        for slot in slots[:steps]:
            earliest_ms, before = 0, size
            sequences = expiries.sequences(slot, oldest, following)
            for sequence in sequences if len(sequences) <= FEW else in_use(cursor, sequences):
                at = sequence.to_bytes(8, "big")
                stored = txn.get(at, None, order)
                if stored is None:
                    continue
                record = txn.get(stored)
                if record is None:
                    raise Damaged(f"sequence number {sequence} has no entry")
                expiry_ms = _expiry_of(record)[0]
                if expiry_ms > now_ms:
                    earliest_ms = min(expiry_ms, earliest_ms or expiry_ms)
                    continue
                if size == smallest:
                    break  # there is room for no more; the next box goes on with this slot
                if len(record) > LISTED_BYTES:
                    self._reserve_list(record)
                generations[crc32(stored) & GENERATION_MASK] = generation
                txn.delete(stored)
                txn.delete(at, b"", order)
                held_bytes -= entry.size_bytes(stored, len(record))
                size -= 1
            else:
                looked_at += 1
                # A word whose entries go waits for the next cleanup: this transaction may yet be killed.
                if size == before:
                    words[slot] = expiries.second(earliest_ms) if earliest_ms else 0
                if looked_at & 15 or time.monotonic() <= end_s:
                    continue
            break
        removed, freed_bytes = self._size - size, self._held_bytes - held_bytes
        self._size, self._held_bytes = size, held_bytes
        return looked_at, removed, freed_bytes

    def clear(self) -> None:
        """Removes every entry."""
        self._room.take(PAGES_A_WRITE + pages_to_list(self._store.used_pages()))
        self.board.forget_all(self.generation)
        self._txn.drop(self._entries, False)
        self._txn.drop(self._order, False)
        self._size = self._held_bytes = 0

    def trim(self, at_most: int, now_ms: int) -> int:
        """Evicts up to `at_most` entries that are above `max_size`; returns how many it evicted."""
        max_size = self.state().max_size
        above = 0 if max_size is None else self._size - max_size
        if above <= 0:
            return 0
        doomed = self.reserve_steps(min(above, at_most))
        self._evict(doomed, now_ms)
        return doomed

    def _next_sequence(self, stored: bytes) -> int:
        # The word goes first: killed in between, a number is lost. The other way round one would be given twice.
        header = self._words
        sequence = header[NEXT_SEQUENCE]
        header[NEXT_SEQUENCE] = sequence + 1
        self._visited[sequence & VISITED_MASK] = 0
        if not self._txn.put(sequence.to_bytes(8, "big"), stored, True, False, True, self._order):
            raise Damaged(f"sequence number {sequence} is in use already")
        return sequence

    def _evict(self, entries: int, now_ms: int) -> None:
        for _ in range(entries):
            try:
                sequence, stored = policy.choose(
                    circle(self._txn.cursor(self._order), self._words[HAND]),
                    self._visited,
                    VISITED_MASK,
                    self._is_expired_at(now_ms),
                )
            except LookupError:
                raise Damaged("entries that stand in no order") from None
            # After the newest comes the oldest, not the entry that is about to be stored.
            newest = sequence + 1 >= self._words[NEXT_SEQUENCE]
            self._words[HAND] = 0 if newest else sequence + 1
            if not self.delete(stored):
                raise Damaged(f"sequence number {sequence} has no entry")
            self.evictions += 1

    def _is_expired_at(self, now_ms: int) -> Callable[[bytes], bool]:
        get = self._txn.get

        def is_expired(stored: bytes) -> bool:
            record = get(stored)
            return record is None or entry.expiry_and_sequence(record)[0] <= now_ms

        return is_expired
