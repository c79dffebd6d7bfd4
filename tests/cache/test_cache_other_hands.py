"""The cache in other people's hands: C forks, containers, stopped and killed processes, large values, removed files."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sereno.cache import MetadataCache, clock, damage, directory, entry
from sereno.cache import board as words
from sereno.cache.backend import Backend
from sereno.cache.session import session_for
from sereno.cache.values import ANYTHING, KEPT_LIFETIME, NOTHING
from sereno.errors import CacheError, UsageError

LIB = Path(__file__).parents[2] / "lib"
PRELUDE = "import os, signal, sys, time\nfrom sereno.cache import MetadataCache\n"


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "cache"


def run(code: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + code, str(path)],
        env=os.environ | {"PYTHONPATH": str(LIB)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


# Forks


def test_children_that_c_code_forked_read_and_count_and_leave_the_parent_alone(path):
    """Without Python's hooks, as uWSGI does by default."""
    cache = MetadataCache(path)
    cache.set("k", 1)
    for _ in range(3):
        cache.get("k")
    before = cache.get_stats()["hits"]
    for _ in range(30):
        pid = ctypes.PyDLL(None).fork()
        if not pid:
            right = all(cache.get("k") == 1 for _ in range(5))
            cache.set("from a child", os.getpid())
            right &= cache.get("from a child") == os.getpid()
            cache.close()
            os._exit(0 if right else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert cache.get("k") == 1
    assert cache.get_stats()["hits"] == before + 30 * 7
    readers = cache._session.store.env.readers().strip().splitlines()[1:]
    assert {line.split()[0] for line in readers} <= {str(os.getpid())}


@pytest.mark.parametrize("fork", [os.fork, lambda: ctypes.PyDLL(None).fork()])
def test_a_child_leaves_the_place_from_which_its_parent_reads(path, fork):
    """To close the environment that it inherited would free it: pages would be used again under the parent."""
    cache = MetadataCache(path)
    cache.set("k", 1)
    with cache._session.store.begin() as txn:
        txn.get(b"k")
        pid = fork()
        if not pid:
            right = cache.get("k") == 1
            cache.close()
            os._exit(0 if right else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert str(os.getpid()) in cache._session.store.env.readers()


def test_a_child_that_may_open_no_more_files_leaves_its_parent_its_place_among_the_readers(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    readers = cache._session.store.env.readers
    with cache._session.store.begin():
        before = readers()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, limits[1]))
        held = []
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        pid = os.fork()
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if pid == 0:
            try:
                os._exit(0 if entry.loading.acquire(timeout=0.1) and "k" in cache else 1)
            finally:
                os._exit(2)
        assert os.waitpid(pid, 0)[1] == 0
        assert readers() == before
    assert cache.get("k") == 1


def test_a_fork_waits_for_a_thread_that_loads_orjson():
    loading, may_end = threading.Event(), threading.Event()

    def load() -> None:
        with entry.loading:
            loading.set()
            may_end.wait(20)

    thread = threading.Thread(target=load)
    thread.start()
    loading.wait(20)
    threading.Timer(0.3, may_end.set).start()
    began = time.monotonic()
    pid = os.fork()
    if not pid:
        os._exit(0 if entry.loading.acquire(timeout=0.1) else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert time.monotonic() - began >= 0.2
    thread.join()


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_of_the_caches_that_are_gone_the_last_one_alone_stays_open_and_may_come_again(tmp_path):
    before = files_open()
    caches = [MetadataCache(tmp_path / str(n)) for n in range(12)]
    for n, cache in enumerate(caches):
        cache.set("k", n)
    of_one = (files_open() - before) // 12
    del cache
    caches.clear()
    assert files_open() <= before + of_one
    MetadataCache(tmp_path / "0").set("k", 7)
    store = session_for(str(tmp_path / "0")).store
    assert MetadataCache(tmp_path / "0").get("k") == 7
    assert session_for(str(tmp_path / "0")).store is store
    cache, same = MetadataCache(tmp_path / "1"), MetadataCache(tmp_path / "1")
    del same
    assert cache.get("k") == 1
    assert files_open() <= before + 2 * of_one


def test_a_cache_that_goes_while_its_lock_is_held_is_closed_with_the_next_one(tmp_path):
    cache = MetadataCache(tmp_path / "a")
    cache.set("k", 1)
    taken, may_end = threading.Event(), threading.Event()

    def hold(lock: Any) -> None:
        with lock:
            taken.set()
            may_end.wait(20)

    thread = threading.Thread(target=hold, args=(cache._session.lock,))
    thread.start()
    taken.wait(20)
    del cache
    MetadataCache(tmp_path / "b").set("k", 1)  # waits for nobody
    may_end.set()
    thread.join()
    of_two = files_open()
    MetadataCache(tmp_path / "c")
    assert files_open() < of_two


class Interrupted(Exception):
    """What a handler of a signal raises."""


def interrupted_at(point: int, action: Callable[[], object]) -> bool:
    """Raises where a function of Python begins or one of C has ended, as a signal's handler may; was there such a
    point?"""
    left = point

    def hook(_: object, event: str, called: object) -> None:
        nonlocal left
        left -= event in ("call", "c_return") and called is not sys.setprofile
        if left < 0:
            sys.setprofile(None)
            raise Interrupted

    # pytest's own hook must not be interrupted: it would fail the test.
    unraisable, sys.unraisablehook = sys.unraisablehook, [].append
    sys.setprofile(hook)
    try:
        action()
    except Interrupted:
        pass
    finally:
        sys.setprofile(None)
        sys.unraisablehook = unraisable
        # What `logging` does at a fork is Python's, and would keep its lock from all threads of the tests that follow.
        while logging._lock._is_owned():
            logging._lock.release()
    return left < 0


def fork_and_wait() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


# What is raised while a fork waits for its locks goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_fork_that_is_interrupted_anywhere_leaves_no_lock_taken(tmp_path):
    cache = MetadataCache(tmp_path / "c")
    cache.set("k", 1)
    point, found = 0, []

    def use() -> None:
        cache.set("k", point)
        found.append(cache.get("k"))
        MetadataCache(tmp_path / "c")

    while interrupted_at(point, fork_and_wait):
        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(10)
        assert found[-1:] == [point], f"locked since an interruption at point {point}"
        point += 1
    assert point > 3


def test_an_opening_that_is_interrupted_at_its_end_keeps_no_line_and_no_lock(tmp_path):
    cache = MetadataCache(tmp_path / "c")
    cache.set("k", 1)
    last = next(n for n in itertools.count(500, 10) if not opening_interrupted(cache, n))
    for point in range(last - 160, last):
        opening_interrupted(cache, point)
        # What the one before had would not be free: its line, and the right to open.
        assert cache.get("k") == 1
        assert cache._session.store.board.line_number == 0, f"interrupted at point {point}"


def opening_interrupted(cache: MetadataCache, point: int) -> bool:
    cache.close()
    return interrupted_at(point, lambda: cache.get("k"))


# Containers and sandboxes


def test_without_the_boots_id_nothing_is_touched_and_the_setting_is_named(path, monkeypatch):
    MetadataCache(path).set("k", 1)
    with monkeypatch.context() as patched:
        patched.setattr(clock, "_BOOT_ID", "/nowhere/boot_id")
        MetadataCache(path).close()
        with pytest.raises(CacheError, match="ProcSubset=all") as caught:
            MetadataCache(path).get("k")
        assert caught.value.errno == errno.ENOENT
        with pytest.raises(CacheError, match="ProcSubset=all"):
            MetadataCache(path.parent / "new").get("k")
    assert MetadataCache(path).get("k") == 1
    assert not damage.kept(os.listdir(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of processes need root")
def test_the_same_process_id_in_two_containers_is_named(path):
    """LMDB tells processes apart by it, and no two of one id can share a cache."""
    held = "cache = MetadataCache(sys.argv[1]); cache.get('k'); print(os.getpid(), flush=True); time.sleep(60)"
    alone = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c"]
    environment = os.environ | {"PYTHONPATH": str(LIB)}
    first = subprocess.Popen(
        [*alone, PRELUDE + held, str(path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "1\n"
        ask = "try: print(MetadataCache(sys.argv[1]).get('k'))\nexcept OSError as error: print(error.errno, error.hint)"
        second = subprocess.run(
            [*alone, PRELUDE + ask, str(path)],
            env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        first.kill()
        first.communicate()
    said = second.stdout
    assert said == "None\n" or (said.startswith(f"{errno.EAGAIN} ") and "process id 1 too" in said)


# Stopped and killed


def test_a_process_stopped_inside_its_write_keeps_nobody_from_opening_and_reading(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    stop = (
        "cache = MetadataCache(sys.argv[1])\n"
        "cache._session.written(lambda _: os.kill(os.getpid(), signal.SIGSTOP))"
    )
    stopped = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + stop, str(path)],
        env=os.environ | {"PYTHONPATH": str(LIB)},
    )
    try:
        assert os.WIFSTOPPED(os.waitpid(stopped.pid, os.WUNTRACED)[1])
        code = (
            "began = time.monotonic()\ncache = MetadataCache(sys.argv[1])\n"
            "print(cache.get('k'), time.monotonic() - began < 5)\n"
            "try: cache.set('k', 2)\nexcept OSError as error: print(error)"
        )
        read, refused = run(code, path, SERENO_CACHE_WAIT_S="0.2").stdout.splitlines()[:2]
        assert read == "1 True"
        assert f"process {stopped.pid} " in refused
    finally:
        stopped.kill()
        stopped.wait()
    cache.set("k", 3)
    assert cache.get("k") == 3


KILLED = "cache = MetadataCache(sys.argv[1])\nfor n in range(50): cache.set(f'k{n}', n)\n"
INSIDE = KILLED + "cache._session.written(lambda _: os.kill(os.getpid(), 9))"


@pytest.mark.parametrize(
    ("code", "walks"),
    [(KILLED + "os.kill(os.getpid(), 9)", 0), (INSIDE, 1)],
    ids=["", "in a write"],
)
def test_only_a_death_inside_a_write_has_the_file_walked_through(path, monkeypatch, code, walks):
    for _ in range(3):
        assert run(code, path).returncode == -signal.SIGKILL
    seen: list[int] = []
    monkeypatch.setattr(damage, "_problems", lambda data: seen.append(data) or [])
    cache = MetadataCache(path)
    assert [cache.get(f"k{n}") for n in range(50)] == list(range(50))
    assert len(seen) == walks


def test_after_a_kill_another_file_than_it_left_is_walked_through(path, monkeypatch):
    MetadataCache(path).set("old", 1)
    MetadataCache(path).close()
    old = (path / "format-3" / "data.mdb").read_bytes()
    assert run(KILLED + "os.kill(os.getpid(), 9)", path).returncode == -signal.SIGKILL
    (path / "format-3" / "data.mdb").write_bytes(old)
    seen: list[int] = []
    monkeypatch.setattr(damage, "_problems", lambda data: seen.append(data) or [])
    MetadataCache(path).get("k1")
    assert len(seen) == 1


# The clean end


class Recording:
    """An object of C whose calls are noted."""

    def __init__(self, real: object, calls: list[str]) -> None:
        self._real, self._calls = real, calls

    def __getattr__(self, name: str) -> object:
        self._calls.append(name)
        return getattr(self._real, name)


def test_a_clean_end_has_store_board_and_mark_on_the_disk_in_that_order(path, monkeypatch):
    cache = MetadataCache(path)
    cache.set("k", 1)
    calls: list[str] = []
    store = cache._session.store
    store.env = Recording(store.env, calls)
    store.board._map = Recording(store.board._map, calls)
    marked = directory.write_mark

    def write(*arguments: object) -> None:
        calls.append("word" if store.words[words.SYNCED] else "no word")
        marked(*arguments)
        calls.append("mark")

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync") or fsync(fd))
    monkeypatch.setattr(directory, "write_mark", write)
    cache.close()
    wanted = ["sync", "flush", "word", "fsync", "fsync", "mark"]
    assert [call for call in calls if call in wanted] == wanted
    # The first write after it takes the mark away, on the disk, before anything else.
    del calls[:]
    cache.set("k", 2)
    assert calls == ["fsync"]
    assert not (path / "format-3" / directory.MARK).exists()


def test_a_kill_at_the_mark_brings_no_invalidated_value_back(path, tmp_path):
    kill = (
        "from sereno.cache import directory\nwrite = directory.write_mark\n"
        "directory.write_mark = lambda *a: (write(*a), os.kill(os.getpid(), 9))\n"
        "cache = MetadataCache(sys.argv[1]); cache.set('k', 'old'); cache.close()"
    )
    assert run(kill, path).returncode == -signal.SIGKILL
    assert run("MetadataCache(sys.argv[1]).invalidate('k')\nos._exit(0)", path).returncode == 0
    # So a machine that goes down now does not find the mark of before.
    assert not (path / "format-3" / directory.MARK).exists()


# Files


def test_a_lock_file_that_is_removed_while_the_cache_is_open_never_leaves_two_in_use(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    os.unlink(path / "format-3" / "lock.mdb")
    cache._session.check_at[0] = 0.0  # the second is over
    assert cache.get("k") is None
    cache.set("k", 2)
    assert run("print(MetadataCache(sys.argv[1]).get('k'))", path).stdout == "2\n"


def test_who_opens_first_after_the_lock_file_was_removed_makes_no_second_one(path):
    cache = MetadataCache(path)
    cache.set("k", 1)
    os.unlink(path / "format-3" / "lock.mdb")
    assert run("print(MetadataCache(sys.argv[1]).get('k'))", path).stdout == "None\n"
    assert cache.get("k") is None
    cache.set("k", 2)
    assert run("print(MetadataCache(sys.argv[1]).get('k'))", path).stdout == "2\n"


@pytest.mark.parametrize("name", ["board", "lock.mdb", "reserve"])
def test_a_copy_without_its_zeroes_has_its_blocks_once_it_is_opened(path, tmp_path, name):
    cache = MetadataCache(path)
    cache.set("k", 1)
    cache.close()
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", "--sparse=always", path, copy], check=True)
    again = MetadataCache(copy)
    assert again.get("k") == 1
    found = (copy / "format-3" / name).stat()
    assert found.st_blocks * 512 >= found.st_size


# Sizes


def test_a_large_value_that_is_overwritten_again_and_again_stays_near_the_pages_in_use(path):
    cache = MetadataCache(path)
    for n in range(60):
        cache.set("large", f"{n:x}" * (5 << 20 if n < 16 else 5 << 19))
    assert cache.get_stats()["file_bytes"] < 6 * (5 << 20)


def test_a_limit_in_bytes_evicts_like_the_count_also_where_values_grow(path):
    cache = MetadataCache(path, max_size=None)
    backend = cache._backend
    assert list(backend.set_limits({"max_bytes": 50_000}, cache._now_ms())) == []
    for n in range(200):
        cache.set(f"k{n}", "v" * 1000)
        assert backend.counted().held_bytes <= 50_000
    assert backend.counted().entries > 40
    for n in range(190, 200):
        cache.set(f"k{n}", "v" * 4000)
        assert backend.counted().held_bytes <= 50_000
        assert cache.get(f"k{n}") == "v" * 4000
    with pytest.raises(UsageError, match="max_bytes is 50000"):
        cache.set("k0", "v" * 50_000)
    assert sum(backend.set_limits({"max_bytes": 10_000}, cache._now_ms())) > 5
    assert backend.counted().held_bytes <= 10_000


def test_one_value_above_its_limit_is_refused_and_changes_nothing(path):
    cache = MetadataCache(path)
    list(cache._backend.set_limits({"max_value_bytes": 100}, cache._now_ms()))
    cache.set("k", "v" * 98)
    with pytest.raises(UsageError, match="101 bytes as JSON, and max_value_bytes is 100"):
        cache.set("k", "v" * 99)
    with pytest.raises(UsageError):
        cache.set_many({"a": 1, "b": "v" * 99})
    assert (cache.get("k"), len(cache)) == ("v" * 98, 1)


# What a write owes to those who keep values


def lowered(cache: MetadataCache) -> None:
    list(cache._backend.set_limits({"max_size": 1}, cache._now_ms()))
    cache.set("other", 1)


CHANGES: dict[str, Callable[[MetadataCache], object]] = {
    "set": lambda cache: cache.set("k", "new"),
    "set_many": lambda cache: cache.set_many({"k": "new"}),
    "removed by ttl": lambda cache: cache.set("k", "new", ttl=0),
    "invalidate": lambda cache: cache.invalidate("k"),
    "invalidate_pattern": lambda cache: cache.invalidate_pattern("k"),
    "clear": lambda cache: cache.clear(),
    "evicted": lowered,
    "compare and put": lambda cache: cache._backend.put("k", b'"new"', None, 0, expected=b'"old"'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_moves_the_generation_of_its_key(path, change):
    cache, other = MetadataCache(path), MetadataCache(path)
    cache.set("k", "old")
    for _ in range(3):
        assert cache.get("k") == "old"
    assert "k" in cache._level.kept
    other.set("later", 1)
    CHANGES[change](other)
    assert cache.get("k") in ("new", None)


def test_what_is_kept_expires_and_what_the_cleanup_removes_is_not_kept(path):
    now_s = 1000.0
    cache = MetadataCache(path, clock=lambda: now_s)
    cache.set("k", 1, ttl=10)
    for _ in range(3):
        assert cache.get("k") == 1
    assert "k" in cache._level.kept
    now_s = 1010.0
    assert cache.get("k") is None
    slot = entry.crc32(b"k") & words.GENERATION_MASK
    before = cache._session.store.board.generations[slot]
    assert cache.cleanup() == 1
    assert cache._session.store.board.generations[slot] > before


def test_a_value_is_not_kept_whose_snapshot_is_older_than_its_generation(path):
    """A writer has announced a change and not committed it yet, or never will."""
    cache = MetadataCache(path)
    cache.set("k", 1)
    store = cache._session.store
    store.board.generations[entry.crc32(b"k") & words.GENERATION_MASK] = (
        store.last_transaction() + 1
    )
    for _ in range(4):
        assert cache.get("k") == 1
    assert cache._level is None
    cache.set("k", 2)
    for _ in range(3):
        assert cache.get("k") == 2
    assert "k" in cache._level.kept


# The seam


def test_a_put_goes_through_only_where_what_is_there_is_as_expected(path):
    backend = Backend(str(path))
    put = backend.put
    assert put("k", b"1", None, 0, expected=NOTHING).matched
    assert not put("k", b"2", None, 0, expected=NOTHING).matched
    assert not put("k", b"2", None, 0, expected=b"7").matched
    assert put("k", b"2", None, 0, expected=b"1") == (1, 0, True)
    version = backend.version("k")
    assert put("k", b"3", None, 0, expected=version).matched
    assert not put("k", b"4", None, 0, expected=version).matched
    assert backend.fetch(["k", "l"], 0) == [b"3", None]
    assert put("k", b"9", 10, 1 << 40, expected=ANYTHING).matched
    later = (1 << 40) + 10
    assert not put("k", b"1", None, later - 1, expected=NOTHING).matched
    assert put("k", b"1", KEPT_LIFETIME, later - 1, expected=b"9").matched
    assert put("k", b"1", None, later, expected=NOTHING).matched


COUNT = """
from sereno.cache.backend import Backend
from sereno.cache.session import session_for
from sereno.cache.values import NOTHING
backend = Backend(sys.argv[1])
for _ in range(200):
    while True:
        (text,) = backend.fetch(["n"], 0)
        if backend.put("n", b"%d" % (int(text or 0) + 1), None, 0, expected=text or NOTHING).matched:
            break
"""


def test_processes_that_count_by_comparing_lose_no_count(path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PRELUDE + COUNT, str(path)],
            env=os.environ | {"PYTHONPATH": str(LIB)},
        )
        for _ in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert json.loads(Backend(str(path)).fetch(["n"], 0)[0]) == 600
