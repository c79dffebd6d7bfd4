"""A real forking server: gunicorn that loads the application before it forks its workers."""

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
from pathlib import Path

import pytest

from sereno.cache import MetadataCache

LIB = Path(__file__).parents[2] / "lib"
WORKERS = 3
APPLICATION = """
import json, os
from sereno.cache import MetadataCache

cache = MetadataCache(os.environ["CACHE"])
cache.set("loaded", os.getpid())
assert cache.get("loaded") == os.getpid()


def application(environ, start_response):
    verb, _, key = environ["PATH_INFO"][1:].partition("/")
    if verb == "set":
        cache.set(key, environ["QUERY_STRING"])
    answer = {"pid": os.getpid(), "loaded": cache.get("loaded"), "value": cache.get(key)}
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
