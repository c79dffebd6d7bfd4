"""Counters, limits and the reports made of them.

The board's counters only grow. What a user calls the statistics is the difference to what they were at the last
`reset_stats` or `run_cleanup`; those are records in the store, written with the transaction that they belong to.
"""

from __future__ import annotations

from sereno.cache import limits
from sereno.cache.backend import Counted
from sereno.cache.board import FORMAT
from sereno.cache.cleanup import CleanupReport

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def rate_percent(hits: int, misses: int) -> float:
    """Hits among all requests, 0.0 to 100.0 with two digits; 0.0 without requests."""
    return round(100.0 * hits / (hits + misses), 2) if hits + misses else 0.0


def overview(counted: Counted) -> dict[str, Any]:
    """What `get_stats` says, without the cache's name and path."""
    counters = counted.counters
    return {
        "size": counted.entries,
        "max_size": counted.limits.max_size,
        "default_ttl": limits.seconds(counted.limits.default_ttl_ms),
        **counters,
        "hit_rate_percent": rate_percent(counters["hits"], counters["misses"]),
        "total_requests": counters["hits"] + counters["misses"],
        "memory_bytes": counted.held_bytes,
        "file_bytes": counted.file_bytes,
        "format_version": FORMAT,
    }


def report(counted: Counted, before: int, removed: int, freed_bytes: int) -> CleanupReport:
    """The report of a cleanup that found `before` entries."""
    counters = counted.counters
    return CleanupReport(
        entries_before=before,
        entries_after=counted.entries,
        entries_removed=removed,
        bytes_freed=freed_bytes,
        hits=counters["hits"],
        misses=counters["misses"],
        evictions=counters["evictions"],
        expired_removals=counters["expired_removals"],
        hit_rate_percent=rate_percent(counters["hits"], counters["misses"]),
        size=counted.entries,
        max_size=counted.limits.max_size,
        default_ttl=limits.seconds(counted.limits.default_ttl_ms),
    )
