"""`MetadataCache`: what a user of the cache sees."""

from __future__ import annotations

import math
import os

from sereno.cache import codec, entry, limits, operations, statistics
from sereno.cache.board import (
    EVICTIONS,
    EXPIRED_REMOVALS,
    HITS,
    INVALIDATIONS,
    MISSES,
    SETS,
)
from sereno.cache.codec import Json
from sereno.cache.limits import UNSET, Unset
from sereno.cache.mapping import CacheMapping
from sereno.cache.operations import BATCH_ENTRIES
from sereno.cache.place import default_path
from sereno.cache.session import session_for
from sereno.cache.store import Store
from sereno.cache.watch import Watch, remove_prefix
from sereno.cache.write import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import ParamSpec, TypeVar

    from sereno.cache.cleanup import CleanupReport, Swept
    from sereno.cache.memoize import Flight

    Parameters = ParamSpec("Parameters")
    Result = TypeVar("Result")
else:
    # For who evaluates annotations. `collections` itself is more than a run shall load.
    from _collections_abc import Callable, Iterable, Iterator, Mapping


class MetadataCache(CacheMapping):
    """A cache that every process of the machine shares which opens the same directory; it outlives them.

    Values are what JSON can hold. `set(key, None)` stores a null; `get` cannot tell it from a miss, `in` can.
    Objects on one directory, threads and forked children may use it at the same time. It is also a mutable mapping
    (`cache[key]`, `in`, `len`, iteration over live keys), so `cachetools.cached(cache=…)` works with it.

    Args:
        path: the directory that holds the cache's files; created when missing. None: `$SERENO_CACHE_DIR/<name>`, else
            `/var/cache/sereno/<name>` where the caller may use that, else `~/.cache/sereno/<name>`.
        max_size: at most that many entries; None: no limit. Stored with the cache; left out, what is stored holds
            (2000 for a new cache).
        default_ttl: seconds until an entry expires that was set without `ttl`; None: never. Stored likewise (3600).
        enable_stats: count this object's requests.
        name: the cache's name, and its directory's where `path` is None.
        ttl_jitter: each lifetime is shortened by a random share up to this (0 to 1), so that what was stored together
            does not expire together.
        level_bytes: bound on the values that this process keeps for itself; 0 switches that level off.
        clock: seconds since any fixed point, for tests; None: cache time, which nobody can set back.

    Raises:
        UsageError: an argument cannot be right. Nothing is opened before the first use.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        max_size: int | Unset | None = UNSET,
        default_ttl: float | Unset | None = UNSET,
        enable_stats: bool = True,
        name: str = "metadata",
        *,
        ttl_jitter: float = 0.0,
        level_bytes: int = 16 << 20,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.name = limits.checked_name(name)
        self._given_max_size = limits.checked_max_size(max_size)
        self._given_ttl_ms = limits.checked_default_ttl_ms(default_ttl)
        self._jitter = limits.checked_jitter(ttl_jitter)
        self._shorten = self._shortened if self._jitter else None
        self.path = default_path(name) if path is None else os.path.abspath(os.fspath(path))
        super().__init__(
            session_for(self.path), level_bytes=level_bytes, counts=enable_stats, own_clock=clock
        )

    # One entry

    def set(self, key: str, value: Json, ttl: float | None = None) -> None:
        """Stores `value`, evicting another entry where the cache is full.

        Args:
            key: text of any length.
            value: what JSON can hold.
            ttl: seconds; None: the cache's `default_ttl`. Not above 0: nothing is stored, and what was stored under
                the key is removed, for the caller has superseded it.

        Raises:
            TypeError: `value` is something else, or `key` is not a str; nothing was changed.
            CacheError: the cache cannot be written (errno and filename tell why); what it held stays readable.
        """
        self._put(operations.put_one, key, value, ttl)

    def invalidate(self, key: str) -> bool:
        """Removes an entry; True when there was a live one."""
        stored = entry.store_key(key)
        self._prepare()
        removed = self._session.written(operations.remove, (stored, self._now_ms()))
        self._count_removed(removed)
        return removed.live == 1

    # Many entries

    def get_many(self, keys: Iterable[str]) -> dict[str, Json]:
        """The values of those of `keys` that have one, as they were at one moment."""
        wanted = list(dict.fromkeys(keys))
        stored = [entry.store_key(key) for key in wanted]
        self._prepare()
        texts = self._session.reading(operations.read, (stored, self._now_ms(), True))
        found = {
            key: codec.decode(text)
            for key, text in zip(wanted, texts, strict=True)
            if text is not None
        }
        self._line[HITS] += len(found)
        self._line[MISSES] += len(wanted) - len(found)
        return found

    def set_many(self, values: Mapping[str, Json], ttl: float | None = None) -> None:
        """`set` for each of `values`, in transactions of 500; all are checked before the first is stored."""
        lifetime_ms = None if ttl is None else limits.ttl_ms(ttl)
        puts = [
            (key, entry.store_key(key), codec.encode(value), lifetime_ms)
            for key, value in values.items()
        ]
        self._prepare()
        for start in range(0, len(puts), BATCH_ENTRIES):
            batch = puts[start : start + BATCH_ENTRIES]
            stored, evictions = self._session.written(
                operations.put_batch, (batch, self._now_ms(), self._shorten)
            )
            self._line[SETS] += stored
            self._line[EVICTIONS] += evictions

    def invalidate_pattern(self, prefix: str) -> int:
        """Removes every key that starts with `prefix`; returns how many live entries that were.

        500 keys go in one transaction; what is set while more than that are removed may stay.
        """
        wanted = entry.utf8(prefix)
        start: bytes | None = wanted[: entry.KEPT_BYTES] or b"\0"
        self._prepare()
        session, live = self._session, 0
        while start is not None:
            removed = session.written(
                lambda write, argument: remove_prefix(session, write, argument),
                (wanted, start, self._now_ms()),
            )
            self._count_removed(removed)
            live += removed.live
            start = removed.following
        return live

    def clear(self) -> None:
        """Removes every entry, in one transaction. Limits and counters stay."""
        self._prepare()
        self._session.written(Write.clear, None)

    def live_keys(self) -> Iterator[str]:
        """The live keys, in the order of their UTF-8 bytes, read in short snapshots of 500."""
        self._prepare()
        start: bytes | None = b"\0"
        while start is not None:
            keys, start = self._session.reading(operations.live_keys, (start, self._now_ms()))
            yield from keys

    # Computed values

    def memoize(
        self,
        ttl: float | None = None,
        *,
        key: Callable[..., str] | None = None,
        wait_s: float = 30.0,
    ) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
        """A decorator that keeps a function's results, plain or async; one process at a time computes a key.

        The others wait for its value. `function.invalidate(*args)` forgets a result. An exception is not kept, nor a
        result whose key was invalidated, set or cleared while it was computed: that goes to its caller alone.

        Args:
            ttl: seconds; None: the cache's `default_ttl`.
            key: makes a text of the arguments; without it they must be what JSON can hold, and it makes no difference
                whether one is given by position, by name or as its default (the order of `**` arguments does).
            wait_s: after that many seconds of waiting for another's computation it is done here as well.

        Raises:
            TypeError: at a call, when the arguments or the result are not what JSON can hold.
        """
        from sereno.cache.memoize import memoize

        return lambda function: memoize(self, ttl, key, wait_s, function)

    def flight(self, key: str) -> Flight:
        """For `memoize`: the lock under which the value of `key` is computed."""
        from sereno.cache.memoize import Flight

        self._prepare()
        return Flight(self._session.lock_file(), key)

    def watch(self, key: str) -> Watch:
        """For `memoize`: notes how `key` is before its value is computed."""
        return Watch(self._session, key)

    def set_watched(self, watched: Watch, value: Json, ttl: float | None) -> None:
        """For `memoize`: `set`, unless something may have changed the key since it is watched."""
        self._put(watched.put_one, watched.key, value, ttl)

    # Cleanup, limits, statistics

    def cleanup(self) -> int:
        """Removes the expired entries; returns how many. Shows its progress on a terminal."""
        return self._sweep().entries

    def run_cleanup(self) -> CleanupReport:
        """Removes the expired entries and reports, with what was counted since the `run_cleanup` before.

        Raises:
            CacheError: the cleanup failed; the next report then counts from where this one would have.
        """
        self._prepare()
        before = self._session.reading(Store.size, None)
        swept = self._sweep()
        return self._session.written(statistics.report, (before, swept.entries, swept.held_bytes))

    @property
    def max_size(self) -> int | None:
        """The limit that is stored with the cache, in entries; None: no limit."""
        self._prepare()
        return self._session.reading(Store.state, None).max_size

    @property
    def default_ttl(self) -> int | float | None:
        """The default lifetime that is stored with the cache, in seconds; None: entries do not expire."""
        self._prepare()
        return limits.seconds(self._session.reading(Store.state, None).default_ttl_ms)

    def get_stats(self) -> dict[str, Json]:
        """Limits, size and the counters of all processes since the last `reset_stats`; JSON can hold it.

        `size` counts the stored entries, also expired ones that no cleanup has met yet; `memory_bytes` the bytes of
        their keys and values; `file_bytes` the file with its free pages. The rest has the names of the contract.
        """
        self._prepare()
        return {
            "name": self.name,
            "path": self.path,
            **self._session.reading(statistics.overview, None),
        }

    def reset_stats(self) -> None:
        """Starts all counters of `get_stats` at 0, for every process."""
        self._prepare()
        self._session.written(statistics.reset, None)

    def close(self) -> None:
        """Closes the files, for all objects of this process on this directory; the next use opens them again."""
        self._session.close()

    # Inside

    def _put(
        self, put_one: Callable[..., tuple[int, int]], key: str, value: Json, ttl: float | None
    ) -> None:
        put = (
            key,
            entry.store_key(key),
            codec.encode(value),
            None if ttl is None else limits.ttl_ms(ttl),
        )
        if not self._is_prepared:
            self._prepare()
        stored, evictions = self._session.written(put_one, (put, self._now_ms(), self._shorten))
        self._line[SETS] += stored
        if evictions:
            self._line[EVICTIONS] += evictions

    def _prepare(self) -> None:
        """Opens the files and, once for each time they are opened, stores the limits that were given."""
        if self._is_prepared:
            return
        self._session.reading(Store.state, None)
        statistics.store_limits(
            self._session,
            self._given_max_size,
            self._given_ttl_ms,
            self._now_ms,
            lambda entries: self._count(EVICTIONS, entries),
        )
        self._prepared()

    def _shortened(self, lifetime_ms: int) -> int:
        from random import random

        return max(1, math.ceil(lifetime_ms * (1 - self._jitter * random())))

    def _sweep(self) -> Swept:
        from sereno.cache.cleanup import TerminalProgress, remove_expired

        self._prepare()
        progress = TerminalProgress()
        try:
            return remove_expired(
                self._session,
                self._now_ms(),
                count=lambda entries: self._count(EXPIRED_REMOVALS, entries),
                progress=progress,
            )
        finally:
            progress.end()

    def _count_removed(self, removed: operations.Removed) -> None:
        self._line[INVALIDATIONS] += removed.live
        self._line[EXPIRED_REMOVALS] += removed.entries - removed.live

    def _count(self, counter: int, entries: int) -> None:
        self._line[counter] += entries
