"""The way of a read: what the process keeps, the board, the store. `MetadataCache` is a `Reader` with the rest.

This is where nanoseconds are counted, so a few steps stand here in full that have a function of their own elsewhere
(`entry.store_key`, `operations.intact`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from zlib import crc32

import lmdb

from sereno.cache import codec, entry, operations
from sereno.cache.board import (
    GENERATION_MASK,
    HITS,
    MISSES,
    RETIRED,
    VISITED_MASK,
    Damaged,
    unused_line,
)
from sereno.cache.clock import BOOTTIME, boottime_s
from sereno.cache.session import Session
from sereno.cache.store import Store

if TYPE_CHECKING:
    from sereno.cache.level import Kept, Level

_crc32 = crc32
_INTACT, _HEADER_BYTES = entry.INTACT, entry.HEADER_BYTES
_unpack_header = entry.unpack_header


class _Nothing(dict[str, None]):
    """The process's own level before anything is kept."""

    def __missing__(self, key: str) -> None:
        return None


class Reader:
    """Reads and counts; keeps what it read twice, as long as no write can have changed it.

    Args:
        session: the open files.
        level_bytes: bound on what is kept, 0 for nothing.
        counts: count requests.
        own_clock: seconds since any fixed point; None: cache time.
    """

    def __init__(
        self,
        session: Session,
        *,
        level_bytes: int,
        counts: bool,
        own_clock: Callable[[], float] | None,
    ) -> None:
        self._session = session
        self._counts = counts
        self._has_own_clock = own_clock is not None
        self._clock: Callable[[int], float] = (
            boottime_s if own_clock is None else lambda _: own_clock()
        )
        self._level_bytes = level_bytes
        self._largest_kept = 0
        self._offered = 0
        self._level: Level | _Nothing = _Nothing()
        self._decode: Callable[[bytes], codec.Json] = codec.decode
        self._epoch_ms = 0
        self._is_prepared = False
        self.files_changed(None)
        session.add_user(self)

    def get(self, key: str, default: codec.Json = None) -> codec.Json:
        """The value, new at each call, or `default` on a miss or when it has expired.

        Raises:
            TypeError: `key` is not a str.
            CacheError: the cache cannot be used.
        """
        kept = self._level[key]
        if kept is not None:
            text, until_s, slot, generation, mark = kept
            if self._generations[slot] == generation and self._clock(BOOTTIME) < until_s:
                self._visited[mark] = 1
                if self._counts:
                    # One statement without a call, so CPython does not switch threads within it.
                    self._line[HITS] += 1
                return self._decode(text)
        found = self._get_stored(key)
        if self._counts:
            self._line[MISSES if found is None else HITS] += 1
        if found is None:
            return default
        return self._decode(found)

    def peek(self, key: str) -> codec.Json:
        """`get` that counts no request and marks nothing as visited."""
        text = self._peek_text(key)
        return None if text is None else codec.decode(text)

    def is_live(self, key: str) -> bool:
        """Is there a live entry? Counts as no request."""
        return self._peek_text(key) is not None

    def files_changed(self, store: Store | None) -> None:
        """For the session: its files were opened, closed or replaced."""
        self._is_prepared = False
        self._level.clear()
        self._store = store
        if store is None:
            self._line = self._generations = self._visited = self._words = unused_line()
            return
        board = store.board
        self._generations, self._visited, self._words = (
            board.generations,
            board.visited,
            board.words,
        )
        self._line = board.line if self._counts else unused_line()
        self._epoch_ms = 0 if self._has_own_clock else board.epoch_ms()

    def _prepare(self) -> None:
        """Opens the files where they are not open."""
        raise NotImplementedError

    def _now_ms(self) -> int:
        return int(self._clock(BOOTTIME) * 1000) + self._epoch_ms

    def _peek_text(self, key: str) -> bytes | None:
        stored = entry.store_key(key)
        self._prepare()
        return self._session.reading(operations.read_many, ([stored], self._now_ms()))[0]

    def _get_stored(self, key: str) -> bytes | None:
        """A live value's text from the store.

        The usual case in one go; whatever is not usual goes the long way through `Session.reading`.
        """
        session = self._session
        if not self._is_prepared:
            self._prepare()
        with session.lock:
            store = self._store
            if (
                store is not None
                and not self._words[RETIRED]
                and boottime_s(BOOTTIME) < session.check_at_s
            ):
                try:
                    return self._read(store, key)
                except (lmdb.Error, Damaged):
                    pass  # again, and with what has to be done about it
        return session.reading(self._read, key)

    def _read(self, store: Store, key: str) -> bytes | None:
        """`_get_stored` with the lock held; keeps the value when no write can have been missed.

        The generation is noted before the snapshot is taken: a writer sets it before it commits.
        """
        try:
            stored = key.encode()
        except (AttributeError, UnicodeEncodeError):
            stored = b""
        if type(stored) is not bytes or not 0 < len(stored) <= entry.MAX_KEY_BYTES:
            stored = entry.store_key(key)
        start = _crc32(stored)
        slot = start & GENERATION_MASK
        generation = self._generations[slot]
        txn = store.begin(store.entries)
        record = txn.get(stored)
        if record is None:
            txn.abort()
            return None
        snapshot = txn.id()
        txn.abort()
        if _crc32(record, start) != _INTACT:
            operations.intact(stored, record)
        expiry_ms, sequence, long_bytes = _unpack_header(record)
        until_s = (expiry_ms - self._epoch_ms) / 1000
        if until_s <= self._clock(BOOTTIME):
            return None
        text: bytes = record[_HEADER_BYTES + long_bytes : -4]
        mark = sequence & VISITED_MASK
        if self._visited[mark]:
            # Only what is read a second time is worth the cost of keeping.
            if snapshot >= generation and self._level_bytes and self._is_worth_keeping():
                self._keep(key, (text, until_s, slot, generation, mark))
        else:
            self._visited[mark] = 1
        return text

    def _is_worth_keeping(self) -> bool:
        """A full level takes one in four: what is read often comes in soon, what is not costs less."""
        level = self._level
        self._offered += 1
        return (
            not self._offered & 3
            or isinstance(level, _Nothing)
            or level.currsize < self._largest_kept
        )

    def _keep(self, key: str, kept: Kept) -> None:
        level = self._level
        if isinstance(level, _Nothing):
            # The import takes as long as all else that a cleanup does, which keeps nothing.
            from sereno.cache.level import OVERHEAD_BYTES, Level

            level = self._level = Level(self._level_bytes)
            self._largest_kept = self._level_bytes - 4 * OVERHEAD_BYTES
            self._decode = codec.decoder()
        if len(kept[0]) <= self._largest_kept:
            level[key] = kept
