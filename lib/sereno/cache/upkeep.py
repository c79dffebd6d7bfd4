"""What a job or an administrator wants of a cache: its cleanup, its limits, its figures."""

from __future__ import annotations

import sys
import time

from sereno.cache import reports
from sereno.cache.backend import Backend
from sereno.cache.board import EXPIRED_REMOVALS
from sereno.cache.entry import Json
from sereno.cache.reads import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sereno.cache.reports import CleanupReport
    from sereno.cache.values import State


class Upkeep(Reader):
    """These methods on top of those that read."""

    name: str
    path: str

    def cleanup(self) -> int:
        """Removes the expired entries; returns how many. Shows its progress on a terminal."""
        return self._sweep()[0]

    def run_cleanup(self) -> CleanupReport:
        """Removes the expired entries and reports, with what was counted since the `run_cleanup` before.

        Raises:
            CacheError: the cleanup failed; the next report then counts from where this one would have.
        """
        self._prepare()
        before = self._backend.counted().entries
        removed, freed_bytes = self._sweep()
        return reports.report(self._backend.counted_since_report(), before, removed, freed_bytes)

    @property
    def max_size(self) -> int | None:
        """The limit that is stored with the cache, in entries; None: no limit."""
        return self._limits().max_size

    @property
    def max_bytes(self) -> int | None:
        """The limit that is stored with the cache, in bytes of keys and values; None: no limit."""
        return self._limits().max_bytes

    @property
    def default_ttl(self) -> int | float | None:
        """The default lifetime that is stored with the cache, in seconds; None: entries do not expire."""
        return reports.seconds(self._limits().default_ttl_ms)

    def _limits(self) -> State:
        self._prepare()
        return self._backend.limits()

    def get_stats(self) -> dict[str, Json]:
        """Limits, size and the counters of all processes since the last `reset_stats`; JSON can hold it.

        `size` counts the stored entries, also expired ones that no cleanup has met yet; `memory_bytes` the bytes of
        their keys and values; `file_bytes` the file with its free pages. The rest has the names of the contract.
        """
        self._prepare()
        return {
            "name": self.name,
            "path": self.path,
            **reports.overview(self._backend.counted()),
        }

    def server(self) -> dict[str, str] | None:
        """What the server of many hosts' cache tells of itself, by the names of its INFO; None: there is none."""
        return None if isinstance(self._backend, Backend) else self._backend.server()

    def reset_stats(self) -> None:
        """Starts all counters of `get_stats` at 0, for every process."""
        self._prepare()
        self._backend.reset_counters()

    def _sweep(self) -> tuple[int, int]:
        """Removes what has expired; how many entries, and the bytes of their keys and values."""
        self._prepare()
        progress = TerminalProgress()
        entries = held_bytes = 0
        try:
            for swept in self._backend.purge(self._now_ms()):
                self._line[EXPIRED_REMOVALS] += swept.entries
                entries += swept.entries
                held_bytes += swept.held_bytes
                progress(swept.looked_at, entries)
        finally:
            progress.end()
        return entries, held_bytes


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
        if self._shown:
            sys.stderr.write("\n")
