"""The jobs that install.sh puts on a machine: one module each, with an entry script of the job's id in bin/.

To add one, write the module and name its function and its `register_…` in `_HOMES`. They are loaded when they are first
used, so that a run loads only its own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sereno.jobs.cache_cleanup_job import cleanup_expired_cache as cleanup_expired_cache
    from sereno.jobs.cache_cleanup_job import (
        register_cache_cleanup_job as register_cache_cleanup_job,
    )
    from sereno.scheduler import Scheduler

_HOMES = {
    "cleanup_expired_cache": "cache_cleanup_job",
    "register_cache_cleanup_job": "cache_cleanup_job",
}


def register_all(scheduler: Scheduler) -> list[str]:
    """Call every `register_…` of this package; return the job ids."""
    return [__getattr__(name)(scheduler) for name in _HOMES if name.startswith("register_")]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
