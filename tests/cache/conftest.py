"""Tests that run on the machine's cache and on that of many hosts: whoever uses `opened` or `store`.

A module names those that do not: `OF_THE_MACHINE`, with the reasons; or those that do: `ON_BOTH`.
"""

from __future__ import annotations

import itertools

import pytest
from cache_server import Clock, Server, ServerClock

from sereno.cache import MetadataCache

_numbers = itertools.count()


def pytest_generate_tests(metafunc):
    if "store" in metafunc.fixturenames:
        name, module = metafunc.function.__name__, metafunc.module
        both = getattr(module, "ON_BOTH", None)
        is_on_both = name in both if both is not None else name not in module.OF_THE_MACHINE
        metafunc.parametrize("store", ["machine", "server"][: 1 + is_on_both], scope="module")


@pytest.fixture(scope="module")
def server(store, tmp_path_factory):
    if store == "machine":
        yield None
        return
    with Server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def clock(server) -> Clock:
    return Clock() if server is None else ServerClock(server)


@pytest.fixture
def opened(server, tmp_path, clock, monkeypatch):
    """Opens a cache of that name, as by another process of its own settings."""

    if server is not None:
        url = server.url(f"ns=test{next(_numbers)}")

    def on_a_server(name, /, **arguments):
        monkeypatch.setenv("SERENO_CACHE_URL", url)
        return MetadataCache(**{"name": name} | arguments)

    def on_this_machine(name, /, **arguments):
        return MetadataCache(tmp_path / name, clock=clock, **arguments)

    yield on_this_machine if server is None else on_a_server
    if server is not None:
        server.raw("FLUSHALL")
