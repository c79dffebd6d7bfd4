"""Opens and uses a cache of 200 entries again and again, each time after its files were mutated on the disk.

    mutated_files.py DIRECTORY FIRST COUNT

DIRECTORY holds the closed cache; mutation n is what the seed n gives, for n from FIRST on. One process does all of
them, so that a crash ends it, after the seed that made it was printed; a wrong value ends it with an AssertionError.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import sys

from sereno.cache import MetadataCache
from sereno.cache.board import _LINES_AT, FORMAT, GENERATIONS
from sereno.errors import CacheFormatError

PAGE = 4096
# For one mutation, which takes some 20 ms: one that never ends is as bad as a crash.
MOST_S = 60
# Where a mutation is likely to matter: the store's meta pages and first nodes, the board's words, its first lines.
PLACES = {
    "data.mdb": ((0, 3 * PAGE),),
    "board": ((0, 168), (0, 168), (0, PAGE + 8 * GENERATIONS), (_LINES_AT, 4 * PAGE)),
}


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


def scribble(data: bytearray, at: int, chance: random.Random) -> None:
    data[at : at + 64] = chance.randbytes(len(data[at : at + 64]))


def set_word(data: bytearray, at: int, chance: random.Random) -> None:
    at = min(at, len(data) - 8) // 8 * 8
    data[at : at + 8] = chance.choice(
        (bytes(8), b"\xff" * 8, (1).to_bytes(8, "little"), chance.randbytes(8))
    )


def exchange_pages(data: bytearray, at: int, chance: random.Random) -> None:
    pages = len(data) // PAGE
    one, other = (chance.randrange(pages) * PAGE for _ in range(2))
    data[one : one + PAGE], data[other : other + PAGE] = (
        data[other : other + PAGE],
        data[one : one + PAGE],
    )


def mutate(files: dict[str, bytearray], seed: int) -> None:
    chance = random.Random(seed)
    name = chance.choices(("data.mdb", "board", "synced", "lock.mdb"), (12, 6, 1, 1))[0]
    data = files[name]
    change = chance.choice((flip, flip, scribble, set_word, exchange_pages))
    if name in ("synced", "lock.mdb") and change is exchange_pages:
        change = scribble
    start, size = 0, len(data)
    if name in PLACES and chance.randrange(2):
        start, size = chance.choice(PLACES[name])
    if name == "synced":
        data[:] = chance.choice((b"", b"x\n", b"-1\n", b"9" * 40, chance.randbytes(9), b"\xff"))
    else:
        for _ in range(chance.choice((1, 3, 50))):
            change(data, start + chance.randrange(size), chance)
        if seed % 10 == 9:
            del data[chance.randrange(len(data)) :]
    if chance.randrange(8) == 0:
        # As after a reboot, for which the board's words and the mark of a clean end are judged.
        files["board"][11 * 8 : 13 * 8] = b"another boot's !"[: max(0, len(files["board"]) - 88)]


def write(path: str, data: bytearray) -> None:
    """Leaves out what is zeroes: most of the board, which would take most of the time."""
    with open(path, "wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), 16 * PAGE):
            part = data[at : at + 16 * PAGE]
            if part.count(0) != len(part):
                file.seek(at)
                file.write(part)


def use(path: str, seed: int) -> None:
    chance = random.Random(seed)
    cache = MetadataCache(path)
    for number in chance.sample(range(200), 60):
        value = cache.get(f"k{number}")
        assert value is None or value == "v" * (number * 40), (number, value)
    cache.set("k1", "new")
    assert cache.get("k1") == "new"
    cache.invalidate_pattern("k2")
    assert all(not key.startswith("k2") for key in cache)
    cache.cleanup()
    cache.get_stats()
    cache.close()


def main(path: str, first: int, count: int) -> None:
    logging.disable(logging.WARNING)
    good = {}
    for name in ("data.mdb", "board", "synced", "lock.mdb"):
        with open(f"{path}/format-3/{name}", "rb") as file:
            good[name] = file.read()
    for seed in range(first, first + count):
        print(seed, flush=True)
        signal.alarm(MOST_S)
        for old in os.listdir(path):
            if old != "open.lock":
                shutil.rmtree(f"{path}/{old}")
        os.mkdir(f"{path}/format-3")
        files = {name: bytearray(data) for name, data in good.items()}
        mutate(files, seed)
        for name, data in files.items():
            write(f"{path}/format-3/{name}", data)
        try:
            use(path, seed)
        except CacheFormatError:
            # Rightly, if that is what the mutation made of it.
            assert int.from_bytes(files["board"][8:16], "little") > FORMAT


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
