"""Real forking servers: gunicorn and uWSGI, which load the application before they fork, and Celery, which replaces
its children."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sereno.cache import MetadataCache

LIB = Path(__file__).parents[2] / "lib"
WORKERS = 3
THREADS = ("--enable-threads", "--threads", "2")
# Of uWSGI: with each word once in the ordinary run, in all ways in the long one.
OTHER_WAYS = [((), THREADS), (("--lazy-apps",), ())] * (os.environ.get("SERENO_TEST_LONG") == "1")
APPLICATION = """
import json, os, time
from sereno.cache import MetadataCache

cache = MetadataCache(os.environ["CACHE"])
cache.set("loaded", os.getpid())
assert cache.get("loaded")
cache.incr("loads")


@cache.memoize()
def price(key):
    time.sleep(0.2)
    return [key, cache.incr("computed")]


def application(environ, start_response):
    verb, _, key = environ["PATH_INFO"][1:].partition("/")
    if verb == "set":
        cache.set(key, environ["QUERY_STRING"])
    value = price(key) if verb == "price" else cache.get(key)
    answer = {"pid": os.getpid(), "loaded": cache.get("loaded"), "value": value}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
"""


def gunicorn(port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)),
        *("--bind", f"127.0.0.1:{port}", "--log-level", "warning", "shop"),
    ]


class Server:
    """A server on a free port of the loopback interface."""

    def __init__(self, directory: Path, command: Callable[[int], list[str]]) -> None:
        (directory / "shop.py").write_text(APPLICATION)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            command(self.port),
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(LIB), "CACHE": str(directory / "cache")},
        )
        self.asked = 0

    def ask(self, path: str) -> dict[str, object]:
        """One request on a connection of its own, which any worker may take."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as answer:
                    self.asked += 1
                    return json.load(answer)  # type: ignore[no-any-return]
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def pids(self, at_least: int, key: str = "nothing", value: object = None) -> set[object]:
        """Workers that have answered, each with the value; asks until there are that many."""
        seen: set[object] = set()
        deadline = time.monotonic() + 30
        while len(seen) < at_least:
            assert time.monotonic() < deadline, seen
            with ThreadPoolExecutor(at_least) as crowd:
                answers = list(crowd.map(self.ask, [f"get/{key}"] * at_least))
            assert {answer["value"] for answer in answers} == {value}
            seen |= {answer["pid"] for answer in answers}
        return seen


@contextlib.contextmanager
def started(directory: Path, command: Callable[[int], list[str]]) -> Iterator[Server]:
    server = Server(directory, command)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(20)


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    with started(tmp_path, gunicorn) as server:
        yield server


def test_workers_forked_from_a_loaded_application_share_its_cache_and_lose_no_count(
    server, tmp_path
):
    requests = 0
    master = server.ask("get/nothing")["loaded"]
    workers = server.pids(WORKERS)
    assert master == server.process.pid
    assert master not in workers
    for number in range(60):
        server.ask(f"set/k{number % 5}?{number}")
        answer = server.ask(f"get/k{number % 5}")
        assert (answer["loaded"], answer["value"]) == (master, str(number))
        requests += 4
        if number == 30:
            os.kill(int(answer["pid"]), signal.SIGKILL)
            assert server.ask("get/k0")["value"] == str(number)
            requests += 2
    cache = MetadataCache(tmp_path / "cache")
    before = cache.get_stats()["total_requests"]
    server.ask("get/k0")
    assert cache.get_stats()["total_requests"] == before + 2
    assert before >= requests


def test_a_memoized_function_of_a_loaded_application_is_computed_once_by_its_workers(server):
    server.pids(WORKERS)
    with ThreadPoolExecutor(6) as crowd:
        answers = list(crowd.map(lambda number: server.ask(f"price/{number % 2}"), range(12)))
    assert {json.dumps(answer["value"]) for answer in answers} in (
        {'["0", 1]', '["1", 2]'},
        {'["1", 1]', '["0", 2]'},
    )


@pytest.mark.skipif(
    not shutil.which("uwsgi"), reason="no uwsgi here (apt install uwsgi-plugin-python3)"
)
@pytest.mark.parametrize(
    ("lazy", "threads"), [((), ()), (("--lazy-apps",), THREADS), *OTHER_WAYS],
    ids=["forked", "lazy-threads", "forked-threads", "lazy"][: 2 + len(OTHER_WAYS)],
)  # fmt: skip
def test_workers_of_uwsgi_share_the_cache_and_lose_no_count_when_they_are_killed_and_reloaded(
    tmp_path, lazy, threads
):
    def uwsgi(port: int) -> list[str]:
        return [
            *("uwsgi", "--plugin", "python3", "--virtualenv", sys.prefix, "--pythonpath", str(LIB)),
            *("--http-socket", f"127.0.0.1:{port}", "--module", "shop", "--need-app"),
            *("--master", "--workers", "4", "--die-on-term", "--disable-logging"),
            *lazy,
            *threads,
        ]

    with started(tmp_path, uwsgi) as server:
        cache = MetadataCache(tmp_path / "cache", enable_stats=False)

        def every_count_is_there(values_set: int) -> None:
            stats, loads = cache.get_stats(), cache["loads"]
            assert stats["total_requests"] == 2 * server.asked + loads
            assert stats["sets"] == values_set + 2 * loads
            # By luck too where all count in the line that they were forked with; so each has its own.
            lives = [lives for _, lives in cache._session.store.board._others()]
            assert lives.count(True) == 4 + (not lazy)

        server.ask("set/k?1")
        before = server.pids(4, "k", "1")
        assert (server.process.pid in before, cache["loads"]) == (False, 4 if lazy else 1)
        every_count_is_there(1)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        server.ask("set/k?2")
        second = server.pids(4, "k", "2")
        assert len(second - before) <= 1
        before |= second
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while server.ask("get/k")["pid"] in before:
            assert time.monotonic() < deadline
        server.ask("set/k?3")
        while server.pids(4, "k", "3") & before:
            assert time.monotonic() < deadline
        every_count_is_there(3)


TASKS, PER_CHILD = 60, 4
SHOP = """
import os, time
from celery import Celery
from sereno.cache import MetadataCache

app = Celery("shop_tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": os.environ["QUEUE"],
    "data_folder_out": os.environ["QUEUE"],
    "polling_interval": 0.05,
}
cache = MetadataCache(os.environ["CACHE"])
cache.set("loaded", os.getpid())


@cache.memoize(ttl=60)
def price(n):
    cache.incr("computed")
    return [n]


@app.task
def sell(n):
    began_s = time.monotonic()
    assert cache.get("loaded") != os.getpid()
    first_s = time.monotonic() - began_s
    assert price(n % 5) == [n % 5]
    cache.set(f"sold:{n}", {"pid": os.getpid(), "first_s": first_s})
    cache.incr("sold")

"""


def test_children_that_celery_recycles_share_the_cache_and_lose_no_count(tmp_path):
    (tmp_path / "shop_tasks.py").write_text(SHOP)
    (tmp_path / "queue").mkdir()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(LIB), os.environ.get("PYTHONPATH")])),
        "CACHE": str(tmp_path / "cache"),
        "QUEUE": str(tmp_path / "queue"),
    }
    send = f"import shop_tasks\nfor number in range({TASKS}): shop_tasks.sell.delay(number)"
    subprocess.run([sys.executable, "-c", send], cwd=tmp_path, env=environment, check=True)
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "--app", "shop_tasks", "worker", "--pool", "prefork"),
            *("--concurrency", "3", "--max-tasks-per-child", str(PER_CHILD)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"),
        ],
        cwd=tmp_path,
        env=environment,
    )
    cache = MetadataCache(tmp_path / "cache")
    try:
        deadline = time.monotonic() + 90
        while cache.get("sold") != TASKS:
            assert time.monotonic() < deadline, cache.get("sold")
            assert worker.poll() is None
            time.sleep(0.1)
    finally:
        worker.terminate()
        worker.wait(20)
    sold = [cache[f"sold:{number}"] for number in range(TASKS)]
    assert len({each["pid"] for each in sold}) >= TASKS / PER_CHILD - 3
    assert cache["computed"] == 5
    assert max(each["first_s"] for each in sold) < 5
    assert cache.get_stats()["sets"] == 1 + 1 + 5 + 5 + 2 * TASKS
