"""The cache as a mutable mapping, whole and for many processes at once; and as an object that is copied and sent."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, MutableMapping

import pytest

import sereno.cache
from sereno.cache import MetadataCache

PROCESSES, TIMES = 4, 250


# On the cache of many hosts too.
ON_BOTH = {
    "test_it_has_all_that_a_mutable_mapping_has",
    "test_items_that_go_while_they_are_looked_at_are_left_out",
    "test_of_many_who_add_one_does",
    "test_of_many_who_set_a_default_all_get_what_one_stored",
    "test_of_many_who_take_an_entry_one_gets_it",
    "test_a_count_is_exact_whoever_counts",
    "test_what_is_no_number_or_would_be_too_large_is_not_counted_on",
    "test_a_cache_is_sent_to_a_process_that_is_spawned",
}


@pytest.fixture
def cache(opened, store):
    cache = opened("cache", max_size=None)
    yield cache
    cache.close()


def in_processes(count: int, action: Callable[[int], None]) -> None:
    """Runs it in so many forked children at once; each must end well."""
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                action(number)
            except BaseException:
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * count


def test_it_has_all_that_a_mutable_mapping_has(cache):
    assert isinstance(cache, MutableMapping)
    model: dict[str, object] = {}
    for each in (cache, model):
        each.update({"a": 1, "b": [2]}, c=None)
        each.update([("d", 4)], e=5)
        each.update()
        assert each.setdefault("a", 9) == 1
        assert each.setdefault("f", 6) == 6
        assert each.setdefault("c", 3) is None
        assert each.pop("e") == 5
        assert each.pop("e", None) is None
        with pytest.raises(KeyError):
            each.pop("e")
    assert dict(cache) == dict(cache.items()) == model
    assert list(cache) == list(cache.keys()) == sorted(model)
    assert list(cache.values()) == [model[key] for key in sorted(model)]
    assert cache.keys() & {"a", "z"} == {"a"}
    assert ("b", [2]) in cache.items()
    assert ("b", [3]) not in cache.items()
    assert ([2] in cache.values(), [3] in cache.values()) == (True, False)
    assert len(cache.items()) == len(cache.values()) == len(cache) == 5
    assert {**cache} == model
    taken = dict(cache.popitem() for _ in range(5))
    assert taken == model
    with pytest.raises(KeyError):
        cache.popitem()


def test_looking_at_views_counts_no_request_and_marks_nothing(cache):
    cache.update(a=1, b=2)
    assert [list(view) for view in (cache.items(), cache.values(), cache.keys())]
    assert (("a", 1) in cache.items(), cache.get_stats()["total_requests"]) == (True, 1)


def test_a_cache_is_itself_and_no_other_whatever_they_hold(cache, tmp_path):
    with MetadataCache(tmp_path / "other") as other:
        assert cache != other
        assert cache != {}
        assert len({cache, other}) == 2


def test_items_that_go_while_they_are_looked_at_are_left_out(cache):
    cache.update({f"k{number:04}": number for number in range(1500)})
    seen = {}
    for key, value in cache.items():
        seen[key] = value
        if value == 0:
            cache.invalidate_pattern("k1")
    assert len(seen) in range(1000, 1500)
    assert dict(cache.items()) == {f"k{number:04}": number for number in range(1000)}


def test_with_closes_it_and_a_later_use_opens_it_again(tmp_path):
    with MetadataCache(tmp_path / "c") as cache:
        cache["a"] = 1
        assert cache._session.store is not None
    assert cache._session.store is None
    assert cache["a"] == 1
    cache.close()


def test_of_many_who_add_one_does(cache, tmp_path):
    cache.set("other", 1)

    def add(number: int) -> None:
        won = [key for key in range(TIMES) if cache.add(f"k{key}", [number])]
        (tmp_path / f"won{number}").write_text(" ".join(map(str, won)))

    in_processes(PROCESSES, add)
    won = {number: (tmp_path / f"won{number}").read_text().split() for number in range(PROCESSES)}
    assert sorted(int(key) for keys in won.values() for key in keys) == list(range(TIMES))
    assert all(cache[f"k{key}"] == [number] for number, keys in won.items() for key in keys)


def test_of_many_who_set_a_default_all_get_what_one_stored(cache, tmp_path):
    cache.set("other", 1)

    def use(number: int) -> None:
        got = [cache.setdefault(f"k{key}", number) for key in range(TIMES)]
        (tmp_path / f"got{number}").write_text(repr(got))

    in_processes(PROCESSES, use)
    got = {(tmp_path / f"got{number}").read_text() for number in range(PROCESSES)}
    assert got == {repr([cache[f"k{key}"] for key in range(TIMES)])}


@pytest.mark.parametrize("how", ["pop", "popitem"])
def test_of_many_who_take_an_entry_one_gets_it(cache, tmp_path, how):
    cache.set_many({f"k{key}": key for key in range(TIMES)})

    def take(number: int) -> None:
        got = []
        for key in range(TIMES):
            try:
                got.append(cache.pop(f"k{key}") if how == "pop" else cache.popitem()[1])
            except KeyError:
                continue
        (tmp_path / f"got{number}").write_text(" ".join(map(str, got)))
        cache.close()  # the counts of who is killed may be lost on a server

    in_processes(PROCESSES, take)
    got = [(tmp_path / f"got{number}").read_text().split() for number in range(PROCESSES)]
    assert sorted(int(each) for some in got for each in some) == list(range(TIMES))
    assert cache.get_stats()["invalidations"] == TIMES
    assert list(cache) == []


def test_a_count_is_exact_whoever_counts(cache):
    cache.set("other", 1)

    def count(number: int) -> None:
        for _ in range(TIMES):
            cache.incr("all")
            cache.incr("down", -number)

    threads = [threading.Thread(target=count, args=(1,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    in_processes(PROCESSES, count)
    assert cache["all"] == (PROCESSES + 2) * TIMES
    assert cache["down"] == -(sum(range(PROCESSES)) + 2) * TIMES


def test_a_count_goes_when_it_was_to_go_at_its_beginning(tmp_path):
    now_s = 1000.0
    with MetadataCache(tmp_path / "c", clock=lambda: now_s) as cache:
        assert cache.incr("n", 5, ttl=10) == 5
        now_s = 1009
        assert cache.incr("n", ttl=10) == 6
        now_s = 1010
        assert cache.incr("n") == 1
        now_s = 1010 + 3600
        assert cache.get("n") is None


@pytest.mark.parametrize("there", ["1", 1.0, True, None, [1], (1 << 64) - 1])
def test_what_is_no_number_or_would_be_too_large_is_not_counted_on(cache, there):
    cache.set("n", there)
    with pytest.raises(TypeError, match="n"):
        cache.incr("n")
    assert cache["n"] == there


def test_add_leaves_what_is_there_and_takes_the_place_of_what_has_expired(tmp_path):
    now_s = 1000.0
    with MetadataCache(tmp_path / "c", clock=lambda: now_s) as cache:
        assert cache.add("k", 1, ttl=10) is True
        assert cache.add("k", 2) is False
        assert cache["k"] == 1
        now_s = 1010
        assert cache.add("k", None) is True
        assert cache.add("k", 3) is False
        assert "k" in cache
        assert cache.add("none", 1, ttl=0) is False
        assert "none" not in cache


def here(cache: MetadataCache) -> MetadataCache:
    return cache


def in_another_process(cache: MetadataCache) -> None:
    cache["child"] = cache["parent"]


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_the_same_cache_with_the_same_settings(tmp_path, again):
    with MetadataCache(
        tmp_path / "c",
        *(7, 60, False, "songs"),
        **{"max_bytes": 500, "max_value_bytes": 100, "errors": "miss"},
    ) as cache:
        cache["a"] = 1
        other = again(cache)
        assert type(other) is MetadataCache
        assert (other["a"], other.path, other.name, other._again) == (
            *(1, cache.path, "songs", cache._again),
        )
        assert (other.max_size, other.default_ttl, other.max_bytes) == (7, 60, 500)
        with pytest.raises(ValueError, match="max_value_bytes"):
            other["b"] = "x" * 100
    left_out = again(MetadataCache(tmp_path / "c"))
    assert (left_out.max_size, left_out.default_ttl) == (7, 60)


class Songs(MetadataCache):
    def __init__(self, directory: object) -> None:
        super().__init__(directory, name="songs")


def test_a_cache_of_a_class_with_other_arguments_is_copied_and_sent_too(tmp_path):
    with Songs(tmp_path / "c") as songs:
        songs["a"] = 1
        for other in (copy.copy(songs), pickle.loads(pickle.dumps(songs))):
            assert (type(other), other.name, other["a"]) == (Songs, "songs", 1)


def test_a_cache_is_sent_to_a_process_that_is_spawned(cache):
    cache["parent"] = [1]
    spawned = multiprocessing.get_context("spawn").Process(target=in_another_process, args=(cache,))
    spawned.start()
    spawned.join()
    assert (spawned.exitcode, cache["child"]) == (0, [1])


def test_the_process_s_cache_is_that_of_the_directory_named_at_the_call(tmp_path, monkeypatch):
    monkeypatch.setattr(sereno.cache, "_process_cache", {})
    caches = []
    for directory in ("one", "two", "one"):
        monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / directory))
        cache = sereno.cache.get_metadata_cache()
        assert cache is sereno.cache.get_metadata_cache()
        assert cache.path == str(tmp_path / directory / "metadata")
        caches.append(cache)
        cache[directory] = len(caches)
    assert [list(cache.values()) for cache in caches] == [[3], [2], [3]]
    assert len(sereno.cache._process_cache) == 1
