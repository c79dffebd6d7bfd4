"""A schedule in words, and what about it surprises people. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sereno.triggers.cron import CronTrigger
from sereno.triggers.days import EVERY_MONTH, LONGEST, DayRule
from sereno.triggers.fields import CRON_FIELDS
from sereno.triggers.interval import BootTrigger, GridTrigger, IntervalTrigger, full_span
from sereno.triggers.oncalendar import spans
from sereno.triggers.zone import check_zone, clocks, minutes_in_utc

Trigger = BootTrigger | CronTrigger | GridTrigger | IntervalTrigger
"""Each has its `text`, and the lines of the `[Timer]` section that make the schedule."""
# Written out, not taken from the calendar module, whose names follow the locale.
_MONTHS = """
January February March April May June July August September October November December
""".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
# As clock times up to this many, as hours and minutes beyond.
_FEW_TIMES = 6
# Where most zones change their clocks: 02:00 to 02:59.
_USUAL_CHANGE = frozenset(range(120, 180))


def describe(trigger: Trigger) -> str:
    """What the schedule means, as one English sentence.

    >>> describe(CronTrigger.from_expression("0 9 * * mon-fri"))
    "At 09:00 on Monday to Friday, in the machine's time zone."
    """
    if isinstance(trigger, BootTrigger):
        return "Once after each boot, for the first time after the next one."
    if isinstance(trigger, IntervalTrigger):
        return f"Every {full_span(trigger.interval_s)}, counted from the start of the run before."
    if isinstance(trigger, GridTrigger):
        return f"Every {full_span(trigger.interval_s)}, counted from midnight in UTC."
    zone = f"{trigger.timezone} time" if trigger.timezone else "in the machine's time zone"
    words = _words(trigger)
    return f"{words[0].upper()}{words[1:]}, {zone}."


def summary(trigger: Trigger) -> str:
    """What the schedule means in as few words as a table has room for.

    >>> summary(CronTrigger.from_expression("0 9 * * mon-fri", timezone="Europe/Madrid"))
    'at 09:00 on Monday to Friday, Europe/Madrid'
    """
    if isinstance(trigger, BootTrigger):
        return "after each boot"
    if isinstance(trigger, IntervalTrigger):
        return f"every {full_span(trigger.interval_s)}"
    if isinstance(trigger, GridTrigger):
        return f"every {full_span(trigger.interval_s)} from midnight, UTC"
    return _words(trigger) + (f", {trigger.timezone}" if trigger.timezone else "")


def _words(trigger: CronTrigger) -> str:
    return _times(trigger) + ("" if trigger.every_hour else " " + _days(trigger))


def _times(trigger: CronTrigger) -> str:
    hours, minutes, seconds = trigger.hours, trigger.minutes, trigger.seconds
    if len(hours) * len(minutes) * len(seconds) <= _FEW_TIMES:
        shown_second = seconds != (0,)
        return "at " + _joined(
            f"{hour:02}:{minute:02}" + (f":{second:02}" if shown_second else "")
            for hour in hours
            for minute in minutes
            for second in seconds
        )
    words = []
    if seconds != (0,):
        words.append(_part(seconds, 60, "second"))
    if seconds == (0,) or len(minutes) < 60:
        words.append(_part(minutes, 60, "minute"))
    if len(hours) < 24:
        words.append(_part(hours, 24, "hour"))
    elif len(minutes) < 60 and _step(minutes, 60) is None:
        words.append("every hour")
    text = " of ".join(words)
    return text if text.startswith("every") else f"at {text}"


def _part(values: tuple[int, ...], size: int, unit: str) -> str:
    if len(values) == size:
        return f"every {unit}"
    step = _step(values, size)
    if step is not None and unit != "hour":
        return f"every {step} {unit}s"
    return _numbered(unit, values)


def _step(values: tuple[int, ...], size: int) -> int | None:
    """n if the values are every nth of the whole circle from 0 on."""
    step = size // len(values)
    return step if 1 < step < size and values == tuple(range(0, size, step)) else None


def _days(trigger: CronTrigger) -> str:
    months = "" if trigger.months == EVERY_MONTH else _joined(_spans(trigger.months, _MONTHS))
    return _joined((_rule(rule, months) for rule in trigger.day_rules), "or")


def _rule(rule: DayRule, months: str) -> str:
    names = _spans(rule.weekdays, _WEEKDAYS)
    of_months = f"of {months or 'the month'}"
    if rule.any_day:
        days = "every day" if rule.any_weekday else f"on {_joined(names)}"
        return f"{days} in {months}" if months else days
    if rule.from_end and rule.days != (1,):
        return f"on the last {_joined(names)} {of_months}"
    days = "the last day" if rule.from_end else _numbered("day", rule.days)
    condition = "" if rule.any_weekday else f" if it is {_joined(names, 'or')}"
    return f"on {days} {of_months}{condition}"


def _numbered(unit: str, values: tuple[int, ...]) -> str:
    return f"{unit}{'s' if len(values) > 1 else ''} {_joined(spans(values, ' to ', str))}"


def _spans(values: tuple[int, ...], names: list[str]) -> list[str]:
    return spans(values, " to ", lambda value: names[value - 1])


def _joined(words: Iterable[str], word: str = "and") -> str:
    *most, last = words
    return f"{', '.join(most)} {word} {last}" if most else last


def warnings(trigger: Trigger, *, local_zone: str | None = None) -> tuple[str, ...]:
    """What about the schedule may not be what its author expects; empty for most.

    Where `local_zone`, the machine's, is not known, clock changes are expected where most zones have them, between
    02:00 and 03:00; `InvalidTrigger` if the machine's zone database does not have it.
    """
    if isinstance(trigger, BootTrigger):
        return (
            "its line alone never elapses: sereno has systemd make up for it, once in each boot",
        )
    if isinstance(trigger, GridTrigger | IntervalTrigger):
        return ()
    zone = trigger.timezone
    if zone is None and local_zone is not None:
        zone = check_zone("local_zone", local_zone)
    return (*surprises(trigger), *_about_clocks(trigger, zone))


def surprises(trigger: Trigger) -> tuple[str, ...]:
    """Of the warnings those that hold on each day, and so are probably a mistake."""
    if not isinstance(trigger, CronTrigger):
        return ()
    return (*_about_steps(trigger), *_about_days(trigger))


def _about_steps(trigger: CronTrigger) -> list[str]:
    words = trigger.text.removeprefix("cron[").split()
    return [
        f"{field.name}: */{step} is its first value alone, for steps begin again with each hour, day, month or year;"
        " a fixed distance between runs is an interval"
        for field, word in zip(CRON_FIELDS, words, strict=False)
        for step in re.findall(r"\*/(\d+)", word)
        if int(step) > field.maximum - field.minimum
    ]


def _about_days(trigger: CronTrigger) -> list[str]:
    found = []
    counted = [rule for rule in trigger.day_rules if rule.any_weekday and not rule.any_day]
    if trigger.either and counted and len(trigger.day_rules) > len(counted):
        found.append(
            "day and weekday are both restricted: cron runs it when either holds, not only when both do"
            " (1#1 in the weekday field is a month's first Monday)"
        )
    for rule in trigger.day_rules:
        if not rule.from_end and rule.days[0] > 28:
            found += _about_rare_day(rule, trigger.months)
    return found


def _about_rare_day(rule: DayRule, months: tuple[int, ...]) -> list[str]:
    first = rule.days[0]
    if not rule.any_weekday:
        weekdays = _joined(_spans(rule.weekdays, _WEEKDAYS), "or")
        return [f"no run in a month whose days from {first} on have no {weekdays}"]
    if months == (2,):
        return ["29 February comes in leap years only"]
    shortest = {**LONGEST, 2: 28}
    short = tuple(month for month in months if shortest[month] < first)
    if not short:
        return []
    named = _joined(_spans(short, _MONTHS))
    leap = " but for leap years" if first == 29 else ""
    return [f"no run in {named}{leap}, for want of a day {first}; L is the last day of each month"]


def _about_clocks(trigger: CronTrigger, zone: str | None) -> list[str]:
    where = f"in {zone}" if zone else "where the machine's zone changes its clocks then"
    minutes_of_day = {hour * 60 + minute for hour in trigger.hours for minute in trigger.minutes}
    skipped = repeated = _USUAL_CHANGE
    if zone is not None:
        skipped, repeated = clocks(zone).skipped, clocks(zone).repeated
    skipped, repeated = skipped & minutes_of_day, repeated & minutes_of_day
    if trigger.every_hour:
        if minutes_in_utc(trigger.minutes, zone) is not None or not repeated:
            return []
        return [
            f"no runs of their own in the time that comes twice when the clocks go back, {where}"
        ]
    found = []
    if skipped:
        found.append(
            f"no run at {clock_times(skipped)} on the day on which the clocks skip it, {where}"
        )
    if repeated:
        found.append(
            f"one run, the first time, at {clock_times(repeated)} on the day on which it comes twice, {where}"
        )
    return found


def clock_times(minutes_of_day: Iterable[int]) -> str:
    """Minutes of a day as clock times, in words."""
    times = [f"{minute // 60:02}:{minute % 60:02}" for minute in sorted(minutes_of_day)]
    return times[0] if len(times) == 1 else f"{times[0]} to {times[-1]}"
