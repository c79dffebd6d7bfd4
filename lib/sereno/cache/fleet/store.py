"""The verbs of `sereno.cache.backend`, which says what each does, on a Valkey server.

A cache begins all its keys with `<ns>:<name>:`, and its entries with the generation of its epoch too. So a new
generation is an empty cache at once: `clear` needs one step, and what another server process, an old snapshot or a
replica brings back is not found. What stands under generations that are over goes with its lifetime, or with the next
cleanup.

Times to live are the server's to count; the caller's clock is asked for nothing.
"""

from __future__ import annotations

import os
import time

from sereno.cache import entry
from sereno.cache.board import unused_line
from sereno.cache.fleet import layout
from sereno.cache.fleet.connection import Connection
from sereno.cache.fleet.counters import Counters
from sereno.cache.fleet.flight import Flight
from sereno.cache.fleet.layout import generation_of, limits_of, packed_entry, text_of
from sereno.cache.fleet.level1 import Level1
from sereno.cache.fleet.url import Address
from sereno.cache.values import ANYTHING, NOTHING, Counted, Removed, State, Stored, Version
from sereno.errors import CacheError, CacheUnavailable, UsageError
from sereno.setting_names import CACHE_URL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from sereno.cache.fleet.wire import Command
    from sereno.cache.values import Expected, Swept

MARK_MS = 86_400_000
"""How long a computation may take whose result is to be kept."""
SCANNED, BATCH, BATCH_BYTES = 10_000, 1000, 4 << 20
_NOT_HERE = {
    "max_size": "its entries are limited by the server's maxmemory, evicted by maxmemory-policy volatile-lfu",
    "max_bytes": "the server's maxmemory is its limit",
    "clock": "the server's clock decides what has expired",
}
_NEW = State(None, 3_600_000, None, 64 << 20)


class FleetStore:
    """The cache called `name` on a server; one object for each in a process. `now_ms` of the verbs is not used.

    What is removed is so with what is being computed for it.
    """

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        # Or the entries of a cache could be what another has beside its own.
        escaped_name = name.replace("%", "%25").replace(":", "%3A")
        self.base = entry.utf8(f"{address.ns}:{escaped_name}:")
        self.path = f"{address.public} ({address.ns}:{name})"
        self.line = unused_line()
        """Where requests are counted."""
        self.session = Level1(self, address.max_stale_s)
        """What a `Reader` goes by before it asks."""
        self.connection = Connection(
            address, self.base, self.session.pushed, self.session.drop, layout.packed_limits(_NEW)
        )
        self._given: dict[str, int | None] = {}
        self._given_to = b""
        self._counters = Counters(self.connection, self.base + b"counters", self.line)

    def check(self, given: dict[str, Any]) -> None:
        """Raises UsageError for an argument of a cache that it cannot have on a server."""
        for name, instead in _NOT_HERE.items():
            if given.get(name) is not None:
                what = f"{name}: a cache on a server ({CACHE_URL}) has none"
                raise UsageError(what, hint=instead)

    def entry_key(self, epoch: bytes, key: str | bytes) -> bytes:
        raw = key if isinstance(key, bytes) else entry.utf8(key)
        return b"%be:%b:%b" % (self.base, generation_of(epoch), raw)

    def fetch(
        self, keys: Sequence[str], now_ms: int, *, is_visit: bool = True
    ) -> list[bytes | None]:
        if len(keys) == 1 and is_visit and self.address.max_stale_s:
            return [self.session.fetch(keys[0])]
        if len(keys) == 1:
            return [text_of(self.ask(lambda epoch: [(b"GET", self.entry_key(epoch, keys[0]))])[0])]

        def commands(epoch: bytes) -> list[Command]:
            # The epoch's key first: no reply begins with what an entry may be.
            wanted = (self.entry_key(epoch, key) for key in keys)
            return [(b"MGET", self.connection.epoch_key, *wanted)]

        return [*map(text_of, self.ask(commands)[0][1:])]

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
        fresh = packed_entry(text)

        def commands(epoch: bytes) -> list[Command]:
            self.session.forget(key)
            at, limits = self.entry_key(epoch, key), limits_of(epoch)
            limits.check(b"", text)
            ttl_ms = layout.granted_ms(lifetime_ms, limits, jitter)
            kind, wanted = b"", b""
            if expected is NOTHING:
                kind = b"nothing"
            elif isinstance(expected, bytes):
                kind, wanted = b"text", expected
            elif isinstance(expected, Version):
                kind, wanted = b"entry", expected.files  # type: ignore[assignment]  # as `version` made it
            elif ttl_ms > 0:
                return [(b"SET", at, fresh, b"PX", ttl_ms)]
            return [layout.PUT.command(at, kind, wanted, fresh, ttl_ms)]

        reply = self.ask(commands, again=False)[0]
        is_done = reply not in (0, None)
        return Stored(int(is_done and lifetime_ms != 0), 0, is_done)

    def put_many(
        self,
        items: Iterable[tuple[str, bytes]],
        lifetime_ms: int | None,
        now_ms: int,
        *,
        jitter: float = 0.0,
    ) -> Iterator[Stored]:
        """`put` of (key, text) without a condition, a few hundred with a round trip."""
        waiting, limits = list(items), self.limits()
        for _, text in waiting:
            limits.check(b"", text)
        while waiting:
            batch: list[tuple[str, bytes]] = []
            held = 0
            while waiting and len(batch) < BATCH and held < BATCH_BYTES:
                batch.append(waiting.pop())
                held += len(batch[-1][1])

            def commands(epoch: bytes, batch: Any = batch) -> list[Command]:
                asked: list[Command] = []
                for key, text in batch:
                    self.session.forget(key)
                    at = self.entry_key(epoch, key)
                    ttl_ms = layout.granted_ms(lifetime_ms, limits_of(epoch), jitter)
                    fresh = (b"SET", at, packed_entry(text), b"PX", ttl_ms)
                    asked.append(fresh if ttl_ms else (b"DEL", at))
                return asked

            self.ask(commands, again=False)
            yield Stored(len(batch) if lifetime_ms != 0 else 0, 0)

    def remove(self, key: str, now_ms: int) -> Removed:

        def commands(epoch: bytes) -> list[Command]:
            self.session.forget(key)
            return [(b"GETDEL", self.entry_key(epoch, key))]

        live = int(text_of(self.ask(commands)[0]) is not None)
        return Removed(live, live)

    def remove_prefix(self, prefix: str, now_ms: int) -> Iterator[Removed]:
        self.notice_fork()
        self.session.drop()
        for batch in self._scan(lambda epoch: self.entry_key(epoch, prefix)):
            unlink = layout.UNLINK.command(*batch, keys=len(batch))
            live = self.ask(lambda _, unlink=unlink: [unlink])[0]
            yield Removed(live, live)
        self.session.drop()

    def clear(self) -> None:
        """Begins a new generation, and then takes away what the old one had."""
        self.notice_fork()
        self.session.drop()
        try:
            self._replace(layout.emptied)
        except CacheUnavailable:
            # A full server takes no other epoch, but removals.
            list(self.remove_prefix("", 0))
            self._replace(layout.emptied)
        try:
            list(self.purge(0))
        except CacheError:
            pass  # nobody finds it any more; the next cleanup takes it

    def keys(self, start: Any, now_ms: int) -> tuple[list[str], Any]:
        if start is None:
            start = sorted(self._all(), reverse=True)
        some = [start.pop() for _ in range(min(BATCH, len(start)))]
        sizes = self.ask(lambda epoch: [(b"STRLEN", self.entry_key(epoch, key)) for key in some])
        live = [key for key, size in zip(some, sizes, strict=True) if size > layout.HEADER_BYTES]
        return [key.decode("utf-8", "surrogatepass") for key in live], start or None

    def purge(self, now_ms: int) -> Iterator[Swept]:
        """Takes away what stands under generations that are over; what has expired the server removes by itself."""
        for kind in (b"e:", b"f:"):
            for batch in self._scan(lambda _, kind=kind: self.base + kind):
                current = b"%b%b%b:" % (self.base, kind, generation_of(self.connection.epoch))
                old = [key for key in batch if not key.startswith(current)]
                self.ask(lambda _, old=old: [(b"UNLINK", *old)] if old else [])
        yield from ()

    def version(self, key: str) -> Version:
        """How a key is now; a mark is left where there is nothing, which every change takes away."""
        mark = packed_entry(b"")

        def commands(epoch: bytes) -> list[Command]:
            at = self.entry_key(epoch, key)
            return [(b"SET", at, mark, b"NX", b"GET", b"PX", MARK_MS)]

        return Version(self.ask(commands, again=False)[0] or mark, 0, 0)

    def lock(self, key: str, wait_s: float = 30.0) -> Flight:
        return Flight(self, key, wait_s)

    def limits(self) -> State:
        self.ask(lambda _: [])
        return limits_of(self.connection.epoch)

    def set_limits(self, changes: dict[str, int | None], now_ms: int) -> Iterator[int]:
        """Stores limits by the names of `State`; a server that begins empty is told them again."""
        self._given |= changes
        self.connection.limits = layout.packed_limits(_NEW.changed(self._given))
        self._given_to = self.connection.epoch[: layout.RUN_ID_BYTES]
        if self._given:
            self._replace(lambda epoch: layout.limited(epoch, self._given))
        yield from ()

    def counted(self) -> Counted:
        self._counters.tell_at_once()
        kept, told = self.ask(lambda _: [(b"HGETALL", self._counters.key), (b"INFO",)])
        return self._counted("reset", kept, layout.info_of(told))

    def counted_since_report(self) -> Counted:
        return self._marked("mark")

    def reset_counters(self) -> None:
        self._marked("reset")

    def _marked(self, name: str) -> Counted:
        self._counters.tell_at_once()
        info = layout.info_of(self.ask(lambda _: [(b"INFO",)])[0])
        (kept,) = self.ask(lambda _: [self._counters.mark(name, info)], again=False)
        return self._counted(name, kept, info)

    def _counted(self, since: str, kept: Any, info: dict[str, str]) -> Counted:
        counters = self._counters.since(since, kept, info)
        held, most = int(info["used_memory"]), int(info["maxmemory"])
        limits = limits_of(self.connection.epoch).changed({"max_bytes": most or None})
        return Counted(len(self._all()), held, 0, limits, counters, (held, most) if most else None)

    def server(self) -> dict[str, str]:
        """What the server tells of itself (INFO), by its own names; and `latency_ms` of a question like a read."""
        told = layout.info_of(self.ask(lambda _: [(b"INFO",)])[0])
        began_s = time.monotonic()
        self.ask(lambda _: [])
        return told | {"latency_ms": f"{1000 * (time.monotonic() - began_s):.2f}"}

    def close(self) -> None:
        """Sends what was counted and closes the connection; the next verb opens another."""
        self.notice_fork()
        if self.connection.is_open():
            try:
                self._counters.tell_at_once()
                self.ask(lambda _: [])
            except CacheError:
                pass
        self.connection.close()

    def ask(self, commands: Any, *, again: bool = True) -> list[Any]:
        """`Connection.ask`, in this process and with its counters and limits."""
        self.notice_fork()
        replies = self._counters.ask(commands, again=again)
        if self._given and self._given_to != self.connection.epoch[: layout.RUN_ID_BYTES]:
            list(self.set_limits({}, 0))
        return replies

    def notice_fork(self) -> None:
        """Before any lock, which a thread of the parent may have held; also where C code forked, as uWSGI does."""
        if self.connection.pid == os.getpid():
            return
        self._counters.leave_to_parent()
        self.session.renew()
        self.session.drop()
        self.connection.leave_to_parent()

    def _replace(self, changed: Any) -> None:
        """Puts another epoch in the place of the one that is."""
        new = b""

        def commands(epoch: bytes) -> list[Command]:
            nonlocal new
            if epoch == new:
                return []
            new = changed(epoch)
            return [layout.REPLACE.command(self.connection.epoch_key, epoch, new)]

        self.connection.ask(commands)

    def _all(self) -> set[bytes]:
        """The keys of all entries, and of those that are being computed."""
        start = len(self.base) + len("e:") + layout.GENERATION_BYTES + len(":")
        found = self._scan(lambda epoch: self.entry_key(epoch, b""))
        return {key[start:] for batch in found for key in batch}

    def _scan(self, prefix: Any) -> Iterator[list[bytes]]:
        """The keys that begin so, in batches; all that are there from its beginning to its end, some of them twice."""
        cursor: bytes = b"0"

        def commands(epoch: bytes) -> list[Command]:
            pattern = layout.escaped(prefix(epoch)) + b"*"
            return [(b"SCAN", cursor, b"MATCH", pattern, b"COUNT", SCANNED)]

        while True:
            cursor, found = self.ask(commands)[0]
            yield from (found[at : at + BATCH] for at in range(0, len(found), BATCH))
            if cursor == b"0":
                return
