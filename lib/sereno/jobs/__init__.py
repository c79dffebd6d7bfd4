"""The jobs that install.sh puts on a machine: one module each, with an entry script of the job's id in bin/.

Every `register_…` of every module here is found by `sereno apply`. Nothing needs to be named in this file, and best
nothing is: what it imports, each run of each job loads.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.jobs.cache_cleanup_job import cleanup_expired_cache as cleanup_expired_cache
    from sereno.jobs.cache_cleanup_job import (
        register_cache_cleanup_job as register_cache_cleanup_job,
    )


def __getattr__(name: str) -> object:
    if name not in ("cleanup_expired_cache", "register_cache_cleanup_job"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sereno.jobs import cache_cleanup_job

    return getattr(cache_cleanup_job, name)
