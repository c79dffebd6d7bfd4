"""When a job runs: cron text, fields and intervals as frozen values that know their lines of a `[Timer]` section."""

from __future__ import annotations

from typing import Protocol

from sereno.triggers.cron import CronTrigger
from sereno.triggers.explain import describe, warnings
from sereno.triggers.interval import IntervalTrigger
from sereno.triggers.zone import machine_zone

__all__ = ["CronTrigger", "IntervalTrigger", "Trigger", "describe", "machine_zone", "warnings"]


class Trigger(Protocol):
    """What every kind of schedule can do. Values are frozen, hashable and equal if they mean the same."""

    @property
    def text(self) -> str:
        """What `get_jobs()` shows: `cron[0 3 * * *]`, `interval[1:30:15]`."""

    def timer_lines(self, *, local_zone: str | None = None) -> tuple[str, ...]:
        """Complete lines of the `[Timer]` section that make the schedule, without accuracy, jitter and persistence.

        Args:
            local_zone: name of the machine's zone, for schedules that count in it; default: not known.
        """
