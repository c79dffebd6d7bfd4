"""The caches that are measured, each behind the same few methods.

`get` and `set` take and give a Python value; every peer that leaves the process encodes it, ours and the floors with
orjson, diskcache with its default (pickle). The floors, LMDB and SQLite by hand, do nothing but store: no expiry, no
counters, no limit, no eviction.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

import cachetools
import diskcache
import lmdb
import orjson

from sereno.cache import MetadataCache

PURGED_TTL_S = 600
"""Lifetime of what a purge takes: long enough that nobody removes it before; `purge` looks from that much later."""


class Sereno:
    """Ours, as a user has it."""

    name = "sereno"
    level_bytes = 16 << 20

    def __init__(self, path: str, max_size: int | None = None) -> None:
        self.cache = MetadataCache(path, max_size=max_size, level_bytes=self.level_bytes)
        self.get, self.set, self.delete = self.cache.get, self.cache.set, self.cache.invalidate

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        self.cache.set_many(items, ttl)

    def purge(self) -> int:
        return sum(step.entries for step in self.purge_steps())

    def purge_steps(self) -> Iterator[Any]:
        self.cache._prepare()
        return self.cache._backend.purge(self.cache._now_ms() + 1000 * PURGED_TTL_S)

    def close(self) -> None:
        self.cache.close()


class SerenoStore(Sereno):
    """Ours without the in-process level: every read comes from the store."""

    name = "sereno, store"
    level_bytes = 0


class DiskCache:
    """diskcache as it comes: statistics off, least recently stored, room enough to cull nothing."""

    name = "diskcache"

    def __init__(self, path: str) -> None:
        self.cache = diskcache.Cache(path, size_limit=1 << 40)
        self.get, self.delete = self.cache.get, self.cache.delete
        self.set = lambda key, value: self.cache.set(key, value, 3600)

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        with self.cache.transact():
            for key, value in items.items():
                self.cache.set(key, value, ttl or 3600)

    def purge(self) -> int:
        return self.cache.expire(time.time() + PURGED_TTL_S)

    def close(self) -> None:
        self.cache.close()


class TTLCache:
    """cachetools.TTLCache under a lock: one process, no copy, nothing shared. The floor of the in-process level."""

    name = "TTLCache+lock"

    def __init__(self, path: str) -> None:
        self.cache = cachetools.TTLCache(1 << 30, 3600)
        self.lock = threading.Lock()

    def get(self, key: str) -> Any:
        with self.lock:
            return self.cache.get(key)

    def set(self, key: str, value: Any) -> None:
        with self.lock:
            self.cache[key] = value

    def delete(self, key: str) -> None:
        with self.lock:
            self.cache.pop(key, None)

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        self.cache.update(items)

    def close(self) -> None:
        self.cache.clear()


class Lmdb:
    """LMDB by hand, with the settings of ours."""

    name = "LMDB by hand"

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.env = lmdb.open(path, map_size=1 << 35, sync=False, metasync=False, max_readers=1024)

    def get(self, key: str) -> Any:
        with self.env.begin() as txn:
            found = txn.get(key.encode())
        return None if found is None else orjson.loads(found)

    def set(self, key: str, value: Any) -> None:
        with self.env.begin(write=True) as txn:
            txn.put(key.encode(), orjson.dumps(value))

    def delete(self, key: str) -> None:
        with self.env.begin(write=True) as txn:
            txn.delete(key.encode())

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        with self.env.begin(write=True) as txn:
            for key, value in items.items():
                txn.put(key.encode(), orjson.dumps(value))

    def delete_many(self, keys: list[str]) -> None:
        with self.env.begin(write=True) as txn:
            for key in keys:
                txn.delete(key.encode())

    def close(self) -> None:
        self.env.close()


class Sqlite:
    """SQLite by hand, WAL, synchronous=NORMAL."""

    name = "SQLite by hand"

    def __init__(self, path: str) -> None:
        os.makedirs(path, exist_ok=True)
        self.db = sqlite3.connect(f"{path}/db", isolation_level=None, timeout=60)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.execute("CREATE TABLE IF NOT EXISTS c(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")

    def get(self, key: str) -> Any:
        found = self.db.execute("SELECT v FROM c WHERE k=?", (key,)).fetchone()
        return None if found is None else orjson.loads(found[0])

    def set(self, key: str, value: Any) -> None:
        self.db.execute("INSERT OR REPLACE INTO c VALUES(?,?)", (key, orjson.dumps(value)))

    def delete(self, key: str) -> None:
        self.db.execute("DELETE FROM c WHERE k=?", (key,))

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        self.db.execute("BEGIN")
        self.db.executemany(
            "INSERT OR REPLACE INTO c VALUES(?,?)", ((k, orjson.dumps(v)) for k, v in items.items())
        )
        self.db.execute("COMMIT")

    def close(self) -> None:
        self.db.close()


class Redis:
    """Redis over a unix socket, with hiredis; the server is started once for each directory and not persistent."""

    name = "Redis, socket"

    def __init__(self, path: str) -> None:
        import redis

        os.makedirs(path, exist_ok=True)
        socket = f"{path}/s"
        self.server = None
        if not os.path.exists(socket):
            self.server = subprocess.Popen(
                [
                    *("redis-server", "--port", "0", "--unixsocket", socket, "--save", ""),
                    *("--appendonly", "no", "--dir", path, "--loglevel", "warning"),
                ],
                stdout=subprocess.DEVNULL,
            )
            while not os.path.exists(socket):
                time.sleep(0.01)
        self.client = redis.Redis(unix_socket_path=socket)

    def get(self, key: str) -> Any:
        found = self.client.get(key)
        return None if found is None else orjson.loads(found)

    def set(self, key: str, value: Any) -> None:
        self.client.set(key, orjson.dumps(value), ex=3600)

    def delete(self, key: str) -> None:
        self.client.delete(key)

    def fill(self, items: dict[str, Any], ttl: float | None = None) -> None:
        pipe = self.client.pipeline(transaction=False)
        for key, value in items.items():
            pipe.set(key, orjson.dumps(value))
        pipe.execute()

    def close(self) -> None:
        self.client.close()
        if self.server is not None:
            self.server.terminate()
            self.server.wait()


def peers() -> list[type[Any]]:
    """Those that can run here."""
    found: list[type[Any]] = [Sereno, SerenoStore, DiskCache, TTLCache, Lmdb, Sqlite]
    if shutil.which("redis-server"):
        found.append(Redis)
    return found
