# ruff: noqa: RUF001 the multiplication sign is meant
"""The shared cache beside its peers: one table, made in one run.

Every round measures every peer, one after the other, so that a slow moment of the machine meets all of them; figures
are medians over the rounds. One process on one core, except where four are at work.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
from peers import PURGED_TTL_S, DiskCache, Lmdb, Sereno, SerenoStore, peers

from sereno.cache import MetadataCache
from sereno.cache.write import BATCH_ENTRIES, BOX_SLOTS

CHUNK = 5000
HOT_KEYS = 500
MIXED_KEYS, MIXED_SETS = 5000, (0.01, 0.1, 0.5)
AFTER_BATCHES = "100,000 × 300 B: overwrite"
LIB = Path(__file__).parents[2] / "lib"


def make_value(size_bytes: int) -> dict[str, Any]:
    """Metadata of about that many bytes as JSON."""
    value: dict[str, Any] = {
        "id": 12345,
        "name": "quarterly-report.pdf",
        "tags": ["a", "b"],
        "size": 1.5e6,
    }
    value["text"] = "x" * (size_bytes - len(json.dumps(value)) - 12)
    return value


def keys(start: int, count: int) -> list[str]:
    return [f"key:{number}" for number in range(start, start + count)]


def fill(
    peer: Any, start: int, count: int, value: Any, ttl: float | None = None, chunk: int = CHUNK
) -> None:
    for at in range(start, start + count, chunk):
        peer.fill(dict.fromkeys(keys(at, min(chunk, start + count - at)), value), ttl)


def timed_us(action: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> float:
    """Microseconds for each call."""
    began_ns = time.perf_counter_ns()
    for argument in arguments:
        action(*argument)
    return (time.perf_counter_ns() - began_ns) / 1000 / len(arguments)


def add_write(
    table: Table, row: str, peer: str, action: Callable[..., Any], arguments: list[tuple[Any, ...]]
) -> None:
    """Writes, each with other arguments."""
    with table.measuring(row, peer, len(arguments)):
        for argument in arguments:
            action(*argument)


class Table:
    """Medians by row and peer, printed with the ratio to diskcache."""

    @contextlib.contextmanager
    def measuring(self, row: str, peer: str, calls: int) -> Iterator[None]:
        """By wall, which has what the disk and others take, and by CPU time for peers that do all in this process."""
        began_ns, cpu_ns = time.perf_counter_ns(), time.process_time_ns()
        yield
        spent_ns, spent_cpu_ns = time.perf_counter_ns() - began_ns, time.process_time_ns() - cpu_ns
        self.add(row, peer, spent_ns / 1000 / calls)
        if peer != "Redis, socket":
            self.add(f"{row}, CPU", peer, spent_cpu_ns / 1000 / calls)

    def __init__(self) -> None:
        self.samples: dict[tuple[str, str], list[float]] = {}

    def add(self, row: str, peer: str, us: float) -> None:
        self.samples.setdefault((row, peer), []).append(us)

    def median(self, row: str, peer: str) -> float | None:
        found = self.samples.get((row, peer))
        return statistics.median(found) if found else None

    def ratio(self, row: str, peer: str, base: str = "diskcache") -> float | None:
        """How many times as fast as `base`."""
        own, other = self.median(row, peer), self.median(row, base)
        return None if own is None or other is None else other / own

    def lines(self, names: list[str]) -> Iterator[str]:
        yield "| µs per operation (× diskcache) | " + " | ".join(names) + " |"
        yield "| --- |" + " ---: |" * len(names)
        for row in dict.fromkeys(row for row, peer in self.samples if peer in names):
            cells = []
            for name in names:
                own, ratio = self.median(row, name), self.ratio(row, name)
                cells.append(
                    "" if own is None else f"{own:.2f}" + (f" ({ratio:.1f}×)" if ratio else "")
                )
            yield f"| {row} | " + " | ".join(cells) + " |"


def measure_operations(
    table: Table, count: int, size: int, rounds: int, calls: int, base: str
) -> None:
    """One process: each peer filled with `count` entries of `size` bytes."""
    value, label = make_value(size), f"{count:,} × {size} B"
    subjects = [(kind, kind(f"{base}/{kind.__name__}-{count}-{size}")) for kind in peers()]
    for _, peer in subjects:
        fill(peer, 0, count, value)
    full = Sereno(f"{base}/full-{count}-{size}", max_size=count)
    fill(full, 0, count, value)
    chance = random.Random(count)
    for number in range(rounds):
        hot = [(key,) for key in keys(0, min(HOT_KEYS, count))] * (calls // HOT_KEYS + 1)
        anywhere = [(f"key:{chance.randrange(count)}",) for _ in range(calls)]
        overwritten = [(key, value) for (key,) in anywhere[: calls // 4]]
        fresh = [(key, value) for key in keys(10**9 + number * calls, calls // 4)]
        doomed = [(key,) for key, _ in fresh]
        missing = [(f"missing:{key}",) for (key,) in anywhere]
        for kind, peer in subjects:
            for key in hot[:HOT_KEYS] * 2:
                peer.get(*key)
            table.add(
                f"{label}: hit, {HOT_KEYS} hot keys", kind.name, timed_us(peer.get, hot[:calls])
            )
        for kind, peer in subjects:
            table.add(f"{label}: hit, any key", kind.name, timed_us(peer.get, anywhere))
            table.add(f"{label}: miss", kind.name, timed_us(peer.get, missing))
        for kind, peer in subjects:
            if kind is not SerenoStore:
                add_write(table, f"{label}: overwrite", kind.name, peer.set, overwritten)
                add_write(table, f"{label}: insert", kind.name, peer.set, fresh)
                add_write(table, f"{label}: delete", kind.name, peer.delete, doomed)
        table.add(f"{label}: insert into a full cache", "sereno", timed_us(full.set, fresh))
    for _, peer in [*subjects, (Sereno, full)]:
        peer.close()


def zipf_keys(count: int, draws: int, seed: int) -> list[str]:
    """Zipf with exponent 1 over `count` keys."""
    weights = itertools.accumulate(1 / rank for rank in range(1, count + 1))
    drawn = random.Random(seed).choices(range(count), cum_weights=list(weights), k=draws)
    return [f"key:{number}" for number in drawn]


def measure_mixed(table: Table, rounds: int, calls: int, base: str, share: float) -> None:
    """One process: gets and sets in one stream, as backends have them."""
    count, value = MIXED_KEYS, make_value(300)
    # Of one load alone: what another one has overwritten would be read from the store in this.
    subjects = [(kind, kind(f"{base}/{kind.__name__}-mixed-{share}")) for kind in peers()]
    for _, peer in subjects:
        fill(peer, 0, count, value)
    for number in range(rounds):
        wanted = zipf_keys(count, calls, number)
        # Not the seed of the keys: all sets would be of the first.
        chance = random.Random(f"sets of {number}")
        stream = [(key, chance.random() < share) for key in wanted]
        for kind, peer in subjects:
            get, put = peer.get, peer.set
            with table.measuring(f"{count:,} × 300 B: {share:.0%} set, Zipf 1.0", kind.name, calls):
                for key, writes in stream:
                    if writes:
                        put(key, value)
                    else:
                        get(key)
    for _, peer in subjects:
        peer.close()


def measure_after_batches(table: Table, rounds: int, calls: int, base: str) -> None:
    """Single writes beside those of a store that has seen a purge and many batches, and so has many free pages; ours,
    and LMDB by hand with the same transactions."""
    value, count = make_value(300), 20 * CHUNK
    subjects = {
        f"{kind.name}, {state}": kind(f"{base}/{kind.__name__}-{state}")
        for kind in (Sereno, Lmdb)
        for state in ("plain", "after batches")
    }
    for name, peer in subjects.items():
        fill(peer, 0, count, value, chunk=BATCH_ENTRIES)
        if name.endswith("after batches"):
            fill(peer, count, count // 5, value, PURGED_TTL_S, BATCH_ENTRIES)
            if isinstance(peer, Sereno):
                assert peer.purge() == count // 5
            else:
                for at in range(count, count + count // 5, BOX_SLOTS):
                    peer.delete_many(keys(at, BOX_SLOTS))
            fill(peer, 0, count, value, chunk=BATCH_ENTRIES)
    for number in range(rounds):
        chance = random.Random(number)
        written = [(f"key:{chance.randrange(count)}", value) for _ in range(calls)]
        for name, peer in subjects.items():
            table.add(AFTER_BATCHES, name, timed_us(peer.set, written))
    for peer in subjects.values():
        peer.close()


def measure_blocks(overwrites: int, base: str) -> float:
    """Blocks on disk for each page in use, after overwrites of ten keys with values of 1 KB to 5 MB."""
    path, chance = f"{base}/blocks", random.Random(1)
    cache = MetadataCache(path)
    values = [make_value(size) for size in (1_000, 10_000, 100_000, 1_000_000, 5_000_000)]
    for _ in range(overwrites):
        cache.set(f"key:{chance.randrange(10)}", chance.choice(values))
    cache.close()
    (store,) = Path(path).rglob("data.mdb")
    with lmdb.open(str(store.parent), readonly=True, lock=False) as env:
        found = env.stat()
    pages = found["branch_pages"] + found["leaf_pages"] + found["overflow_pages"]
    return store.stat().st_blocks * 512 / (pages * found["psize"])


def mixed_worker(
    kind: type[Any], path: str, wanted: list[str], value: Any, ready: Any, go: Any
) -> None:
    peer = kind(path)
    writes = [number % 10 == 9 for number in range(len(wanted))]
    get, put = peer.get, peer.set
    for key in wanted[:200]:
        get(key)
    ready.release()
    go.wait()
    for key, write in zip(wanted, writes, strict=True):
        if write:
            put(key, value)
        else:
            get(key)


def measure_processes(table: Table, count: int, rounds: int, calls: int, base: str) -> None:
    """Four processes, nine reads to one write."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    value = make_value(300)
    for kind in peers():
        if kind.name in ("TTLCache+lock", "sereno, store"):
            continue
        path = f"{base}/{kind.__name__}-shared"
        peer = kind(path)
        fill(peer, 0, count, value)
        if kind.name != "Redis, socket":
            peer.close()
        for number, spread in itertools.product(range(rounds), ("uniform", "Zipf")):
            ready, go = context.Semaphore(0), context.Event()
            draw = [
                zipf_keys(count, calls, 4 * number + n)
                if spread == "Zipf"
                else [
                    f"key:{random.Random(f'{number}-{n}-{at}').randrange(count)}"
                    for at in range(calls)
                ]
                for n in range(4)
            ]
            started = [
                context.Process(target=mixed_worker, args=(kind, path, draw[n], value, ready, go))
                for n in range(4)
            ]
            for process in started:
                process.start()
            for _ in started:
                ready.acquire()
            began_s = time.perf_counter()
            go.set()
            for process in started:
                process.join()
            spent_us = (time.perf_counter() - began_s) * 1e6
            row = f"{count:,} × 300 B: 4 processes, 90 % reads, {spread} (all together)"
            table.add(row, kind.name, spent_us / (4 * calls))
        if kind.name == "Redis, socket":
            peer.close()


def percentile(samples: list[int], share: float) -> float:
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * share))] / 1000


def worker_latencies(path: str, count: int, seconds: float, out: Any) -> None:
    """One of two working processes: latencies of get and set in ns, paced like a busy backend."""
    cache = MetadataCache(path)
    value, chance = make_value(300), random.Random(os.getpid())
    gets, sets = [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        key = f"key:{chance.randrange(count)}"
        began_ns = time.perf_counter_ns()
        cache.get(key)
        gets.append(time.perf_counter_ns() - began_ns)
        if len(gets) % 10 == 0:
            began_ns = time.perf_counter_ns()
            cache.set(f"fresh:{chance.randrange(1000)}", value)
            sets.append(time.perf_counter_ns() - began_ns)
        time.sleep(0.0002)
    out.send((gets, sets))


def measure_cleanup(count: int, base: str) -> dict[str, float]:
    """15 % of `count` entries have expired: how long the purge takes, and what two others notice of it."""
    import multiprocessing

    context = multiprocessing.get_context("fork")
    value, expired = make_value(300), count * 15 // 100
    result: dict[str, float] = {}
    for kind in (DiskCache, Sereno):
        peer = kind(f"{base}/{kind.__name__}-purge")
        fill(peer, 0, count - expired, value)
        fill(peer, count, expired, value, PURGED_TTL_S)
        began_s = time.perf_counter()
        assert peer.purge() == expired
        result[f"purge, {kind.name}, s"] = time.perf_counter() - began_s
        peer.close()
    path = f"{base}/Sereno-purge"
    for busy in (False, True):
        peer = Sereno(path)
        fill(peer, count, expired, value, PURGED_TTL_S)
        peer.close()
        pipes, started = [], []
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=worker_latencies, args=(path, count - expired, 4.0, theirs)
            )
            process.start()
            started.append(process)
            pipes.append(ours)
        time.sleep(0.3)
        if busy:
            steps = list(peer.purge_steps())
            assert sum(step.entries for step in steps) == expired
            result["longest hold, ms"] = max(step.hold_s for step in steps) * 1000
        gets, sets = [], []
        for pipe in pipes:
            got, put = pipe.recv()
            gets += got
            sets += put
        for process in started:
            process.join()
        when = "during" if busy else "without"
        result[f"get p99 {when}, µs"] = percentile(gets, 0.99)
        result[f"set p99 {when}, µs"] = percentile(sets, 0.99)
    return result


OPEN = """
import sys, time
from sereno.cache import MetadataCache
began = time.perf_counter()
MetadataCache(sys.argv[1]).get("nothing")
print((time.perf_counter() - began) * 1000)
"""
CLEAN = (
    "import sys\nfrom sereno.cache import MetadataCache\nMetadataCache(sys.argv[1]).run_cleanup()"
)


def measure_start(base: str) -> dict[str, float]:
    """New processes: opening a cache, and a whole cleanup of an empty one (user and system time of the process)."""
    path, environment = f"{base}/start", os.environ | {"PYTHONPATH": str(LIB)}
    MetadataCache(path).set("k", 1)
    opened, cleaned = [], []
    for _ in range(15):
        done = subprocess.run(
            [sys.executable, "-c", OPEN, path], env=environment, capture_output=True, check=True
        )
        opened.append(float(done.stdout))
        before = os.times()
        subprocess.run([sys.executable, "-c", CLEAN, f"{base}/empty"], env=environment, check=True)
        after = os.times()
        spent_s = (
            after.children_user
            + after.children_system
            - before.children_user
            - before.children_system
        )
        cleaned.append(spent_s * 1000)
    return {
        "opening, ms": statistics.median(opened),
        "cleanup process, ms": statistics.median(cleaned),
    }


def targets(
    table: Table, cleanup: dict[str, float], start: dict[str, float], blocks: float, label: str
) -> Iterator[str]:
    """Each target with what was measured; a missed one says so."""

    def line(name: str, measured: float | None, target: float, unit: str, at_most: bool) -> str:
        if measured is None:
            return f"| {name} | {'≤' if at_most else '≥'} {target:g} {unit} | not measured | |"
        met = measured <= target if at_most else measured >= target
        return (
            f"| {name} | {'≤' if at_most else '≥'} {target:g} {unit} | {measured:.2f} {unit} "
            f"| {'met' if met else '**missed**'} |"
        )

    def row(text: str) -> str:
        return f"{label}: {text}"

    hot = row(f"hit, {HOT_KEYS} hot keys")
    own, lock = table.median(hot, "sereno"), table.median(hot, "TTLCache+lock")
    store, bare = table.median(hot, "sereno, store"), table.median(hot, "LMDB by hand")
    yield "| target | | measured | |"
    yield "| --- | --- | ---: | --- |"
    scaled = own / lock * 1.2 if own and lock else None
    yield line("hit in the process, where TTLCache+lock takes 1.2 µs", scaled, 1.0, "µs", True)
    yield line("hit in the process", table.ratio(hot, "sereno"), 7, "× diskcache", False)
    yield line(
        "hit from the store", store / bare if store and bare else None, 1.8, "× bare LMDB", True
    )
    yield line("hit from the store", table.ratio(hot, "sereno, store"), 3, "× diskcache", False)
    yield line("miss", table.ratio(row("miss"), "sereno"), 3, "× diskcache", False)
    for name, least in (("overwrite", 5), ("insert", 4), ("delete", 4)):
        yield line(name, table.ratio(row(name), "sereno"), least, "× diskcache", False)
        by_cpu = f"{name}, CPU"
        yield line(by_cpu, table.ratio(row(by_cpu), "sereno"), 3, "× diskcache", False)
    own, bare = (
        table.median(row("overwrite"), "sereno"),
        table.median(row("overwrite"), "LMDB by hand"),
    )
    yield line("overwrite", own / bare if own and bare else None, 1.5, "× bare LMDB", True)
    for share in MIXED_SETS:
        name = f"{MIXED_KEYS:,} × 300 B: {share:.0%} set, Zipf 1.0"
        yield line(name, table.ratio(name, "sereno"), 5, "× diskcache", False)
    for kind in (Sereno, Lmdb):
        ratio = table.ratio(AFTER_BATCHES, f"{kind.name}, plain", f"{kind.name}, after batches")
        name = f"write after a purge and batches, {kind.name}"
        yield line(name, ratio, 1.15, "× one before", True)
    yield line("disk blocks after large overwrites", blocks, 1.5, "× pages in use", True)
    full, insert = (
        table.median(row("insert into a full cache"), "sereno"),
        table.median(row("insert"), "sereno"),
    )
    yield line(
        "insert into a full cache", full / insert if full and insert else None, 2, "× insert", True
    )
    for measured_row in dict.fromkeys(name for name, _ in table.samples if "4 processes" in name):
        yield line(
            measured_row.split(": ")[1],
            table.ratio(measured_row, "sereno"),
            5,
            "× diskcache",
            False,
        )
    if cleanup:
        ratio = cleanup["purge, diskcache, s"] / cleanup["purge, sereno, s"]
        yield line("purge of 15 %", ratio, 3, "× diskcache", False)
        slowdown = cleanup["get p99 during, µs"] / cleanup["get p99 without, µs"]
        yield line("get p99 beside the purge", slowdown, 2, "× without", True)
        yield line("set p99 beside the purge", cleanup["set p99 during, µs"] / 1000, 10, "ms", True)
        yield line("longest hold of the purge", cleanup["longest hold, ms"], 5, "ms", True)
    yield line("opening in a new process", start["opening, ms"], 5, "ms", True)
    yield line(
        "cleanup of an empty cache, process time", start["cleanup process, ms"], 120, "ms", True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2,000 entries only, a minute or two")
    parser.add_argument(
        "--full", action="store_true", help="also 1,000,000 entries (half an hour, 10 GB of disk)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the tables there as well")
    arguments = parser.parse_args()
    sizes = [2_000] if arguments.quick else [2_000, 100_000] + [1_000_000] * arguments.full
    rounds, calls = (5, 2_000) if arguments.quick else (arguments.rounds, 20_000)
    base = tempfile.mkdtemp(prefix="sereno-bench-", dir=os.environ.get("SERENO_BENCH_DIR"))
    cores = os.sched_getaffinity(0)
    table, shared = Table(), Table()
    try:
        os.sched_setaffinity(0, {max(cores)})
        for count, size in itertools.product(sizes, (300, 2000)):
            measure_operations(table, count, size, rounds, calls, base)
            print(f"measured {count:,} × {size} B", file=sys.stderr, flush=True)
        # A backend's process has been at work for a while: fewer calls would measure how it begins.
        for share in MIXED_SETS:
            measure_mixed(table, rounds, 20_000, base, share)
        measure_after_batches(table, rounds, calls // 4, base)
        blocks = measure_blocks(10_000 if arguments.full else 1_000, base)
        print("measured mixed loads", file=sys.stderr, flush=True)
        start = measure_start(base)
        os.sched_setaffinity(0, cores)
        shared_count = min(max(sizes), 100_000)
        measure_processes(shared, shared_count, min(rounds, 2), max(calls, 10_000), base)
        table.samples.update(shared.samples)
        print("measured 4 processes", file=sys.stderr, flush=True)
        cleanup = measure_cleanup(max(sizes), base)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    text = "\n".join(
        [
            *table.lines([kind.name for kind in peers()]),
            "",
            *targets(table, cleanup, start, blocks, f"{min(max(sizes), 100_000):,} × 300 B"),
            "",
            f"Cleanup of {max(sizes) * 15 // 100:,} of {max(sizes):,} beside two working processes: "
            + ", ".join(f"{name} {value:.2f}" for name, value in cleanup.items())
            + ".",
            f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {rounds} rounds of {calls:,} calls, "
            f"{threading.active_count()} thread.",
        ]
    )
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
