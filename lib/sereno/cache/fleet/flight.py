"""The right to compute the value of one key, among all hosts: a key of its own on the server, with a token.

It ends with its lifetime where its holder died. That makes nobody's result wrong: what may be stored is told by the
entry itself (`FleetStore.version`).
"""

from __future__ import annotations

import os

from sereno.cache.fleet.layout import LAND, generation_of
from sereno.errors import CacheUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.cache.fleet.store import FleetStore

LONGEST_S = 600.0
_FAILED = b"failed"
_TOLD_MS = 250
"""For how long a failure is told, to those who look for it every 50 ms at least."""


class Flight:
    """`try_to_take` until it is taken, `release` in the end. The names are those of `locks.KeyLock`."""

    def __init__(self, store: FleetStore, key: str, wait_s: float) -> None:
        self._store, self._key = store, key
        self._lifetime_ms = int(min(max(wait_s, 1.0), LONGEST_S) * 1000)
        self._token = b""
        self.place = (os.getpid(), store.path, key)

    def try_to_take(self) -> bool:
        """Is it ours now, or is there nobody to wait for: a server that cannot be asked, or a failure just now?"""
        token = os.urandom(8).hex().encode()
        try:
            there = self._store.ask(
                lambda epoch: [
                    (b"SET", self._at(epoch), token, b"NX", b"GET", b"PX", self._lifetime_ms)
                ],
                again=False,
            )[0]
        except CacheUnavailable:
            return True
        if there is None:
            self._token = token
        return there is None or there == _FAILED

    def saw_failure(self) -> bool:
        """Whoever took it need not give it back because another failed: that one left a mark, not the right."""
        return False

    def note_failure(self) -> None:
        """Tells those who wait that they need not do so one after the other."""
        self._land(_FAILED)

    def release(self) -> None:
        if os.getpid() == self.place[0]:
            self._land(b"")

    def _land(self, mark: bytes) -> None:
        token, self._token = self._token, b""
        if token:
            try:
                self._store.ask(
                    lambda epoch: [LAND.command(self._at(epoch), token, mark, _TOLD_MS)]
                )
            except OSError:
                pass  # it goes with its lifetime

    def _at(self, epoch: bytes) -> bytes:
        return b"%bf:%b:%b" % (
            self._store.base,
            generation_of(epoch),
            self._key.encode("utf-8", "surrogatepass"),
        )
