"""The cache against a dict with expiry times, over any sequence of operations."""

from __future__ import annotations

import math
import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sereno.cache import MetadataCache, board, entry, transaction

# Few keys, so that operations meet; some longer than LMDB takes, some that differ only behind that.
KEYS = st.sampled_from(
    ["", "a", "ab", "abc", "b", "x" * 480, "x" * 600, "x" * 600 + "y", "ñ", "\ud800"]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
TTLS = st.none() | st.sampled_from([-1, 0, 0.5, 1, 10, math.inf])


class CacheAgainstADict(RuleBasedStateMachine):
    """Without a limit on the size, so that the model needs no eviction."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.model: dict[str, tuple[object, float]] = {}
        self.hits = self.misses = 0
        self.directory = tempfile.mkdtemp()

    @initialize(level_bytes=st.sampled_from([0, 3000, 1 << 20]))
    def open(self, level_bytes: int) -> None:
        self.caches = [
            MetadataCache(
                self.directory + "/c",
                max_size=None,
                default_ttl=5,
                level_bytes=size,
                clock=lambda: self.now_s,
            )
            for size in (level_bytes, 1 << 20)
        ]

    def teardown(self) -> None:
        self.caches[0].close()
        shutil.rmtree(self.directory)

    def live(self) -> dict[str, object]:
        return {key: value for key, (value, until_s) in self.model.items() if until_s > self.now_s}

    @rule(which=st.integers(0, 1), key=KEYS, value=VALUES, ttl=TTLS)
    def set(self, which: int, key: str, value: object, ttl: float | None) -> None:
        self.caches[which].set(key, value, ttl)
        self.remember(key, value, ttl)

    @rule(which=st.integers(0, 1), values=st.dictionaries(KEYS, VALUES), ttl=TTLS)
    def set_many(self, which: int, values: dict[str, object], ttl: float | None) -> None:
        self.caches[which].set_many(values, ttl)
        for key, value in values.items():
            self.remember(key, value, ttl)

    def remember(self, key: str, value: object, ttl: float | None) -> None:
        lifetime_s = 5 if ttl is None else ttl
        self.model.pop(key, None)
        if lifetime_s > 0:
            self.model[key] = (value, self.now_s + lifetime_s)

    @rule(which=st.integers(0, 1), key=KEYS, times=st.integers(1, 3))
    def get(self, which: int, key: str, times: int) -> None:
        for _ in range(times):
            expected = self.live().get(key, "absent")
            got = self.caches[which].get(key, "absent")
            assert got == expected
            self.hits += key in self.live()
            self.misses += key not in self.live()

    @rule(which=st.integers(0, 1), keys=st.lists(KEYS, unique=True))
    def get_many(self, which: int, keys: list[str]) -> None:
        expected = {key: value for key, value in self.live().items() if key in keys}
        assert self.caches[which].get_many(keys) == expected
        self.hits += len(expected)
        self.misses += len(keys) - len(expected)

    @rule(which=st.integers(0, 1), key=KEYS)
    def invalidate(self, which: int, key: str) -> None:
        assert self.caches[which].invalidate(key) == (key in self.live())
        self.model.pop(key, None)

    @rule(which=st.integers(0, 1), prefix=KEYS | st.just("x" * 599))
    def invalidate_pattern(self, which: int, prefix: str) -> None:
        doomed = [key for key in self.model if key.startswith(prefix)]
        assert self.caches[which].invalidate_pattern(prefix) == len(set(doomed) & set(self.live()))
        for key in doomed:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.caches[0].clear()
        self.model.clear()

    @rule()
    def cleanup(self) -> None:
        assert self.caches[1].cleanup() == len(self.model) - len(self.live())
        self.model = {key: kept for key, kept in self.model.items() if key in self.live()}

    @rule()
    def close(self) -> None:
        self.caches[0].close()

    @rule(seconds=st.sampled_from([0.25, 1, 7]))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def the_cache_holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "caches"):
            return
        cache = self.caches[0]
        assert set(cache) == set(self.live())
        stats = cache.get_stats()
        assert stats["size"] == len(self.model)
        assert (stats["hits"], stats["misses"]) == (self.hits, self.misses)
        self.the_store_is_consistent(cache)

    def the_store_is_consistent(self, cache: MetadataCache) -> None:
        """Entries and their order are one to one, and the bytes are those that are there."""
        store = cache._session.store
        with store.env.begin() as txn:
            stored = dict(txn.cursor())
        entries = {key: record for key, record in stored.items() if key <= entry.EMPTY}
        order = {
            key: int.from_bytes(at[1:], "big")
            for at, key in stored.items()
            if at.startswith(entry.ORDER)
        }
        assert order == {
            stored: int.from_bytes(record[8:16], "little") for stored, record in entries.items()
        }
        import orjson

        held = sum(
            len(key.encode("utf-8", "surrogatepass")) + len(orjson.dumps(value))
            for key, (value, _) in self.model.items()
        )
        assert board.committed(store.words, store.last_transaction()) == (len(entries), held)
        assert cache.get_stats()["memory_bytes"] == held
        for record in entries.values():
            expiry_ms, sequence = entry.expiry_and_sequence(record)
            noted = store.board.expiries[sequence & board.SLOT_MASK]
            assert 0 < noted <= board.second(expiry_ms)


class OfManyEntriesASlot(CacheAgainstADict):
    """With four slots of expiry words instead of a million, each meets many sequence numbers: as after years."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = pytest.MonkeyPatch()
        self.narrow.setattr(board, "SLOTS", 4)
        self.narrow.setattr(board, "SLOT_MASK", 3)
        self.narrow.setattr(transaction, "FEW", 2)

    def teardown(self) -> None:
        super().teardown()
        self.narrow.undo()


# In the long run 20,000 operations for each of the two, in some five minutes.
OfManyEntriesASlot.TestCase.settings = CacheAgainstADict.TestCase.settings = settings(
    max_examples=500 if os.environ.get("SERENO_TEST_LONG") == "1" else 15,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_the_cache_is_a_dict_with_expiry = pytest.mark.oracle(CacheAgainstADict.TestCase)
test_so_it_is_with_many_entries_a_slot = pytest.mark.oracle(OfManyEntriesASlot.TestCase)
