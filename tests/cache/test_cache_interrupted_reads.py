"""A signal's handler may raise anywhere in a read; nothing that others wait for may stay taken."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FrameType

import pytest

from sereno.cache import MetadataCache
from sereno.cache.reads import Reader

SIGNALS = 300


class Interrupted(Exception):
    """What the handler raises."""


@pytest.fixture
def cache(tmp_path) -> Iterator[MetadataCache]:
    cache = MetadataCache(tmp_path / "cache", level_bytes=0)
    cache.set("k", 1, ttl=600)
    assert cache.get("k") == 1
    yield cache
    cache.close()


def others_can_read(cache: MetadataCache) -> bool:
    """Does a read of another thread end?"""
    lock, found = cache._session.lock, []

    def look() -> None:
        if lock.acquire(timeout=5):
            lock.release()
            found.append(cache.get("k"))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    return found == [1]


def interrupted_after_call(number: int, code: CodeType, action: Callable[[], object]) -> bool:
    """Runs `action`; raises when the call of C with that number, from 1, returns to a function of that code.

    There CPython runs the handlers of signals. Was there a call of that number?
    """
    left = number

    def hook(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "c_return" and frame.f_code is code:
            left -= 1
            if left == 0:
                raise Interrupted

    sys.setprofile(hook)
    try:
        action()
    except Interrupted:
        return True
    finally:
        sys.setprofile(None)
    return False


def test_a_read_that_is_interrupted_after_any_call_keeps_nobody_from_reading(cache):
    number = 1
    while interrupted_after_call(number, Reader.get.__code__, lambda: cache.get("k")):
        assert others_can_read(cache), f"not after call {number}"
        number += 1
    assert number > 8


def test_signals_whose_handler_raises_keep_nobody_from_reading(cache):
    def handle(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, handle)
    try:
        for _ in range(SIGNALS):
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0002, 0.001))
                while True:
                    cache.get("k")
            except Interrupted:
                pass
    finally:
        signal.signal(signal.SIGALRM, before)
    assert others_can_read(cache)
