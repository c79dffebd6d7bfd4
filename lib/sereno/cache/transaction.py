"""One write transaction: what it changes, in which order it says so, and what it evicts.

The law of a write, and whom each part is for:

1. the generation of every key that it changes is set to its own id, before the commit (`_supersede`): a reader between
   the two gets the old value and a generation that is newer than its snapshot, so it keeps nothing;
2. the second of an expiry stands on the board before the entry is there (`board.note`): no cleanup misses it;
3. the tally says what was and what will be (`board.announce`), before the commit: whoever is killed leaves a count
   that is right;
4. a mark of a clean end is gone from the disk before anything is written that may not reach it (`remove_mark`).

Which entry goes when the cache is full is told by SIEVE: Yazhuo Zhang, Juncheng Yang, Yao Yue, Ymir Vigfusson, K. V.
Rashmi: "SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024. A hand walks
from old to new; a visited entry loses its mark and stays where it is, the first unvisited one goes, and the hand stays
there for the next time. A read only sets a mark, so it costs no write to the order, as LRU's would. Two things are
added: an entry that has expired goes although it is visited, and the hand looks at no more than `PATIENCE` entries
before it takes the next.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from zlib import crc32

import lmdb

from sereno.cache import board, entry, locks
from sereno.cache.board import (
    GENERATION_MASK,
    HAND,
    LAST_WRITE,
    LIMITS_AT,
    NEXT_SEQUENCE,
    SYNCED,
    TALLY_AFTER,
    TALLY_AT,
    TALLY_BEFORE,
    VISITED_MASK,
    WRITING,
)
from sereno.cache.clock import NEVER_MS
from sereno.cache.directory import remove_mark
from sereno.cache.entry import MAX_KEY_BYTES, ORDER, Damaged, order_key
from sereno.cache.store import (
    MAP_BYTES,
    STATE_KEY,
    Store,
    is_full,
    pack_state,
    unpack_state,
)
from sereno.cache.values import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
    from typing import Any, TypeGuard, TypeVar

    Key = TypeVar("Key")
    Result = TypeVar("Result")

MOST_EVICTED = 32
"""Entries that one `put` evicts: a value that takes the place of many makes the cache too large for a while, and nobody
wait."""

PATIENCE = 256

FEW = 32
"""Sequence numbers of a slot that are asked for one by one. An entry that stays while millions come and go makes them
many, most of them nobody's."""

_EXCLUSIVE = LOCK_EX | LOCK_NB
_expiry_of = entry.expiry_and_sequence


class Transaction:
    """The write transactions of a store; one object for all, one after the other.

    Its other methods, and those of `Write`, are for the action that `run` runs. The caller sees to it that a process
    runs one at a time.
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

    def run(self, action: Callable[..., Result], arguments: tuple[Any, ...] = ()) -> Result:
        """`action(self, *arguments)` in a transaction.

        Waits for those of other processes. What the action did is visible to all at once, or, when anything was
        raised before that, to nobody. One that stores no entry has a reserve where the disk is full.
        """
        fd, line, words = self.board.fd, self.board.line, self._words
        has_reserve = False
        try:
            # LMDB has a lock for that too, which it waits for without an end. This one stands before it.
            try:
                flock(fd, _EXCLUSIVE)
            except BlockingIOError:
                locks.lock(fd, self._right)
            line[WRITING] = 1
            while True:
                txn: Any = None
                try:
                    self._txn = txn = self._begin(None, None, True)
                    self.generation = words[LAST_WRITE] = generation = txn.id()
                    if words[SYNCED]:
                        # Only the first write after a clean end pays for it.
                        remove_mark(self._store.directory)
                        words[SYNCED] = 0
                    # Also by a killed writer, who announced something else under the same id.
                    is_announced = words[TALLY_AT] >= generation
                    at = TALLY_BEFORE if is_announced else TALLY_AFTER
                    self._size, self._held_bytes = size, held_bytes = words[at], words[at + 1]
                    self.evictions = 0
                    self._stores = False
                    result = action(self, *arguments)
                    if is_announced or self._size != size or self._held_bytes != held_bytes:
                        board.announce(
                            words, generation, (size, held_bytes), self._size, self._held_bytes
                        )
                    txn.commit()
                    break
                except BaseException as error:
                    # A signal handler may raise after any call of C code and at the start of any Python function, also
                    # when something was raised already. There is neither between here and the abort, which must not be
                    # missed: it releases the lock that every writer of the machine waits for. After a commit it does
                    # nothing.
                    if txn is not None:
                        txn.abort()
                    if has_reserve or self._stores or not self._is_full(error):
                        raise
                has_reserve = True
                self._store.spend_reserve()
            if has_reserve:
                self._store.reserve()
            return result
        finally:
            line[WRITING] = 0
            # In C: a signal handler may raise at the start of any Python function.
            flock(fd, LOCK_UN)

    def state(self) -> State:
        """The cache's limits."""
        if self._words[LIMITS_AT] > self._state_at:
            self._state = state = unpack_state(self._txn.get(STATE_KEY))
            self._default_ms = state.default_ttl_ms or NEVER_MS
            # Up to these a `put` need not look at the limits one by one.
            most_bytes = state.max_bytes or MAP_BYTES
            self._small_bytes = min(state.max_value_bytes or MAP_BYTES, most_bytes - MAX_KEY_BYTES)
            self._roomy_size = state.max_size or MAP_BYTES
            self._roomy_bytes = min(most_bytes, self._store.roomy_bytes)
            self._state_at = self.generation - 1
        return self._state

    def set_state(self, state: State) -> None:
        self._words[LIMITS_AT] = self.generation
        self._txn.put(STATE_KEY, pack_state(state))

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

    def _make_room(self, entries: int, more: int, now_ms: int, spare: int) -> None:
        """Evicts until so many entries and bytes more are within the limits; never the entry with the number `spare`.

        A limit may have been lowered, and whoever did it is still trimming or was killed. So a `put` takes a few at
        most, and the cache shrinks with each.
        """
        state = self._state
        if self._store.is_nearly_full(self._held_bytes):
            # The map's size is a limit too, and removals need some of it.
            state = state.changed({"max_bytes": self._held_bytes})
        for _ in range(MOST_EVICTED if state.max_bytes is not None else 2):
            is_above = self._is_above(state, self._size + entries, self._held_bytes + more)
            if not (is_above and self._evict(now_ms, spare)):
                return

    def _take_sequence(self, sequence: int, stored: bytes) -> None:
        # The word goes first: killed in between, a number is lost. The other way round one would be given twice.
        self._words[NEXT_SEQUENCE] = sequence + 1
        self._visited[sequence & VISITED_MASK] = 0
        if not self._txn.put(order_key(ORDER, sequence), stored, True, False):
            raise Damaged(f"sequence number {sequence} is in use already")

    def _evict(self, now_ms: int, spare: int = 0) -> bool:
        """Evicts one entry; False where there is none but the spared one."""
        if self._size <= (1 if spare else 0):
            return False
        try:
            sequence, stored = choose(
                circle(self._txn.cursor(), self._words[HAND], spare),
                self._visited,
                VISITED_MASK,
                lambda stored: not is_live(self._txn.get(stored), now_ms),
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

    def _is_full(self, error: BaseException) -> bool:
        return isinstance(error, lmdb.Error) and is_full(error, self._store.directory.path)


def is_live(record: bytes | None, now_ms: int) -> TypeGuard[bytes]:
    return record is not None and bool(_expiry_of(record)[0] > now_ms)


def choose(
    circle: Iterable[tuple[int, Key]],
    visited: MutableSequence[int] | memoryview,
    mask: int,
    is_expired: Callable[[Key], bool],
) -> tuple[int, Key]:
    """The sequence number and key of the entry that has to go.

    Args:
        circle: (sequence number, key) from the hand on, to the newest, then from the oldest on, without end.
        visited: the marks, found by sequence number & `mask`: not 0 when the entry was read since it came or since
            the hand last passed. Those that are passed are cleared.
        is_expired: is the entry with that key dead already?

    Raises:
        LookupError: the circle is empty.
    """
    for steps, (sequence, key) in enumerate(circle):
        at = sequence & mask
        if not visited[at] or steps >= PATIENCE or is_expired(key):
            return sequence, key
        visited[at] = 0
    raise LookupError("nothing to evict")


def circle(cursor: Any, hand: int, spare: int) -> Iterator[tuple[int, bytes]]:
    """(sequence number, store key), all but `spare`'s, from `hand` on to the newest, then from the oldest on, without
    end."""
    found = cursor.set_range(order_key(ORDER, hand)) or cursor.set_range(ORDER)
    while found:
        sequence = sequence_of(cursor.key())
        if sequence != spare:
            yield sequence, cursor.value()
        found = cursor.next() or cursor.set_range(ORDER)


def in_use(cursor: Any, slot: int, first: int, following: int) -> Iterable[int]:
    """The sequence numbers of a slot of `board`, from `first` on to before `following`, that entries have; a few are
    given without looking."""
    if following <= board.SLOTS:
        return (slot,)
    sequences = range(first + (slot - first) % board.SLOTS, following, board.SLOTS)
    return sequences if len(sequences) <= FEW else _found(cursor, sequences)


def _found(cursor: Any, sequences: Sequence[int]) -> Iterator[int]:
    at, last = 0, len(sequences)
    while at < last and cursor.set_range(order_key(ORDER, sequences[at])):
        found = sequence_of(cursor.key())
        if found == sequences[at]:
            yield found
            at += 1
        else:
            at = bisect_left(sequences, found, at)


def sequence_of(order: bytes) -> int:
    return int.from_bytes(order[1:], "big")
