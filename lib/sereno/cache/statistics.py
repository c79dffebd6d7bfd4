"""Counters, limits and the reports made of them.

The board's counters only grow. What a user calls the statistics is the difference to what they were at the last
`reset_stats` or `run_cleanup`; those are records in the store, written with the transaction that they belong to.
"""

from __future__ import annotations

import os

from sereno.cache import limits
from sereno.cache.board import FORMAT
from sereno.cache.cleanup import CleanupReport
from sereno.cache.limits import Unset
from sereno.cache.session import Session
from sereno.cache.store import MARK_KEY, RESET_KEY, State, Store
from sereno.cache.write import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TRIM_ENTRIES = 200
"""Entries evicted in one transaction when the limit was lowered: about 2 ms."""


def rate_percent(hits: int, misses: int) -> float:
    """Hits among all requests, 0.0 to 100.0 with two digits; 0.0 without requests."""
    return round(100.0 * hits / (hits + misses), 2) if hits + misses else 0.0


def overview(store: Store, _: None) -> dict[str, Any]:
    """What `get_stats` says, without the cache's name and path."""
    counted = _since(store.board.totals(), store.record(RESET_KEY))
    state = store.state()
    return {
        "size": store.size(),
        "max_size": state.max_size,
        "default_ttl": limits.seconds(state.default_ttl_ms),
        **counted,
        "hit_rate_percent": rate_percent(counted["hits"], counted["misses"]),
        "total_requests": counted["hits"] + counted["misses"],
        "memory_bytes": store.held_bytes(),
        "file_bytes": os.fstat(store.data).st_size,
        "format_version": FORMAT,
    }


def reset(txn: Write, _: None) -> None:
    """Starts the statistics at 0."""
    txn.set_record(RESET_KEY, txn.board.totals())


def report(txn: Write, argument: tuple[int, int, int]) -> CleanupReport:
    """The report of a cleanup, and the mark from which the next one counts."""
    before, removed, freed_bytes = argument
    totals = txn.board.totals()
    counted = _since(totals, txn.record(MARK_KEY))
    txn.set_record(MARK_KEY, totals)
    state = txn.state()
    size = txn.size()
    return CleanupReport(
        entries_before=before,
        entries_after=size,
        entries_removed=removed,
        bytes_freed=freed_bytes,
        hits=counted["hits"],
        misses=counted["misses"],
        evictions=counted["evictions"],
        expired_removals=counted["expired_removals"],
        hit_rate_percent=rate_percent(counted["hits"], counted["misses"]),
        size=size,
        max_size=state.max_size,
        default_ttl=limits.seconds(state.default_ttl_ms),
    )


def store_limits(
    session: Session,
    max_size: int | Unset | None,
    default_ttl_ms: int | Unset | None,
    now_ms: Callable[[], int],
    count_evictions: Callable[[int], None],
) -> None:
    """Stores the limits that were given, and evicts what a lower `max_size` has no room for."""

    def wanted(state: State) -> State:
        return State(
            state.max_size if isinstance(max_size, Unset) else max_size,
            state.default_ttl_ms if isinstance(default_ttl_ms, Unset) else default_ttl_ms,
        )

    state = session.reading(Store.state, None)
    if wanted(state) == state:
        return
    session.written(lambda txn, _: txn.set_state(wanted(txn.state())), None)
    while evicted := session.written(
        lambda txn, at_most: txn.trim(at_most, now_ms()), TRIM_ENTRIES
    ):
        count_evictions(evicted)


def _since(totals: dict[str, int], then: dict[str, int]) -> dict[str, int]:
    return {name: max(0, count - then[name]) for name, count in totals.items()}
