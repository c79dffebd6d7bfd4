"""The metadata cache that all processes of a machine share. `MetadataCache` is what a user needs."""

from __future__ import annotations

import os

from sereno.cache.metadata import MetadataCache
from sereno.cache.place import SETTING
from sereno.cache.reports import CleanupReport
from sereno.setting_names import CACHE_URL

__all__ = ["CleanupReport", "MetadataCache", "get_metadata_cache"]

_SETTINGS = (SETTING, CACHE_URL, "CREDENTIALS_DIRECTORY")
_process_cache: dict[tuple[str | None, ...], MetadataCache] = {}


def get_metadata_cache() -> MetadataCache:
    """The process's cache, the machine's or that of many hosts; the same object at every call.

    Another one once `SERENO_CACHE_DIR` or `SERENO_CACHE_URL` names another place. Its limits are those stored with the
    cache. Who wants others opens `MetadataCache(max_size=…, default_ttl=…)` once, in the backend's start-up code.
    """
    place = tuple(map(os.environ.get, _SETTINGS))
    cache = _process_cache.get(place)
    if cache is None:
        cache = MetadataCache()
        # The one before ends with its last user.
        _process_cache.clear()
        cache = _process_cache.setdefault(place, cache)
    return cache
