"""Writes that are interrupted: by a signal handler that raises, or by death. Whatever the point, nobody is blocked
and nothing is miscounted.

CPython runs signal handlers at the start of a Python function, after a call of C code and at the end of a loop's
turn. A profile function sees the first two (sys.setprofile(3)), so that each can be tried in turn.
"""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from sereno.cache import MetadataCache, board, entry
from sereno.cache import board as words
from sereno.cache.clock import NEVER_MS
from sereno.cache.values import ANYTHING
from sereno.cache.write import Write

LIB = Path(__file__).parents[2] / "lib"
DEADLINE_S = 10.0

WRITER = """
import sys
from sereno.cache import MetadataCache
cache = MetadataCache(sys.argv[1])
for line in sys.stdin:
    cache.set("other", line)
    print(flush=True)
"""


class Interrupted(BaseException):
    """What the signal handler raises."""


class Other:
    """Another process that writes when it is asked to."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", WRITER, path],
            env=os.environ | {"PYTHONPATH": str(LIB)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def writes(self) -> bool:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(b"\n")
        stdin.flush()
        return bool(select.select([stdout], [], [], DEADLINE_S)[0]) and bool(
            os.read(stdout.fileno(), 1)
        )

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def cache(tmp_path) -> MetadataCache:
    cache = MetadataCache(tmp_path / "cache", max_size=20)
    cache.set_many({f"k{n}": n for n in range(10)})
    return cache


@pytest.fixture
def other(cache) -> Iterator[Other]:
    other = Other(Path(cache.path))
    yield other
    other.end()


def interrupted_at(point: int, action: Callable[[], object]) -> bool:
    """Runs `action`, raising at the `point`-th place where a signal handler can run; False: there are fewer."""
    left = point

    def look(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event not in ("call", "c_return") or argument is sys.setprofile:
            return
        left -= 1
        if left < 0:
            raise Interrupted

    try:
        sys.setprofile(look)
        action()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
    return left < 0


def counted(cache: MetadataCache) -> tuple[int, int]:
    store = cache._session.store
    return board.committed(store.words, store.last_transaction())


def held(cache: MetadataCache) -> tuple[int, int]:
    """Entries and bytes, found out by looking at each."""
    store = cache._session.store
    with store.begin() as txn:
        sizes = [
            entry.size_bytes(key, len(record)) for key, record in txn.cursor() if key <= entry.EMPTY
        ]
    return len(sizes), sum(sizes)


def refused(write: Write, _: None) -> None:
    write.put_one("new", b"new", b"1", NEVER_MS, 0, 0.0, ANYTHING)
    raise LookupError


ACTIONS: dict[str, Callable[[MetadataCache, int], object]] = {
    "a new entry": lambda cache, n: cache.set(f"new{n}", 1),
    "an overwrite": lambda cache, n: cache.set("k0", n % 10),
    "many": lambda cache, n: cache.set_many({f"k{k}": n for k in range(3)}),
    "a removal": lambda cache, n: cache.invalidate(f"k{n % 10}"),
    "a prefix": lambda cache, n: cache.invalidate_pattern(f"k{n % 10}"),
    "a cleanup": lambda cache, n: cache.cleanup(),
    "clear": lambda cache, n: cache.clear(),
    "the action's own error": lambda cache, n: cache._session.written(refused, None),
}


# Raised in a generator that is being closed, it goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_write_that_is_interrupted_anywhere_blocks_nobody_and_miscounts_nothing(
    cache, other, action
):
    point, more = 0, True
    while more:
        try:
            more = interrupted_at(point, lambda: ACTIONS[action](cache, point))  # noqa: B023
        except LookupError:
            more = False
        assert more or point > 15
        assert other.writes(), f"blocked by an interruption at point {point}"
        assert not cache._session.write_lock._is_owned()
        assert counted(cache) == held(cache), f"interrupted at point {point}"
        cache.set("k0", point % 10)
        assert counted(cache) == held(cache), f"interrupted at point {point}"
        point += 1
    assert cache.get("k0") == (point - 1) % 10


# Likewise in a callback of the garbage collector, as hypothesis has one.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_real_signals_interrupt_blocks_nobody(cache, other):
    def interrupt(*_: object) -> None:
        raise Interrupted

    chance, interrupted = random.Random(1), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(150):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.0005, 0.003))
                # An exception that meets a `__del__` of somebody's garbage goes nowhere: no wait without an end for it.
                until_s = time.monotonic() + 1
                while time.monotonic() < until_s:
                    cache.set(f"k{chance.randrange(30)}", "v")
            except Interrupted:
                interrupted += 1
    finally:
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 140
    assert other.writes()
    assert counted(cache) == held(cache)


def test_a_handler_that_writes_during_a_write_is_refused_and_leaves_that_alone(cache):
    def nested(write: Write, _: None) -> None:
        write.put_one("new", b"new", b"1", NEVER_MS, 0, 0.0, ANYTHING)
        with pytest.raises(OSError, match="same thread"):
            cache.set("nested", 1)

    cache._session.written(nested, None)
    assert (cache.get("new"), cache.get("nested"), cache.get("k3")) == (1, None, 3)


class DyingWords:
    """The board's words, to which nothing is written after so many writes."""

    def __init__(self, real: memoryview, writes: int) -> None:
        self._real, self._left = real, writes

    def __getitem__(self, at: int | slice) -> Any:
        return self._real[at]

    def __setitem__(self, at: int, value: int) -> None:
        if not self._left:
            raise Interrupted
        self._left -= 1
        self._real[at] = value


FOLLOWING: dict[str, Callable[[MetadataCache], object]] = {
    "an overwrite of the same length": lambda cache: cache.set("k1", 7),
    "a longer value": lambda cache: cache.set("k1", "longer"),
    "a new entry": lambda cache: cache.set("new", 7),
    "a removal": lambda cache: cache.invalidate("k1"),
    "a removal of nothing": lambda cache: cache.invalidate("nothing"),
    "a report": lambda cache: cache.run_cleanup(),
}


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("dying", ["set", "invalidate"])
def test_a_write_that_dies_while_it_announces_its_count_leaves_the_right_one(
    cache, dying, following
):
    write = cache._session._write
    writes, died = 0, True
    while died:
        write._words = DyingWords(write._words, writes)
        try:
            cache.set(f"new{writes}", "x") if dying == "set" else cache.invalidate(f"k{2 + writes}")
            died = False
        except Interrupted:
            writes += 1
        write._words = cache._session.store.words
        for _ in range(2):
            assert counted(cache) == held(cache), f"after {writes} words"
            FOLLOWING[following](cache)
        assert counted(cache) == held(cache), f"after {writes} words"
    assert writes >= 5


def test_a_writer_killed_between_its_count_and_its_commit_leaves_the_right_one(cache, monkeypatch):
    def announce_and_die(*arguments: Any) -> None:
        announce(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)

    announce = board.announce
    for kills in (lambda: cache.set("new", "value"), lambda: cache.invalidate("k2")):
        pid = os.fork()
        if not pid:
            board.announce = announce_and_die
            kills()
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        assert cache._session.store.words[words.TALLY_AT] > cache._session.store.last_transaction()
        cache.set("k1", 7)
        assert counted(cache) == held(cache)
    for n in range(10):
        assert cache.invalidate(f"k{n}")
    assert counted(cache) == (0, 0)
