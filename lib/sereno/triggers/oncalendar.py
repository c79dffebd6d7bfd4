"""Sets of values → `OnCalendar=` lines (systemd.time(7), CALENDAR EVENTS).

Only "*", lists and ranges "a..b" are written, never a step "a/n": with a step that does not divide its field, systemd
(252, 257 and 262 alike) leaves out the first slot after the field's end, so that "*:0/45" never elapses at 00:00.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from sereno.triggers.days import EVERY_DAY, EVERY_MONTH, DayRule

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
EVERY_HOUR = tuple(range(24))
_EVERY_SIXTIETH = tuple(range(60))


def time_text(hours: tuple[int, ...], minutes: tuple[int, ...], seconds: tuple[int, ...]) -> str:
    """The times of a day; each list ascending and not empty."""
    lists = ((hours, EVERY_HOUR), (minutes, _EVERY_SIXTIETH), (seconds, _EVERY_SIXTIETH))
    return ":".join(_listed(values, every) for values, every in lists)


def date_text(rule: DayRule, months: tuple[int, ...]) -> str:
    """The days of one rule in these months."""
    weekdays = ",".join(spans(rule.weekdays, "..", lambda weekday: WEEKDAYS[weekday - 1])) + " "
    date = f"*-{_listed(months, EVERY_MONTH)}{'~' if rule.from_end else '-'}"
    return ("" if rule.any_weekday else weekdays) + date + _listed(rule.days, EVERY_DAY)


def _listed(values: tuple[int, ...], every: tuple[int, ...]) -> str:
    return "*" if values == every else ",".join(spans(values, "..", "{:02}".format))


def spans(values: tuple[int, ...], to: str, name: Callable[[int], str]) -> list[str]:
    """The names of values, of each of `runs` the first and the last with `to` between them."""
    return [
        name(first) if first == last else f"{name(first)}{to}{name(last)}"
        for first, last in runs(values)
    ]


def runs(values: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(first, last) of each run of at least three neighbours; every other value on its own."""
    # Of neighbours, the value and its place go up together.
    for _, group in groupby(enumerate(values), key=lambda each: each[1] - each[0]):
        run = [value for _, value in group]
        if len(run) > 2:
            yield run[0], run[-1]
        else:
            yield from zip(run, run, strict=True)
