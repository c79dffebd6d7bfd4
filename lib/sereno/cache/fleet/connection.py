"""The one connection of a process to a cache server: its lock, its limits, its breaker, and the epoch of the cache.

After a failure nothing is tried for about a second: a server that is gone costs each of its clients one wait, and then
microseconds. A forked child opens a connection of its own; who it is tells its process id, for C code forks without
Python's hooks.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from _thread import RLock
from random import uniform

from sereno.cache.fleet import layout
from sereno.cache.fleet.wire import Garbled, ReplyError, Wire
from sereno.errors import CacheError, CacheUnavailable, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sereno.cache.fleet.url import Address
    from sereno.cache.fleet.wire import Command

REST_S = 1.0
"""For how long, give or take a quarter, nothing is tried after a failure."""
TRIES = 8
OLDEST = 7
_NO_NETWORK = errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL
_PASSING = ("LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS")
_FULL = ("OOM", "MISCONF")
"""Of writes alone: who computes a value has it nevertheless, and reads go on."""
_HINTS = {
    "WRONGPASS": "the user or the password in SERENO_CACHE_URL is not the server's",
    "NOAUTH": "the server asks for a password: valkey://user:password@…, as a credential or in the environment",
    "NOPERM": "the user's rights on the server: the page of the cache of many hosts has the rule",
    "OOM": "the server is full and may not evict: set maxmemory-policy volatile-lfu",
    "MISCONF": 'the server cannot save to its disk: a cache needs no snapshots, set save ""',
    "READONLY": "it is a replica; SERENO_CACHE_URL names the primary",
    "ERR": "SERENO_CACHE_URL: is the database one that the server has?",
    "WRONGTYPE": "somebody else wrote there; SERENO_CACHE_URL's ns= names another prefix",
}


class Connection:
    """Asks a server, of which one cache begins with `base`.

    Args:
        pushed: see `Wire`.
        dropped: called when a connection was made or is gone, and what was kept with it.
        limits: those of a cache that is new, as in an epoch.
    """

    def __init__(
        self,
        address: Address,
        base: bytes,
        pushed: Callable[[list[bytes] | None], object],
        dropped: Callable[[], object],
        limits: bytes,
    ) -> None:
        self.address, self.epoch_key, self.limits = address, base + b"epoch", limits
        self.epoch = b""
        self.sent_s = 0.0
        """When the last command was sent whose reply came, by the clock of `clock.BOOTTIME`."""
        self._pushed, self._dropped = pushed, dropped
        self._start()

    def _start(self) -> None:
        # One that its own thread may take again: a signal's handler may ask, too.
        self.lock, self.pid = RLock(), os.getpid()
        self._wire: Wire | None = None
        self._rests_until_s = 0.0
        self._refusal: CacheError | None = None

    def leave_to_parent(self) -> None:
        """In a child that was forked with it: the connection is the parent's, and so may be the lock."""
        wire = self._wire
        self._start()
        if wire is not None:
            wire.close()

    def ask(
        self,
        commands: Callable[[bytes], Sequence[Command]],
        *,
        again: bool = True,
        told: list[Command] | None = None,
    ) -> list[Any]:
        """The replies to `commands(epoch)`, which were given while that was the epoch.

        Args:
            again: may they be sent once more when it is not known what became of them?
            told: go along; emptied once the server took them. That it refuses them is no error of what is asked.

        Raises:
            CacheUnavailable: there is no answer.
            CacheError: the server refuses.
        """
        told = [] if told is None else told
        # `with`, whose beginning no signal's handler can come into. Nobody holds it longer than the limits of time.
        with self.lock:
            wire = self._taken()
            for _ in range(TRIES):
                if wire is None:
                    wire = self._opened()
                try:
                    asked = [*told, *commands(self.epoch), (b"GET", self.epoch_key)]
                except UsageError:
                    self._give_back(wire)
                    raise
                # What another wrote at this very moment, in another epoch, is not what was asked for.
                replies = self._exchanged(wire, asked, again=again)
                if replies is None:
                    wire, again = None, False
                    continue
                took, replies = replies[: len(told)], replies[len(told) :]
                if not any(isinstance(one, ReplyError) for one in took):
                    told.clear()
                refusals = [str(one) for one in replies if isinstance(one, ReplyError)]
                if any(one.startswith("NOSCRIPT") for one in refusals):
                    wire = None  # somebody made it forget the scripts; each greeting brings them
                elif replies.pop() == self.epoch:
                    self._give_back(wire)
                    return self._granted(replies)
                else:
                    self._open_epoch(wire)
            raise self._error(CacheUnavailable, "its epoch changes again and again")

    def look(self) -> None:
        """Meets what the server said meanwhile, where there is a connection."""
        with self.lock:
            wire = self._taken()
            if wire is not None:
                self._give_back(wire)

    def is_open(self) -> bool:
        return self._wire is not None

    def close(self) -> None:
        with self.lock:
            if self._wire is not None:
                self._wire.close()
            self._wire = None
            self._dropped()

    def _give_back(self, wire: Wire) -> None:
        if self._wire is not None:
            self._dropped()  # a signal's handler made another, which nobody will look at: what it tracks is forgotten
        self._wire = wire

    def _taken(self) -> Wire | None:
        """The connection, for whoever is at it alone: when anything is raised, nobody finds it with half an answer."""
        wire, self._wire = self._wire, None
        if wire is not None:
            try:
                wire.look()
            except OSError:
                return None
        return wire

    def _opened(self) -> Wire:
        now_s = time.monotonic()
        if now_s < self._rests_until_s and self._refusal is not None:
            raise type(self._refusal)(self._refusal.message, hint=self._refusal.hint)
        self._dropped()
        wire = None
        try:
            wire = Wire(self.address, self._pushed, now_s + self.address.timeout_s)
            self._greet(wire)
            self._open_epoch(wire)
            return wire
        except OSError as error:
            if wire is not None:
                wire.close()
            raise self._failed(error) from None

    def _greet(self, wire: Wire) -> None:
        address = self.address
        who: tuple[bytes | int, ...] = ()
        if address.password is not None:
            who = (b"AUTH", (address.username or "default").encode(), address.password.encode())
        commands: list[Command] = [(b"HELLO", 3, *who, b"SETNAME", b"sereno:%d" % self.pid)]
        commands += [(b"SCRIPT", b"LOAD", script.text) for script in layout.ALL]
        if address.database:
            commands.append((b"SELECT", address.database))
        if address.max_stale_s:
            commands.append((b"CLIENT", b"TRACKING", b"ON"))
        hello, *others = wire.exchange(commands)
        if isinstance(hello, ReplyError) and not str(hello).startswith(("ERR unknown", "NOPROTO")):
            raise self._refused(hello)
        told = hello if isinstance(hello, dict) else {b"version": b"before 6"}
        major = bytes(told.get(b"version", b"")).partition(b".")[0]
        if not major.isdigit() or int(major) < OLDEST:
            why = f"its version is {major.decode()!r}; Valkey, or Redis {OLDEST}.0 or later, is needed"
            raise self._error(CacheError, why)
        if told.get(b"mode") == b"cluster":
            raise self._error(CacheError, "it is part of a cluster; a cache is on one server")
        self._granted(others)

    def _open_epoch(self, wire: Wire) -> None:
        """Takes the epoch that is, or begins one."""
        # Whoever emptied the server may have had it forget the scripts, too.
        load = (b"SCRIPT", b"LOAD", layout.EPOCH.text)
        command = layout.EPOCH.command(self.epoch_key, layout.new_generation(), self.limits)
        replies = self._exchanged(wire, [load, command], again=False)
        assert replies is not None
        _, epoch = self._granted(replies)
        if not isinstance(epoch, bytes) or len(epoch) < layout.EPOCH_BYTES:
            raise self._failed(Garbled(f"{epoch!r:.80} is no epoch"))
        if epoch != self.epoch:
            self._dropped()
        self.epoch = epoch

    def _exchanged(
        self, wire: Wire, commands: Sequence[Command], *, again: bool
    ) -> list[Any] | None:
        """None: the connection was gone; there is no answer, and another try is in order."""
        sent_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        try:
            replies = wire.exchange(commands)
        except OSError as error:
            wire.close()
            if again and not isinstance(error, TimeoutError):
                return None
            raise self._failed(error) from None
        self.sent_s = sent_s
        return replies

    def _granted(self, replies: list[Any]) -> list[Any]:
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise self._refused(reply)
        return replies

    def _refused(self, reply: ReplyError) -> CacheError:
        text = str(reply)
        word = text.partition(" ")[0]
        if self.address.password:  # what it does not understand a server may repeat
            text = text.replace(self.address.password, "…")
        kind = CacheUnavailable if word in (*_PASSING, *_FULL) else CacheError
        error = self._error(kind, f"it refuses: {text}", _HINTS.get(word))
        if word in ("WRONGPASS", "NOAUTH") or word in _PASSING:
            self._rest(error)
        return error

    def _failed(self, failure: OSError) -> CacheError:
        if isinstance(failure, CacheError):
            self._rest(failure)
            return failure
        kind: type[CacheError] = CacheUnavailable
        hint, of_failure = None, type(failure)
        why = failure.strerror or str(failure) or of_failure.__name__
        if failure.filename is not None:
            why += f": {failure.filename}"
        # These two: it went away, as a server that ends does.
        is_end = of_failure.__name__ in ("SSLEOFError", "SSLZeroReturnError")
        if of_failure.__module__ == "ssl" and not is_end:
            kind = CacheError
            hint = (
                "SERENO_CACHE_URL: ca= names the file of the authority that signed its certificate"
            )
        elif isinstance(failure, FileNotFoundError | PermissionError) and self.address.path:
            hint = f"is it running, and may this user write to {self.address.path}?"
        elif isinstance(failure, socket.gaierror) or failure.errno in _NO_NETWORK:
            hint = "a job that uses a cache server over TCP needs network=True"
        elif isinstance(failure, TimeoutError):
            why = f"no answer within {self.address.timeout_s:g} s"
        elif isinstance(failure, Garbled | ConnectionResetError) and not self.epoch:
            hint = "SERENO_CACHE_URL: is it a Valkey's port, and does it speak TLS (valkeys://)?"
        error = self._error(kind, why, hint)
        error.errno = failure.errno
        self._rest(error)
        return error

    def _rest(self, error: CacheError) -> None:
        self._refusal = error
        self._rests_until_s = time.monotonic() + REST_S * uniform(0.75, 1.25)

    def _error(self, kind: type[CacheError], why: str, hint: str | None = None) -> CacheError:
        return kind(f"cache server {self.address.public}: {why}", hint=hint)
