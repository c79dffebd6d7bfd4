"""A trigger's text, as unit files keep it and `get_jobs()` shows it, back into the trigger, and in few words. Pure."""

from __future__ import annotations

import re

from sereno.errors import InvalidTrigger
from sereno.triggers.boot import BootTrigger
from sereno.triggers.cron import CronTrigger
from sereno.triggers.crontext import read_expression
from sereno.triggers.explain import Trigger, summary
from sereno.triggers.fields import CRON_FIELDS
from sereno.triggers.interval import GridTrigger, IntervalTrigger

_CRON = re.compile(
    r"cron\[(?P<fields>.+?)(?: second=(?P<second>\S+))?(?: timezone=(?P<zone>\S+))?\]"
)
_INTERVAL = re.compile(r"interval\[(\d+):(\d\d):(\d\d)( UTC)?\]")


def parse_text(text: str) -> Trigger:
    """The trigger whose `text` this is.

    Raises:
        InvalidTrigger: no trigger has such a text.

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
