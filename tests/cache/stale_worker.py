"""One process of the oracle test: a writer or a reader of shared keys.

    stale_worker.py ROLE CACHE ORACLE FIRST COUNT SECONDS CHECK

CACHE is a directory; "-": the cache is on the server of the environment.

The oracle is a mapped file with two words for each key: the version that was begun last, and the version whose write
has returned. Each key has one writer at a time. A reader notes the second word, reads, and must not get an older
version; nor one that was never begun.
"""

from __future__ import annotations

import mmap
import random
import sys
import time

from sereno.cache import MetadataCache
from sereno.errors import CacheUnavailable

KEYS = 60


class Oracle:
    """The mapped words."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
        self.begun, self.returned = words[:KEYS], words[KEYS : 2 * KEYS]


def write(cache: MetadataCache, oracle: Oracle, keys: list[int], seconds: float) -> None:
    """Sets and removes keys until the time is over or the process is killed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        number = random.choice(keys)
        version = oracle.begun[number] + 1
        oracle.begun[number] = version
        chance = random.random()
        try:
            change(cache, f"k{number}", version, chance)
        except CacheUnavailable:
            continue  # it did not return; the next one is of the same key's next version
        oracle.returned[number] = version
        time.sleep(random.choice((0, 0.0002, 0.001)))


def change(cache: MetadataCache, key: str, version: int, chance: float) -> None:
    """Any way to supersede what was there."""
    if chance < 0.70:
        cache.set(key, version)
    elif chance < 0.80:
        cache.set_many({key: version})
    elif chance < 0.90:
        cache.invalidate(key)
    elif chance < 0.97:
        cache.invalidate_pattern(key)
    elif chance < 0.99:
        cache.set(key, version, ttl=0.002)
    else:
        cache.clear()


def read(cache: MetadataCache, oracle: Oracle, keys: list[int], seconds: float) -> tuple[int, int]:
    """Reads until the time is over; returns how many reads, and how many gave what they must not."""
    names = [(number, f"k{number}") for number in keys]
    reads = wrong = 0
    returned, begun, get = oracle.returned, oracle.begun, cache.get
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(20):
            for number, name in names:
                at_least = returned[number]
                got = get(name)
                if got is not None and not at_least <= got <= begun[number]:
                    wrong += 1
            reads += len(names)
    return reads, wrong


def main() -> None:
    role, path, oracle_path, first, count, seconds, check = sys.argv[1:]
    oracle = Oracle(oracle_path)
    cache = MetadataCache(None if path == "-" else path)
    keys = list(range(int(first), int(first) + int(count)))
    if check == "off" and path == "-":
        from cache_server import without_epoch

        without_epoch()
    elif check == "off":
        # What the whole protocol hangs on: a generation that never moves.
        cache.get("open")
        cache._generations = memoryview(bytearray(8 << 16)).cast("Q")
    if role == "write":
        cache.set("open", 1)
        print("writes", flush=True)
        write(cache, oracle, keys, float(seconds))
    else:
        print(*read(cache, oracle, keys, float(seconds)))


if __name__ == "__main__":
    main()
