"""Removing what has expired, without getting into anybody's way.

The board tells what may have expired (`sereno.cache.board`); what really has is removed in write transactions boxed
to about a millisecond. LMDB's write lock is not fair, so between two boxes the cleanup stays away for as long as it
held the lock; alone on the cache, it has nobody to wait for.
"""

from __future__ import annotations

import sys
import time

from sereno.cache import board
from sereno.cache.board import NEXT_SEQUENCE
from sereno.cache.session import Session
from sereno.cache.store import Store
from sereno.cache.write import Write
from sereno.named_tuple import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHUNK_SLOTS = 1 << 14
BOX_S = 0.001
SMALLEST_PAUSE_S = 0.0002


class CleanupReport(NamedTuple):
    """What one `run_cleanup` did, and what the cache did since the one before.

    `bytes_freed`: bytes of the keys and values that were removed; the file itself does not shrink, its pages are
    used again. `hits` to `expired_removals` and `hit_rate_percent` (0 to 100, 0.0 without requests) count since the
    previous report. `default_ttl` is in seconds. `server_bytes`: of a cache on a server what its memory holds and may
    hold; None: it is on this machine, or may hold anything.
    """

    entries_before: int
    entries_after: int
    entries_removed: int
    bytes_freed: int
    hits: int
    misses: int
    evictions: int
    expired_removals: int
    hit_rate_percent: float
    size: int
    max_size: int | None
    default_ttl: int | float | None
    server_bytes: tuple[int, int] | None = None


class Swept(NamedTuple):
    """One step of a sweep: entries that it removed and their bytes, how long it held the write lock, and how many slots
    have been looked at in all."""

    entries: int
    held_bytes: int
    hold_s: float
    looked_at: int


def remove_expired(
    session: Session, now_ms: int, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Swept]:
    """Removes every entry that is expired at `now_ms`; gives each step after its commit.

    Args:
        session: the cache.
        now_ms: cache time.
        sleep: called with the seconds to stay away between two steps.

    Raises:
        CacheError: the cache cannot be read or written; what was removed before stays removed.
    """
    shares = session.is_shared() or _has_threads()
    start, end = 0, session.reading(lambda store: min(int(store.words[NEXT_SEQUENCE]), board.SLOTS))
    while start < end:
        stop = min(start + CHUNK_SLOTS, end)
        waiting = session.reading(_due, start, stop, now_ms)
        while waiting:
            done = session.written(Write.delete_expired, waiting, now_ms, BOX_S)
            hold_s = time.monotonic() - done.began_s
            waiting = waiting[done.looked_at :]
            yield Swept(done.entries, done.held_bytes, hold_s, stop - len(waiting))
            if shares:
                sleep(max(hold_s, SMALLEST_PAUSE_S))
        start = stop
        yield Swept(0, 0, 0.0, stop)


def _has_threads() -> bool:
    threading = sys.modules.get("threading")
    return threading is not None and threading.active_count() > 1


def _due(store: Store, start: int, end: int, now_ms: int) -> list[int]:
    return board.due(store.board.expiries, start, end, now_ms)


class TerminalProgress:
    """Shows a sweep that takes longer than a second on a terminal; silent anywhere else."""

    def __init__(self) -> None:
        self._shown = False
        self._next_s = time.monotonic() + 1.0

    def __call__(self, scanned: int, removed: int) -> None:
        if time.monotonic() < self._next_s or not sys.stderr.isatty():
            return
        self._next_s = time.monotonic() + 0.2
        self._shown = True
        sys.stderr.write(f"\rlooked at {scanned} entries, removed {removed}")
        sys.stderr.flush()

    def end(self) -> None:
        """Leaves the line."""
        if self._shown:
            sys.stderr.write("\n")
