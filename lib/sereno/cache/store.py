"""The store: entries in LMDB, and the transactions that change them.

Two named databases, `entries` (store key → record, see `entry`) and `order` (sequence number → store key, in the
order in which the entries came, for eviction), and three records beside them: the cache's limits and the bytes it
holds, the counters at the last reset, and the counters at the last reported cleanup.

Committed is committed: a process may be killed anywhere. `sync=False` leaves it to the kernel when pages reach the
disk, so a crash of the machine may lose or mix them: `opening` sees to that. `writemap` would be faster, but turns a
full disk into a SIGBUS.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from zlib import crc32

import lmdb

from sereno.cache import board as words
from sereno.cache import entry, policy
from sereno.cache.board import Board, Damaged
from sereno.errors import CacheError

MAP_BYTES = 1 << 35
"""Address space kept for the file, not disk space. Never changed while the file is shared: LMDB processes with
different ideas of it damage the file (py-lmdb#269)."""
MAX_READERS = 1024

_STATE = struct.Struct("<QQQ")
_COUNTERS = struct.Struct(f"<{len(words.COUNTERS)}Q")
_STATE_KEY, RESET_KEY, MARK_KEY = b"state", b"reset", b"mark"
_ENGINE = 0  # LMDB 0.9 and its file format, whatever LMDB_DEFAULT_LIB_VERSION says

# Errors of LMDB that mean that the file's content cannot be right.
_DAMAGE = (
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.InvalidError,
    lmdb.VersionMismatchError,
    lmdb.BadTxnError,
    lmdb.IncompatibleError,
    lmdb.CursorFullError,
    lmdb.PageFullError,
)


class State(NamedTuple):
    """What is stored with a cache besides its entries."""

    max_size: int | None
    default_ttl_ms: int | None
    held_bytes: int


class Store:
    """The open LMDB environment of one directory; one per process and directory, or LMDB's locks break.

    Raises:
        lmdb.Error: the environment cannot be opened.
    """

    def __init__(
        self, directory: str, board: Board, *, file_mode: int, map_bytes: int = MAP_BYTES
    ) -> None:
        self.directory = directory
        self.board = board
        self.env = lmdb.open(
            directory,
            map_size=map_bytes,
            max_dbs=2,
            max_readers=MAX_READERS,
            mode=file_mode,
            sync=False,
            metasync=False,
            readahead=False,
            lib_version=_ENGINE,
        )
        self.begin = self.env.begin
        # The limits as they were read last, so that most transactions need not unpack them.
        self.last_raw_state: bytes | None = None
        self.last_state = State(None, None, 0)
        self.entries: Any
        self.order: Any
        try:
            self.entries = self.env.open_db(b"entries", create=False)
            self.order = self.env.open_db(b"order", create=False)
        except lmdb.NotFoundError:
            self.entries = self.env.open_db(b"entries")
            self.order = self.env.open_db(b"order")

    def close(self) -> None:
        self.env.close()

    def state(self, _: None = None) -> State:
        with self.env.begin() as txn:
            return _unpack_state(txn.get(_STATE_KEY))

    def record(self, name: bytes) -> dict[str, int]:
        """One of the stored sets of counters (`RESET_KEY`, `MARK_KEY`); all 0 when never stored."""
        with self.env.begin() as txn:
            return _unpack_counters(txn.get(name))

    def size(self, _: None = None) -> int:
        with self.env.begin() as txn:
            return int(txn.stat(self.entries)["entries"])

    def last_transaction(self) -> int:
        return int(self.env.info()["last_txnid"])


class Write:
    """One write transaction on a store and its board; begins when it is made, and waits for those of others.

    Before the commit, the generation of every key that it changes is set to its own id. A reader that reads between
    the two gets the old value and a generation that is newer than its snapshot, so it keeps nothing.
    """

    __slots__ = (
        "_board",
        "_delta",
        "_entries",
        "_order",
        "_state",
        "_store",
        "_txn",
        "evictions",
        "generation",
    )

    def __init__(self, store: Store) -> None:
        self._store = store
        self._board = store.board
        self._entries, self._order = store.entries, store.order
        self._state: State | None = None
        self._delta = 0
        self.evictions = 0
        self._txn = store.env.begin(write=True)
        self.generation: int = self._txn.id()
        if self._board.words[words.SYNCED]:
            try:
                unmark_synced(store.directory, self._board)
            except BaseException:
                self._txn.abort()
                raise

    def commit(self) -> None:
        """Makes everything visible to all, at once."""
        if self._delta:
            max_size, default_ttl_ms, held_bytes = self.state()
            held_bytes = max(0, held_bytes + self._delta)
            self._txn.put(_STATE_KEY, _STATE.pack(max_size or 0, default_ttl_ms or 0, held_bytes))
        self._txn.commit()

    def abort(self) -> None:
        """Forgets everything."""
        self._txn.abort()

    def get(self, stored: bytes) -> bytes | None:
        record: bytes | None = self._txn.get(stored, None, self._entries)
        return record

    def size(self) -> int:
        return int(self._txn.stat(self._entries)["entries"])

    def state(self) -> State:
        if self._state is None:
            raw = self._txn.get(_STATE_KEY)
            if raw != self._store.last_raw_state:
                self._store.last_state = _unpack_state(raw)
                self._store.last_raw_state = raw
            self._state = self._store.last_state
        return self._state

    def set_state(self, state: State) -> None:
        self._state = state
        packed = _STATE.pack(state.max_size or 0, state.default_ttl_ms or 0, state.held_bytes)
        self._txn.put(_STATE_KEY, packed)

    def totals(self) -> dict[str, int]:
        """Every counter, summed over all processes."""
        return self._board.totals()

    def record(self, name: bytes) -> dict[str, int]:
        """See `Store.record`."""
        return _unpack_counters(self._txn.get(name))

    def set_record(self, name: bytes, counters: dict[str, int]) -> None:
        self._txn.put(name, _COUNTERS.pack(*(counters[counter] for counter in words.COUNTERS)))

    def touch(self, stored: bytes) -> None:
        """Makes every process ask the store again for the keys of this slot."""
        self._board.generations[crc32(stored) & words.GENERATION_MASK] = self.generation

    def put(self, stored: bytes, key: str, value: bytes, expiry_ms: int, now_ms: int) -> None:
        """Stores an entry, evicting where `max_size` asks for it."""
        start = crc32(stored)
        self._board.generations[start & words.GENERATION_MASK] = self.generation
        old = self._txn.get(stored, None, self._entries)
        if old is None:
            self._make_room(now_ms)
            sequence = self._next_sequence(stored)
            self._delta += entry.size_bytes(stored, 0)
            old_bytes = 0
        else:
            sequence = entry.expiry_and_sequence(old)[1]
            old_bytes = len(old)
        record = entry.pack(stored, key, expiry_ms, sequence, value, start)
        self._delta += len(record) - old_bytes
        self._txn.put(stored, record, True, True, False, self._entries)

    def delete(self, stored: bytes, record: bytes | None = None) -> int | None:
        """Removes an entry; returns the bytes it held, or None when there was none."""
        self.touch(stored)
        if record is None:
            record = self._txn.get(stored, None, self._entries)
            if record is None:
                return None
        held = entry.size_bytes(stored, len(record))
        self._delta -= held
        self._txn.delete(stored, b"", self._entries)
        self._txn.delete(entry.expiry_and_sequence(record)[1].to_bytes(8, "big"), b"", self._order)
        return held

    def delete_expired(self, keys: list[bytes], now_ms: int, box_s: float) -> tuple[int, int, int]:
        """Removes those of `keys` that are expired, for `box_s` seconds at most.

        Returns how many keys it looked at, how many entries it removed, and the bytes these held.
        """
        # `delete` in a loop, with everything at hand: a purge of 150,000 is mostly this.
        get, delete, unpack = self._txn.get, self._txn.delete, entry.expiry_and_sequence
        entries, order, generations = self._entries, self._order, self._board.generations
        generation, mask = self.generation, words.GENERATION_MASK
        end_s = time.monotonic() + box_s
        looked_at = removed = held_bytes = 0
        for stored in keys:
            looked_at += 1
            record = get(stored, None, entries)
            if record is not None:
                expiry_ms, sequence = unpack(record)
                if expiry_ms <= now_ms:
                    generations[crc32(stored) & mask] = generation
                    delete(stored, b"", entries)
                    delete(sequence.to_bytes(8, "big"), b"", order)
                    held_bytes += entry.size_bytes(stored, len(record))
                    removed += 1
            if not looked_at & 15 and time.monotonic() > end_s:
                break
        self._delta -= held_bytes
        return looked_at, removed, held_bytes

    def clear(self, _: None = None) -> None:
        """Removes every entry."""
        self._board.forget_all(self.generation)
        self._txn.drop(self._entries, False)
        self._txn.drop(self._order, False)
        self._delta = 0
        self.set_state(self.state()._replace(held_bytes=0))

    def scan(self, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(store key, record) from `start` on, as this transaction sees them."""
        cursor = self._txn.cursor(self._entries)
        if not cursor.set_range(start):
            return iter(())
        return iter(cursor.iternext(True, True))

    def trim(self, at_most: int, now_ms: int) -> int:
        """Evicts up to `at_most` entries that are above `max_size`; returns how many it evicted."""
        max_size = self.state().max_size
        above = 0 if max_size is None else self.size() - max_size
        for _ in range(min(above, at_most)):
            self._evict(now_ms)
        return max(0, min(above, at_most))

    def _make_room(self, now_ms: int) -> None:
        max_size = self.state().max_size
        if max_size is not None:
            for _ in range(self.size() - max_size + 1):
                self._evict(now_ms)

    def _next_sequence(self, stored: bytes) -> int:
        # The word goes first: killed in between, a number is lost. The other way round one would be given twice.
        header = self._board.words
        sequence = header[words.NEXT_SEQUENCE]
        header[words.NEXT_SEQUENCE] = sequence + 1
        self._board.visited[sequence & words.VISITED_MASK] = 0
        if not self._txn.put(sequence.to_bytes(8, "big"), stored, True, False, True, self._order):
            raise Damaged(f"sequence number {sequence} is in use already")
        return sequence

    def _evict(self, now_ms: int) -> None:
        visited, mask = self._board.visited, words.VISITED_MASK

        def clear(sequence: int) -> None:
            visited[sequence & mask] = 0

        def is_expired(stored: bytes) -> bool:
            record = self._txn.get(stored, None, self._entries)
            return record is None or entry.expiry_and_sequence(record)[0] <= now_ms

        try:
            sequence, stored = policy.choose(
                self._circle(), lambda number: bool(visited[number & mask]), clear, is_expired
            )
        except LookupError:
            raise Damaged("entries that stand in no order") from None
        self._board.words[words.HAND] = sequence + 1
        if self.delete(stored) is None:
            raise Damaged(f"sequence number {sequence} has no entry")
        self.evictions += 1

    def _circle(self) -> Iterator[tuple[int, bytes]]:
        cursor = self._txn.cursor(self._order)
        found = cursor.set_range(self._board.words[words.HAND].to_bytes(8, "big")) or cursor.first()
        while found:
            yield int.from_bytes(cursor.key(), "big"), cursor.value()
            found = cursor.next() or cursor.first()


def last_sequence(store: Store) -> int:
    """The largest sequence number in use, 0 when there is none."""
    with store.env.begin(store.order) as txn:
        cursor = txn.cursor()
        return int.from_bytes(cursor.key(), "big") if cursor.last() else 0


def synced_path(directory: str) -> str:
    """The file whose presence says that everything before it is on the disk."""
    return os.path.join(directory, "synced")


def unmark_synced(directory: str, board: Board) -> None:
    """Takes the mark of a clean end away, on the disk, before anything is written that may not reach it.

    Only the first write after a clean end pays for it. The caller is inside a write transaction.
    """
    try:
        os.unlink(synced_path(directory))
    except FileNotFoundError:
        pass
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    board.words[words.SYNCED] = 0


def translated(error: lmdb.Error, path: str) -> CacheError | Damaged:
    """An error of LMDB as one of ours."""
    if isinstance(error, _DAMAGE):
        return Damaged(str(error))
    hint = None
    number = getattr(error, "code", 0)
    if isinstance(error, lmdb.MapFullError):
        number = errno.ENOSPC
        hint = "set a max_size, or a shorter TTL, or clear the cache"
    elif isinstance(error, lmdb.ReadersFullError):
        number = errno.EAGAIN
        hint = f"at most {MAX_READERS} readers at once"
    elif number == errno.EIO and _is_full(path):
        number = errno.ENOSPC  # LMDB's name for a write that was cut short
    reason = os.strerror(number) if number > 0 else str(error)
    result = CacheError(f"cache {path}: {reason} ({error})", hint=hint)
    result.errno, result.filename = (number if number > 0 else errno.EIO), path
    return result


def _is_full(path: str) -> bool:
    try:
        disk = os.statvfs(path)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 1 << 20


def _unpack_state(raw: bytes | None) -> State:
    if raw is None or len(raw) != _STATE.size:
        raise Damaged("the record of the limits is missing")
    max_size, default_ttl_ms, held_bytes = _STATE.unpack(raw)
    return State(max_size or None, default_ttl_ms or None, held_bytes)


def _unpack_counters(raw: bytes | None) -> dict[str, int]:
    if raw is None or len(raw) != _COUNTERS.size:
        return dict.fromkeys(words.COUNTERS, 0)
    return dict(zip(words.COUNTERS, _COUNTERS.unpack(raw), strict=True))
