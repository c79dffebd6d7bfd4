"""A trigger as the cron text of other schedulers, of which no two read all of cron's language alike. Pure.

Written are lists and ranges, and "*" for a whole field; never a step: Kubernetes' controller (robfig/cron) takes a day
or weekday of "*/2" for restricted, and joins the two by OR, where Debian's cron joins them by AND. Nor 7 for Sunday.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sereno.errors import InvalidTrigger
from sereno.triggers import CronTrigger, GridTrigger, IntervalTrigger, Trigger
from sereno.triggers.days import EVERY_DAY, EVERY_WEEKDAY, DayRule
from sereno.triggers.explain import clock_times
from sereno.triggers.interval import full_span
from sereno.triggers.oncalendar import spans
from sereno.triggers.zone import clocks

_DAY_MIN = 24 * 60


class CronText(NamedTuple):
    """A schedule of five fields.

    Attributes:
        zone: name of the zone in which it counts.
        is_local: whether it does so for want of a zone of its own.
        most_a_day: how often it elapses on a day on which it does.
        twice: the clock times, in words, that come twice on the day on which the zone's clocks go back; "": none.
        is_misread: whether robfig/cron may leave a run out, or be a day wrong, when the zone's clocks change: it steps
            from midnight to midnight and by full hours, which some zones do not have then.
    """

    text: str
    zone: str
    is_local: bool
    most_a_day: int
    twice: str
    is_misread: bool


def cron_text(trigger: Trigger, zone: str) -> CronText:
    """The text that elapses when systemd's timer of that trigger does.

    Args:
        zone: in which a trigger counts that names none.

    Raises:
        InvalidTrigger: there is none; the hint is what to do instead.
    """
    days: Iterable[int] = EVERY_DAY
    weekdays: Iterable[int] = EVERY_WEEKDAY
    months: Iterable[int] = range(1, 13)
    is_local = False
    if isinstance(trigger, GridTrigger | IntervalTrigger):
        hours, minutes = _grid_of(trigger.interval_s)
        zone = "UTC"
    elif not isinstance(trigger, CronTrigger):
        raise InvalidTrigger(
            f"trigger: {trigger.text} means nothing to a cluster, which has no boot",
            hint="call the function where your application starts",
        )
    elif trigger.seconds != (0,):
        raise InvalidTrigger(
            "second: cron text counts in whole minutes",
            hint="let the function loop within its minute",
        )
    else:
        is_local = trigger.clock(None)[1] is None
        minutes, counted_in = trigger.clock(zone)
        zone, hours, months = counted_in or zone, trigger.hours, trigger.months
        days, weekdays = _days(trigger.day_rules)
    fields = (
        _listed(minutes, range(60)),
        _listed(hours, range(24)),
        _listed(days, EVERY_DAY),
        _listed(months, range(1, 13)),
        # No list of some days of the week has 0 to 6 in it.
        _listed((day % 7 for day in weekdays), range(7)),
    )
    times = {60 * hour + minute for hour in hours for minute in minutes}
    skipped, twice = clocks(zone).skipped, clocks(zone).repeated & times
    is_misread = (0 in skipped and fields[2:] != ("*", "*", "*")) or (
        len(skipped) % 60 != 0 and fields[1] != "*"
    )
    told = clock_times(twice) if twice else ""
    return CronText(" ".join(fields), zone, is_local, len(times), told, is_misread)


def _listed(values: Iterable[int], every: Iterable[int]) -> str:
    values = tuple(sorted(values))
    return "*" if values == tuple(every) else ",".join(spans(values, "-", str))


def _days(rules: tuple[DayRule, ...]) -> tuple[Iterable[int], Iterable[int]]:
    """Days and weekdays. Both restricted, they are joined by OR in every cron."""
    counted = [rule for rule in rules if not rule.any_day]
    if any(rule.from_end or not rule.any_weekday for rule in counted):
        raise InvalidTrigger(
            "day, day_of_week: cron text knows no last day and no nth weekday of a month, nor a day and a weekday that"
            " both have to hold",
            hint="take the days that come near, and let the function look at the date",
        )
    days = {day for rule in counted for day in rule.days}
    weekdays = {day for rule in rules if not rule.any_weekday for day in rule.weekdays}
    if len(weekdays) == len(EVERY_WEEKDAY):
        return EVERY_DAY, EVERY_WEEKDAY
    return days or EVERY_DAY, weekdays or EVERY_WEEKDAY


def _grid_of(interval_s: int) -> tuple[Iterable[int], Iterable[int]]:
    grids = {60 * step: _grid(step) for step in range(1, _DAY_MIN + 1) if _DAY_MIN % step == 0}
    known = {step_s: grid for step_s, grid in grids.items() if grid is not None}
    if interval_s not in known:
        near = sorted(sorted(known, key=lambda step_s: abs(step_s - interval_s))[:2])
        raise InvalidTrigger(
            f"interval: no cron text says every {full_span(interval_s)}, at the same times of each day",
            hint=f"the nearest are {' and '.join(map(full_span, near))}; or add_cron_job",
        )
    return known[interval_s]


def _grid(minutes: int) -> tuple[set[int], set[int]] | None:
    """None if its hours differ in their minutes. 90 min would need two texts, and nothing keeps two CronJobs apart."""
    times = range(0, _DAY_MIN, minutes)
    hours, parts = {time // 60 for time in times}, {time % 60 for time in times}
    return (hours, parts) if len(hours) * len(parts) == len(times) else None
