"""Cron's day, month and weekday fields → the day rules that a calendar line can hold.

One calendar line of systemd joins weekday, month and day with AND. So a condition on days is a list of rules of which
any may hold, one line each.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sereno.errors import InvalidTrigger
from sereno.triggers.fields import LAST, Values

EVERY_WEEKDAY = tuple(range(1, 8))
EVERY_DAY = tuple(range(1, 32))
EVERY_MONTH = tuple(range(1, 13))
# 29 February is a day that comes; 30 February is not.
LONGEST = {
    month: 29 if month == 2 else 30 if month in (4, 6, 9, 11) else 31 for month in EVERY_MONTH
}


@dataclass(frozen=True, slots=True)
class DayRule:
    """A day counts if both its weekday and its place in the month are listed.

    Attributes:
        weekdays: from 1 (Monday) to 7 (Sunday), ascending.
        days: days of the month, ascending; counted from its end (1 is the last day) if `from_end`.
        from_end: see `days`.
    """

    weekdays: tuple[int, ...] = EVERY_WEEKDAY
    days: tuple[int, ...] = EVERY_DAY
    from_end: bool = False

    @property
    def any_weekday(self) -> bool:
        return self.weekdays == EVERY_WEEKDAY

    @property
    def any_day(self) -> bool:
        return self.days == EVERY_DAY

    def within(self, other: DayRule) -> bool:
        """Whether `other` holds on every day on which this rule does."""
        same_count = self.from_end == other.from_end or other.any_day
        return (
            same_count
            and set(self.weekdays) <= set(other.weekdays)
            and set(self.days) <= set(other.days)
        )

    def comes(self, months: tuple[int, ...]) -> bool:
        """Whether one of `months` ever has such a day."""
        return self.from_end or self.days[0] <= max(LONGEST[month] for month in months)


def either_counts(day: Values, weekday: Values) -> bool:
    """Whether day and weekday are joined by OR: when neither field's text starts with "*".

    Source: Debian's cron, `entry.c` (DOM_STAR, DOW_STAR look at the first character only) and `cron.c` (`find_jobs`).
    """
    return not day.star and not weekday.star


def day_rules(day: Values, weekday: Values, months: tuple[int, ...]) -> tuple[DayRule, ...]:
    """The fewest rules that hold on the days on which cron runs such an entry; empty if there is no such day.

    `InvalidTrigger` where the last day or weekday of a month would have to be joined by AND with counted days.
    """
    by_day, by_weekday = _rules_of_days(day), _rules_of_weekdays(weekday)
    if either_counts(day, weekday):
        rules = by_day + by_weekday
    else:
        rules = [_both(one, other) for one in by_day for other in by_weekday]
    rules = [rule for rule in rules if rule.weekdays and rule.days and rule.comes(months)]
    return tuple(
        rule
        for index, rule in enumerate(rules)
        if not any(
            rule.within(other) and (index > place or not other.within(rule))
            for place, other in enumerate(rules)
            if place != index
        )
    )


def _rules_of_days(day: Values) -> list[DayRule]:
    rules = [DayRule(days=tuple(sorted(day.numbers)))] if day.numbers else []
    return rules + ([DayRule(days=(1,), from_end=True)] if day.last_day else [])


def _rules_of_weekdays(weekday: Values) -> list[DayRule]:
    rules = [DayRule(weekdays=tuple(sorted(weekday.numbers)))] if weekday.numbers else []
    weekdays_of: defaultdict[int, set[int]] = defaultdict(set)
    for number, nth in weekday.nth:
        weekdays_of[nth].add(number)
    days_of: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for nth in sorted(weekdays_of):
        weekdays = tuple(sorted(weekdays_of[nth]))
        if nth == LAST:
            rules.append(DayRule(weekdays, tuple(range(1, 8)), from_end=True))
        else:
            days_of[weekdays] += range(7 * nth - 6, min(7 * nth, 31) + 1)
    counted = [DayRule(weekdays, tuple(days)) for weekdays, days in days_of.items()]
    return rules + sorted(counted, key=lambda rule: (rule.days, rule.weekdays))


def _both(one: DayRule, other: DayRule) -> DayRule:
    if one.any_day or other.any_day or one.from_end == other.from_end:
        counted = other if one.any_day else one
        days = counted.days if one.any_day or other.any_day else _common(one.days, other.days)
        return DayRule(_common(one.weekdays, other.weekdays), days, counted.from_end)
    raise InvalidTrigger(
        "day, day_of_week: days counted from a month's end and days counted from its start would both have to hold,"
        " which one calendar line of systemd cannot say",
        hint="leave out L or # in one of the two fields",
    )


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(set(one) & set(other)))
