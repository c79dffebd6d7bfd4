"""The metadata cache that all processes of a machine share. `MetadataCache` is what a user needs."""

from __future__ import annotations

from sereno.cache.cleanup import CleanupReport
from sereno.cache.metadata import MetadataCache

__all__ = ["CleanupReport", "MetadataCache", "get_metadata_cache"]

_process_cache: MetadataCache | None = None


def get_metadata_cache() -> MetadataCache:
    """The process's cache, on the machine's shared files; the same object at every call.

    Its limits are those stored with the cache. Who wants others opens `MetadataCache(max_size=…, default_ttl=…)`
    once, in the backend's start-up code.
    """
    global _process_cache
    if _process_cache is None:
        _process_cache = MetadataCache()
    return _process_cache
