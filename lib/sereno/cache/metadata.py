"""`MetadataCache`: what a user of the cache sees."""

from __future__ import annotations

import math
import os

from sereno.cache import entry, place, reports
from sereno.cache.backend import Backend
from sereno.cache.board import EVICTIONS, EXPIRED_REMOVALS, HITS, INVALIDATIONS, MISSES, SETS
from sereno.cache.clock import BOOTTIME
from sereno.cache.entry import Json
from sereno.cache.mapping import CacheMapping
from sereno.cache.reports import UNSET, Seconds, Unset, checked_type
from sereno.cache.values import ANYTHING, KEPT_LIFETIME, NOTHING
from sereno.errors import CacheError, UsageError
from sereno.setting_names import CACHE_URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, ParamSpec, Self, TypeVar

    from sereno.cache.fleet.store import FleetStore
    from sereno.cache.values import Expected, Removed, Stored

    Parameters = ParamSpec("Parameters")
    Result = TypeVar("Result")
else:
    # For who evaluates annotations. `collections` itself is more than a run shall load.
    from _collections_abc import Callable, Iterable, Mapping


class MetadataCache(CacheMapping):
    """A cache that every process of the machine shares which opens the same directory; it outlives them.

    Values are what JSON can hold. `set(key, None)` stores a null; `get` cannot tell it from a miss, `in` can.
    Objects on one directory, threads and forked children may use it at the same time; a copy, and what is unpickled in
    another process, is on the same directory. It is also a mutable mapping (`cache[key]`, `in`, `items()` and so on),
    so `cachetools.cached(cache=…)` works with it. `with` closes it.

    Wrong arguments of any method are a TypeError or a UsageError, which is a ValueError; then nothing was changed.

    Args:
        path: the directory that holds the cache's files; created when missing, `~` is the user's home. None: the
            server that `SERENO_CACHE_URL` names, or the credential `sereno_cache_url`; else
            `$SERENO_CACHE_DIR/<name>`, else `/var/cache/sereno/<name>` where the caller may use that, else
            `~/.cache/sereno/<name>`.
        max_size: at most that many entries; None: no limit. Stored with the cache; left out, what is stored holds
            (2000 for a new cache).
        default_ttl: seconds, or a timedelta, until an entry expires that was set without `ttl`; None: never. Stored
            likewise (3600).
        enable_stats: count this object's requests.
        name: the cache's name, and its directory's where `path` is None.
        max_bytes: at most that many bytes of keys and values in all; None: no limit. Stored likewise (None).
        max_value_bytes: a larger value, as JSON text, is refused; None: no limit. Stored likewise (64 MiB).
        errors: "raise"; or "miss": while the cache cannot be used, nothing is found and `set` stores nothing, which is
            logged once a minute. What must not go unnoticed still raises: `invalidate`, `clear`, `add`, `incr`, `pop`.
            So it is in any case, and logged once, where a newer sereno has the cache.
        ttl_jitter: each lifetime is shortened by a random share up to this (0 to 1), so that what was stored together
            does not expire together.
        level_bytes: bound on the values that this process keeps for itself; 0 switches that level off.
        clock: seconds since any fixed point, for tests; None: cache time, which nobody can set back.

    Raises:
        TypeError, UsageError: an argument cannot be right. Nothing is opened before the first use.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        max_size: int | Unset | None = UNSET,
        default_ttl: Seconds | Unset | None = UNSET,
        enable_stats: bool = True,
        name: str = "metadata",
        *,
        max_bytes: int | Unset | None = UNSET,
        max_value_bytes: int | Unset | None = UNSET,
        errors: str = "raise",
        ttl_jitter: float = 0.0,
        level_bytes: int = 16 << 20,
        clock: Callable[[], float] | None = None,
    ) -> None:
        again = {
            argument: value
            for argument, value in locals().items()
            if argument not in ("self", "__class__") and not isinstance(value, Unset)
        }
        self.name = reports.checked_name(name)
        given = {
            "max_size": reports.checked_limit("max_size", max_size, "entries"),
            "max_bytes": reports.checked_limit("max_bytes", max_bytes, "bytes"),
            "max_value_bytes": reports.checked_limit("max_value_bytes", max_value_bytes, "bytes"),
            "default_ttl_ms": reports.checked_default_ttl_ms(default_ttl),
        }
        self._given = {each: limit for each, limit in given.items() if not isinstance(limit, Unset)}
        if not (isinstance(errors, str) and errors in ("raise", "miss")):
            raise reports.refused("errors", errors, "'raise' or 'miss'")
        share = "a number from 0 to 1 (share of the TTL)"
        self._jitter = reports.checked_number("ttl_jitter", ttl_jitter, share, 1)
        reports.checked_count("level_bytes", level_bytes, "an int of at least 0 (bytes)", 0)
        checked_type("enable_stats", enable_stats, bool, "True or False")
        checked_type("clock", clock, Callable | None, "None or a function")
        backend: Backend | FleetStore
        if path is None and (url := place.server_url()):
            from sereno.cache.fleet.stores import store_for

            backend = store_for(url, name)
            backend.check(again)
            self.path, self._again = backend.path, again | {"server": backend.path}
        else:
            if path is None:
                self.path = place.default_path(name)
                reports.warn_of_a_private_one(self.path)
            else:
                self.path = reports.checked_path(path)
            backend, self._again = Backend(self.path), again | {"path": self.path}
        super().__init__(
            backend,
            level_bytes=level_bytes,
            counts=enable_stats,
            own_clock=clock,
            raises=errors == "raise",
        )

    def __getstate__(self) -> dict[str, Any]:
        return self._again

    def __setstate__(self, again: dict[str, Any]) -> None:
        again = {**again}  # a copy's is that of its original
        server = again.pop("server", None)
        # Not that of a class below, which may take other arguments.
        MetadataCache.__init__(self, **again)
        if server not in (None, self.path):
            raise UsageError(f"{CACHE_URL}: this process has the cache {self.path}, not {server}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # One entry

    def set(self, key: str, value: Json, ttl: Seconds | None = None) -> None:
        """Stores `value`, evicting another entry where the cache is full.

        Args:
            key: text of any length.
            value: what JSON can hold.
            ttl: seconds; None: the cache's `default_ttl`. Not above 0: nothing is stored, and what was stored under
                the key is removed, for the caller has superseded it.

        Raises:
            TypeError: `value` is something else, or `key` is not a str; nothing was changed.
            UsageError: `value` is larger than `max_value_bytes` or `max_bytes`; nothing was changed.
            CacheError: the cache cannot be written (errno and filename tell why); what it held stays readable.
        """
        text = entry.encode(value)
        lifetime_ms = None if ttl is None else reports.ttl_ms(ttl)
        try:
            self._put(key, text, lifetime_ms)
        except CacheError as error:
            self._bear(error)

    def add(self, key: str, value: Json, ttl: Seconds | None = None) -> bool:
        """`set` where there is no live entry; True when it stored. Of many processes that do so one stores."""
        return self._put(key, entry.encode(value), reports.ttl_ms(ttl), NOTHING).entries == 1

    def incr(self, key: str, by: int = 1, ttl: Seconds | None = None) -> int:
        """Adds `by` to the int under `key`, or to 0 where there is none, and returns the sum; exact over all processes.

        `ttl` is that of a new entry; one that is there expires when it would have.

        Raises:
            TypeError: what is there is no int; nothing was changed.
        """
        new_ms = reports.ttl_ms(ttl)
        by = reports.checked_count("by", by, "an int", -(1 << 63))
        while True:
            there = self._text(key)
            before = 0 if there is None else entry.decode(there)
            if type(before) is not int:
                raise TypeError(
                    f"key: {entry.short(key)} has {entry.short(before)} of type"
                    f" {type(before).__qualname__}, an int is needed"
                )
            text = entry.encode(before + by, f"{key} + {by}")
            how = (new_ms, NOTHING) if there is None else (KEPT_LIFETIME, there)
            if self._put(key, text, *how).matched:
                return before + by

    def invalidate(self, key: str) -> bool:
        """Removes an entry; True when there was a live one."""
        if not self._is_prepared:
            entry.store_key(key)  # a wrong one opens nothing
            self._prepare()
        removed = self._backend.remove(key, self._now_ms())
        self._count_removed(removed)
        return removed[1] == 1

    # Many entries

    def get_many(self, keys: Iterable[str]) -> dict[str, Json]:
        """The values of those of `keys` that have one, as they were at one moment."""
        kind = () if isinstance(keys, str | bytes) else Iterable
        checked_type("keys", keys, kind, "an iterable of str, a list for instance,")
        wanted = list({entry.store_key(key): key for key in keys}.values())
        try:
            self._prepare()
            texts = self._backend.fetch(wanted, self._now_ms())
        except CacheError as error:
            self._bear(error, is_read=True)
            return {}
        found = {
            key: entry.decode(text)
            for key, text in zip(wanted, texts, strict=True)
            if text is not None
        }
        self._line[HITS] += len(found)
        self._line[MISSES] += len(wanted) - len(found)
        return found

    def set_many(self, values: Mapping[str, Json], ttl: Seconds | None = None) -> None:
        """`set` for each of `values`, in several transactions; all are checked before the first is stored."""
        checked_type("values", values, Mapping, "a mapping of str to values")
        lifetime_ms = reports.ttl_ms(ttl)
        items = [(key, entry.encode(value)) for key, value in values.items()]
        try:
            self._prepare()
            for stored in self._backend.put_many(
                items, lifetime_ms, self._now_ms(), jitter=self._jitter
            ):
                self._line[SETS] += stored.entries
                self._line[EVICTIONS] += stored.evicted
        except CacheError as error:
            self._bear(error)

    def invalidate_pattern(self, prefix: str) -> int:
        """Removes every key that starts with `prefix`; returns how many live entries that were.

        It goes in several transactions; what is set meanwhile may stay. `*` and `?` stand for themselves, which a
        UserWarning says when no key was found.
        """
        checked_type("prefix", prefix, str, "a str, with which the keys begin,")
        self._prepare()
        entries = live = 0
        for removed in self._backend.remove_prefix(prefix, self._now_ms()):
            self._count_removed(removed)
            entries += removed.entries
            live += removed.live
        if not entries and ("*" in prefix or prefix.endswith("?")):
            import warnings

            warnings.warn(
                f"invalidate_pattern: no key starts with {prefix!r}; it is a prefix, in which * and ? are no wildcards:"
                f" {prefix.rstrip('*?')!r} takes all that starts so",
                stacklevel=2,
            )
        return live

    def clear(self) -> None:
        """Removes every entry, in one transaction. Limits and counters stay."""
        self._prepare()
        self._backend.clear()

    # Computed values

    def memoize(
        self,
        ttl: Seconds | None = None,
        *,
        key: Callable[..., str] | None = None,
        name: str | None = None,
        wait_s: Seconds = 30.0,
    ) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
        """A decorator that keeps a function's results, plain or async; one process at a time computes a key.

        The others wait for its value; those of the same process share a failure too, in others each then computes for
        itself. `function.invalidate(*args)` forgets a result. An exception is not kept, nor a result whose key was
        invalidated, set or cleared while it was computed, nor one that cannot be: that goes to its caller alone.

        Args:
            ttl: seconds; None: the cache's `default_ttl`.
            key: makes a text of the arguments; without it they must be what JSON can hold, and it makes no difference
                whether one is given by position, by name or as its default (the order of `**` arguments does).
            name: what the keys begin with, up to a colon; None: the function's module and name. Who uses the cache
                too must have no other function of that name.
            wait_s: after that many seconds of waiting for another's computation it is done here as well.

        Raises:
            UsageError: at once, when others may have the function's name (a lambda, a function in a function, a method,
                one of the script that runs, a partial, any object that can be called), and there is neither `name` nor
                `key`; when another has it; for a generator.
            TypeError: at a call, when the arguments are not what JSON can hold.
        """
        if callable(ttl):
            raise UsageError(
                f"memoize: {entry.short(ttl)} stands where its ttl should",
                hint="write @cache.memoize()",
            )
        lifetime_ms = reports.ttl_ms(ttl)
        checked_type("key", key, Callable | None, "None or a function of the arguments")
        least = "a number of seconds or timedelta from 0 up"
        waits_s = min(reports.checked_number("wait_s", wait_s, least, math.inf), 1e9)
        from sereno.cache.memoize import memoize

        return lambda function: memoize(self, lifetime_ms, key, waits_s, name, function)

    def close(self) -> None:
        """Closes the files, for all objects of this process on this directory; the next use opens them again."""
        self._backend.close()

    # Inside

    def _put(
        self, key: str, text: bytes, lifetime_ms: int | None, expected: Expected = ANYTHING
    ) -> Stored:
        if not self._is_prepared:
            entry.store_key(key)  # a wrong one opens nothing
            self._prepare()
        now_ms = int(self._clock(BOOTTIME) * 1000) + self._epoch_ms
        stored = self._backend.put(
            key, text, lifetime_ms, now_ms, jitter=self._jitter, expected=expected
        )
        self._line[SETS] += stored[0]
        if stored[1]:
            self._line[EVICTIONS] += stored[1]
        return stored

    def _take(self, key: str, default: Json) -> Json:
        while (text := self._text(key)) is not None:
            # Removed as it is, or it was somebody else's.
            if self._put(key, text, 0, text).matched:
                self._line[INVALIDATIONS] += 1
                return entry.decode(text)
        return default

    def _prepare(self) -> None:
        """Opens the files and, once for each time they are opened, stores the limits that were given."""
        if self._is_prepared:
            return
        self._backend.limits()
        for evicted in self._backend.set_limits(self._given, self._now_ms()):
            self._line[EVICTIONS] += evicted
        self._prepared()

    def _count_removed(self, removed: Removed) -> None:
        entries, live, _ = removed
        self._line[INVALIDATIONS] += live
        if entries != live:
            self._line[EXPIRED_REMOVALS] += entries - live
