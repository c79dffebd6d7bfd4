"""The stores of this process: one for each cache, closed when it ends."""

from __future__ import annotations

import atexit
import os
import sys
from functools import partial

from sereno.cache.fleet.store import FleetStore
from sereno.cache.fleet.url import Address

_stores: dict[tuple[str, str], FleetStore] = {}


def store_for(url: str, name: str) -> FleetStore:
    """The store of a cache, the same object for all who use it in this process.

    Raises:
        UsageError: the URL cannot be right; the error names the part of it.
    """
    store = _stores.get((url, name))
    if store is None:
        for other in [*_stores.values()]:
            if not other.session.has_users():
                other.close()
        store = _stores.setdefault((url, name), FleetStore(Address(url), name))
    return store


def _notice_fork() -> None:
    for store in [*_stores.values()]:
        store.notice_fork()
    _close_with_a_worker()


def _close_with_a_worker() -> None:
    """multiprocessing ends its workers with os._exit, without atexit, but with its own finalizers."""
    if util := sys.modules.get("multiprocessing.util"):
        close = partial(util.Finalize, None, close_all, exitpriority=-100)
        close()
        # Those that are there when a worker begins are forgotten, and what is registered here is called.
        util.register_after_fork(close_all, lambda _: close())


def close_all() -> None:
    for store in [*_stores.values()]:
        store.close()


os.register_at_fork(after_in_child=_notice_fork)
atexit.register(close_all)
_close_with_a_worker()
