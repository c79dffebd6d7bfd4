"""The metadata cache that all processes of a machine share. `MetadataCache` is what a user needs."""

from __future__ import annotations

import os

from sereno.cache.cleanup import CleanupReport
from sereno.cache.metadata import MetadataCache

__all__ = ["CleanupReport", "MetadataCache", "get_metadata_cache"]

_process_cache: dict[str | None, MetadataCache] = {}


def get_metadata_cache() -> MetadataCache:
    """The process's cache, on the machine's shared files; the same object at every call.

    Another one once `SERENO_CACHE_DIR` names another directory. Its limits are those stored with the cache. Who wants
    others opens `MetadataCache(max_size=…, default_ttl=…)` once, in the backend's start-up code.
    """
    directory = os.environ.get("SERENO_CACHE_DIR")
    cache = _process_cache.get(directory)
    if cache is None:
        cache = MetadataCache()
        # The one before ends with its last user.
        _process_cache.clear()
        cache = _process_cache.setdefault(directory, cache)
    return cache
