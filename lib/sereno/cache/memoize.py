"""`@cache.memoize()`: a function's results in the cache, each computed once at a time across all processes.

Who misses takes a lock on one byte of a file, at a place derived from the key, and computes; the others look again
and again for the value, or for the lock when its holder gave up. The lock belongs to an open file
(`sereno.cache.byte_lock`), so the kernel releases it when the holder dies, and threads and coroutines of one process
exclude each other as well: each opens the file anew. A child that was forked during a computation whose process is
then killed has the lock still; that makes nobody wait longer than `wait_s`. Locks of bytes need no table and no
cleaning up.

What is invalidated during its computation (`backend.Version`) is given to the caller who computed it and is not
stored, so those who wait compute it anew.

Waiting is polling, not F_OFD_SETLKW: it ends with a deadline, it sees a value that came from elsewhere, and an event
loop is not blocked by it.
"""

from __future__ import annotations

import functools
import inspect
import io
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from sereno.cache import byte_lock
from sereno.cache.mapping import text_key
from sereno.cache.spelling import OneWay, one_way_to_call
from sereno.errors import UsageError

if TYPE_CHECKING:
    from sereno.cache.metadata import MetadataCache

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


class Flight:
    """The right to compute the value of one key; `try_to_take` until it is taken, `release` in the end.

    Raises:
        OSError: the lock file cannot be opened.
    """

    def __init__(self, path: str, key: str) -> None:
        from hashlib import blake2b

        digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self._at = (
            int.from_bytes(digest, "little") >> 2
        )  # offsets are signed; two keys in 2^62 share one
        self._pid = os.getpid()
        # An object that closes its file when it goes: a signal's handler may raise anywhere before `release`.
        self._file = io.FileIO(path, "r+", opener=_open)

    def try_to_take(self) -> bool:
        """Is it ours now?"""
        return byte_lock.take(self._file.fileno(), self._at)

    def release(self) -> None:
        """Lets the next one compute."""
        # Closing is not enough while a child that was forked meanwhile has the file open, and such a child, should it
        # come here too, must only close.
        if os.getpid() == self._pid:
            byte_lock.drop(self._file.fileno(), self._at)
        self._file.close()


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW)


def memoize(
    cache: MetadataCache,
    ttl: float | None,
    key: Callable[..., str] | None,
    wait_s: float,
    function: Callable[Parameters, Result],
) -> Callable[Parameters, Result]:
    """See `MetadataCache.memoize`."""
    if not callable(function):
        raise UsageError(f"memoize: {function!r} is not a function", hint="write @cache.memoize()")
    name = f"{function.__module__}.{function.__qualname__}"

    @functools.cache
    def canonical() -> OneWay:
        # At the first call: what can be a key is told by orjson, which takes long to import.
        return one_way_to_call(function, _can_be_key)

    def full_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        own = key(*args, **kwargs) if key else text_key(canonical()(args, kwargs))
        return f"{name}:{own}"

    if inspect.iscoroutinefunction(function):
        wrapper = cast(
            "Callable[Parameters, Result]", _asynchronous(cache, ttl, wait_s, function, full_key)
        )
    else:
        wrapper = _synchronous(cache, ttl, wait_s, function, full_key)

    def invalidate(*args: Parameters.args, **kwargs: Parameters.kwargs) -> bool:
        """Removes the stored result for these arguments; True when there was one."""
        return cache.invalidate(full_key(args, kwargs))

    wrapper.invalidate = invalidate  # type: ignore[attr-defined]
    return wrapper


def _can_be_key(value: object) -> bool:
    try:
        text_key((value,))
    except TypeError:
        return False
    return True


def _synchronous(
    cache: MetadataCache,
    ttl: float | None,
    wait_s: float,
    function: Callable[Parameters, Result],
    full_key: Callable[[tuple[Any, ...], dict[str, Any]], str],
) -> Callable[Parameters, Result]:
    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        key = full_key(args, kwargs)
        kept = cache.get(key)
        if kept is not None:
            return cast("Result", kept[0])
        flight = cache.flight(key)
        try:
            for pause_s in _turns(flight, wait_s):
                kept = cache.peek(key)
                if kept is not None:
                    return cast("Result", kept[0])
                if pause_s:
                    time.sleep(pause_s)
            version = cache.version(key)
            result = function(*args, **kwargs)
            cache.set_unchanged(version, key, [result], ttl)
            return result
        finally:
            flight.release()

    return call


def _asynchronous(
    cache: MetadataCache,
    ttl: float | None,
    wait_s: float,
    function: Callable[..., Coroutine[Any, Any, Result]],
    full_key: Callable[[tuple[Any, ...], dict[str, Any]], str],
) -> Callable[..., Coroutine[Any, Any, Result]]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Result:
        key = full_key(args, kwargs)
        kept = cache.get(key)
        if kept is not None:
            return cast("Result", kept[0])
        import asyncio

        flight = cache.flight(key)
        try:
            for pause_s in _turns(flight, wait_s):
                kept = cache.peek(key)
                if kept is not None:
                    return cast("Result", kept[0])
                if pause_s:
                    await asyncio.sleep(pause_s)
            version = cache.version(key)
            result = await function(*args, **kwargs)
            cache.set_unchanged(version, key, [result], ttl)
            return result
        finally:
            flight.release()

    return call


def _turns(flight: Flight, wait_s: float) -> Iterator[float]:
    """Pauses between looks at the cache, in seconds; ends with the lock taken or after `wait_s`.

    The last pause, after the lock was taken, is 0: the one who held it may just have stored the value.
    """
    deadline_s = time.monotonic() + wait_s
    pause_s = FIRST_PAUSE_S
    while not flight.try_to_take():
        if time.monotonic() >= deadline_s:
            return
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    yield 0.0
