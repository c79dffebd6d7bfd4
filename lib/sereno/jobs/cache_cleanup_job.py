"""The job `cache_cleanup_hourly`: removes the expired entries of the shared metadata cache, and watches its health."""

from __future__ import annotations

import os
import time

import sereno
from sereno.errors import SerenoError, UsageError
from sereno.records import messages
from sereno.records.log import Logger
from sereno.setting_names import TEXTFILE_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sereno.cache import CleanupReport, MetadataCache
    from sereno.scheduler import Scheduler

JOB_ID = "cache_cleanup_hourly"
# Settings: environment variable → default.
THRESHOLDS = {
    "SERENO_ALERT_CAPACITY_PERCENT": 90.0,  # alert above this share of max_size, after the cleanup
    "SERENO_ALERT_HIT_RATE_PERCENT": 60.0,  # alert below this hit rate …
    "SERENO_ALERT_MIN_REQUESTS": 100.0,  # … once more requests than this were counted
}
_logger = Logger(__name__)


def register_cache_cleanup_job(scheduler: Scheduler) -> str:
    """Register the cleanup at the top of every hour; return its job id."""
    return scheduler.add_cron_job(
        cleanup_expired_cache,
        JOB_ID,
        cron_expression="0 * * * *",
        name="Cleanup of the metadata cache",
    )


async def cleanup_expired_cache() -> dict[str, Any]:
    """`clean_up` for a program that has an event loop; it does not wait for anything."""
    return clean_up()


def clean_up() -> dict[str, Any]:
    """Remove what has expired from the machine's metadata cache, log it, and warn of a full or useless cache.

    Returns:
        timestamp (UTC, start of the run), entries_before, entries_after, entries_removed, memory_freed_kb (what the
        removed entries held), duration_ms, hit_rate (percent) and evictions, both since the cleanup before. After an
        error: timestamp, error and entries_removed (0).
    """
    timestamp = _utc(time.time_ns())
    start = time.perf_counter()
    _logger.info(messages.CLEANUP_STARTED)
    try:
        thresholds = {name: threshold(name) for name in THRESHOLDS}
        # By its public name, which loads the cache now: registering the job does not need it.
        cache = sereno.get_metadata_cache()
        report = cache.run_cleanup()
    except Exception as error:
        text = error.message if isinstance(error, SerenoError) else str(error)
        text = text or type(error).__name__
        _logger.error(messages.ALERT_ERROR, text, extra={"SERENO_ALERT": "error"})
        return {"timestamp": timestamp, "error": text, "entries_removed": 0}
    stats = {
        "timestamp": timestamp,
        "entries_before": report.entries_before,
        "entries_after": report.entries_after,
        "entries_removed": report.entries_removed,
        "memory_freed_kb": round(report.bytes_freed / 1024),
        "duration_ms": round((time.perf_counter() - start) * 1000, 2),
        "hit_rate": round(report.hit_rate_percent, 1),
        "evictions": report.evictions,
    }
    told = ("entries_removed", "memory_freed_kb", "duration_ms", "hit_rate")
    _logger.info(messages.CLEANUP_FINISHED, *(stats[name] for name in told))
    _alert(report, thresholds)
    _measure(cache, report)
    return stats


def _utc(ns: int) -> str:
    """ISO 8601 without a zone, to the microsecond, of nanoseconds since the epoch (datetime costs an import)."""
    s, us = divmod(ns // 1000, 1_000_000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{us:06d}", time.gmtime(s))


def _alert(report: CleanupReport, thresholds: dict[str, float]) -> None:
    for text, used, most in (
        (messages.ALERT_CAPACITY, report.entries_after, report.max_size),
        (messages.ALERT_MEMORY, *(report.server_bytes or (0, None))),
    ):
        percent = 100 * used / most if most is not None else 0.0
        if percent > thresholds["SERENO_ALERT_CAPACITY_PERCENT"]:
            _logger.warning(text, percent, used, most, extra={"SERENO_ALERT": "capacity"})
    requests = report.hits + report.misses
    if (
        requests > thresholds["SERENO_ALERT_MIN_REQUESTS"]
        and report.hit_rate_percent < thresholds["SERENO_ALERT_HIT_RATE_PERCENT"]
    ):
        figures = (report.hit_rate_percent, report.hits, report.misses)
        _logger.warning(messages.ALERT_HIT_RATE, *figures, extra={"SERENO_ALERT": "hit_rate"})


def _measure(cache: MetadataCache, report: CleanupReport) -> None:
    """Leave the cache's metrics for node_exporter, where somebody wants them."""
    directory = os.environ.get(TEXTFILE_DIR)
    if not directory:
        return
    from sereno.records.metrics import write_cache

    asked = report.hits + report.misses > 0
    try:
        write_cache(directory, cache.get_stats(), report.hit_rate_percent if asked else None)
    except (SerenoError, OSError) as error:
        _logger.warning(messages.NO_METRICS, directory, error)


def threshold(name: str) -> float:
    """One of `THRESHOLDS`, from the environment or its default.

    Raises:
        UsageError: the variable is set to something that is not a number from 0 up.
    """
    text = os.environ.get(name)
    if not text:
        return THRESHOLDS[name]
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise UsageError(f"{name}: {text!r} is not a number from 0 up")
    return value
