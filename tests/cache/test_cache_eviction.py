"""SIEVE by itself, on traces, and as the cache does it."""

from __future__ import annotations

import itertools
import random
from collections import OrderedDict
from pathlib import Path

import pytest

from sereno.cache import MetadataCache, transaction

KEYS, CAPACITY, REQUESTS = 20_000, 400, 120_000


class SieveTable:
    """`transaction.choose` over a plain table."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.order: OrderedDict[int, int] = OrderedDict()
        self.number_of: dict[int, int] = {}
        self.visited = bytearray(1 << 18)
        self.hand = 0
        self.next_number = 0

    def circle(self):
        while self.order:
            numbers = list(self.order)
            later = [number for number in numbers if number >= self.hand]
            for number in later or numbers:
                yield number, self.order[number]
            self.hand = 0

    def request(self, key: int) -> bool:
        number = self.number_of.get(key)
        if number is not None:
            self.visited[number] = 1
            return True
        if len(self.order) == self.capacity:
            number, victim = transaction.choose(
                self.circle(), self.visited, len(self.visited) - 1, lambda _: False
            )
            # From the newest one on to the oldest, not to the one that comes next.
            self.hand = number + 1 if number + 1 < self.next_number else 0
            del self.order[number], self.number_of[victim]
        self.order[self.next_number] = key
        self.number_of[key] = self.next_number
        self.next_number += 1
        return False


class Lru:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.table: OrderedDict[int, None] = OrderedDict()

    def request(self, key: int) -> bool:
        if key in self.table:
            self.table.move_to_end(key)
            return True
        if len(self.table) == self.capacity:
            self.table.popitem(last=False)
        self.table[key] = None
        return False


class TinyLfu:
    """W-TinyLFU with exact counts, halved every ten capacities: better than its sketch, so a hard comparison.

    Gil Einziger, Roy Friedman, Ben Manes: "TinyLFU: A Highly Efficient Cache Admission Policy", 2017.
    """

    def __init__(self, capacity: int) -> None:
        self.window, self.probation, self.protected = OrderedDict(), OrderedDict(), OrderedDict()
        self.window_size = max(1, capacity // 100)
        self.main_size = capacity - self.window_size
        self.protected_size = self.main_size * 8 // 10
        self.counts: dict[int, int] = {}
        self.requests, self.period = 0, 10 * capacity

    def request(self, key: int) -> bool:
        self.counts[key] = min(15, self.counts.get(key, 0) + 1)
        self.requests += 1
        if self.requests >= self.period:
            self.requests //= 2
            self.counts = {k: count // 2 for k, count in self.counts.items() if count > 1}
        if key in self.window:
            self.window.move_to_end(key)
            return True
        if key in self.protected:
            self.protected.move_to_end(key)
            return True
        if key in self.probation:
            del self.probation[key]
            self.protected[key] = None
            if len(self.protected) > self.protected_size:
                self.probation[self.protected.popitem(last=False)[0]] = None
            return True
        self.window[key] = None
        if len(self.window) > self.window_size:
            self.admit(self.window.popitem(last=False)[0])
        return False

    def admit(self, candidate: int) -> None:
        if len(self.probation) + len(self.protected) < self.main_size:
            self.probation[candidate] = None
            return
        victim = next(iter(self.probation))
        if self.counts.get(candidate, 0) > self.counts.get(victim, 0):
            del self.probation[victim]
            self.probation[candidate] = None


def zipf(requests: int, shuffles: int = 0) -> list[int]:
    """Keys drawn after Zipf 1.0; with `shuffles`, popularity is dealt out anew that many times."""
    weights = list(itertools.accumulate(1 / rank for rank in range(1, KEYS + 1)))
    chance = random.Random(7)
    trace: list[int] = []
    names = list(range(KEYS))
    for _ in range(shuffles + 1):
        ranks = chance.choices(range(KEYS), cum_weights=weights, k=requests // (shuffles + 1))
        trace += [names[rank] for rank in ranks]
        chance.shuffle(names)
    return trace


def hit_percent(table, trace: list[int]) -> float:
    hits = [table.request(key) for key in trace]
    return 100 * sum(hits) / len(hits)


def through_the_cache(path, trace: list[int]) -> float:
    cache = MetadataCache(path, max_size=CAPACITY)
    cache._prepare()

    class Through:
        def request(self, key: int) -> bool:
            name = str(key)
            if cache.get(name) is not None:
                return True
            cache.set(name, 1)
            return False

    return hit_percent(Through(), trace)


def test_an_unvisited_entry_goes_first_and_the_hand_clears_the_marks_it_passes():
    visited = bytearray([0, 1, 1, 0, 0, 0, 0, 1])
    circle = [(1, "a"), (2, "b"), (3, "c"), (4, "d")]
    chosen = transaction.choose(circle, visited, 7, lambda _: False)
    assert (chosen, visited) == ((3, "c"), bytearray([0, 0, 0, 0, 0, 0, 0, 1]))


def test_the_hand_goes_from_the_newest_entry_to_the_oldest_and_not_to_the_one_that_comes_next(
    tmp_path: Path,
):
    cache = MetadataCache(tmp_path, max_size=10)
    for number in range(10):
        cache.set(f"old{number}", number)
    for number in range(9):
        cache.get(f"old{number}")
    for number in range(30):
        cache.set(f"new{number}", number)
    assert not [key for key in cache if key.startswith("old")]


def test_an_expired_entry_goes_although_it_was_visited():
    circle = [(1, "a"), (2, "b")]
    assert transaction.choose(circle, bytearray(b"\1" * 4), 3, "b".__eq__) == (2, "b")


def test_the_hand_looks_at_a_bounded_number_of_entries():
    visited = bytearray(b"\1" * 1024)
    circle = ((number, number) for number in itertools.count())
    chosen = transaction.choose(circle, visited, 1023, lambda _: False)
    assert chosen[0] == visited.count(0) == transaction.PATIENCE


def test_an_empty_circle_is_a_lookup_error():
    with pytest.raises(LookupError):
        transaction.choose([], bytearray(1), 0, lambda _: False)


def test_on_zipf_sieve_is_five_points_above_lru_and_two_below_tinylfu_at_most():
    trace = zipf(REQUESTS)
    sieve, lru, tinylfu = (
        hit_percent(kind(CAPACITY), trace) for kind in (SieveTable, Lru, TinyLfu)
    )
    assert sieve >= lru + 5
    assert sieve >= tinylfu - 2


def test_after_shifts_of_popularity_sieve_is_at_most_five_points_below_lru():
    trace = zipf(REQUESTS, shuffles=5)
    assert hit_percent(SieveTable(CAPACITY), trace) >= hit_percent(Lru(CAPACITY), trace) - 5


def test_the_cache_evicts_as_well_as_the_policy_by_itself(tmp_path):
    trace = zipf(REQUESTS // 3)
    assert through_the_cache(tmp_path / "c", trace) == pytest.approx(
        hit_percent(SieveTable(CAPACITY), trace), abs=0.5
    )
