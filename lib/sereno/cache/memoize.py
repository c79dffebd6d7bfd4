"""`@cache.memoize()`: a function's results in the cache, each computed once at a time across all processes.

Who finds no result of a call begins a flight. The first in a process leads; the others follow: they wait for what comes
of it, a result or a failure, so that any number of them costs one lock. Those who lead in their processes take the
lock of the key (`locks.KeyLock`), which the kernel releases when its holder dies, and look again and again for the
result, or for the lock. After a failure in one process, those who waited in the others compute at once instead of one
after the other: an exception cannot be handed over, since nothing in a cache's directory is believed.

What was changed during its computation goes to the caller who computed it, and is not stored: those who wait look
again. A result that cannot be stored (a full disk, a value that JSON cannot hold) is returned nevertheless.

Waiting is polling, not F_OFD_SETLKW: it ends with a deadline, it sees a result that came from elsewhere, and an event
loop is not blocked by it.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast

from sereno.cache import entry, reports
from sereno.cache.identity import OneWay, claim, name_of, one_way_to_call
from sereno.cache.mapping import text_key
from sereno.errors import CacheError

if TYPE_CHECKING:
    from types import TracebackType

    from sereno.cache.metadata import MetadataCache
    from sereno.cache.values import Version

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

FIRST_PAUSE_S = 0.001
LONGEST_PAUSE_S = 0.05


class _Outcome(NamedTuple):
    """What came of a flight, for those who follow it: a result's text or a failure, or neither.

    Then `is_over` tells that each has to compute; else whoever asks first leads the next flight.
    """

    text: bytes | None = None
    error: Exception | None = None
    traceback: TracebackType | None = None
    is_over: bool = False


_LOOK_AGAIN, _COMPUTE = _Outcome(), _Outcome(is_over=True)

_led: dict[tuple[int, str, str], Future[_Outcome]] = {}
"""The flights of this process, by `KeyLock.place`. No lock guards it, which a fork could leave locked."""


class _Flight:
    """One call without a result in the cache: iterate over it, compute and `keep` unless it has found one, in a `with`.

    Iterating gives what to wait for and for how many seconds at most. `found` has the result in the end.
    """

    _leads = False

    def __init__(self, cache: MetadataCache, key: str, ttl_ms: int | None, wait_s: float) -> None:
        self._cache, self._key, self._ttl_ms = cache, key, ttl_ms
        self._deadline_s = time.monotonic() + wait_s
        self._lock = cache._backend.lock(key, wait_s)
        self._led: Future[_Outcome] = Future()
        self._led.set_running_or_notify_cancel()  # a follower that is cancelled cancels itself alone
        self._version: Version | None = None
        self._failed: _Outcome | None = None
        self.found: list[Any] = []

    def __enter__(self) -> _Flight:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            if isinstance(error, Exception):
                # Hands the failure on to the followers, and tells the processes that wait.
                self._lock.note_failure()
                self._tell(_Outcome(None, error, error.__traceback__))
        finally:
            self.end()

    def __iter__(self) -> Iterator[tuple[Future[_Outcome], float]]:
        while not self._leads:
            # Before it is so: a signal's handler may raise anywhere.
            self._leads = True
            first = _led.setdefault(self._lock.place, self._led)
            self._leads = first is self._led
            if self._leads:
                break
            yield first, max(0.0, self._deadline_s - time.monotonic())
            if not first.done():
                return  # so it is computed here as well
            outcome = first.result()
            if outcome.text is not None:
                self.found = entry.decode(outcome.text)
            elif outcome.error is not None:
                self._failed = outcome
                return
            if self.found or outcome.is_over or self._look():
                return
        try:
            yield from self._lead()
        except OSError as error:
            self._cache._bear(error, is_read=True)

    def _lead(self) -> Iterator[tuple[Future[_Outcome], float]]:
        pause_s = FIRST_PAUSE_S
        while not self._lock.try_to_take():
            if time.monotonic() >= self._deadline_s:
                return
            yield self._led, pause_s
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if self._look():
                return
        # The one who held it may just have stored the result.
        if not self._look() and self._lock.saw_failure():
            self._lock.release()

    def _look(self) -> bool:
        self.found = _result_in(self._cache.peek(self._key))
        return bool(self.found)

    def has_found(self) -> bool:
        """Is there a result? Else notes how the key is before it is computed. Raises the failure that was followed."""
        if self._failed is not None and self._failed.error is not None:
            # With its own traceback, to which each who raises it would add.
            raise self._failed.error.with_traceback(self._failed.traceback)
        if not self.found:
            try:
                self._version = self._cache._backend.version(self._key)
            except CacheError as error:
                self._cache._bear(error, is_read=True)
        return bool(self.found)

    def keep(self, result: object) -> None:
        """Stores a result, unless its key was changed meanwhile, and tells the followers."""
        self.found = [result]
        try:
            text = entry.encode([result])
        except TypeError as error:
            self._complain(error)
            self._tell(_COMPUTE)
            return
        # Who comes from now on does not follow: he may have changed the key before.
        self._leave()
        backend, version, is_good = self._cache._backend, self._version, True
        try:
            if version is not None:
                # A put that fails does not tell.
                is_good = version == backend.version(self._key)
                is_good = self._cache._put(self._key, text, self._ttl_ms, version).matched
        except (CacheError, ValueError) as error:
            self._complain(error)
        self._tell(_Outcome(text) if is_good else _LOOK_AGAIN)

    def end(self) -> None:
        """Lets the next one in."""
        self._tell(_LOOK_AGAIN)
        self._lock.release()

    def __del__(self) -> None:
        self._tell(_LOOK_AGAIN)

    def _tell(self, outcome: _Outcome) -> None:
        if self._leads:
            self._leads = False
            self._leave()
            self._led.set_result(outcome)

    def _leave(self) -> None:
        if _led.get(self._lock.place) is self._led:
            del _led[self._lock.place]

    def _complain(self, error: Exception) -> None:
        reports.warn(
            f"{self._cache.path}:{self._key.partition(':')[0]}",
            "cache %s: a result of %s is not kept: %s",
            *(self._cache.path, self._key.partition(":")[0], error),
        )


def memoize(
    cache: MetadataCache,
    ttl_ms: int | None,
    key: Callable[..., str] | None,
    wait_s: float,
    name: str | None,
    function: Callable[Parameters, Result],
) -> Callable[Parameters, Result]:
    """See `MetadataCache.memoize`."""
    prefix = name_of(function, name, has_key=key is not None)

    @functools.cache
    def canonical() -> OneWay:
        # At the first call: what can be a key is told by orjson, which takes long to import.
        return one_way_to_call(function, _can_be_key)

    def full_key(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if key is None:
            return f"{prefix}:{text_key(canonical()(args, kwargs))}"
        own = key(*args, **kwargs)
        if not isinstance(own, str):
            raise TypeError(
                f"key: it gave {entry.short(own)} of type {type(own).__qualname__}, a str is needed"
            )
        return f"{prefix}:{own}"

    def flight(full: str) -> _Flight:
        return _Flight(cache, full, ttl_ms, wait_s)

    wrapper: Any
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    ):
        wrapper = _asynchronous(cache, cast("Any", function), full_key, flight)
    else:
        wrapper = _synchronous(cache, function, full_key, flight)
    claim(cache.path, prefix, function, wrapper, is_named=not (key is None and name is None))

    def invalidate(*args: Parameters.args, **kwargs: Parameters.kwargs) -> bool:
        """Removes the stored result for these arguments; True when there was one."""
        return cache.invalidate(full_key(args, kwargs))

    wrapper.invalidate = invalidate
    return cast("Callable[Parameters, Result]", wrapper)


def _result_in(kept: object) -> list[Any]:
    """What is stored for a call, in a list; an empty one where it is none: anybody may `set` any key."""
    return kept if type(kept) is list and len(kept) == 1 else []


def _can_be_key(value: object) -> bool:
    try:
        text_key((value,))
    except TypeError:
        return False
    return True


def _synchronous(
    cache: MetadataCache,
    function: Callable[Parameters, Result],
    full_key: Callable[[tuple[Any, ...], dict[str, Any]], str],
    flight: Callable[[str], _Flight],
) -> Callable[Parameters, Result]:
    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        key = full_key(args, kwargs)
        found = _result_in(cache.get(key))
        if found:
            return cast("Result", found[0])
        with flight(key) as ours:
            for theirs, seconds in ours:
                wait((theirs,), seconds)
            if not ours.has_found():
                ours.keep(function(*args, **kwargs))
            return cast("Result", ours.found[0])

    return call


def _asynchronous(
    cache: MetadataCache,
    function: Callable[..., Coroutine[Any, Any, Result]],
    full_key: Callable[[tuple[Any, ...], dict[str, Any]], str],
    flight: Callable[[str], _Flight],
) -> Callable[..., Coroutine[Any, Any, Result]]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Result:
        key = full_key(args, kwargs)
        found = _result_in(cache.get(key))
        if found:
            return cast("Result", found[0])
        import asyncio

        with flight(key) as ours:
            for theirs, seconds in ours:
                try:
                    await asyncio.wait_for(asyncio.wrap_future(theirs), seconds)
                except TimeoutError:
                    continue
            if not ours.has_found():
                ours.keep(await function(*args, **kwargs))
            return cast("Result", ours.found[0])

    return call
