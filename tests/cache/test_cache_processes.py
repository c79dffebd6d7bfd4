"""Several processes and threads at once: exact counters, exact limits, nobody in the other's way."""

from __future__ import annotations

import itertools
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from mmap import mmap
from pathlib import Path

import pytest

from sereno.cache import MetadataCache
from sereno.cache.clock import NEVER_MS
from sereno.cache.values import ANYTHING
from sereno.cache.write import Write
from sereno.errors import CacheError

LIB = Path(__file__).parents[2] / "lib"
PROCESSES = 4
OPENERS = 64 if os.environ.get("SERENO_TEST_LONG") == "1" else 20


def in_child(action: Callable[[], None]) -> int:
    """Runs `action` in a forked child, which ends without Python's end; returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        action()
        status = 0
    finally:
        os._exit(status)


def wait_for(*pids: int) -> None:
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache"


def test_what_one_process_sets_another_reads_and_the_cache_outlives_both(path):
    code = "import sys; from sereno.cache import MetadataCache; MetadataCache(sys.argv[1]).set('k', [1])"
    subprocess.run(
        [sys.executable, "-c", code, path], env=os.environ | {"PYTHONPATH": str(LIB)}, check=True
    )
    assert MetadataCache(path).get("k") == [1]


def test_counters_are_those_of_all_processes_together(path):
    def work() -> None:
        cache = MetadataCache(path)
        for number in range(2000):
            cache.get(f"k{number % 100}")

    MetadataCache(path).set_many({f"k{n}": n for n in range(50)})
    wait_for(*[in_child(work) for _ in range(PROCESSES)])
    stats = MetadataCache(path).get_stats()
    assert (stats["hits"], stats["misses"]) == (1000 * PROCESSES, 1000 * PROCESSES)
    assert (stats["hit_rate_percent"], stats["sets"]) == (50.0, 50)


def test_no_counted_request_is_lost_when_processes_are_killed(path):
    done = memoryview(mmap(-1, 8 * PROCESSES)).cast("Q")

    def work(number: int) -> None:
        cache = MetadataCache(path)
        while True:
            cache.get(f"k{done[number] % 100}")
            done[number] += 1

    MetadataCache(path).set_many({f"k{n}": n for n in range(50)})
    pids = [in_child(lambda number=number: work(number)) for number in range(PROCESSES)]
    deadline = time.monotonic() + 20
    while min(done) < 3000 and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    counted = MetadataCache(path).get_stats()["total_requests"]
    # Each of them may have died between the request and the test's own count of it.
    assert 3000 * PROCESSES <= sum(done) <= counted <= sum(done) + PROCESSES


def test_lines_of_dead_processes_are_used_again_without_losing_what_they_counted(path):
    cache = MetadataCache(path)
    for _ in range(30):
        wait_for(in_child(lambda: MetadataCache(path).get("nothing")))
    assert cache.get_stats()["misses"] == 30
    assert cache._session.store.board.line_number == 0


def test_threads_lose_no_count(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:

        def work() -> None:
            for _ in range(5000):
                cache.get("k")
                cache.get("nothing")

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"]) == (40_000, 40_000)


def test_threads_that_write_and_close_and_read_do_not_block_one_another(path):
    cache = MetadataCache(path, max_size=100)
    stop = time.monotonic() + 1
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while time.monotonic() < stop:
                cache.set(f"k{number}", number)
                assert cache.get(f"k{number}") in (number, None)
                cache.invalidate_pattern(f"k{number}")
                if number == 0:
                    cache.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert failures == []


def test_files_that_another_thread_closes_as_soon_as_they_are_open_are_no_damage(path, monkeypatch):
    cache = MetadataCache(path)
    cache.set("k", 1)
    session, closes = cache._session, iter(range(5))
    recover = session._recover

    def recover_and_close(failure: Exception | None) -> None:
        recover(failure)
        for _ in itertools.islice(closes, 1):
            session.close()

    monkeypatch.setattr(session, "_recover", recover_and_close)
    session.close()
    assert session.reading(lambda store: store is session.store)
    assert next(closes, None) is None
    # One that does so for ever is not waited for.
    closes = itertools.count()
    session.close()
    with pytest.raises(CacheError, match="others close or replace its files"):
        session.reading(lambda store: store)


def test_a_forked_child_has_the_cache_and_leaves_its_parents_alone(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    cache.get("k")

    def child() -> None:
        assert cache.get("k") in (1, 2)
        cache.set("k", 2)
        cache.set("child", True)
        cache.close()

    wait_for(*[in_child(child) for _ in range(5)])
    assert (cache.get("k"), cache.get("child")) == (2, True)
    cache.set("k", 3)
    wait_for(in_child(lambda: None if cache.get("k") == 3 else os._exit(1)))
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["sets"]) == (9, 0, 12)


def test_forking_amid_busy_threads_harms_nobody(path):
    cache = MetadataCache(path, max_size=50)
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            while not stop.is_set():
                cache.set(f"k{number}", number)
                for other in range(100):
                    assert cache.get(f"k{other}") in (other, None)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):

            def child() -> None:
                for number in range(100):
                    cache.set(f"k{number}", number)
                    assert cache.get(f"k{number}") in (number, None)

            wait_for(in_child(child))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert cache.get_stats()["size"] == len(cache) <= 50


def test_many_processes_may_open_a_new_cache_at_the_same_moment(path):
    start_read, start_write = os.pipe()

    def work(number: int) -> None:
        os.close(start_write)
        os.read(start_read, 1)
        MetadataCache(path, max_size=1000).set(f"k{number}", number)

    pids = [in_child(lambda number=number: work(number)) for number in range(OPENERS)]
    os.close(start_write)
    wait_for(*pids)
    os.close(start_read)
    cache = MetadataCache(path)
    expected = {f"k{number}": number for number in range(OPENERS)}
    assert cache.get_many(expected) == expected
    assert sorted(os.listdir(path)) == ["format-3", "open.lock"]


def test_max_size_holds_at_every_moment_whatever_processes_do(path):
    def work(number: int) -> None:
        cache = MetadataCache(path)
        for turn in range(400):
            cache.set(f"{number}-{turn}", turn)
            if turn % 10 == 0:
                cache.set_many({f"{number}-{turn}-many-{n}": n for n in range(30)})
            cache.get(f"{number}-{turn // 2}")

    cache = MetadataCache(path, max_size=100)
    assert cache.max_size == 100
    pids = [in_child(lambda number=number: work(number)) for number in range(PROCESSES)]
    largest = 0
    alive = set(pids)
    while alive:
        largest = max(largest, cache.get_stats()["size"])
        for pid in list(alive):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                assert status == 0
                alive.remove(pid)
    stats = cache.get_stats()
    assert largest == stats["size"] == len(list(cache)) == 100
    assert stats["evictions"] == PROCESSES * (400 + 40 * 30) - 100


def test_a_process_killed_inside_a_write_changes_nothing_and_blocks_nobody(path):
    cache = MetadataCache(path)
    cache.set("k", "before")
    ready_read, ready_write = os.pipe()

    def die_inside() -> None:
        def write_and_wait(txn: Write, _: None) -> None:
            txn.put_one("k", b"k", b'"never committed"', NEVER_MS, 0, 0.0, ANYTHING)
            os.write(ready_write, b"x")
            time.sleep(60)

        cache._session.written(write_and_wait, None)

    cache.get("k")
    pid = in_child(die_inside)
    os.read(ready_read, 1)
    assert cache.get("k") == "before"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    cache.set("other", 1)
    assert (cache.get("k"), cache.get("k"), cache.get("other")) == ("before", "before", 1)
    cache.set("k", "after")
    assert cache.get("k") == "after"


def test_the_generation_words_are_whole_whoever_reads_them(path):
    # The protocol rests on an aligned 8-byte store being one: a torn word would show as another value.
    cache = MetadataCache(path)
    cache.set("k", 1)
    words = cache._session.store.board.generations
    values = [int.from_bytes(struct.pack("B", byte) * 8, "little") for byte in (0x00, 0xFF)]

    def flip() -> None:
        while True:
            words[5] = values[0]
            words[5] = values[1]

    pid = in_child(flip)
    try:
        assert {words[5] for _ in range(200_000)} <= set(values)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
