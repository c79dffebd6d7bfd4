"""The cache of many hosts beside the machine's, bare clients, and redis-py's own cache: one table, made in one run.

Each round measures every peer, one after the other; figures are medians of the rounds, in microseconds. One process;
the server is on the other core. A network adds its round trip to every figure that asks the server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import redis
import valkey
from bench_cache import make_value

from sereno.cache import MetadataCache

KEYS, HOT = 2000, 50


class Client:
    """A client of the server by hand: JSON, an hour to live, nothing else."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> Any:
        text = self.client.get(key)
        return None if text is None else orjson.loads(text)

    def set(self, key: str, value: Any) -> None:
        self.client.set(key, orjson.dumps(value), px=3_600_000)


def sereno(url: str | None, path: str) -> MetadataCache:
    os.environ["SERENO_CACHE_URL"] = url or ""
    return MetadataCache() if url else MetadataCache(path, max_size=None)


def redis_with_its_cache(port: int) -> Any:
    """redis-py's client-side cache; it refuses servers before 7.4, and has none on a unix socket."""
    from redis.cache import CacheConfig

    client = redis.Redis(port=port, protocol=3, cache_config=CacheConfig())
    client.set("try", 1)
    return Client(client)


def peers(path: str, port: int, directory: str) -> dict[str, Any]:
    unix, tcp = f"unix://{path}?timeout=5", f"valkey://127.0.0.1:{port}/0?timeout=5"
    found = {
        "sereno, LMDB": sereno(None, directory),
        "sereno, unix": sereno(unix, ""),
        "sereno, TCP": sereno(tcp, ""),
        "sereno, max_stale": sereno(f"{unix}&max_stale=0.3", ""),
        "valkey-py, unix": Client(valkey.Valkey(unix_socket_path=path)),
        "valkey-py, TCP": Client(valkey.Valkey(port=port)),
        "redis-py, unix": Client(redis.Redis(unix_socket_path=path)),
    }
    try:
        found["redis-py's cache"] = redis_with_its_cache(port)
    except redis.RedisError as error:
        print(f"redis-py's own cache: {error}", file=sys.stderr)
    return found


def us(action: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) / count * 1e6


def measured(peer: Any, name: str, calls: int, value: dict[str, Any]) -> dict[str, float]:
    keys = [f"k{number}" for number in range(KEYS)]
    hot = random.choices(keys[:HOT], k=calls)
    spread = random.choices(keys, k=calls)
    for key in keys:
        peer.set(key, value)
    for key in keys[:HOT] * 2:
        peer.get(key)
    found = {
        "hit, hot keys": us(lambda: [peer.get(key) for key in hot], calls),
        "hit, any key": us(lambda: [peer.get(key) for key in spread], calls),
        "miss": us(lambda: [peer.get("none" + key) for key in spread], calls),
        "set": us(lambda: [peer.set(key, value) for key in spread], calls),
        "10 % set": us(
            lambda: [
                peer.set(key, value) if number % 10 == 0 else peer.get(key)
                for number, key in enumerate(hot)
            ],
            calls,
        ),
    }
    if isinstance(peer, MetadataCache):
        compute = peer.memoize(name=name, key=str)(lambda number: number)
        numbers = range(len(found) + random.randrange(10**9), 10**10)[: calls // 10]
        found["memoize, computed"] = us(
            lambda: [compute(number) for number in numbers], len(numbers)
        )
        found["memoize, found"] = us(lambda: [compute(number) for number in numbers], len(numbers))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="write the table there as well")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="sereno-bench-")
    port, path = free_port(), f"{directory}/s"
    program = shutil.which("valkey-server") or shutil.which("redis-server") or sys.exit("no server")
    settings = ["--bind", "127.0.0.1", "--save", "", "--dir", directory, "--logfile", "log"]
    server = subprocess.Popen([program, "--port", str(port), "--unixsocket", path, *settings])
    try:
        while not os.path.exists(path):
            time.sleep(0.01)
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1]})
        value, samples = make_value(300), {}
        found = peers(path, port, f"{directory}/cache")
        for _ in range(arguments.rounds):
            for name, peer in found.items():
                for what, figure in measured(peer, name, arguments.calls, value).items():
                    samples.setdefault(what, {}).setdefault(name, []).append(figure)
        version = valkey.Valkey(port=port).info("server")
    finally:
        server.kill()
        server.wait()
        shutil.rmtree(directory, ignore_errors=True)
    lines = ["µs per operation, 300 B".ljust(24) + "".join(f"{name:>19}" for name in found)]
    for what, row in samples.items():
        cells = (f"{statistics.median(row[name]):.1f}" if name in row else "" for name in found)
        lines.append(what.ljust(24) + "".join(f"{cell:>19}" for cell in cells))
    lines.append(json.dumps({"server": version["redis_version"], "program": Path(program).name}))
    text = "\n".join(lines)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
