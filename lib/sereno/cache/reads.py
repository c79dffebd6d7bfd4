"""The way of a read: what the process keeps, the board, the store. `MetadataCache` is a `Reader` with the rest.

This is where nanoseconds are counted. So the usual read stands here in one piece, with steps in full that have a
function of their own elsewhere (`entry.store_key`, `entry.intact`); whatever is not usual (files not open,
replaced or damaged, a long key, a wrong argument) leaves it and goes through `Session.reading`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from zlib import crc32

import lmdb

from sereno.cache import entry, place, reports
from sereno.cache.backend import Backend
from sereno.cache.board import (
    GENERATION_MASK,
    HITS,
    MISSES,
    NO_GENERATION,
    VISITED_MASK,
    unused_line,
)
from sereno.cache.clock import BOOTTIME, boottime_s
from sereno.cache.values import Superseded
from sereno.errors import CacheError, CacheUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from sereno.cache.fleet.level1 import Level1
    from sereno.cache.fleet.store import FleetStore
    from sereno.cache.level import Kept, Level
    from sereno.cache.session import Session
    from sereno.cache.store import Store

BREAK_EVEN = 0.44
"""Of the hits, those that the level must serve to be worth what it costs to keep the others (1.15 µs each)."""
FEWEST_KEPT = 2048
"""Values kept before the level is judged; as it fills, all that it has must have been kept twice."""
REST = 8
"""How many times as many reads as it was judged by a level that does not pay rests, before it is tried again."""

_crc32 = crc32
_INTACT, _HEADER_BYTES, _MAX_KEY_BYTES = entry.INTACT, entry.HEADER_BYTES, entry.MAX_KEY_BYTES
_unpack_header = entry.unpack_header
_nothing_kept: dict[str, Kept] = {}


class _Unusual(Exception):
    """This read is not for the short way."""


def _not_open() -> NoReturn:
    raise _Unusual


class _NoMarks:
    """The visited marks while no files are open: a read that was under way sets one nowhere."""

    def __getitem__(self, mark: int) -> int:
        return 1

    def __setitem__(self, mark: int, value: int) -> None:
        pass


class Reader(ABC):
    """Reads and counts; keeps what it read twice, as long as no write can have changed it.

    Its arguments are those of `MetadataCache`; `raises` is `errors="raise"`.
    """

    def __init__(
        self,
        backend: Backend | FleetStore,
        *,
        level_bytes: int,
        counts: bool,
        own_clock: Callable[[], float] | None,
        raises: bool,
    ) -> None:
        self._backend = backend
        self._session: Session | Level1 = backend.session
        self._counts = counts
        self._raises = raises
        self._has_own_clock = own_clock is not None
        # A clock of one's own says nothing about when the files have to be looked at again.
        self._check_at = self._session.check_at if own_clock is None else (math.inf,)
        self._clock: Callable[[int], float] = (
            boottime_s if own_clock is None else lambda _: own_clock()
        )
        self.level_bytes = level_bytes
        self._level: Level | None = None
        self._decode: Callable[[bytes], entry.Json] = entry.decode
        self._epoch_ms = 0
        self._is_prepared = False
        self.files_changed(None)
        self._session.add_user(self)

    def get(self, key: str, default: entry.Json = None) -> entry.Json:
        """The value, new at each call, or `default` on a miss or when it has expired.

        Raises:
            TypeError: `key` is not a str.
            CacheError: the cache cannot be used.
        """
        # Local names for what is called: CPython 3.11 looks an attribute of `self` up twice when it is called at once.
        kept_get, clock = self._kept_get, self._clock
        try:
            kept = kept_get(key)
            if kept is not None:
                text, until_s, generations, slot, generation, mark = kept
                if (
                    generations[slot] == generation
                    and until_s > clock(BOOTTIME) < self._check_at[0]
                ):
                    self._visited[mark] = 1
                    # One statement without a call, so CPython does not switch threads within it.
                    self._line[HITS] += 1
                    decode = self._decode
                    return decode(text)
            stored = key.encode()
            now_s = clock(BOOTTIME)
            if now_s >= self._check_at[0]:
                raise _Unusual  # before any lock of a process that this one was forked from
            start = _crc32(stored)
            slot = start & GENERATION_MASK
            # `with`, whose beginning no signal's handler can come into, as it could behind a call of `acquire`.
            with self._lock:
                # Noted before the snapshot is taken: a writer sets it before it commits.
                generations = self._generations
                generation = generations[slot]
                txn = self._begin()
                record = txn.get(stored)
                snapshot = txn.id() if self.level_bytes else -1
                txn.abort()
            if (
                generation == NO_GENERATION  # the files were retired
                or (
                    not 0 < len(stored) <= _MAX_KEY_BYTES
                    if record is None
                    else _crc32(record, start) != _INTACT
                )
            ):
                raise _Unusual
        except (_Unusual, KeyError, lmdb.Error, AttributeError, UnicodeEncodeError, TypeError):
            return self._get_the_long_way(key, default)
        if record is not None:
            expiry_ms, sequence, long_bytes = _unpack_header(record)
            until_s = (expiry_ms - self._epoch_ms) / 1000
            if until_s > now_s:
                text = record[_HEADER_BYTES + long_bytes : -4]
                mark = sequence & VISITED_MASK
                visited = self._visited
                if not visited[mark]:
                    visited[mark] = 1
                # Only what is read a second time is worth the cost of keeping.
                elif snapshot >= generation:
                    self._offer(key, (text, until_s, generations, slot, generation, mark))
                self._line[HITS] += 1
                return self._decode(text)
        self._line[MISSES] += 1
        return default

    def peek(self, key: str) -> entry.Json:
        """`get` that counts no request and marks nothing as visited."""
        text = self._text_or_miss(key)
        return None if text is None else entry.decode(text)

    def is_live(self, key: str) -> bool:
        """Is there a live entry? Counts as no request."""
        return self._text_or_miss(key) is not None

    def look_into(self, level: Level | None) -> None:
        """For a store whose level all of a process share: reads look there; None: nowhere."""
        self._kept_get = _nothing_kept.get
        if level is not None and self.level_bytes:
            self._kept_get = level.kept.get

    def files_changed(self, store: Store | Level1 | None) -> None:
        """For the session, which holds its lock: `store` is open now; None: the one that was is not any more."""
        self._is_prepared = False
        self._drop_level()
        # Of the level since it was judged last: values kept, hits that the store served, hits in all before.
        self._keeps = self._stored_hits = self._rests_until = self._hits_before = 0
        self._store = store
        self._lock = self._session.lock
        # The short way is open once `_prepare` has been there.
        self._begin: Callable[[], Any] = _not_open
        if store is None:
            self._generations: Any = {}
            self._visited: Any = _NoMarks()
            self._line = unused_line()
            return
        board = store.board
        self._generations, self._visited = board.generations, board.visited
        self._line = board.line if self._counts else unused_line()
        self._hits_before = self._line[HITS]
        self._epoch_ms = 0 if self._has_own_clock else board.epoch_ms()

    @abstractmethod
    def _prepare(self) -> None:
        """Opens the files where they are not open, and calls `_prepared`."""

    def _prepared(self) -> None:
        """Lets reads go the short way."""
        self._is_prepared = True
        self._decode = entry.decoder()
        with self._session.lock:
            if self._store is not None:
                self._begin = self._store.begin

    def _now_ms(self) -> int:
        return int(self._clock(BOOTTIME) * 1000) + self._epoch_ms

    def _text(self, key: str, *, is_visit: bool = False) -> bytes | None:
        """The text of a live entry; counts no request."""
        entry.store_key(key)  # a wrong one opens nothing
        self._prepare()
        return self._backend.fetch([key], self._now_ms(), is_visit=is_visit)[0]

    def _text_or_miss(self, key: str) -> bytes | None:
        try:
            return self._text(key)
        except CacheError as error:
            self._bear(error, is_read=True)
            return None

    def _bear(self, error: OSError, *, is_read: bool = False) -> None:
        """Raises what makes the cache unusable, or logs it where that is to be a miss. A server that does not answer is
        one for every read.

        Files that a newer sereno superseded are one anywhere, which the session logged; removals, `add`, `incr` and
        `pop` do not come here: nobody would notice that they did nothing.
        """
        path = self._session.path
        why = error if isinstance(error, CacheError) else place.refused(path, error)
        if isinstance(why, Superseded):
            return
        if self._raises and not (is_read and isinstance(why, CacheUnavailable)):
            raise why
        reports.warn(path, "%s; while that lasts, nothing is found and nothing stored", why)

    def _get_the_long_way(self, key: str, default: entry.Json) -> entry.Json:
        """`get` for every key and every state of the files; keeps nothing."""
        try:
            text = self._text(key, is_visit=True)
        except CacheError as error:
            self._bear(error, is_read=True)
            return default
        self._line[MISSES if text is None else HITS] += 1
        if text is None:
            return default
        value = entry.decode(text)
        self._decode = entry.decoder()
        return value

    def _offer(self, key: str, value: Kept) -> None:
        """Keeps a value. A full level takes one in four: what is read often comes in soon, what is not costs less."""
        level = self._level
        self._stored_hits += 1
        if self._stored_hits < self._rests_until or (
            self._stored_hits & 3 and level is not None and level.currsize > level.full_bytes
        ):
            return
        with self._session.lock:
            level = self._level
            if value[2] is not self._generations:
                return  # the files were replaced meanwhile
            if level is None:
                # The import takes as long as all else that a cleanup does, which keeps nothing.
                from sereno.cache.level import Level

                level = self._level = Level(self.level_bytes)
                self._kept_get = level.kept.get
            if len(value[0]) > level.full_bytes:
                return
            try:
                level.keep(key, value)
            except BaseException:
                # A signal's handler raised, anywhere: half of a change is worse than none of what was kept.
                self._drop_level()
                raise
            self._keeps += 1
            if FEWEST_KEPT < self._keeps > 2 * len(level.kept):
                self._judge()

    def _judge(self) -> None:
        """Lets the level rest where it serves too few of the hits."""
        hits = self._line[HITS]
        served = hits - self._hits_before - self._stored_hits
        if served < BREAK_EVEN * (served + self._stored_hits):
            self._rests_until = REST * self._stored_hits
            self._drop_level()
        else:
            self._rests_until = 0
        self._hits_before, self._keeps, self._stored_hits = hits, 0, 0

    def _drop_level(self) -> None:
        self._level = None
        self._kept_get = _nothing_kept.get
