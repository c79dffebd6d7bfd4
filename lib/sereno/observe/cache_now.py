"""The cache as it is at this moment, for who is shown the past of its cleanup."""

from __future__ import annotations

import os
from typing import Any

from sereno.errors import SerenoError
from sereno.jobs import cache_cleanup_job

CLEANUP = f"{cache_cleanup_job.__name__}:cleanup_expired_cache"


def cache_now(function: str, *, user: bool) -> dict[str, Any] | None:
    """Of the cache's cleanup: the scope's cache at this moment; None for other jobs, and where it cannot be read."""
    if function != CLEANUP:
        return None
    try:
        from sereno.cache import as_owner, place
        from sereno.cache.board import CURRENT

        # The machine's runs have the machine's cache, also for somebody who may not use it and so has another.
        path = place.default_path("metadata") if user else f"{place.MACHINE_DIRECTORY}/metadata"
        # Looking must not make it.
        if not os.path.lexists(f"{path}/{CURRENT}"):
            return None
        stats = as_owner.figures(as_owner.ask(path, "get_stats"), path)
    except (SerenoError, OSError, ImportError):
        return None
    return {name: stats[name] for name in ("size", "max_size", "hit_rate_percent")}
