"""`MetadataCache`: what a user of the cache sees."""

from __future__ import annotations

import os

from sereno.cache import codec, entry, limits, statistics
from sereno.cache.backend import ANYTHING, Backend, Expected, Removed, Stored, Version
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
from sereno.cache.place import default_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import ParamSpec, TypeVar

    from sereno.cache.cleanup import CleanupReport
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
        self.path = default_path(name) if path is None else os.path.abspath(os.fspath(path))
        super().__init__(
            Backend(self.path), level_bytes=level_bytes, counts=enable_stats, own_clock=clock
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
        self._put(key, value, ttl)

    def invalidate(self, key: str) -> bool:
        """Removes an entry; True when there was a live one."""
        entry.store_key(key)  # a wrong one opens nothing
        self._prepare()
        removed = self._backend.remove(key, self._now_ms())
        self._count_removed(removed)
        return removed.live == 1

    # Many entries

    def get_many(self, keys: Iterable[str]) -> dict[str, Json]:
        """The values of those of `keys` that have one, as they were at one moment."""
        wanted = list(dict.fromkeys(keys))
        self._prepare()
        texts = self._backend.fetch(wanted, self._now_ms())
        found = {
            key: codec.decode(text)
            for key, text in zip(wanted, texts, strict=True)
            if text is not None
        }
        self._line[HITS] += len(found)
        self._line[MISSES] += len(wanted) - len(found)
        return found

    def set_many(self, values: Mapping[str, Json], ttl: float | None = None) -> None:
        """`set` for each of `values`, in several transactions; all are checked before the first is stored."""
        lifetime_ms = None if ttl is None else limits.ttl_ms(ttl)
        items = [(key, codec.encode(value)) for key, value in values.items()]
        self._prepare()
        for stored in self._backend.put_many(
            items, lifetime_ms, self._now_ms(), jitter=self._jitter
        ):
            self._count_stored(stored)

    def invalidate_pattern(self, prefix: str) -> int:
        """Removes every key that starts with `prefix`; returns how many live entries that were.

        It goes in several transactions; what is set meanwhile may stay.
        """
        self._prepare()
        live = 0
        for removed in self._backend.remove_prefix(prefix, self._now_ms()):
            self._count_removed(removed)
            live += removed.live
        return live

    def clear(self) -> None:
        """Removes every entry, in one transaction. Limits and counters stay."""
        self._prepare()
        self._backend.clear()

    def live_keys(self) -> Iterator[str]:
        """The live keys, in the order of their UTF-8 bytes, read in short snapshots."""
        self._prepare()
        keys, start = self._backend.keys(None, self._now_ms())
        yield from keys
        while start is not None:
            keys, start = self._backend.keys(start, self._now_ms())
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
        return Flight(self._backend.lock_file(), key)

    def version(self, key: str) -> Version:
        """For `memoize`: notes how `key` is before its value is computed."""
        return self._backend.version(key)

    def set_unchanged(self, version: Version, key: str, value: Json, ttl: float | None) -> None:
        """For `memoize`: `set`, unless something may have changed the key since that version."""
        self._put(key, value, ttl, version)

    # Cleanup, limits, statistics

    def cleanup(self) -> int:
        """Removes the expired entries; returns how many. Shows its progress on a terminal."""
        return self._sweep()[0]

    def run_cleanup(self) -> CleanupReport:
        """Removes the expired entries and reports, with what was counted since the `run_cleanup` before.

        Raises:
            CacheError: the cleanup failed; the next report then counts from where this one would have.
        """
        self._prepare()
        before = self._backend.counted().entries
        removed, freed_bytes = self._sweep()
        return statistics.report(self._backend.counted_since_report(), before, removed, freed_bytes)

    @property
    def max_size(self) -> int | None:
        """The limit that is stored with the cache, in entries; None: no limit."""
        self._prepare()
        return self._backend.limits().max_size

    @property
    def default_ttl(self) -> int | float | None:
        """The default lifetime that is stored with the cache, in seconds; None: entries do not expire."""
        self._prepare()
        return limits.seconds(self._backend.limits().default_ttl_ms)

    def get_stats(self) -> dict[str, Json]:
        """Limits, size and the counters of all processes since the last `reset_stats`; JSON can hold it.

        `size` counts the stored entries, also expired ones that no cleanup has met yet; `memory_bytes` the bytes of
        their keys and values; `file_bytes` the file with its free pages. The rest has the names of the contract.
        """
        self._prepare()
        return {
            "name": self.name,
            "path": self.path,
            **statistics.overview(self._backend.counted()),
        }

    def reset_stats(self) -> None:
        """Starts all counters of `get_stats` at 0, for every process."""
        self._prepare()
        self._backend.reset_counters()

    def close(self) -> None:
        """Closes the files, for all objects of this process on this directory; the next use opens them again."""
        self._backend.close()

    # Inside

    def _put(
        self, key: str, value: Json, ttl: float | None, expected: Expected = ANYTHING
    ) -> Stored:
        text = codec.encode(value)
        lifetime_ms = None if ttl is None else limits.ttl_ms(ttl)
        if not self._is_prepared:
            self._prepare()
        stored = self._backend.put(
            key, text, lifetime_ms, self._now_ms(), jitter=self._jitter, expected=expected
        )
        self._count_stored(stored)
        return stored

    def _prepare(self) -> None:
        """Opens the files and, once for each time they are opened, stores the limits that were given."""
        if self._is_prepared:
            return
        self._backend.limits()
        given = {"max_size": self._given_max_size, "default_ttl_ms": self._given_ttl_ms}
        changes = {name: value for name, value in given.items() if not isinstance(value, Unset)}
        for evicted in self._backend.set_limits(changes, self._now_ms()):
            self._line[EVICTIONS] += evicted
        self._prepared()

    def _sweep(self) -> tuple[int, int]:
        """Removes what has expired; how many entries, and the bytes of their keys and values."""
        from sereno.cache.cleanup import TerminalProgress

        self._prepare()
        progress = TerminalProgress()
        entries = held_bytes = 0
        try:
            for swept in self._backend.purge(self._now_ms()):
                self._line[EXPIRED_REMOVALS] += swept.entries
                entries += swept.entries
                held_bytes += swept.held_bytes
                progress(swept.looked_at, entries)
        finally:
            progress.end()
        return entries, held_bytes

    def _count_stored(self, stored: Stored) -> None:
        self._line[SETS] += stored.entries
        if stored.evicted:
            self._line[EVICTIONS] += stored.evicted

    def _count_removed(self, removed: Removed) -> None:
        self._line[INVALIDATIONS] += removed.live
        self._line[EXPIRED_REMOVALS] += removed.entries - removed.live
