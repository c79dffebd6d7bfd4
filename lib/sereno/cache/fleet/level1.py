"""What a process keeps for itself of a cache of many hosts, by choice (`?max_stale=`): none of it is older than that.

The server tracks what was read on the one connection, and pushes the key when somebody changes it (RESP3, default
mode). Between two connections nobody promises an order, so a push may come late, over a stalled network never. What is
kept therefore counts only until `max_stale` after the last command was sent whose reply came: one connection has one
order, so with that reply everything that was pushed before it has been read.

Readers look into it themselves (`sereno.cache.reads`) until `check_at`; then they come here, which looks at the socket.
"""

from __future__ import annotations

import time
import weakref
from _thread import RLock
from contextlib import nullcontext

from sereno.cache.fleet.layout import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.cache.fleet.store import FleetStore
    from sereno.cache.fleet.wire import Command
    from sereno.cache.level import Level
    from sereno.cache.reads import Reader

LOOK_EVERY_S = 0.001
"""For how long hits are served without a look at the socket, which costs more than they do."""
_NO_GENERATIONS = memoryview(bytes(8)).cast("Q")


class Level1:
    """Stands where `Reader` expects the session and its board; with `max_stale_s` 0 it keeps nothing."""

    # Tests switch it off, to see that they find what happens then.
    has_bound = True

    def __init__(self, store: FleetStore, max_stale_s: float) -> None:
        self._store, self._max_stale_s, self.path = store, max_stale_s, store.path
        self.line = store.line
        # For a `Reader`: what it would guard is not changed here.
        self.lock = nullcontext()
        self.renew()
        self.check_at = [0.0]
        self.board = self
        self.generations: dict[int, int] = {}
        self.visited = [1]
        self._users: weakref.WeakSet[Reader] = weakref.WeakSet()
        self._level: Level | None = None
        self._bytes = 0
        # What is being read, by key: taken away by whatever changes it meanwhile.
        self._reading: dict[str, object] = {}

    def renew(self) -> None:
        """In a forked child: whoever held the lock is not there."""
        self._guard = RLock()

    def epoch_ms(self) -> int:
        """Times are the server's."""
        return 0

    def begin(self) -> None:
        """Sends a `Reader` the long way."""
        raise KeyError

    def add_user(self, user: Reader) -> None:
        """Has `user` look here too."""
        with self._guard:
            self._users.add(user)
            self._bytes = max(self._bytes, user.level_bytes)
            user.files_changed(self)
            if self._level is not None:
                user.look_into(self._level)

    def has_users(self) -> bool:
        return bool(self._users)

    def fetch(self, key: str) -> bytes | None:
        store, connection = self._store, self._store.connection
        store.notice_fork()
        kept = None if self._level is None else self._level.kept.get(key)
        if kept is not None:
            connection.look()
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            end_s = self._end_s()
            with self._guard:
                kept = None if self._level is None else self._level.kept.get(key)
                if kept is not None and now_s < min(kept[1], end_s):
                    self.check_at[0] = min(now_s + LOOK_EVERY_S, end_s)
                    return kept[0]
        return self._asked(store, key)

    def _asked(self, store: FleetStore, key: str) -> bytes | None:
        token = object()

        def commands(epoch: bytes) -> list[Command]:
            self._reading[key] = token
            at = store.entry_key(epoch, key)
            return [(b"GET", at), (b"PTTL", at)]

        asked_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            stored, left_ms = store.ask(commands)
            text = text_of(stored)
            with self._guard:
                if text is not None and left_ms > 0 and self._reading.get(key) is token:
                    self._keep(key, text, asked_s + left_ms / 1000)
            return text
        finally:
            self._reading.pop(key, None)

    def _keep(self, key: str, text: bytes, until_s: float) -> None:
        if self._level is None:
            from sereno.cache.level import Level

            if not self._bytes:
                return
            self._level = Level(self._bytes)
            for user in [*self._users]:
                user.look_into(self._level)
        if len(text) <= self._level.full_bytes:
            self._level.keep(key, (text, until_s, _NO_GENERATIONS, 0, 0, 0))
            now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            self.check_at[0] = min(now_s + LOOK_EVERY_S, self._end_s())

    def _end_s(self) -> float:
        """Until when what is kept counts."""
        return self._store.connection.sent_s + (self._max_stale_s if self.has_bound else 1e9)

    def forget(self, key: str) -> None:
        """Before something is written under a key: this process reads its own writes."""
        if self._max_stale_s:
            with self._guard:
                self._reading.pop(key, None)
                if self._level is not None:
                    self._level.pop(key, None)

    def pushed(self, keys: list[bytes] | None) -> None:
        """The server says that keys were changed, or (None) all."""
        store = self._store
        prefix = store.entry_key(store.connection.epoch, b"")
        for key in [store.base + b"epoch"] if keys is None else keys:
            if key.startswith(prefix):
                self.forget(key[len(prefix) :].decode("utf-8", "surrogatepass"))
            elif key == store.connection.epoch_key:
                self.drop()

    def drop(self) -> None:
        with self._guard:
            self.check_at[0] = 0.0
            self._reading.clear()
            if self._level is not None:
                self._level = None
                for user in [*self._users]:
                    user.look_into(None)
