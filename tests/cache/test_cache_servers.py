"""Real forking servers: gunicorn that loads the application before it forks its workers, Celery that replaces them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sereno.cache import MetadataCache

LIB = Path(__file__).parents[2] / "lib"
WORKERS = 3
APPLICATION = """
import json, os, time
from sereno.cache import MetadataCache

cache = MetadataCache(os.environ["CACHE"])
cache.set("loaded", os.getpid())
assert cache.get("loaded") == os.getpid()


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


class Server:
    """gunicorn on a free port of the loopback interface."""

    def __init__(self, directory: Path) -> None:
        (directory / "shop.py").write_text(APPLICATION)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)),
                *("--bind", f"127.0.0.1:{self.port}", "--log-level", "warning", "shop"),
            ],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(LIB), "CACHE": str(directory / "cache")},
        )

    def ask(self, path: str) -> dict[str, object]:
        """One request on a connection of its own, which any worker may take."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}") as answer:
                    return json.load(answer)  # type: ignore[no-any-return]
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.05)

    def pids(self, at_least: int) -> set[object]:
        """Workers that have answered; asks until there are that many."""
        seen: set[object] = set()
        deadline = time.monotonic() + 20
        while len(seen) < at_least:
            assert time.monotonic() < deadline, seen
            seen.add(self.ask("get/nothing")["pid"])
        return seen


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    started = Server(tmp_path)
    try:
        yield started
    finally:
        started.process.terminate()
        started.process.wait(20)


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
