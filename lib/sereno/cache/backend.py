"""The seam between the class of the contract and what stores bytes: verbs in values.

`MetadataCache` knows keys, JSON text, lifetimes and counts; what is behind these verbs knows files, transactions and
locks. A store of another kind has the same verbs. No function is handed over to run inside a transaction: a condition
of a `put` is a value too.
"""

from __future__ import annotations

import errno
import sys
import time

from sereno.cache import board, entry
from sereno.cache.board import NEXT_SEQUENCE
from sereno.cache.clock import NEVER_MS
from sereno.cache.files import LOCK
from sereno.cache.locks import KeyLock
from sereno.cache.session import session_for
from sereno.cache.store import Store
from sereno.cache.transaction import MOST_EVICTED
from sereno.cache.values import ANYTHING, Stored, Swept
from sereno.cache.write import BATCH_ENTRIES, Write
from sereno.errors import CacheError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sereno.cache.values import Counted, Expected, Removed, State, Version

_PUT = Write.put_one
LISTED_KEYS = 500
"""Keys that are read from one snapshot."""
CHUNK_SLOTS = 1 << 14
BOX_S = 0.001
SMALLEST_PAUSE_S = 0.0002


class Backend:
    """The cache in one directory of this machine.

    Every verb opens the files where they are not open. It raises CacheError when the cache cannot be used, `Superseded`
    where a newer sereno has it.

    `now_ms` is cache time (`sereno.cache.clock`). A lifetime is in ms: None is the cache's default, 0 stores nothing
    and removes what was there, `KEPT_LIFETIME` leaves it as it is; `jitter` is the share by which one is shortened at
    most.
    """

    def __init__(self, path: str) -> None:
        self.session = session_for(path)
        self._written = self.session.written

    def fetch(
        self, keys: Sequence[str], now_ms: int, *, is_visit: bool = True
    ) -> list[bytes | None]:
        """The texts of live entries as of one moment, None for each that is missing; `is_visit` marks them as read."""
        return self.session.reading(Store.fetch, [*map(entry.store_key, keys)], now_ms, is_visit)

    def put(
        self,
        key: str,
        text: bytes,
        lifetime_ms: int | None,
        now_ms: int,
        *,
        jitter: float = 0.0,
        expected: Expected = ANYTHING,
    ) -> Stored:
        """Stores one entry, evicting where a limit asks for it, if what is there is what is `expected`."""
        stored = entry.store_key(key)
        done = self._written(_PUT, key, stored, text, lifetime_ms, now_ms, jitter, expected)
        if done[1] < MOST_EVICTED:
            return done
        return Stored(done.entries, done.evicted + sum(self._trimmed(now_ms)), done.matched)

    def put_many(
        self,
        items: Iterable[tuple[str, bytes]],
        lifetime_ms: int | None,
        now_ms: int,
        *,
        jitter: float = 0.0,
    ) -> Iterator[Stored]:
        """`put` of (key, text) without a condition, in as few transactions as keep others from waiting.

        Raises:
            TooLarge: one of them is; none was stored.
        """
        puts = [(key, entry.store_key(key), text) for key, text in items]
        limits = self.limits()
        for _, stored, text in puts:
            limits.check(stored, text)
        evicted = 0
        for start in range(0, len(puts), BATCH_ENTRIES):
            batch = puts[start : start + BATCH_ENTRIES]
            done = self._written(Write.put_many, batch, lifetime_ms, now_ms, jitter)
            evicted += done.evicted
            yield done
        if evicted >= MOST_EVICTED:
            yield Stored(0, sum(self._trimmed(now_ms)))

    def remove(self, key: str, now_ms: int) -> Removed:
        """Removes an entry; whoever read it before and begins to read again does not get it any more."""
        return self._written(Write.remove, entry.store_key(key), now_ms)

    def remove_prefix(self, prefix: str, now_ms: int) -> Iterator[Removed]:
        """Removes every key that starts with `prefix`, and what is being computed for such a key."""
        wanted = entry.utf8(prefix)
        start: bytes | None = wanted[: entry.KEPT_BYTES] or b"\0"
        while start is not None:
            removed = self._written(Write.remove_prefix, wanted, start, now_ms)
            yield removed
            start = removed.following

    def clear(self) -> None:
        """Removes every entry, in one transaction."""
        try:
            self._written(Write.clear)
        except CacheError as error:
            if error.errno != errno.ENOSPC:
                raise
            # What a small cache frees can be listed in the reserve; a large one goes by batches, which need less.
            for _ in self.remove_prefix("", NEVER_MS):
                pass

    def keys(self, start: bytes | None, now_ms: int) -> tuple[list[str], bytes | None]:
        """Some live keys in the order of their UTF-8 bytes, and where to go on; begins with None, ends with it."""
        return self.session.reading(Store.keys, start or b"\0", now_ms, LISTED_KEYS)

    def purge(self, now_ms: int, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[Swept]:
        """Removes what is expired at `now_ms`; gives each step after its commit.

        The board tells what may have expired; what really has is removed in write transactions boxed to about a
        millisecond. LMDB's write lock is not fair, so between two boxes this `sleep`s for as long as it held the lock;
        alone on the cache, it has nobody to wait for.
        """
        session = self.session
        threading = sys.modules.get("threading")
        shares = session.reading(lambda store: store.board.has_company()) or (
            threading is not None and threading.active_count() > 1
        )
        start, end = 0, session.reading(lambda store: min(store.words[NEXT_SEQUENCE], board.SLOTS))
        while start < end:
            stop = min(start + CHUNK_SLOTS, end)
            waiting = session.reading(Store.due, start, stop, now_ms)
            while waiting:
                done = self._written(Write.delete_expired, waiting, now_ms, BOX_S)
                hold_s = time.monotonic() - done.began_s
                waiting = waiting[done.looked_at :]
                yield Swept(done.entries, done.held_bytes, hold_s, stop - len(waiting))
                if shares:
                    sleep(max(hold_s, SMALLEST_PAUSE_S))
            start = stop
            yield Swept(0, 0, 0.0, stop)

    def version(self, key: str) -> Version:
        """How a key is now."""
        return self.session.reading(Store.version, entry.store_key(key))

    def lock(self, key: str, wait_s: float = 0.0) -> KeyLock:
        """The right to compute the value of a key: `try_to_take`, in the end `release`; others wait `wait_s` for it."""
        return KeyLock(self.session.path, LOCK, key)

    def limits(self) -> State:
        """The limits that are stored with the cache."""
        return self.session.reading(Store.state)

    def set_limits(self, changes: dict[str, int | None], now_ms: int) -> Iterator[int]:
        """Stores limits by the names of `State`; evicts what has no room in them, and gives how many, step by step."""
        limits = self.limits()
        if limits != limits.changed(changes):
            self._written(Write.set_limits, changes)
            yield from self._trimmed(now_ms)

    def counted(self) -> Counted:
        """Entries, bytes, limits, and the counters of all processes since `reset_counters`."""
        return self.session.reading(Store.counted)

    def counted_since_report(self) -> Counted:
        """`counted`, but the counters since the last call of this, by whichever process."""
        return self._written(Write.counted_since_report)

    def reset_counters(self) -> None:
        self._written(Write.reset_counters)

    def close(self) -> None:
        """Closes the files for all who use them in this process; the next verb opens them again."""
        self.session.close()

    def _trimmed(self, now_ms: int) -> Iterator[int]:
        """Evicts what is above the limits, in transactions for which nobody waits long."""
        while evicted := self._written(Write.trim, BATCH_ENTRIES, now_ms):
            yield evicted
