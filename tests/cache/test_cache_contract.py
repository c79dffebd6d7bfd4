"""The names and values of the contract, on one process: the machine's cache, and that of many hosts on a server."""

from __future__ import annotations

import json
import math
import os
import stat

import pytest

from sereno.cache import CleanupReport, MetadataCache
from sereno.errors import CacheError, UsageError

EVICTION = "a server evicts by its maxmemory, and max_size is refused"
EXPIRY = "what has expired the server removes by itself; no cleanup meets it"
FOR_EVER = "on a server 30 days: what has no lifetime would not be evicted"
# Where the two differ: tests of the machine's cache alone. The server's side is in test_cache_of_many_hosts.py.
OF_THE_MACHINE = {
    "test_a_default_ttl_of_none_means_no_expiry": FOR_EVER,
    "test_an_infinite_ttl_never_ends": FOR_EVER,
    "test_a_new_cache_has_the_documented_limits": EVICTION,
    "test_limits_are_stored_with_the_cache_and_hold_where_they_are_left_out": EVICTION,
    "test_the_limits_of_a_closed_cache_are_there_when_it_is_opened_again": EVICTION,
    "test_a_lower_limit_evicts_what_it_has_no_room_for": EVICTION,
    "test_max_size_is_never_exceeded_and_what_was_read_lately_stays": EVICTION,
    "test_what_counts_as_a_read_lets_an_entry_stay": EVICTION,
    "test_expired_entries_go_before_living_ones": EVICTION,
    "test_clear_removes_everything_and_keeps_the_limits": EVICTION,
    "test_the_statistics_have_the_contracts_names_and_json_can_hold_them": EVICTION,
    "test_invalidate_tells_whether_there_was_a_live_entry": EXPIRY,
    "test_cleanup_removes_what_has_expired_and_nothing_else": EXPIRY,
    "test_a_cleanup_report_counts_the_bytes_that_the_removed_entries_held": EXPIRY,
    "test_a_failed_cleanup_moves_no_mark": EXPIRY,
}


@pytest.fixture
def cache(opened):
    cache = opened("cache")
    yield cache
    cache.close()


VALUES = [
    None,
    True,
    0,
    -(1 << 63),
    (1 << 64) - 1,
    0.1,
    -0.0,
    "",
    "ñandú \U0001f4a9",
    [],
    {},
    [1, [2.5, {"a": None}]],
    {"": {"b": [True, "x" * 10_000]}},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_json_can_hold_comes_back_equal_and_of_the_same_type(cache, value):
    cache.set("key", value)
    back = cache.get("key")
    assert back == value
    assert type(back) is type(value)
    assert "key" in cache


def test_a_value_belongs_to_the_one_who_got_it(cache):
    cache.set("key", {"list": [1]})
    for _ in range(3):
        got = cache.get("key")
        assert got == {"list": [1]}
        got["list"].append(2)


def test_a_value_that_is_changed_after_set_does_not_change_the_cache(cache):
    value = {"list": [1]}
    cache.set("key", value)
    value["list"].append(2)
    assert cache.get("key") == {"list": [1]}


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (math.nan, "value: float nan"),
        ({"a": [math.inf]}, "value['a'][0]: float inf"),
        ((1, 2), "of type tuple"),
        ({"a": {"b": (1,)}}, "value['a']['b']: (1,) of type tuple"),
        ({1: 2}, "key 1 of type int"),
        (b"x", "of type bytes"),
        ({"a"}, "of type set"),
        ([Odd()], "value[0]: <odd> of type"),
        (1 << 64, "64 bits"),
        ("\ud800", "lone surrogate"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_value_that_json_cannot_hold_is_a_type_error_that_names_it(cache, value, named):
    cache.set("key", 1)
    with pytest.raises(TypeError) as caught:
        cache.set("key", value)
    assert named in str(caught.value)
    assert cache.get("key") == 1


def test_a_value_that_contains_itself_is_refused(cache):
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(TypeError, match="nested too deeply"):
        cache.set("key", circle)


@pytest.mark.parametrize("key", [1, None, b"bytes"])
def test_a_key_that_is_no_str_is_a_type_error(cache, key):
    for use in (cache.get, cache.invalidate, lambda key: cache.set(key, 1)):
        with pytest.raises(TypeError, match="key: "):
            use(key)


KEYS = ["", "a", "ñ" * 200, "x" * 511, "x" * 512, "x" * 513, "x" * 100_000, "\ud800", "a\0b", "\0"]


def test_any_text_is_a_key_of_its_own(cache):
    for number, key in enumerate(KEYS):
        cache.set(key, number)
    assert [cache.get(key) for key in KEYS] == list(range(len(KEYS)))
    assert set(cache) == set(KEYS)
    for key in KEYS:
        assert cache.invalidate(key)
        assert cache.get(key) is None
    assert len(cache) == 0


@pytest.mark.parametrize("length", [0, 1, 469, 470, 471, 511, 512, 600])
def test_a_prefix_of_any_length_takes_exactly_the_keys_that_start_with_it(cache, length):
    prefix = "p" * length
    inside = {prefix + end for end in ("", "a", "p", "é", "z" * 600)}
    outside = {"q", "", "p" * (length - 1) + "q" if length else "q"} - inside
    outside = {key for key in outside if not key.startswith(prefix)}
    for key in inside | outside:
        cache.set(key, 1)
    assert cache.invalidate_pattern(prefix) == len(inside)
    assert set(cache) == outside


def test_an_entry_lives_for_its_ttl_and_not_longer(cache, clock):
    cache.set("key", 1, ttl=10)
    clock.tick(10 - clock.moment_s)
    assert cache.get("key") == 1
    clock.tick(clock.moment_s)
    assert cache.get("key") is None
    assert "key" not in cache


def test_without_a_ttl_the_default_holds(cache, clock):
    cache.set("key", 1)
    clock.tick(3599)
    assert cache.get("key") == 1
    clock.tick(1)
    assert cache.get("key") is None


@pytest.mark.parametrize("ttl", [0, -1, -math.inf])
def test_a_ttl_not_above_zero_stores_nothing_and_takes_away_what_was_superseded(cache, ttl):
    cache.set("new", 1, ttl=ttl)
    assert cache.get("new") is None
    cache.set("old", 1)
    cache.set("old", 2, ttl=ttl)
    assert cache.get("old") is None


def test_an_infinite_ttl_never_ends(cache, clock):
    cache.set("key", 1, ttl=math.inf)
    clock.tick(1e9)
    assert cache.get("key") == 1


def test_a_default_ttl_of_none_means_no_expiry(opened, clock):
    cache = opened("c", default_ttl=None)
    cache.set("key", 1)
    clock.tick(1e9)
    assert cache.get("key") == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_size", 0),
        ("max_size", -1),
        ("max_size", 1.5),
        ("max_size", True),
        ("max_size", "1"),
        ("default_ttl", 0),
        ("default_ttl", -1),
        ("default_ttl", math.nan),
        ("default_ttl", "60"),
        ("ttl_jitter", 1.1),
        ("name", "a/b"),
        ("name", ""),
    ],
)
def test_a_wrong_argument_is_refused_before_anything_is_made(opened, tmp_path, field, value):
    with pytest.raises(UsageError, match=f"{field}: "):
        opened("c", **{field: value})
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("ttl", [math.nan, "1", True])
def test_a_ttl_that_is_no_number_is_refused(cache, ttl):
    with pytest.raises(UsageError, match="ttl: "):
        cache.set("key", 1, ttl=ttl)


def test_a_new_cache_has_the_documented_limits(cache):
    assert cache.max_size == 2000
    assert cache.default_ttl == 3600


def test_limits_are_stored_with_the_cache_and_hold_where_they_are_left_out(opened):
    opened("c", max_size=7, default_ttl=0.5).set("key", 1)
    other = opened("c")
    assert (other.max_size, other.default_ttl) == (7, 0.5)
    opened("c", default_ttl=None).set("key", 1)
    assert (other.max_size, other.default_ttl) == (7, None)
    opened("c", max_size=None).set("key", 1)
    assert (other.max_size, other.default_ttl) == (None, None)


def test_the_limits_of_a_closed_cache_are_there_when_it_is_opened_again(opened):
    cache = opened("c", max_size=9)
    cache.set("key", 1)
    cache.close()
    assert opened("c").max_size == 9


def test_a_lower_limit_evicts_what_it_has_no_room_for(opened):
    cache = opened("c", max_size=500)
    cache.set_many({f"k{n}": n for n in range(500)})
    lower = opened("c", max_size=10)
    assert lower.max_size == 10
    assert len(lower) == lower.get_stats()["size"] == 10
    assert cache.get_stats()["evictions"] == 490


def test_max_size_is_never_exceeded_and_what_was_read_lately_stays(opened):
    cache = opened("c", max_size=50)
    cache.set("read", 1)
    for number in range(500):
        cache.set(f"k{number}", number)
        assert cache.get("read") == 1
        assert cache.get_stats()["size"] <= 50
    assert cache.get_stats()["evictions"] == 451


@pytest.mark.parametrize(
    ("read", "stays"),
    [
        (lambda cache: cache.get_many(["a", "nothing"]), True),
        (lambda cache: cache["a"], True),
        (lambda cache: cache.peek("a"), False),
        (lambda cache: "a" in cache, False),
    ],
    ids=["get_many", "[]", "peek", "in"],
)
def test_what_counts_as_a_read_lets_an_entry_stay(opened, read, stays):
    cache = opened("c", max_size=2)
    cache.set_many({"a": 1, "b": 2})
    assert read(cache)
    cache.set("new", 3)
    assert cache.is_live("a") is stays


def test_expired_entries_go_before_living_ones(opened, clock):
    cache = opened("c", max_size=10)
    for number in range(10):
        cache.set(f"k{number}", number, ttl=5 if number == 7 else 100)
        cache.get(f"k{number}")
    clock.tick(5)
    cache.set("new", 1)
    assert {f"k{number}" for number in range(10) if number != 7} | {"new"} == set(cache)


def test_invalidate_tells_whether_there_was_a_live_entry(cache, clock):
    cache.set("key", 1, ttl=5)
    assert cache.invalidate("key") is True
    assert cache.invalidate("key") is False
    cache.set("key", 1, ttl=5)
    clock.tick(5)
    assert cache.invalidate("key") is False
    stats = cache.get_stats()
    assert (stats["invalidations"], stats["expired_removals"]) == (1, 1)


def test_clear_removes_everything_and_keeps_the_limits(opened):
    cache = opened("c", max_size=5)
    cache.set("key", 1)
    assert cache.get("key") == 1
    cache.clear()
    assert cache.get("key") is None
    assert (len(cache), cache.max_size, cache.get_stats()["memory_bytes"]) == (0, 5, 0)


def test_the_statistics_have_the_contracts_names_and_json_can_hold_them(cache):
    cache.set("key", 1)
    cache.get("key")
    cache.get("key")
    cache.get("nothing")
    stats = json.loads(json.dumps(cache.get_stats()))
    expected = {
        "name": "metadata",
        "size": 1,
        "max_size": 2000,
        "default_ttl": 3600,
        "hits": 2,
        "misses": 1,
        "evictions": 0,
        "invalidations": 0,
        "expired_removals": 0,
        "hit_rate_percent": 66.67,
        "total_requests": 3,
        "memory_bytes": 4,
        "format_version": 3,
        "path": cache.path,
    }
    assert expected.items() <= stats.items()
    assert stats["file_bytes"] > 0


def test_reset_stats_starts_every_counter_at_zero(cache):
    cache.set("key", 1)
    cache.get("key")
    cache.reset_stats()
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["sets"], stats["hit_rate_percent"]) == (
        0,
        0,
        0,
        0.0,
    )
    cache.get("nothing")
    assert cache.get_stats()["misses"] == 1


def test_without_statistics_nothing_is_counted(opened):
    cache = opened("c", enable_stats=False)
    cache.set("key", 1)
    cache.get("key")
    cache.get("nothing")
    assert cache.get_stats()["total_requests"] == 0


def test_cleanup_removes_what_has_expired_and_nothing_else(cache, clock):
    cache.set_many({f"short{number}": number for number in range(1500)}, ttl=10)
    cache.set_many({f"long{number}": number for number in range(400)}, ttl=20)
    assert cache.cleanup() == 0
    clock.tick(10)
    assert cache.cleanup() == 1500
    assert set(cache) == {f"long{number}" for number in range(400)}
    assert cache.get_stats()["expired_removals"] == 1500


def test_a_cleanup_report_counts_the_bytes_that_the_removed_entries_held(cache, clock):
    cache.set("four", "x" * 94, ttl=5)
    cache.set("stays", "y")
    cache.get("stays")
    cache.get("nothing")
    clock.tick(5)
    report = cache.run_cleanup()
    assert report == CleanupReport(
        entries_before=2,
        entries_after=1,
        entries_removed=1,
        bytes_freed=4 + 96,
        hits=1,
        misses=1,
        evictions=0,
        expired_removals=1,
        hit_rate_percent=50.0,
        size=1,
        max_size=2000,
        default_ttl=3600,
    )
    assert cache.get_stats()["memory_bytes"] == 5 + 3


def test_each_report_counts_from_the_one_before_whatever_else_was_reset(cache):
    cache.get("nothing")
    assert cache.run_cleanup().misses == 1
    cache.get("nothing")
    cache.get("nothing")
    cache.reset_stats()
    assert cache.cleanup() == 0
    assert cache.run_cleanup().misses == 2
    assert cache.run_cleanup().misses == 0


def test_a_failed_cleanup_moves_no_mark(cache, monkeypatch):
    from sereno.cache.backend import Backend

    def fail(*_args, **_kwargs):
        raise CacheError("no")

    cache.get("nothing")
    with monkeypatch.context() as patched:
        patched.setattr(Backend, "purge", fail)
        with pytest.raises(CacheError):
            cache.run_cleanup()
    assert cache.run_cleanup().misses == 1


def test_a_closed_cache_opens_again_at_the_next_use(cache):
    cache.set("key", 1)
    cache.close()
    cache.close()
    assert cache.get("key") == 1


def test_two_objects_on_one_directory_are_one_cache(tmp_path):
    first = MetadataCache(tmp_path / "c")
    os.symlink(tmp_path / "c", tmp_path / "link")
    second = MetadataCache(tmp_path / "link")
    first.set("key", 1)
    assert second.get("key") == 1
    second.set("key", 2)
    assert first.get("key") == 2
    second.close()
    assert first.get("key") == 2


def test_nothing_is_opened_before_the_first_use(tmp_path):
    MetadataCache(tmp_path / "c")
    assert not (tmp_path / "c").exists()


def modes(directory) -> set[tuple[str, int]]:
    found = set()
    for path in [directory, *directory.rglob("*")]:
        found.add((path.name, stat.S_IMODE(path.stat().st_mode)))
    return found


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o000])
def test_a_setgid_directory_shares_with_its_group_whatever_the_umask(tmp_path, umask):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    before = os.umask(umask)
    try:
        cache = MetadataCache(shared / "metadata")
        cache.set("key", 1)
        cache.close()
    finally:
        os.umask(before)
    files = ("open.lock", "data.mdb", "lock.mdb", "board", "reserve", "synced")
    expected = {(name, 0o660) for name in files}
    assert modes(shared / "metadata") == expected | {("metadata", 0o2770), ("format-3", 0o2770)}


def test_any_other_directory_is_private(tmp_path):
    (tmp_path / "home").mkdir(mode=0o755)
    before = os.umask(0)
    try:
        cache = MetadataCache(tmp_path / "home" / "a" / "b")
        cache.set("key", 1)
        cache.close()
    finally:
        os.umask(before)
    assert {mode for _, mode in modes(tmp_path / "home" / "a")} == {0o700, 0o600}
