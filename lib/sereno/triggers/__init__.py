"""When a job runs: cron text, fields and intervals as frozen values that know their lines of a `[Timer]` section."""

from __future__ import annotations

from datetime import tzinfo
from typing import Protocol

from sereno.errors import InvalidTrigger
from sereno.triggers.boot import BootTrigger
from sereno.triggers.cron import CronTrigger
from sereno.triggers.explain import describe, warnings
from sereno.triggers.interval import IntervalTrigger
from sereno.triggers.stored import in_words, parse_text
from sereno.triggers.zone import machine_zone

__all__ = [
    "BootTrigger",
    "CronTrigger",
    "IntervalTrigger",
    "Trigger",
    "describe",
    "from_cron_text",
    "in_words",
    "machine_zone",
    "parse_text",
    "warnings",
]


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


def from_cron_text(
    expression: str, *, timezone: str | tzinfo | None = None
) -> CronTrigger | BootTrigger:
    """The trigger that cron text means, @reboot included.

    Raises:
        InvalidTrigger: see `CronTrigger.from_expression`; or a zone for @reboot, which has no time of day.
    """
    if not isinstance(expression, str) or expression.split() != ["@reboot"]:
        return CronTrigger.from_expression(expression, timezone=timezone)
    if timezone is not None:
        raise InvalidTrigger(
            f"timezone: {timezone!r} means nothing to @reboot, which names no time",
            hint="leave timezone away",
        )
    return BootTrigger()
