"""When a job runs: cron text, fields and intervals as frozen values that know their lines of a `[Timer]` section.

Their texts, as unit files keep them and `get_jobs()` shows them, are read back here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import tzinfo

from sereno.errors import InvalidTrigger
from sereno.triggers.cron import CronTrigger
from sereno.triggers.crontext import read_expression
from sereno.triggers.explain import Trigger, describe, summary, surprises, warnings
from sereno.triggers.fields import CRON_FIELDS
from sereno.triggers.interval import BootTrigger, GridTrigger, IntervalTrigger
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
_CRON = re.compile(
    r"cron\[(?P<fields>.+?)(?: second=(?P<second>\S+))?(?: timezone=(?P<zone>\S+))?\]"
)
_INTERVAL = re.compile(r"interval\[(\d+):(\d\d):(\d\d)( UTC)?\]")


def cron_trigger(
    text: str | None, fields: Mapping[str, str | int | None], timezone: str | tzinfo | None
) -> CronTrigger | BootTrigger:
    """The trigger that cron text means, or the fields of one that are not None; `InvalidTrigger` for both at once, and
    as of `from_cron_text` and `CronTrigger.from_fields`."""
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
    """The trigger that cron text means, @reboot included; `InvalidTrigger` as of `CronTrigger.from_expression`, and for
    a zone of @reboot."""
    if not isinstance(expression, str) or expression.split() != ["@reboot"]:
        return CronTrigger.from_expression(expression, timezone=timezone)
    if timezone is not None:
        raise InvalidTrigger(
            f"timezone: {timezone!r} means nothing to @reboot, which names no time",
            hint="leave timezone away",
        )
    return BootTrigger()


def parse_text(text: str) -> Trigger:
    """The trigger whose `text` this is; `InvalidTrigger` if no trigger has such a text.

    >>> parse_text("interval[1:30:00]")
    IntervalTrigger(seconds=5400)
    """
    if found := _INTERVAL.fullmatch(text):
        *parts, in_utc = found.groups()
        hours, minutes, seconds = map(int, parts)
        interval = IntervalTrigger(hours=hours, minutes=minutes, seconds=seconds)
        return GridTrigger(interval.interval_s) if in_utc else interval
    if text == BootTrigger().text:
        return BootTrigger()
    found = _CRON.fullmatch(text)
    if found is None:
        raise InvalidTrigger(f"trigger: {text!r} is neither cron[…] nor interval[H:MM:SS]")
    if found["second"] is None:
        return CronTrigger.from_expression(found["fields"], timezone=found["zone"])
    texts = read_expression(found["fields"])[1].split(" ")
    fields = {field.name: text for field, text in zip(CRON_FIELDS, texts, strict=True)}
    return CronTrigger.from_fields(**fields, second=found["second"], timezone=found["zone"])


def in_words(text: str) -> str:
    """A trigger's text in few words; the text itself if it is of a kind that is not known here.

    >>> in_words("cron[0 9 * * mon-fri]")
    'at 09:00 on Monday to Friday'
    """
    try:
        return summary(parse_text(text))
    except InvalidTrigger:
        return text
