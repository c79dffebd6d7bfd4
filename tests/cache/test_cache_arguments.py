"""Arguments of another kind than documented: what can be meant is taken, the rest is refused by name before anything
is done."""

from __future__ import annotations

import decimal
import fractions
import inspect
import math
import os
import warnings
from datetime import timedelta
from pathlib import Path

import numpy
import pytest

from sereno.cache import MetadataCache
from sereno.errors import UsageError


class Odd:
    """Neither text nor number, and its repr fails."""

    __hash__ = None

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __repr__(self) -> str:
        raise AssertionError("shown")


def function(n: int) -> int:
    return n


ODD = Odd()
NO_TEXT = [None, 1, b"k", ["k"], {"k": 1}, bytearray(b"k"), ODD]
NO_KEY = [None, 1, b"k", ["k"], ODD]
NO_TTL = ["60", "", b"1", True, math.nan, [1], ODD, numpy.array([1, 2]), decimal.Decimal("NaN")]
NO_LIMIT = [0, -1, 1.5, "10", True, [1], ODD, 1 << 64, math.inf]

# Method, argument as errors name it, the values that are wrong, and a call with one.
WRONG = [
    ("get", "key", NO_TEXT, lambda cache, wrong: cache.get(wrong)),
    ("peek", "key", NO_TEXT, lambda cache, wrong: cache.peek(wrong)),
    ("is_live", "key", NO_TEXT, lambda cache, wrong: cache.is_live(wrong)),
    ("set", "key", NO_TEXT, lambda cache, wrong: cache.set(wrong, 1)),
    ("set", "value", [ODD, {1}, b"x"], lambda cache, wrong: cache.set("k", wrong)),
    ("set", "ttl", NO_TTL, lambda cache, wrong: cache.set("k", 1, ttl=wrong)),
    ("add", "key", NO_TEXT, lambda cache, wrong: cache.add(wrong, 1)),
    ("add", "value", [ODD, {1}], lambda cache, wrong: cache.add("new", wrong)),
    ("add", "ttl", NO_TTL, lambda cache, wrong: cache.add("new", 1, ttl=wrong)),
    ("incr", "key", NO_TEXT, lambda cache, wrong: cache.incr(wrong)),
    ("incr", "by", ["1", 1.5, None, True, ODD], lambda cache, wrong: cache.incr("n", wrong)),
    ("incr", "ttl", NO_TTL, lambda cache, wrong: cache.incr("n", ttl=wrong)),
    ("incr", "key", [ODD], lambda cache, wrong: cache.incr("k")),
    ("invalidate", "key", NO_TEXT, lambda cache, wrong: cache.invalidate(wrong)),
    ("get_many", "keys", ["abc", b"k", 1, None, ODD], lambda cache, wrong: cache.get_many(wrong)),
    ("get_many", "key", NO_TEXT, lambda cache, wrong: cache.get_many(["k", wrong])),
    (
        "set_many",
        "values",
        ["abc", [("a", 1)], {"a"}, 1, None, ODD],
        lambda cache, wrong: cache.set_many(wrong),
    ),
    ("set_many", "key", [1, None, b"k"], lambda cache, wrong: cache.set_many({"a": 1, wrong: 2})),
    ("set_many", "value", [ODD, {1}], lambda cache, wrong: cache.set_many({"a": 1, "b": wrong})),
    ("set_many", "ttl", NO_TTL, lambda cache, wrong: cache.set_many({"a": 1}, ttl=wrong)),
    ("invalidate_pattern", "prefix", NO_TEXT, lambda cache, wrong: cache.invalidate_pattern(wrong)),
    ("memoize", "ttl", NO_TTL, lambda cache, wrong: cache.memoize(ttl=wrong)),
    ("memoize", "memoize", [function], lambda cache, wrong: cache.memoize(wrong)),
    ("memoize", "key", ["k", 1, ODD], lambda cache, wrong: cache.memoize(key=wrong)),
    ("memoize", "name", ["", "a:b", 1, b"n", ODD], lambda cache, wrong: cache.memoize(name=wrong)),
    (
        "memoize",
        "wait_s",
        [*NO_TTL, None, -1],
        lambda cache, wrong: cache.memoize(wait_s=wrong),
    ),
    ("__getitem__", "key", NO_KEY, lambda cache, wrong: cache[wrong]),
    ("__setitem__", "key", NO_KEY, lambda cache, wrong: cache.__setitem__(wrong, 1)),
    ("__setitem__", "value", [ODD, {1}], lambda cache, wrong: cache.__setitem__("k", wrong)),
    ("__delitem__", "key", NO_KEY, lambda cache, wrong: cache.__delitem__(wrong)),
    ("setdefault", "key", NO_KEY, lambda cache, wrong: cache.setdefault(wrong, 1)),
    ("setdefault", "value", [ODD, {1}], lambda cache, wrong: cache.setdefault("new", wrong)),
    ("pop", "key", NO_KEY, lambda cache, wrong: cache.pop(wrong)),
    ("update", "other", [1, "abc", [1], ODD], lambda cache, wrong: cache.update(wrong)),
    ("update", "key", [{1: 1}, [(None, 1)]], lambda cache, wrong: cache.update(wrong)),
    ("update", "value", [{1}, ODD], lambda cache, wrong: cache.update(a=1, b=wrong)),
    ("cache", "path", ["", "a\0b", 1, ["a"], "~nobody-of-that-name/c", "\ud800", ODD], "path"),
    ("cache", "max_size", NO_LIMIT, "max_size"),
    ("cache", "max_bytes", NO_LIMIT, "max_bytes"),
    ("cache", "max_value_bytes", NO_LIMIT, "max_value_bytes"),
    ("cache", "default_ttl", [*NO_TTL, 0, -1, timedelta(0)], "default_ttl"),
    ("cache", "enable_stats", [1, "no", None, ODD], "enable_stats"),
    ("cache", "name", ["", ".", "..", "a/b", "a\0", "\ud800", 1, b"n", None, ODD], "name"),
    ("cache", "errors", ["ignore", None, True, ODD], "errors"),
    ("cache", "ttl_jitter", [-0.1, 1.1, "0", None, True, math.nan, ODD], "ttl_jitter"),
    ("cache", "level_bytes", [-1, 1.5, "1", None, True, ODD], "level_bytes"),
    ("cache", "clock", [1, "now", ODD], "clock"),
]
TAKE_NO_ARGUMENT = {
    *("clear", "live_keys", "cleanup", "run_cleanup", "get_stats", "reset_stats", "close"),
    *("keys", "items", "values", "popitem", "max_size", "max_bytes", "default_ttl"),
    "files_changed",  # the session calls it
    "look_into",  # a server's level
    "server",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    cache = MetadataCache(tmp_path_factory.mktemp("a") / "cache")
    cache.set("k", "text")
    yield cache
    cache.close()


@pytest.mark.parametrize(
    ("method", "argument", "values", "call"), WRONG, ids=[f"{row[0]}-{row[1]}" for row in WRONG]
)
def test_a_wrong_argument_is_refused_by_name_with_its_type_and_what_is_right(
    cache, tmp_path, method, argument, values, call
):
    for wrong in values:
        with pytest.raises((TypeError, ValueError)) as caught:
            if method == "cache":
                MetadataCache(**{"path": tmp_path / "c"} | {call: wrong})
            else:
                made = call(cache, wrong)
                if method == "memoize":
                    made(function)
        said = str(caught.value)
        assert said.startswith(argument), said
        assert type(wrong).__name__ in said or argument in ("value", "memoize", "key", "other"), (
            said
        )
        assert not isinstance(caught.value, UnicodeError)
    assert dict(cache.items()) == {"k": "text"}
    assert not (tmp_path / "c").exists()


def test_every_public_method_and_argument_has_wrong_values_in_the_table():
    public = {name for name in dir(MetadataCache) if not name.startswith("_")}
    tried = {(row[0], row[1]) for row in WRONG}
    assert public - {name for name, _ in tried} - TAKE_NO_ARGUMENT == set()
    for name in public - TAKE_NO_ARGUMENT:
        arguments = set(inspect.signature(getattr(MetadataCache, name)).parameters)
        arguments -= {"self", "default", "values"} if name != "set_many" else {"self"}
        assert {(name, argument) for argument in arguments} - tried == set()
    arguments = set(inspect.signature(MetadataCache).parameters)
    assert {("cache", argument) for argument in arguments} - tried == set()


@pytest.mark.parametrize(
    ("ttl", "in_s"),
    [
        (timedelta(minutes=1), 60),
        (timedelta(milliseconds=1500), 1.5),
        (decimal.Decimal("2.5"), 2.5),
        (fractions.Fraction(5, 2), 2.5),
        (numpy.int64(60), 60),
        (numpy.float32(2.5), 2.5),
        (math.inf, None),
        (10**400, None),
    ],
)
def test_a_number_of_any_kind_and_a_timedelta_are_lifetimes(tmp_path, ttl, in_s):
    now_s = 1000.0
    with MetadataCache(tmp_path / "c", default_ttl=ttl, clock=lambda: now_s) as cache:
        assert cache.default_ttl == (cache.default_ttl if type(ttl) is int else in_s)
        cache.set("default", 1)
        cache.set("given", 1, ttl=ttl)
        cache.set_many({"many": 1}, ttl=ttl)
        cache.add("added", 1, ttl=ttl)
        cache.incr("counted", ttl=ttl)
        now_s = 1000.0 + (in_s or 10**6) - 0.001
        assert len(cache) == 5
        now_s += 0.001
        assert len(cache) == (0 if in_s else 5)


@pytest.mark.parametrize("kind", [int, numpy.int64, numpy.uint8])
def test_a_limit_may_be_an_int_of_another_kind(tmp_path, kind):
    with MetadataCache(tmp_path / "c", max_size=kind(7), max_bytes=kind(90)) as cache:
        assert (cache.max_size, cache.max_bytes) == (7, 90)
        assert cache.incr("n", kind(3)) == 3


@pytest.mark.parametrize("prefix", ["user:*", "user*", "*", "user:?"])
def test_a_prefix_with_wildcards_that_takes_nothing_is_warned_of(cache, prefix):
    with pytest.warns(UserWarning, match="is a prefix") as caught:
        assert cache.invalidate_pattern(prefix) == 0
    assert caught[0].filename == __file__
    assert repr(prefix.rstrip("*?")) in str(caught[0].message)


def test_a_prefix_that_is_meant_is_not_warned_of(tmp_path):
    with MetadataCache(tmp_path / "c") as cache, warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.set_many({"user:*:1": 1, "page?x=1": 2})
        assert cache.invalidate_pattern("user:*") == 1
        assert cache.invalidate_pattern("page?") == 1
        assert cache.invalidate_pattern("page?x=1") == 0
        assert cache.invalidate_pattern("shop.price:[[") == 0


@pytest.mark.parametrize(
    "path", ["~/x/cache", "~root/x", Path("~/x/cache"), b"~/x/cache"], ids=repr
)
def test_a_path_begins_at_the_home_that_a_tilde_stands_for(tmp_path, monkeypatch, path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = os.path.expanduser("~root") if "root" in repr(path) else str(tmp_path)
    assert MetadataCache(path).path == os.path.join(
        home, "x" if "root" in repr(path) else "x/cache"
    )
    monkeypatch.setenv("SERENO_CACHE_DIR", "~/y")
    assert MetadataCache().path == str(tmp_path / "y" / "metadata")


def test_a_wrong_argument_is_a_usage_error_or_a_type_error():
    assert issubclass(UsageError, ValueError)
