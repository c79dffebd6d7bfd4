"""The cache of many hosts: what is its own, on real servers that are killed, frozen, replaced, written to by others."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import multiprocessing
import os
import pickle
import re
import socket
import threading
import time
from zlib import crc32

import pytest
from cache_server import DEADLINE_S, Server, python, without_epoch

from sereno.cache import MetadataCache, get_metadata_cache
from sereno.cache.fleet import layout
from sereno.errors import CacheError, CacheFormatError, CacheUnavailable, UsageError

LIMIT_S = 0.25
# What the machine may take on top, when it is busy.
SLACK_S = 0.35


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path / "server") as server:
        yield server


@pytest.fixture
def opened(monkeypatch, request):
    """Opens a cache of its own on a server."""
    caches = []

    def open_it(server, *parameters, user="", **arguments):
        ns = f"ns={request.node.name[:80].replace('[', '.').replace(']', '.')}"
        monkeypatch.setenv("SERENO_CACHE_URL", server.url(ns, *parameters, user=user))
        caches.append(MetadataCache(**arguments))
        return caches[-1]

    yield open_it
    for cache in caches:
        cache.close()


_numbers = itertools.count(1)


def another():
    """The same cache with a connection of its own, as another process has it."""
    url = re.sub(r"timeout=[0-9.]+", f"timeout=10.{next(_numbers)}", os.environ["SERENO_CACHE_URL"])
    os.environ["SERENO_CACHE_URL"] = url
    return MetadataCache()


def eventually(true):
    end = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def stores(cache) -> bool:
    try:
        cache.set("other", 1)
    except CacheUnavailable:
        return False
    return True


def seconds(action) -> float:
    began_s = time.monotonic()
    action()
    return time.monotonic() - began_s


# What is refused


@pytest.mark.parametrize("limit", ["max_size", "max_bytes"])
def test_a_limit_that_a_server_does_not_have_is_refused_by_name(shared, opened, limit):
    with pytest.raises(UsageError, match=rf"(?s)^{limit}: .*maxmemory") as refused:
        opened(shared, **{limit: 10})
    assert isinstance(refused.value, ValueError)


def test_a_path_wins_over_the_url_and_an_empty_url_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SERENO_CACHE_URL", "unix:///nowhere/socket")
    assert MetadataCache(tmp_path / "c").path == str(tmp_path / "c")
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path))
    assert get_metadata_cache().path.startswith("unix:///nowhere/socket")
    monkeypatch.setenv("SERENO_CACHE_URL", "")
    assert get_metadata_cache().path == str(tmp_path / "metadata")


def test_a_credential_names_the_server_too(shared, tmp_path, monkeypatch):
    (tmp_path / "sereno_cache_url").write_text(f"{shared.url('ns=credential')}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("SERENO_CACHE_URL", raising=False)
    with MetadataCache() as cache:
        cache.set("key", 1)
    assert b"credential:metadata:epoch" in shared.raw("KEYS", "credential:*")


def test_who_was_copied_still_says_of_which_server_it_is(shared, opened, monkeypatch):
    cache = opened(shared)
    assert copy.copy(cache).path == cache.path
    sent = pickle.dumps(cache)
    monkeypatch.setenv("SERENO_CACHE_URL", "unix:///nowhere/socket")
    with pytest.raises(UsageError, match="SERENO_CACHE_URL"):
        pickle.loads(sent)


def test_a_copy_that_would_be_of_another_server_is_refused(shared, opened, monkeypatch):
    cache = opened(shared, name="other")
    sent = pickle.dumps(cache)
    cache.set("key", 1)
    assert pickle.loads(sent).get("key") == 1
    monkeypatch.setenv("SERENO_CACHE_URL", "unix:///nowhere/socket")
    with pytest.raises(UsageError, match="SERENO_CACHE_URL"):
        pickle.loads(sent)


# What is removed


@pytest.mark.parametrize("special", ["*", "?", "[ab]", "\\", "[^x", "a-c]", "^"])
def test_what_is_special_in_a_pattern_stands_for_itself_in_a_prefix(shared, opened, special):
    cache = opened(shared)
    cache.set_many({f"{special}1": 1, f"x{special}": 2, "a1": 3, "\\*1": 4, "": 5})
    wanted = {key for key in cache if key.startswith(special)}
    assert cache.invalidate_pattern(special) == len(wanted) == (2 if special == "\\" else 1)
    assert not wanted & set(cache)


def test_clear_is_of_one_name_and_of_one_prefix(shared, opened):
    first, second = opened(shared), opened(shared, name="metadata:2")
    first.set("key", 1), second.set("key", 2)
    shared.raw("SET", "other", "1")
    first.clear()
    assert (first.get("key"), second.get("key")) == (None, 2)
    assert shared.raw("GET", "other") == b"$1\r\n1\r\n"
    assert len(first) == 0


@pytest.mark.parametrize("name", ["metadata:e", "metadata:f", "e:metadata", "\udcff%:"])
def test_a_cleanup_or_clear_takes_nothing_of_a_cache_with_a_similar_name(shared, opened, name):
    first, second = opened(shared), opened(shared, name=name)
    first.set("key", 1), second.set("key", 2)
    first.cleanup(), first.clear()
    assert (first.get("key"), second.get("key")) == (None, 2)
    second.cleanup(), second.clear()
    first.set("key", 3)
    assert (first.get("key"), second.get("key")) == (3, None)


def test_clear_is_one_step_for_all_and_takes_away_what_was_there(shared, opened):
    cache = opened(shared)
    cache.set_many({f"k{n}": n for n in range(3000)})
    other = another()
    assert other.get("k1") == 1
    cache.clear()
    assert other.get_many([f"k{n}" for n in range(3000)]) == {}
    assert b":e:" not in shared.raw("KEYS", f"{cache._backend.base.decode()}*")


# Servers that go


def test_a_server_that_is_killed_and_back_begins_empty_and_has_the_limits_again(server, opened):
    cache = opened(server, default_ttl=77)
    cache.set("key", 1)
    server.kill()
    assert cache.get("key") is None
    with pytest.raises(CacheUnavailable):
        cache.set("key", 2)
    with pytest.raises(CacheUnavailable):
        cache.invalidate("key")
    server.start()
    eventually(lambda: stores(cache))
    assert cache.get("key") is None
    cache.set("key", 3)
    assert (cache.get("key"), cache.default_ttl) == (3, 77)


def test_without_a_connection_a_read_is_a_miss_at_once_and_said_once(server, opened, caplog):
    cache = opened(server)
    cache.set("key", 1)
    server.kill()
    assert cache.get("key", "default") == "default"
    assert seconds(lambda: [cache.get("key") for _ in range(1000)]) < 5
    assert cache.get_many(["key"]) == {}
    assert "key" not in cache
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "nothing is found" in caplog.text


@pytest.mark.parametrize("errors", ["raise", "miss"])
def test_a_frozen_server_costs_one_wait_and_no_invalidation_looks_done(server, opened, errors):
    cache = opened(server, f"timeout={LIMIT_S}", errors=errors)
    cache.set("key", 1)
    server.freeze()
    assert LIMIT_S * 0.9 < seconds(lambda: cache.get("key")) < LIMIT_S + SLACK_S
    assert seconds(lambda: [cache.get("key") for _ in range(100)]) < 10 * LIMIT_S
    with pytest.raises(CacheUnavailable):
        cache.invalidate("key")
    with pytest.raises(CacheUnavailable):
        cache.invalidate_pattern("")
    for action in (cache.clear, lambda: cache.incr("n"), lambda: cache.add("a", 1)):
        with pytest.raises(CacheUnavailable):
            action()
    if errors == "raise":
        with pytest.raises(CacheUnavailable, match="no answer"):
            cache.set("key", 2)
    else:
        cache.set("key", 2)
        cache.set_many({"key": 2})
        assert list(cache) == []
    server.thaw()
    eventually(lambda: cache.get("key") is not None)
    # No reply to an earlier question is taken for that to a later one.
    cache.set_many({f"k{n}": n for n in range(100)})
    assert [cache.get(f"k{n}") for n in range(100)] == list(range(100))


def test_a_memoized_function_is_computed_while_there_is_no_server(server, opened):
    cache = opened(server)
    calls = []

    @cache.memoize(name="f")
    def compute(n: int) -> int:
        calls.append(n)
        return n

    server.kill()
    assert [compute(1), compute(1)] == [1, 1]
    with pytest.raises(CacheUnavailable):
        compute.invalidate(1)


def test_a_connection_that_was_closed_meanwhile_harms_no_question(shared, opened):
    cache = opened(shared)
    for action in (lambda: cache.set("key", 1), lambda: cache.get("key"), lambda: cache.incr("n")):
        action()
        assert b"ERR" not in shared.raw("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert action() in (None, 1, 2, 4, 6)
    assert cache.get("key") == 1


def test_scripts_that_were_forgotten_are_brought_again(shared, opened):
    cache = opened(shared)
    cache.incr("n")
    shared.raw("SCRIPT", "FLUSH")
    assert cache.incr("n") == 2


def test_scripts_that_were_forgotten_with_everything_else_are_brought_again(shared, opened):
    cache = opened(shared)
    cache.set("key", 1)
    shared.raw("FLUSHALL"), shared.raw("SCRIPT", "FLUSH")
    assert cache.get("key") is None
    assert cache.incr("n") == 1


def test_a_full_server_answers_and_removes_and_a_computed_value_is_returned(server, opened):
    cache = opened(server)
    cache.set_many({f"k{n}": "x" * 10_000 for n in range(300)})
    cache.get("k1")
    server.raw("CONFIG", "SET", "maxmemory", "2500000")
    for _ in range(3):
        cache._backend._counters.tell_at_once()
        assert cache.get("k1") == "x" * 10_000
    with pytest.raises(CacheUnavailable, match=r"(?s)OOM.*volatile-lfu"):
        cache.set("key", 1)
    assert cache.memoize(name="f")(lambda: 7)() == 7
    cache._backend._counters.tell_at_once()
    assert cache.invalidate("k2")
    cache.clear()
    assert (cache.get("k1"), cache.get_stats()["hits"]) == (None, 4)


def save_and_change(server, cache):
    """Leaves the file of a moment at which what is invalidated now was there."""
    cache.set("key", "old")
    assert b"OK" in server.raw("SAVE")
    assert cache.invalidate("key")


def epoch_off(monkeypatch):
    monkeypatch.setattr(layout, "EPOCH", layout.EPOCH)  # put back afterwards
    monkeypatch.setattr(layout, "ALL", layout.ALL)
    without_epoch()


@pytest.mark.parametrize("has_epoch", [True, False], ids=["", "and the test sees it without epoch"])
def test_an_old_file_brings_nothing_invalidated_back(server, opened, has_epoch, monkeypatch):
    if not has_epoch:
        epoch_off(monkeypatch)
    cache = opened(server)
    save_and_change(server, cache)
    server.kill()
    server.start()
    eventually(lambda: stores(cache))
    assert cache.get("key") == (None if has_epoch else "old")


@pytest.mark.parametrize("has_epoch", [True, False], ids=["", "and the test sees it without epoch"])
def test_a_replica_that_was_cut_off_and_is_promoted_brings_nothing_back(
    tmp_path, opened, has_epoch, monkeypatch
):
    if not has_epoch:
        epoch_off(monkeypatch)
    port = free_port()
    settings = ["repl-diskless-sync-delay 0", "bind 127.0.0.1"]
    with (
        Server(tmp_path / "s", f"port {port}", *settings) as primary,
        Server(tmp_path / "s", number=1) as replica,
    ):
        cache = opened(primary)
        cache.set("key", "old")
        replica.raw("REPLICAOF", "127.0.0.1", str(port))
        eventually(lambda: b"master_link_status:up" in replica.raw("INFO", "replication"))
        # Nobody takes a replica's word for the primary's.
        if has_epoch:
            follower = opened(replica)
            with pytest.raises(CacheUnavailable, match="READONLY"):
                follower.set("key", 1)
            assert follower.get("key") is None
        primary.freeze()  # cut off
        replica.raw("REPLICAOF", "NO", "ONE")
        primary.thaw()
        replica.kill_clients()
        assert cache.invalidate("key")
        promoted = opened(replica)
        eventually(lambda: stores(promoted))
        assert promoted.get("key") == (None if has_epoch else "old")


def test_a_primary_that_followed_another_for_a_while_brings_nothing_back(tmp_path, opened):
    ports = free_port(), free_port()
    settings = ["repl-diskless-sync-delay 0", "bind 127.0.0.1"]
    with (
        Server(tmp_path / "s", f"port {ports[0]}", *settings) as first,
        Server(tmp_path / "s", f"port {ports[1]}", *settings, number=1) as second,
    ):
        cache = opened(first)
        cache.set("key", "old")
        follow(second, ports[0])
        second.raw("REPLICAOF", "NO", "ONE")
        assert cache.invalidate("key")
        follow(first, ports[1])
        first.raw("REPLICAOF", "NO", "ONE")
        first.kill_clients()  # as Sentinel does
        assert cache.get("key") is None


def follow(server, port) -> None:
    server.raw("REPLICAOF", "127.0.0.1", str(port))
    eventually(lambda: b"master_link_status:up" in server.raw("INFO", "replication"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_what_others_do_to_the_server_parts_nobody(server, opened):
    """FLUSHALL, or an eviction of everything, takes the epoch too; whoever comes then begins another."""
    cache = opened(server)
    cache.set("key", 1)
    server.raw("FLUSHALL")
    other = another()
    other.set("key", 2)
    assert cache.get("key") == 2
    cache.invalidate("key")
    assert other.get("key") is None
    server.raw("SET", f"{cache._backend.base.decode()}epoch", "nonsense:x:y")
    cache.set("key", 3)
    assert other.get("key") == 3


# What others can write


def test_what_somebody_else_wrote_is_a_miss_or_an_error_and_never_run(shared, opened):
    cache = opened(shared)
    cache.set("key", 1)
    at = shared.raw("KEYS", f"{cache._backend.base.decode()}e:*").split(b"\r\n")[2].decode()
    for text in ("", "1", "x" * 12, '{"a": 1}' * 10, pickle.dumps([1]).decode("latin-1")):
        shared.raw("SET", at, text)
        assert cache.get("key") is None
        assert "key" not in cache
        assert cache.pop("key", "default") == "default"
    shared.raw("DEL", at)
    shared.raw("RPUSH", at, "1")
    with pytest.raises(CacheError, match="WRONGTYPE"):
        cache.get("key")
    assert cache.get_many(["key", "other"]) == {}
    assert cache.invalidate_pattern("key") == 0
    # Who knows how an entry is written can write one; what it holds is still no more than JSON.
    forged = b"12345678" + crc32(b"{no", crc32(b"12345678")).to_bytes(4, "little") + b"{no"
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(shared.socket))
        asked.sendall(
            b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$15\r\n%b\r\n" % (len(at), at.encode(), forged)
        )
        assert asked.recv(100) == b"+OK\r\n"
    with pytest.raises(CacheFormatError, match="no JSON"):
        cache.get("key")


class Odd:
    """Listens, and answers as `answer` does."""

    def __init__(self, path, answer):
        self.socket = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve, args=(answer,))
        self._thread.start()

    def _serve(self, answer):
        while True:
            try:
                asked, _ = self._listening.accept()
            except OSError:
                return
            with asked:
                answer(asked)

    url = Server.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()


def trickle(asked):
    try:
        while True:
            asked.sendall(b"%")
            time.sleep(0.05)
    except OSError:
        pass


def speak_http(asked):
    asked.recv(1000)
    asked.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def echo(asked):
    told = asked.recv(10_000).replace(b"\r\n", b" ")
    asked.sendall(b"-ERR what is " + told + b"\r\n" * 20)


def be_too_old(asked):
    asked.recv(10_000)
    asked.sendall(
        b"-ERR unknown command `HELLO`, with args: `3` `AUTH` `default` `hunter2`\r\n" * 20
    )


def have_no_epoch(asked):
    asked.recv(10_000)
    asked.sendall(b"%1\r\n$7\r\nversion\r\n$5\r\n7.0.1\r\n" + b"+OK\r\n" * len(layout.ALL))
    asked.recv(10_000)
    asked.sendall(b"+OK\r\n:1\r\n")


ODD = [trickle, speak_http, echo, be_too_old, have_no_epoch]


@pytest.mark.parametrize("answer", ODD, ids=lambda answer: answer.__name__)
def test_what_is_no_server_holds_nobody_and_is_told(tmp_path, opened, answer, caplog):
    with Odd(tmp_path / "odd", answer) as odd:
        cache = opened(odd, f"timeout={LIMIT_S}", user=":hunter2@")
        with pytest.raises(CacheError, match=f"cache server unix://{tmp_path}/odd") as refused:
            assert seconds(lambda: cache.set("key", 1)) < 2 * LIMIT_S + SLACK_S
        assert "hunter2" not in str(refused.value) + caplog.text


# Counters


def test_what_a_process_counts_others_see_within_a_second_or_when_it_ends(shared, opened):
    cache = opened(shared)
    code = "import sys, time; from sereno import MetadataCache; c = MetadataCache()\n"
    counting = code + "while True: c.get('x'); time.sleep(0.01)"
    with python(counting, os.environ["SERENO_CACHE_URL"]) as process:
        eventually(lambda: cache.get_stats()["misses"] > 0)
        process.kill()
    cache.reset_stats()
    with python(code + "[c.get('x') for _ in range(7)]", os.environ["SERENO_CACHE_URL"]) as process:
        _, error = process.communicate()
        assert not error
    assert cache.get_stats()["misses"] == 7


def test_what_was_counted_is_told_once_when_others_clear_the_cache(shared, opened):
    cache, other = opened(shared), another()
    other.set("key", 1)
    cache.get("x")
    cache.get_stats()
    cache.get("x"), cache.get("x")
    other.clear()
    cache._backend._counters.tell_at_once()
    cache.get("x")
    shared.raw("SCRIPT", "FLUSH")
    cache._backend._counters.tell_at_once()
    cache.add("key", 1)
    assert cache.get_stats()["misses"] == 4


def test_a_forked_child_sends_what_it_counted_and_not_what_its_parent_did(shared, opened):
    cache = opened(shared)
    cache.get("x")
    cache.get_stats()
    for _ in range(5):
        cache.get("x")  # not sent yet
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            cache.get("x")
            cache.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    assert cache.get_stats()["misses"] == 9


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_of_multiprocessing_sends_at_its_end_what_it_counted(shared, opened, method):
    cache = opened(shared)
    cache.get("x")
    cache.get_stats()
    worker = multiprocessing.get_context(method).Process(target=look_up_in, args=(cache,))
    worker.start()
    worker.join()
    assert (worker.exitcode, cache.get_stats()["misses"]) == (0, 3)


def look_up_in(cache: MetadataCache) -> None:
    cache.get("x")
    cache.get("x")


def test_threads_and_forks_at_once_mix_nothing_up(shared, opened):
    cache = opened(shared)
    cache.set_many({f"k{n}": n for n in range(50)})
    wrong, stop = [], threading.Event()

    def read() -> None:
        while not stop.is_set():
            for n in range(50):
                if cache.get(f"k{n}") != n:
                    wrong.append(n)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0 if [cache.get(f"k{n}") for n in range(50)] == list(range(50)) else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []


INTERRUPTED = """
import signal, time
from sereno import MetadataCache
cache = MetadataCache()
wanted = list(range(20))
cache.set_many({f"k{n}": n for n in wanted})
class Now(Exception):
    pass
def handler(*_):
    raise Now
signal.signal(signal.SIGALRM, handler)
interrupted, end = 0, time.monotonic() + 1.0
while time.monotonic() < end:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.0004)
        for n in wanted:
            assert cache.get(f"k{n}") in (n, None)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Now:
        interrupted += 1
signal.signal(signal.SIGALRM, signal.SIG_IGN)
assert interrupted > 20
assert [cache.get(f"k{n}") for n in wanted] == wanted
print("right")
"""


def test_who_is_interrupted_in_a_question_gets_no_answer_to_another(shared, opened):
    """In a process of its own: a handler that raises may also leave a lock of `logging` behind."""
    opened(shared)
    with python(INTERRUPTED, os.environ["SERENO_CACHE_URL"]) as process:
        out, error = process.communicate()
    assert out == "right\n", error


# One computation per fleet

COMPUTING = """
import os, sys, time
from sereno import MetadataCache
cache = MetadataCache()
@cache.memoize(name="f")
def slow(n):
    os.write(1, b"x")
    time.sleep(float(sys.argv[1]))
    return n
print("=", slow(1))
"""


def test_a_key_is_computed_once_by_many_hosts(shared, opened):
    opened(shared)
    processes = [python(COMPUTING, os.environ["SERENO_CACHE_URL"], 1.0) for _ in range(3)]
    outs = [process.communicate()[0] for process in processes]
    assert sorted(out.count("x") for out in outs) == [0, 0, 1]
    assert all("= 1" in out for out in outs)


def test_when_the_one_that_computes_is_killed_others_wait_no_longer_than_wait_s(shared, opened):
    cache = opened(shared)
    with python(COMPUTING, os.environ["SERENO_CACHE_URL"], 1000) as process:
        assert process.stdout.read(1) == "x"
        process.kill()

    @cache.memoize(name="f", wait_s=0.5)
    def slow(n: int) -> int:
        return n + 1

    assert 0.4 < seconds(lambda: slow(1)) < 0.5 + 5
    assert slow(1) == 2


def test_a_failure_is_told_to_those_who_wait_on_other_hosts(shared, opened):
    cache = opened(shared)
    flight, waits = cache._backend.lock("k", 30.0), another()._backend.lock("k", 30.0)
    assert flight.try_to_take()
    assert not waits.try_to_take()
    flight.note_failure()
    flight.release()
    assert waits.try_to_take()
    time.sleep(0.3)
    again = cache._backend.lock("k", 30.0)
    assert again.try_to_take()
    assert not waits.try_to_take()
    again.release()
    assert waits.try_to_take()


def test_statistics_and_the_cleanup_report(shared, opened):
    cache = opened(shared, max_value_bytes=100)
    with pytest.raises(UsageError, match="max_value_bytes"):
        cache.set("key", "x" * 200)
    cache.set("key", 1, ttl=0.05)
    cache.set("stays", 1)
    cache.get("key")
    eventually(lambda: cache.get("key") is None)
    stats = json.loads(json.dumps(cache.get_stats()))
    assert stats["path"] == cache.path
    assert (stats["size"], stats["max_size"], stats["default_ttl"]) == (1, None, 3600)
    assert stats["hits"] >= 1 <= stats["misses"]
    report = cache.run_cleanup()
    assert (report.entries_removed, report.size, report.hits) == (0, 1, stats["hits"])
    assert cache.run_cleanup().hits == 0


def test_a_log_line_has_no_password(server, opened, caplog):
    caplog.set_level(logging.DEBUG)
    server.raw("CONFIG", "SET", "requirepass", "hunter2")
    cache = opened(server, user=":hunter2@")
    cache.set("key", 1)
    assert cache.get("key") == 1
    server.kill()
    cache.get("key")
    with pytest.raises(CacheUnavailable) as refused:
        cache.set("key", 1)
    told = f"{refused.value!r}{refused.value}{caplog.text}{cache.path}{pickle.dumps(cache)!r}"
    assert "hunter2" not in told + repr(cache._backend.address)
