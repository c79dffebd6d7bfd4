"""When a job runs: cron text, fields and intervals as frozen values that know their lines of a `[Timer]` section."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import tzinfo

from sereno.errors import InvalidTrigger
from sereno.triggers.boot import BootTrigger
from sereno.triggers.cron import CronTrigger
from sereno.triggers.explain import Trigger, describe, surprises, warnings
from sereno.triggers.interval import GridTrigger, IntervalTrigger
from sereno.triggers.stored import in_words, parse_text
from sereno.triggers.zone import machine_zone

__all__ = [
    "BootTrigger",
    "CronTrigger",
    "GridTrigger",
    "IntervalTrigger",
    "Trigger",
    "cron_trigger",
    "describe",
    "from_cron_text",
    "in_words",
    "machine_zone",
    "parse_text",
    "surprises",
    "warnings",
]


def cron_trigger(
    text: str | None, fields: Mapping[str, str | int | None], timezone: str | tzinfo | None
) -> CronTrigger | BootTrigger:
    """The trigger that cron text means, or the fields of one that are not None.

    Raises:
        InvalidTrigger: both are given; or see `from_cron_text` and `CronTrigger.from_fields`.
    """
    if text is None:
        return CronTrigger.from_fields(**fields, timezone=timezone)
    given = [name for name, value in fields.items() if value is not None]
    if given:
        raise InvalidTrigger(
            f"cron_expression: given together with {', '.join(given)}",
            hint="use one form or the other",
        )
    return from_cron_text(text, timezone=timezone)


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
