"""Limits in bytes, and a cache that cannot be used where that need not take a request down."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from sereno.cache import MetadataCache, place, reports
from sereno.errors import CacheError, UsageError


@pytest.fixture(autouse=True)
def _nothing_was_said_yet(monkeypatch):
    monkeypatch.setattr(reports, "_next_warning_s", {})


def held_bytes(cache: MetadataCache) -> int:
    return cache.get_stats()["memory_bytes"]


def test_the_bytes_of_all_entries_stay_within_their_limit_whatever_is_set(tmp_path):
    chance = random.Random(1)
    with MetadataCache(tmp_path / "c", max_size=None, max_bytes=20_000) as cache:
        for _ in range(400):
            key = f"k{chance.randrange(60)}"
            cache.set(key, "x" * chance.choice([1, 100, 3_000, 15_000]))
            assert cache.get(key)
            assert held_bytes(cache) <= 20_000
        cache.set_many({f"many{number}": "x" * 100 for number in range(1000)})
        assert held_bytes(cache) <= 20_000
        assert cache.get("many999") == "x" * 100
        assert held_bytes(cache) == sum(len(key) + len(it) + 2 for key, it in cache.items())


def test_a_large_value_takes_the_place_of_any_number_of_small_ones(tmp_path):
    with MetadataCache(tmp_path / "c", max_size=None, max_bytes=50_000) as cache:
        cache.set_many({f"k{number:03}": "x" * 90 for number in range(500)})
        assert cache.get_stats()["size"] == 500
        cache.set("large", "x" * 40_000)
        assert held_bytes(cache) <= 50_000
        assert cache.get("large") == "x" * 40_000
        assert cache.get_stats()["evictions"] == 500 - (cache.get_stats()["size"] - 1)


def test_an_overwrite_that_grows_makes_others_go_and_stays_itself(tmp_path):
    with MetadataCache(tmp_path / "c", max_size=None, max_bytes=10_000) as cache:
        cache.set_many({f"k{number}": "x" * 100 for number in range(90)})
        for size in range(100, 9_900, 700):
            cache.set("k0", "x" * size)
            assert cache.get("k0") == "x" * size
            assert held_bytes(cache) <= 10_000
        assert cache.get_stats()["size"] < 10


def test_the_limit_in_bytes_is_stored_with_the_cache_and_lowering_it_evicts(tmp_path):
    with MetadataCache(tmp_path / "c", max_size=None) as cache:
        assert (cache.max_bytes, cache.get_stats()["max_bytes"]) == (None, None)
        cache.set_many({f"k{number}": "x" * 100 for number in range(900)})
        lower = MetadataCache(tmp_path / "c", max_bytes=5_000)
        assert lower.max_bytes == cache.max_bytes == lower.get_stats()["max_bytes"] == 5_000
        assert held_bytes(lower) <= 5_000
        assert MetadataCache(tmp_path / "c", max_size=3).max_bytes == 5_000
        assert MetadataCache(tmp_path / "c", max_bytes=None).max_bytes is None


@pytest.mark.parametrize(
    ("limits", "named"),
    [({"max_value_bytes": 100}, "max_value_bytes"), ({"max_bytes": 100}, "max_bytes")],
)
def test_a_value_larger_than_its_limit_is_refused_and_changes_nothing(tmp_path, limits, named):
    with MetadataCache(tmp_path / "c", **limits) as cache:
        cache.update(k=1, other=2)
        for refused in (
            lambda: cache.set("k", "x" * 120),
            lambda: cache.add("new", "x" * 120),
            lambda: cache.set_many({f"a{n}": 3 for n in range(150)} | {"k": "x" * 120}),
            lambda: cache.setdefault("new", "x" * 120),
        ):
            with pytest.raises(UsageError, match=named) as caught:
                refused()
            assert caught.value.hint
            assert dict(cache.items()) == {"k": 1, "other": 2}
        cache.set("k", "x" * 90)
        assert cache["k"] == "x" * 90


def test_the_limit_on_a_value_is_stored_with_the_cache_and_has_a_default(tmp_path):
    with MetadataCache(tmp_path / "c", max_bytes=None) as cache:
        assert cache.get_stats()["max_value_bytes"] == 64 << 20
        MetadataCache(tmp_path / "c", max_value_bytes=10).get("k")
        with pytest.raises(UsageError, match="max_value_bytes is 10"):
            cache["k"] = "x" * 9
        MetadataCache(tmp_path / "c", max_value_bytes=None).get("k")
        cache["k"] = "x" * (1 << 20)
        assert len(cache["k"]) == 1 << 20


# A cache that cannot be used


def unusable(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "cache"


def test_where_errors_are_misses_nothing_is_found_and_set_does_nothing(tmp_path, caplog):
    cache = MetadataCache(unusable(tmp_path), errors="miss")
    calls = []

    @cache.memoize(name="price")
    def price(n: int) -> int:
        calls.append(n)
        return n

    assert (cache.get("k"), cache.get("k", 3), cache.peek("k")) == (None, 3, None)
    assert (cache.get_many(["k"]), "k" in cache, list(cache), len(cache)) == ({}, False, [], 0)
    assert (list(cache.items()), dict(cache)) == ([], {})
    cache.set("k", 1)
    cache["k"] = 1
    cache.set_many({"k": 1})
    cache.update(k=1)
    assert [price(1), price(1)] == calls == [1, 1]
    assert len(caplog.records) == 1
    assert "nothing is found" in caplog.text
    assert str(tmp_path / "file") in caplog.text


def test_where_errors_are_misses_what_must_not_go_unnoticed_still_raises(tmp_path):
    cache = MetadataCache(unusable(tmp_path), errors="miss")
    for use in (
        lambda: cache.invalidate("k"),
        lambda: cache.invalidate_pattern("k"),
        lambda: cache.clear(),
        lambda: cache.add("k", 1),
        lambda: cache.incr("k"),
        lambda: cache.pop("k"),
        lambda: cache.__delitem__("k"),
        lambda: cache.setdefault("k", 1),
        lambda: cache.run_cleanup(),
        lambda: cache.get_stats(),
    ):
        with pytest.raises(CacheError):
            use()
    with pytest.raises(TypeError):
        cache.set("k", object())
    with pytest.raises(TypeError):
        cache.get(1)


def test_where_errors_are_raised_they_are(tmp_path):
    cache = MetadataCache(unusable(tmp_path))
    for use in (
        lambda: cache.get("k"),
        lambda: cache.get_many(["k"]),
        lambda: cache.set("k", 1),
        lambda: cache.set_many({"k": 1}),
        lambda: list(cache),
        lambda: "k" in cache,
        lambda: cache.memoize(name="f")(lambda: 1)(),
    ):
        with pytest.raises(CacheError):
            use()


def test_a_cache_that_can_be_used_again_is(tmp_path):
    path = unusable(tmp_path)
    cache = MetadataCache(path, errors="miss")
    cache.set("k", 1)
    (tmp_path / "file").unlink()
    cache.set("k", 1)
    assert cache.get("k") == 1
    cache.close()


# Hints


@pytest.mark.parametrize("number", sorted(place._HINTS))
def test_an_error_of_the_system_has_a_way_out(tmp_path, number):
    error = place.refused(str(tmp_path), OSError(number, os.strerror(number)))
    assert (error.errno, bool(error.hint)) == (number, True)


def test_a_private_cache_beside_the_machines_is_said_once_with_the_way_to_share(
    tmp_path, monkeypatch, caplog
):
    machine = tmp_path / "machine"
    monkeypatch.setattr(place, "MACHINE_DIRECTORY", str(machine))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SERENO_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    MetadataCache()
    assert not caplog.records
    machine.mkdir()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for _ in range(2):
        assert MetadataCache(name="songs").path == str(tmp_path / ".cache/sereno/songs")
    assert len(caplog.records) == 1
    assert str(machine) in caplog.text
    assert "usermod -aG sereno root" in caplog.text
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / "own"))
    reports._next_warning_s.clear()
    MetadataCache()
    assert len(caplog.records) == 1


def test_who_is_in_the_group_already_is_told_to_begin_again(monkeypatch):
    monkeypatch.setattr(place, "is_member", lambda *_: True)
    error = place.refused("/var/cache/sereno/metadata", PermissionError(errno.EACCES, "no"))
    assert "restart it" in error.hint
    assert "usermod" not in error.hint


USE = """
import os, resource, sys
from sereno.cache import MetadataCache
exec(sys.argv[2])
try:
    MetadataCache(sys.argv[1]).set("a", 1)
except OSError as error:
    print(error.errno, error.hint)
"""
LIB = Path(__file__).parents[2] / "lib"


def said_by(path, before: str, *prefix: str) -> str:
    return subprocess.run(
        [*prefix, sys.executable, "-c", USE, str(path), before],
        env=os.environ | {"PYTHONPATH": str(LIB), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    ("resource", "limit", "number", "way_out"),
    [
        ("RLIMIT_AS", 4 << 30, errno.ENOMEM, "ulimit -v"),
        ("RLIMIT_NOFILE", 5, errno.EMFILE, "ulimit -n"),
        ("RLIMIT_FSIZE", 1 << 16, errno.EFBIG, "ulimit -f"),
    ],
)
def test_a_limit_of_the_process_is_told_by_its_name(tmp_path, resource, limit, number, way_out):
    said = said_by(tmp_path / "c", f"resource.setrlimit(resource.{resource}, ({limit}, {limit}))")
    assert said.startswith(f"{number} ")
    assert way_out in said


@pytest.mark.parametrize(
    ("module", "call", "number", "why"),
    [
        (mmap, "mmap", errno.ENODEV, "lets no file be mapped"),
        (fcntl, "flock", errno.ENOLCK, "locks no files"),
        (fcntl, "fcntl", errno.ENOLCK, "locks no files"),
        (os, "posix_fallocate", errno.EOPNOTSUPP, "does not do what a cache needs"),
        (os, "symlink", errno.EOPNOTSUPP, "does not do what a cache needs"),
    ],
)
def test_what_a_foreign_file_system_does_not_do_is_told_and_leaves_nothing(
    tmp_path, monkeypatch, module, call, number, why
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    cache = MetadataCache(tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(module, call, refuse)
        with pytest.raises(CacheError) as caught:
            cache.set("k", 1)
    assert caught.value.errno == number
    assert why in caught.value.hint
    assert "SERENO_CACHE_DIR" in caught.value.hint
    assert {each.partition("-")[0] for each in os.listdir(tmp_path / "c")} <= {
        "open.lock",
        "format",
    }
    cache.set("k", 1)
    assert cache.get("k") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a read-only mount needs root")
@pytest.mark.parametrize("name", ["c", "new"])
def test_a_read_only_mount_is_told_from_missing_rights(tmp_path, name):
    assert said_by(tmp_path / "c", "") == ""
    mount = f'mount --bind -o ro {tmp_path} {tmp_path}; exec "$@"'
    said = said_by(tmp_path / name, "", "unshare", "-m", "sh", "-c", mount, "sh")
    assert said.startswith(f"{errno.EROFS} ")
    assert "mounted read-only" in said


def test_a_copy_by_hard_links_is_told_from_other_strange_files(tmp_path):
    with MetadataCache(tmp_path / "c") as cache:
        cache.set("k", 1)
    subprocess.run(["cp", "-al", tmp_path / "c", tmp_path / "copy"], check=True)
    with pytest.raises(CacheError, match="hard links") as caught:
        MetadataCache(tmp_path / "copy").get("k")
    assert caught.value.hint == f"rm -r {tmp_path}/copy: a cache can be filled again"


def test_another_s_directory_that_all_may_write_to_can_be_used_by_one_in_it(tmp_path, monkeypatch):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o777)
    for uid, way_out in (
        (0, "chmod o-w"),
        (1, f"or use a directory of your own in it: {tmp_path}"),
    ):
        found = os.stat_result((0o40777, 1, 1, 2, uid, 0, 0, 0, 0, 0))
        with pytest.raises(CacheError) as caught:
            place.check_directory(f"{tmp_path}/volume", found)
        assert way_out in caught.value.hint
    with MetadataCache(tmp_path / "volume" / "metadata") as cache:
        cache["k"] = 1


def test_who_is_not_in_the_group_of_a_shared_directory_is_told_its_name(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o2770)
    error = place.refused(f"{tmp_path}/shared/metadata", PermissionError(errno.EACCES, "no"))
    group = place.group_name(os.stat(tmp_path / "shared").st_gid)
    assert f"usermod -aG {group} " in error.hint
