"""The decorator: one computation at a time per key, across coroutines, threads and processes."""

from __future__ import annotations

import asyncio
import errno
import inspect
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cachetools
import cachetools.keys
import pytest

from sereno.cache import MetadataCache, locks
from sereno.cache.board import REMEMBERED
from sereno.cache.identity import one_way_to_call
from sereno.cache.memoize import _Flight
from sereno.errors import CacheError

LIB = Path(__file__).parents[2] / "lib"
UNKNOWN = object()


# On the cache of many hosts too. The others are about this machine's locks, or of this process alone.
ON_BOTH = {
    "test_a_result_is_computed_once_for_each_set_of_arguments",
    "test_a_result_of_none_is_kept_too",
    "test_invalidate_forgets_the_result_of_these_arguments",
    "test_an_exception_is_raised_and_not_kept",
    "test_threads_wait_for_the_one_that_computes",
    "test_coroutines_wait_for_the_one_that_computes_and_block_no_loop",
    "test_what_was_changed_during_its_computation_is_not_stored",
    "test_other_changes_during_a_computation_do_not_keep_its_result_out",
    "test_who_waits_for_a_value_that_is_invalidated_meanwhile_gets_a_newer_one",
    "test_a_second_removal_of_what_is_not_there_is_seen_during_a_computation_too",
    "test_cachetools_cached_takes_the_cache",
    "test_the_cache_is_a_mutable_mapping",
    "test_get_many_gives_what_there_is_and_counts_each_key_once",
    "test_set_many_checks_everything_before_it_stores_anything",
    "test_each_who_waited_has_a_result_of_his_own",
    "test_who_comes_after_a_change_does_not_follow_a_computation_from_before_it",
}


@pytest.fixture
def cache(opened):
    cache = opened("cache")
    yield cache
    cache.close()


def test_a_result_is_computed_once_for_each_set_of_arguments(cache):
    calls = []

    @cache.memoize(ttl=60, name="f")
    def add(a: int, b: int = 1) -> dict[str, int]:
        """Adds."""
        calls.append((a, b))
        return {"sum": a + b}

    assert [add(1), add(1), add(1, b=2), add(1, b=2), add(2)] == [
        {"sum": n} for n in (2, 2, 3, 3, 3)
    ]
    assert calls == [(1, 1), (1, 2), (2, 1)]
    assert (add.__name__, add.__doc__) == ("add", "Adds.")


def test_a_result_of_none_is_kept_too(cache):
    calls = []

    @cache.memoize(name="f")
    def nothing() -> None:
        calls.append(1)

    assert nothing() is nothing() is None
    assert calls == [1]


def test_invalidate_forgets_the_result_of_these_arguments(cache):
    calls = []

    @cache.memoize(name="f")
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    square(2), square(3)
    assert square.invalidate(2) is True
    assert square.invalidate(2) is False
    square(2), square(3)
    assert calls == [2, 3, 2]


def test_it_makes_no_difference_how_a_call_is_written(cache):
    calls = []

    @cache.memoize(name="f")
    def add(a: int, b: int = 2, *, c: int = 3, d: object = UNKNOWN) -> int:
        calls.append((a, b, c))
        return a + b + c

    for _ in range(2):
        assert add(1) == add(a=1) == add(1, 2) == add(b=2, a=1) == add(1, c=3) == 6
        assert add(1, c=4) == add(c=4, b=2, a=1) == 7
    assert calls == [(1, 2, 3), (1, 2, 4)]
    assert add.invalidate(c=3, b=2, a=1) is True
    assert add(1) == 6
    assert len(calls) == 3


def signatures() -> list[Callable[..., object]]:
    return [
        lambda a, b=2: None,
        lambda a, b, c=UNKNOWN, d=4: None,
        lambda a=1, /, b=2, **others: None,
        lambda a, *more, b, c=3: None,
        lambda *more, **others: None,
        lambda a, /, b=2, *more, c=UNKNOWN, **others: None,
    ]


@pytest.mark.parametrize("at", range(len(signatures())))
def test_calls_have_one_key_exactly_when_they_bind_the_same_arguments(at):
    function = signatures()[at]
    canonical = one_way_to_call(function, lambda value: value is not UNKNOWN)
    signature = inspect.signature(function)
    bound_by_text: dict[str, dict[str, object]] = {}
    positions = [n for count in range(4) for n in itertools.product((1, 2), repeat=count)]
    names = [n for count in range(4) for n in itertools.combinations("abcd", count)]
    for args, given, value in itertools.product(positions, names, (2, 3)):
        kwargs = dict.fromkeys(given, value)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            continue
        bound.apply_defaults()
        text = repr(canonical(args, kwargs))
        assert bound_by_text.setdefault(text, bound.arguments) == bound.arguments
        spelled_args, spelled_kwargs = canonical(args, kwargs)
        again = signature.bind(*spelled_args, **spelled_kwargs)
        again.apply_defaults()
        assert again == bound
    distinct = {repr(arguments) for arguments in bound_by_text.values()}
    assert len(distinct) == len(bound_by_text) > 1


def test_an_exception_is_raised_and_not_kept(cache):
    calls = []

    @cache.memoize(name="f")
    def fail() -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("no")
        return 1

    with pytest.raises(ValueError, match="no"):
        fail()
    assert fail() == fail() == 1
    assert len(calls) == 2


def test_arguments_that_json_cannot_hold_need_a_key(cache):
    @cache.memoize(name="f")
    def plain(a: object) -> int:
        return 1

    @cache.memoize(key=lambda a: type(a).__name__)
    def keyed(a: object) -> int:
        return 2

    with pytest.raises(TypeError, match="of type object"):
        plain(object())
    assert keyed(object()) == keyed(object()) == 2


def test_a_missing_pair_of_parentheses_is_refused_at_once(cache):
    from sereno.errors import UsageError

    with pytest.raises(UsageError, match="memoize"):
        cache.memoize()(3)


def test_threads_wait_for_the_one_that_computes(cache):
    calls = []

    @cache.memoize(name="f")
    def slow() -> int:
        calls.append(1)
        time.sleep(0.1)
        return 7

    results = []
    threads = [threading.Thread(target=lambda: results.append(slow())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, calls) == ([7] * 10, [1])


def test_coroutines_wait_for_the_one_that_computes_and_block_no_loop(cache):
    calls = []

    @cache.memoize(name="f")
    async def slow(n: int) -> int:
        calls.append(n)
        await asyncio.sleep(0.1)
        return n

    async def main() -> list[int]:
        return await asyncio.gather(*[slow(n % 2) for n in range(20)])

    began_s = time.monotonic()
    assert asyncio.run(main()) == [n % 2 for n in range(20)]
    assert sorted(calls) == [0, 1]
    assert time.monotonic() - began_s < 5


OTHERS_CHANGES = {
    "invalidate": lambda cache, function, key: function.invalidate(),
    "invalidate_pattern": lambda cache, function, key: cache.invalidate_pattern(key[:-3]),
    "invalidate_pattern of all": lambda cache, function, key: cache.invalidate_pattern(""),
    "clear": lambda cache, function, key: cache.clear(),
    "set": lambda cache, function, key: cache.set(key, ["newer"]),
    "set and invalidate": lambda cache, function, key: (
        cache.set(key, ["newer"]),
        function.invalidate(),
    ),
    "close and invalidate": lambda cache, function, key: (cache.close(), function.invalidate()),
    "more prefixes than are remembered": lambda cache, function, key: [
        cache.invalidate_pattern(prefix) for prefix in [key[:-1], *["other"] * REMEMBERED]
    ],
}


def in_a_child(action: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("change", OTHERS_CHANGES)
@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("by", ["this process", "another process"])
def test_what_was_changed_during_its_computation_is_not_stored(cache, change, is_asynchronous, by):
    calls = []

    def compute() -> str:
        calls.append(1)
        if len(calls) > 1:
            return "new"
        key = f"{function.__module__}.{function.__qualname__}:key"
        act = partial(OTHERS_CHANGES[change], cache, function, key)
        act() if by == "this process" else in_a_child(act)
        return "old"

    async def compute_too() -> str:
        return compute()

    wanted = compute_too if is_asynchronous else compute
    function = cache.memoize(key=lambda: "key")(wanted)
    call = (lambda: asyncio.run(function())) if is_asynchronous else function
    assert call() == "old"
    assert call() == ("newer" if change == "set" else "new")
    assert call() == ("newer" if change == "set" else "new")
    assert len(calls) == (1 if change == "set" else 2)


def test_other_changes_during_a_computation_do_not_keep_its_result_out(cache):
    calls = []

    @cache.memoize(key=lambda: "key")
    def compute() -> int:
        calls.append(1)
        cache.set("other", 1)
        cache.invalidate_pattern("other")
        cache.invalidate_pattern(f"{compute.__module__}.{compute.__qualname__}:key:longer")
        cache.cleanup()
        return 1

    assert compute() == compute() == 1
    assert calls == [1]


def test_who_waits_for_a_value_that_is_invalidated_meanwhile_gets_a_newer_one(cache):
    source, computing, changed = ["old"], threading.Event(), threading.Event()

    @cache.memoize(key=lambda: "key")
    def read() -> str:
        value = source[0]
        computing.set()
        changed.wait(10)
        return value

    results: dict[str, str] = {}
    first = threading.Thread(target=lambda: results.update(first=read()))
    first.start()
    assert computing.wait(10)
    second = threading.Thread(target=lambda: results.update(second=read()))
    second.start()
    source[0] = "new"
    read.invalidate()
    changed.set()
    first.join(), second.join()
    assert results == {"first": "old", "second": "new"}


@pytest.mark.parametrize("again", ["invalidate", "invalidate_pattern", "clear"])
def test_a_second_removal_of_what_is_not_there_is_seen_during_a_computation_too(cache, again):
    """LMDB gives the id of a write that changed nothing to the next one."""
    source = ["old"]

    @cache.memoize(name="read")
    def read() -> str:
        value = source[0]
        if value == "old":
            source[0] = "new"
            getattr(cache, again)(*["read:[[],{}]"][: again != "clear"])
        return value

    cache.set("other", 1)
    getattr(cache, again)(*["read:[[],{}]"][: again != "clear"])
    assert [read(), read()] == ["old", "new"]


def start_computing(path, seconds: float) -> int:
    """A child process that computes the value `pid` for `seconds`; returns when it is at it."""
    ready_read, ready_write = os.pipe()
    pid = os.fork()
    if pid:
        os.read(ready_read, 1)
        os.close(ready_read), os.close(ready_write)
        return pid
    try:

        @MetadataCache(path).memoize(name="f", key=lambda: "k")
        def compute() -> int:
            os.write(ready_write, b"x")
            time.sleep(seconds)
            return os.getpid()

        compute()
    finally:
        os._exit(0)


def compute_here(cache, **options):
    def compute() -> int:
        return os.getpid()

    return cache.memoize(name="f", key=lambda: "k", **options)(compute)


def test_another_process_gets_the_value_of_the_one_that_computes(cache):
    pid = start_computing(cache.path, 0.2)
    assert compute_here(cache)() == pid
    os.waitpid(pid, 0)


def test_when_the_one_that_computes_is_killed_another_does_it(cache):
    pid = start_computing(cache.path, 60)
    threading.Timer(0.1, os.kill, (pid, signal.SIGKILL)).start()
    assert compute_here(cache)() == os.getpid()
    os.waitpid(pid, 0)


def test_nobody_waits_longer_than_wait_s(cache):
    pid = start_computing(cache.path, 60)
    assert compute_here(cache, wait_s=0.05)() == os.getpid()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def is_free(cache, key: str) -> bool:
    """Could another process take the lock of that key?"""
    fd = os.open(os.path.join(cache.path, "open.lock"), os.O_RDWR)
    try:
        return locks.take(fd, cache._backend.lock(key)._at)
    finally:
        os.close(fd)


def test_a_child_forked_during_a_computation_keeps_no_lock_after_it(cache):
    cache.set("other", 1)
    lock = cache._backend.lock("k")
    assert lock.try_to_take()
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    try:
        assert not is_free(cache, "k")
        lock.release()
        assert is_free(cache, "k")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_child_that_leaves_the_computation_it_was_forked_in_does_not_release_the_lock(cache):
    cache.set("other", 1)
    lock = cache._backend.lock("k")
    assert lock.try_to_take()
    pid = os.fork()
    if pid == 0:
        lock.release()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not is_free(cache, "k")
    lock.release()


def test_a_file_of_locks_that_is_being_closed_is_given_to_nobody(cache, monkeypatch):
    cache.set("other", 1)
    lock, other = cache._backend.lock("k"), cache._backend.lock("k")
    assert lock.try_to_take()
    close, taken = os.close, []

    def take_meanwhile(fd: int) -> None:
        monkeypatch.undo()
        taken.append(other.try_to_take())
        close(fd)

    monkeypatch.setattr(os, "close", take_meanwhile)
    lock.release()
    del lock
    assert taken == [True]
    assert not is_free(cache, "k")
    other.release()


def test_who_leaves_late_does_not_take_the_lock_from_the_next_of_its_process(cache):
    cache.set("other", 1)
    first, second = (cache._backend.lock("k") for _ in range(2))
    assert first.try_to_take()
    assert not second.try_to_take()
    first.release()
    assert second.try_to_take()
    first.release()
    del first
    assert not is_free(cache, "k")
    second.release()
    assert is_free(cache, "k")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lock_whose_release_was_interrupted_goes_with_its_owner(cache, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    @cache.memoize(key=lambda: "k")
    def compute() -> int:
        monkeypatch.setattr(_Flight, "end", interrupt)
        return 1

    with pytest.raises(KeyboardInterrupt):
        compute()
    monkeypatch.undo()
    assert is_free(cache, f"{compute.__module__}.{compute.__qualname__}:k")


def test_a_key_is_computed_once_by_many_processes(cache, tmp_path):
    log = tmp_path / "log"
    pids = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:

                @cache.memoize(name="f")
                def compute(n: int) -> int:
                    with log.open("a") as file:
                        file.write(f"{n}\n")
                    time.sleep(0.01)
                    return n

                assert [compute(n) for n in range(20)] == list(range(20))
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 8
    assert sorted(map(int, log.read_text().split())) == list(range(20))


def test_cachetools_cached_takes_the_cache(cache):
    calls = []

    @cachetools.cached(cache=cache)
    def double(n: int, by: int = 2) -> int:
        calls.append((n, by))
        return n * by

    assert [double(2), double(2), double(2, by=3), double(2, by=3)] == [4, 4, 6, 6]
    assert calls == [(2, 2), (2, 3)]
    double.cache_clear()
    assert double(2) == 4
    assert len(calls) == 3


def test_cachetools_cached_takes_the_cache_with_a_lock_types_and_a_key_of_its_own(cache):
    @cachetools.cached(cache=cache, key=cachetools.keys.typedkey, lock=threading.Lock(), info=True)
    def kind(value: object) -> str:
        return type(value).__name__

    assert [kind(1), kind(True), kind("1"), kind(1)] == ["int", "bool", "str", "int"]
    assert kind.cache_info().hits == 1


def test_the_cache_is_a_mutable_mapping(cache):
    cache["a"] = 1
    assert (cache["a"], "a" in cache, len(cache), list(cache), bool(cache)) == (
        1,
        True,
        1,
        ["a"],
        True,
    )
    assert cache.setdefault("a", 2) == 1
    assert cache.setdefault("b", 2) == 2
    assert cache.pop("b") == 2
    assert cache.pop("b", 3) == 3
    del cache["a"]
    for absent in (lambda: cache["a"], lambda: cache.__delitem__("a"), lambda: cache.pop("a")):
        with pytest.raises(KeyError):
            absent()
    with pytest.raises(TypeError, match="key: 1 of type int"):
        cache[1]
    assert 1 not in cache
    assert bool(cache)


def test_get_many_gives_what_there_is_and_counts_each_key_once(cache):
    cache.set_many({"a": 1, "b": None, "c": [3]}, ttl=60)
    assert cache.get_many(["a", "b", "x", "c", "a"]) == {"a": 1, "b": None, "c": [3]}
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["sets"]) == (3, 1, 3)


def test_set_many_checks_everything_before_it_stores_anything(cache):
    with pytest.raises(TypeError):
        cache.set_many({"a": 1, "b": object()})
    assert list(cache) == []


def test_jitter_shortens_lifetimes_by_at_most_its_share_and_not_all_alike(tmp_path):
    now_s = 1000.0
    cache = MetadataCache(tmp_path / "j", ttl_jitter=0.5, clock=lambda: now_s)
    cache.set_many({f"k{n}": n for n in range(400)}, ttl=100)
    alive = []
    for now_s in (1049.9, 1060, 1090, 1100):  # noqa: B007 the clock reads it
        alive.append(len(cache))
    assert alive[0] == 400
    assert 250 < alive[1] < 390
    assert 20 < alive[2] < 150
    assert alive[3] == 0


# What those who wait have in common


def in_threads(count: int, function: Callable[[], object]) -> list[object]:
    """What each of so many calls at once returned or raised."""
    said: list[object] = []
    # A thread that a busy machine starts late would find the others gone.
    all_here = threading.Barrier(count)

    def call() -> None:
        all_here.wait()
        try:
            said.append(function())
        except BaseException as error:
            said.append(error)

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return said


@pytest.mark.parametrize("kind", [ValueError, StopIteration, TimeoutError, KeyError])
@pytest.mark.parametrize("how", ["threads", "coroutines"])
def test_a_failure_is_raised_by_all_who_wait_in_a_process_and_happens_once(cache, kind, how):
    calls = []
    if how == "coroutines" and kind is StopIteration:
        kind = LookupError  # a coroutine cannot raise it

    def plain() -> int:
        calls.append(1)
        time.sleep(0.3)
        raise kind("no")

    async def coroutine() -> int:
        calls.append(1)
        await asyncio.sleep(0.1)
        raise kind("no")

    async def gathered() -> list[object]:
        return await asyncio.gather(*[slow() for _ in range(20)], return_exceptions=True)

    slow = cache.memoize(name="slow")(plain if how == "threads" else coroutine)
    said = in_threads(20, slow) if how == "threads" else asyncio.run(gathered())
    assert [type(each) for each in said] == [kind] * 20
    assert calls == [1]
    depths = [len(list(traceback.walk_tb(each.__traceback__))) for each in said]
    assert max(depths) < 12, "each who raised it added to its traceback"
    assert list(cache) == []


def test_a_failure_in_one_process_lets_those_who_wait_in_others_compute_at_once(cache, tmp_path):
    cache.set("other", 1)

    @cache.memoize(name="slow")
    def slow() -> int:
        time.sleep(1)
        raise ValueError(os.getpid())

    def child() -> None:
        with pytest.raises(ValueError, match=str(os.getpid())):
            slow()

    began_s = time.monotonic()
    pids = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                child()
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    assert time.monotonic() - began_s < 5, "one after the other takes six seconds"


CROWD = """
import asyncio, os, resource, sys
from sereno.cache import MetadataCache
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
cache = MetadataCache(sys.argv[1], max_size=None)
cache.get("a")
count, most = [], 0
before = len(os.listdir("/proc/self/fd"))

@cache.memoize(name="slow")
async def slow(n):
    global most
    count.append(n)
    await asyncio.sleep(0.2)
    most = max(most, len(os.listdir("/proc/self/fd")) - before)
    if sys.argv[3] == "fails":
        raise ValueError(n)
    return [n]

async def main():
    calls = [slow(n % int(sys.argv[2])) for n in range(1500)]
    return await asyncio.gather(*calls, return_exceptions=True)

said = asyncio.run(main())
assert all(type(one) is (ValueError if sys.argv[3] == "fails" else list) for one in said), said[:3]
assert len({id(one) for one in said}) == (1500 if said[0] == [0] else int(sys.argv[2]))
print(len(count), most)
"""


@pytest.mark.parametrize(("keys", "ends"), [(1, "well"), (1, "fails"), (1500, "well")])
def test_a_crowd_of_coroutines_takes_few_descriptors_and_computes_each_key_once(
    tmp_path, keys, ends
):
    said = subprocess.run(
        [sys.executable, "-c", CROWD, tmp_path / "cache", str(keys), ends],
        env=os.environ | {"PYTHONPATH": str(LIB)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    computed, descriptors = map(int, said.stdout.split())
    assert computed == keys
    assert descriptors <= 4  # the lock's, the event loop's own three


def test_a_computation_that_is_cancelled_is_taken_up_by_one_who_waits(cache):
    calls = []

    @cache.memoize(name="slow")
    async def slow() -> int:
        calls.append(1)
        await asyncio.sleep(0.1)
        return len(calls)

    async def main() -> list[object]:
        tasks = [asyncio.ensure_future(slow()) for _ in range(5)]
        await asyncio.sleep(0.02)
        tasks[2].cancel()  # who only waits takes nobody with him
        await asyncio.sleep(0.02)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    said = asyncio.run(main())
    assert [type(each) for each in said[:3:2]] == [asyncio.CancelledError] * 2
    assert [said[at] for at in (1, 3, 4)] == [2, 2, 2]


def test_a_computation_that_is_interrupted_is_taken_up_by_one_who_waits(cache):
    calls, started = [], threading.Event()

    @cache.memoize(name="slow")
    def slow() -> int:
        calls.append(1)
        started.set()
        time.sleep(0.1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return len(calls)

    said = in_threads(5, slow)
    assert sorted(type(each).__name__ for each in said) == ["KeyboardInterrupt", *["int"] * 4]
    assert len(calls) == 2


def test_each_who_waited_has_a_result_of_his_own(cache):
    @cache.memoize(name="slow")
    def slow() -> list[int]:
        time.sleep(0.1)
        return []

    for each in in_threads(5, slow):
        each.append(1)
        assert each == [1]
    assert slow() == []


def test_who_comes_after_a_change_does_not_follow_a_computation_from_before_it(cache, monkeypatch):
    source, later, threads = ["old"], [], []
    backend = cache._backend
    put = backend.put

    @cache.memoize(name="read")
    def read() -> str:
        return source[0]

    def put_and_be_overtaken(*args: object, **options: object) -> object:
        monkeypatch.setattr(backend, "put", put)
        done = put(*args, **options)
        source[0] = "new"
        read.invalidate()
        threads.append(threading.Thread(target=lambda: later.append(read())))
        threads[0].start()
        time.sleep(0.05)
        return done

    monkeypatch.setattr(backend, "put", put_and_be_overtaken)
    assert read() == "old"
    threads[0].join()
    assert later == ["new"]


def test_a_child_forked_while_a_thread_computes_waits_for_its_result(cache):
    started = threading.Event()

    @cache.memoize(name="slow")
    def slow() -> int:
        started.set()
        time.sleep(0.3)
        return os.getpid()

    thread = threading.Thread(target=slow)
    thread.start()
    started.wait(10)
    parent = os.getpid()

    def child() -> None:
        assert slow() == parent

    in_a_child(child)
    thread.join()


# What cannot be stored


def kept_out(cache, monkeypatch, why: str) -> Callable[[], object]:
    if why == "not JSON":
        return lambda: {1, 2}
    if why == "too large":
        return lambda: "x" * 2000
    if why == "too large for the cache":
        return lambda: "x" * 1000

    def full(*_: object, **__: object) -> None:
        error = CacheError("full")
        error.errno = errno.ENOSPC
        raise error

    monkeypatch.setattr(cache._backend, "put", full)
    return lambda: [1]


@pytest.mark.parametrize("why", ["not JSON", "too large", "too large for the cache", "full"])
@pytest.mark.parametrize("how", ["threads", "coroutines"])
def test_a_result_that_cannot_be_stored_is_returned_to_all_and_said_once(
    tmp_path, monkeypatch, caplog, why, how
):
    cache = MetadataCache(tmp_path / "c", max_value_bytes=1500, max_bytes=500)
    cache.set("other", 1)
    compute = kept_out(cache, monkeypatch, why)
    calls = []

    def plain() -> object:
        calls.append(1)
        time.sleep(0.4)
        return compute()

    async def coroutine() -> object:
        calls.append(1)
        await asyncio.sleep(0.4)
        return compute()

    async def gathered() -> list[object]:
        return list(await asyncio.gather(*[slow() for _ in range(10)]))

    slow = cache.memoize(name=f"slow.{why}.{how}")(plain if how == "threads" else coroutine)
    began_s = time.monotonic()
    said = in_threads(10, slow) if how == "threads" else asyncio.run(gathered())
    assert said == [compute()] * 10
    assert len(calls) == (10 if why == "not JSON" else 1)
    assert time.monotonic() - began_s < 3, "one after the other takes four seconds"
    assert [record.getMessage().count("is not kept") for record in caplog.records] == [1]
    assert f"slow.{why}.{how}" in caplog.text
    assert list(cache) == ["other"]
