"""What a memoized function is known by in a cache that outlives it: nobody is given another function's results."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import itertools
import math
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from sereno.cache import MetadataCache
from sereno.errors import SerenoError

LIB = Path(__file__).parents[2] / "lib"


@pytest.fixture
def cache(tmp_path):
    cache = MetadataCache(tmp_path / "cache")
    yield cache
    cache.close()


def plain(n: int = 1) -> int:
    return n


async def plain_coroutine(n: int = 1) -> int:
    return n


def yields(n: int = 1):
    yield n


async def yields_asynchronously(n: int = 1):
    yield n


@types.coroutine
def coroutine_of_old(n: int = 1):
    yield n


class Shop:
    def __init__(self, factor: int = 2) -> None:
        self.factor = factor

    def price(self, n: int) -> int:
        return self.factor * n

    @staticmethod
    def tax(n: int) -> int:
        return n

    @classmethod
    def made(cls, n: int) -> str:
        return f"{cls.__name__}{n}"

    def __call__(self, n: int) -> int:
        return self.factor * n


class Asynchronous:
    async def __call__(self, n: int) -> int:
        return n


def scaled(by: int):
    def decorate(function):
        @functools.wraps(function)
        def wrapper(*args):
            return by * function(*args)

        return wrapper

    return decorate


def closure(factor: int):
    def times(n: int) -> int:
        return factor * n

    return times


def script_function():
    function = types.FunctionType(plain.__code__, {"__name__": "__main__"})
    function.__module__ = "__main__"
    return function


NAMELESS = {
    "lambda": lambda: lambda n: n,
    "closure": lambda: closure(2),
    "script's own": script_function,
    "partial": lambda: functools.partial(plain, 2),
    "callable object": Shop,
    "bound method": lambda: Shop().price,
    "bound method of a class": lambda: Shop.made,
    "bound method of a builtin": lambda: [1].index,
    "class": lambda: Shop,
    "lru_cache": lambda: functools.lru_cache(plain),
    "method": lambda: Shop.price,
    "wrapped closure": lambda: scaled(2)(closure(2)),
    "exec": lambda: types.FunctionType(plain.__code__, {}),
}


@pytest.mark.parametrize("kind", NAMELESS)
def test_what_has_no_name_of_its_own_is_refused_at_decoration_with_a_way_out(cache, kind):
    function = NAMELESS[kind]()
    with pytest.raises(SerenoError) as caught:
        cache.memoize()(function)
    assert "memoize: " in caught.value.message
    assert getattr(function, "__qualname__", type(function).__qualname__) in caught.value.message
    assert "name=" in caught.value.hint or "key=" in caught.value.hint
    assert cache.memoize(name="its.own")(function)
    assert cache.memoize(key=lambda *args: repr(args))(function)
    assert list(cache) == []


def test_a_key_alone_does_not_make_two_functions_one(cache):
    first = cache.memoize(key=str)(lambda n: n + 1)
    assert first(1) == 2
    with pytest.raises(SerenoError, match="the results of"):
        cache.memoize(key=str)(lambda n: n * 10)
    assert cache.memoize(key=str, name="tenfold")(lambda n: n * 10)(1) == 10


ONLY_ONCE = {
    "generator": yields,
    "asynchronous generator": yields_asynchronously,
    "coroutine by a generator": coroutine_of_old,
    "partial of a generator": functools.partial(yields, 2),
    "object called as a generator": type("Y", (), {"__call__": yields})(),
    "staticmethod": staticmethod(plain),
    "classmethod": classmethod(plain),
    "property": property(plain),
    "no function": 3,
}


@pytest.mark.parametrize("kind", ONLY_ONCE)
def test_what_no_name_can_help_is_refused_with_one_too(cache, kind):
    for options in ({}, {"name": "n"}, {"key": repr}):
        with pytest.raises(SerenoError, match="memoize: ") as caught:
            cache.memoize(**options)(ONLY_ONCE[kind])
        assert caught.value.hint


@pytest.mark.parametrize("function", [plain, plain_coroutine, math.sqrt, Shop.tax])
def test_what_can_be_found_by_its_name_needs_no_other(cache, function):
    memoized = cache.memoize()(function)
    value = memoized(4)
    if inspect.isawaitable(value):
        value = asyncio.run(value)
    assert value == (2 if function is math.sqrt else 4)
    assert [key.partition(":")[0] for key in cache] == [
        f"{function.__module__}.{function.__qualname__}"
    ]


def test_a_partial_and_an_object_with_names_keep_their_results_apart(cache):
    twice = cache.memoize(name="twice")(functools.partial(plain, 2))
    thrice = cache.memoize(name="thrice")(Shop(3))
    slow = cache.memoize(name="slow")(Asynchronous())
    for _ in range(2):
        assert (twice(), thrice(5), asyncio.run(slow(7))) == (2, 15, 7)
    assert sorted(cache) == ["slow:[[7],{}]", "thrice:[[5],{}]", "twice:[[],{}]"]


def test_a_method_with_a_key_that_has_its_object_is_memoized_for_each(tmp_path):
    cache = MetadataCache(tmp_path / "cache")
    calls = []

    class Client:
        def __init__(self, id: int) -> None:
            self.id = id

        @cache.memoize(key=lambda self, n: f"{self.id}:{n}")
        def fetch(self, n: int) -> list[int]:
            calls.append((self.id, n))
            return [self.id, n]

    one, two = Client(1), Client(2)
    for _ in range(2):
        assert (one.fetch(5), two.fetch(5)) == ([1, 5], [2, 5])
    assert calls == [(1, 5), (2, 5)]
    assert one.fetch.invalidate(one, 5) is True


def test_a_classmethod_keeps_the_results_of_each_class_apart(cache):
    made = cache.memoize(name="made")(Shop.made.__func__)
    Child = type("Child", (Shop,), {"__qualname__": "Child", "__module__": __name__})
    assert [made(Shop, 1), made(Child, 1), made(Shop, 1)] == ["Shop1", "Child1", "Shop1"]

    class Local:
        pass

    with pytest.raises(TypeError, match="of type type"):
        made(Local, 1)


def one_name() -> list[tuple[object, object]]:
    named = types.FunctionType(plain.__code__, plain.__globals__)
    return [
        (plain, scaled(2)(plain)),
        (scaled(2)(plain), scaled(3)(plain)),
        (plain, named),
        (functools.partial(plain, 1), functools.partial(plain, 2)),
        (Shop(1), Shop(2)),
    ]


@pytest.mark.parametrize("at", range(len(one_name())))
@pytest.mark.parametrize("options", [{}, {"name": "shop"}, {"name": "shop", "key": repr}])
def test_a_name_that_is_another_functions_is_refused(cache, at, options):
    first, second = one_name()[at]
    if not hasattr(first, "__code__") and not options:
        options = {"name": "given"}
    same_code = options and getattr(first, "__code__", 1) is getattr(second, "__code__", 2)
    kept = cache.memoize(**options)(first)
    assert cache.memoize(**options)(first) is not None
    if same_code:
        assert cache.memoize(**options)(second)  # it was said that they are one
        return
    with pytest.raises(SerenoError, match="the results of"):
        cache.memoize(**options)(second)
    with pytest.raises(SerenoError, match="the results of"):
        cache.memoize(**options)(kept)


def test_functions_of_one_name_in_two_modules_have_results_of_their_own(cache):
    modules = []
    for number in range(2):
        module = types.ModuleType(f"shop{number}")
        module.number = number
        exec("def price():\n    return number", vars(module))
        modules.append(cache.memoize()(module.price))
    assert [price() for price in modules * 2] == [0, 1, 0, 1]


def test_two_functions_of_one_name_in_a_module_are_refused_and_a_reload_is_not(
    tmp_path, monkeypatch, cache
):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "shared_cache", cache, raising=False)
    head = "import sys\ncache = sys.shared_cache\n"
    one = "@cache.memoize()\ndef price(n):\n    return {}\n"
    (tmp_path / "shop_reloaded.py").write_text(head + one.format("n"))
    shop = importlib.import_module("shop_reloaded")
    before = shop.price
    assert shop.price(1) == 1
    (tmp_path / "shop_reloaded.py").write_text(head + "# changed\n" + one.format("n"))
    shop = importlib.reload(shop)
    assert shop.price is not before
    assert (before(1), shop.price(1), len(cache)) == (1, 1, 1)
    (tmp_path / "shop_twice.py").write_text(
        head + one.format("n") + "first = price\n" + one.format("2 * n")
    )
    with pytest.raises(SerenoError, match=r"shop_twice\.price"):
        importlib.import_module("shop_twice")


def test_a_function_that_an_application_factory_makes_again_keeps_its_given_name(cache):
    def create_application(database: dict[int, int]):
        @cache.memoize(name="shop.find")
        def find(id: int) -> int:
            return database[id]

        return find

    applications = [create_application({1: 10}), create_application({1: 10})]
    assert [find(1) for find in applications] == [10, 10]


SCRIPT = """
import sys
from sereno.cache import MetadataCache
cache = MetadataCache(sys.argv[1])

def f():
    return sys.argv[2]

try:
    cache.memoize()(f)
except Exception as error:
    print(type(error).__mro__[-4].__name__, error)
print(cache.memoize(name=sys.argv[3])(f)())
"""


def test_functions_of_two_scripts_are_refused_or_told_apart_by_their_names(tmp_path):
    (tmp_path / "one.py").write_text(SCRIPT)
    (tmp_path / "two.py").write_text(SCRIPT)
    said = [
        subprocess.run(
            [sys.executable, tmp_path / f"{script}.py", tmp_path / "cache", script, script],
            env=os.environ | {"PYTHONPATH": str(LIB)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for script in ("one", "two", "one")
    ]
    assert all("__main__.f is a script's own" in each and "name=" in each for each in said)
    assert [each.splitlines()[-1] for each in said] == ["one", "two", "one"]


@pytest.mark.parametrize("key", [lambda n: None, lambda n: 1, lambda n: n.to_bytes(1)])
def test_a_key_that_is_no_text_is_a_type_error_that_names_it(cache, key):
    with pytest.raises(TypeError, match=r"key: it gave .* a str is needed"):
        cache.memoize(key=key)(plain)(1)
    assert list(cache) == []


@pytest.mark.parametrize("name", ["", "a:b", 1, b"x"])
def test_a_name_that_cannot_be_one_is_refused(cache, name):
    with pytest.raises((TypeError, ValueError), match="name: "):
        cache.memoize(name=name)(plain)


def test_names_and_keys_cannot_be_put_together_to_one_in_two_ways(cache):
    seen = set()
    for name, key in itertools.product(["a", "a.b"], ["", "b", ":", "b:c", "[[1],{}]"]):
        memoized = cache.memoize(name=name, key=lambda key=key: key)(lambda: 1)
        memoized()
        seen.add((name, key))
    assert len(cache) == len(seen)
