"""Laws of the cron language, tried on texts that hypothesis makes up."""

from __future__ import annotations

import string
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.errors import InvalidTrigger
from sereno.triggers import CronTrigger, describe, warnings
from sereno.triggers.fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, Field, parse

FIELDS = (MINUTE, HOUR, DAY, MONTH, WEEKDAY)


def items(field: Field) -> st.SearchStrategy[str]:
    value = st.integers(field.minimum, field.maximum)
    step = st.integers(1, 70)
    pair = st.tuples(value, value).map(sorted)
    return st.one_of(
        st.just("*"),
        step.map("*/{}".format),
        value.map(str),
        pair.map(lambda ends: f"{ends[0]}-{ends[1]}"),
        st.tuples(pair, step).map(lambda both: f"{both[0][0]}-{both[0][1]}/{both[1]}"),
    )


def field_texts(field: Field) -> st.SearchStrategy[str]:
    return st.lists(items(field), min_size=1, max_size=4).map(",".join)


texts = st.tuples(*map(field_texts, FIELDS)).map(" ".join)


def bits(text: str, low: int, high: int) -> set[int]:
    """The numbers a field stands for, by the loop of get_range() in Debian's entry.c, for text known to be right."""
    found: set[int] = set()
    for item in text.split(","):
        values, _, step = item.partition("/")
        first, _, last = (f"{low}-{high}" if values == "*" else values).partition("-")
        number = int(first)
        while number <= int(last or first):
            found.add(number)
            number += int(step or 1)
    return found


def runs_on(text: str, day: date) -> bool:
    """Whether Debian's cron runs the entry on that day: find_jobs() in its cron.c."""
    _, _, days, months, weekdays = text.split()
    by_day = day.day in bits(days, 1, 31)
    by_weekday = bool({day.isoweekday(), day.isoweekday() % 7} & bits(weekdays, 0, 7))
    either = days[0] != "*" and weekdays[0] != "*"
    return day.month in bits(months, 1, 12) and (
        by_day or by_weekday if either else by_day and by_weekday
    )


@given(texts, st.dates(date(2024, 1, 1), date(2031, 12, 31)))
def test_a_schedule_holds_on_the_days_on_which_debians_cron_runs(text: str, start: date) -> None:
    try:
        trigger = CronTrigger.from_expression(text)
    except InvalidTrigger as refused:
        assert "never run" in str(refused)
        assert not any(runs_on(text, date(2028, 1, 1) + timedelta(step)) for step in range(366))
        return
    for day in (start + timedelta(step) for step in range(70)):
        ours = day.month in trigger.months and any(
            day.isoweekday() in rule.weekdays and day.day in rule.days for rule in trigger.day_rules
        )
        assert ours == runs_on(text, day), day


@given(texts)
def test_hours_and_minutes_are_those_that_debians_cron_reads(text: str) -> None:
    minute, hour, *_ = text.split()
    trigger = CronTrigger.from_expression(f"{minute} {hour} * * *")
    assert set(trigger.minutes) == bits(minute, 0, 59)
    assert set(trigger.hours) == bits(hour, 0, 23)


@given(texts)
def test_every_text_that_is_taken_can_be_shown_and_is_one_line_each(text: str) -> None:
    try:
        trigger = CronTrigger.from_expression(text)
    except InvalidTrigger:
        return
    lines = trigger.timer_lines(local_zone="Europe/Berlin")
    assert 1 <= len(lines) <= 2
    for line in lines:
        assert line.startswith("OnCalendar=")
        assert set(line) <= set(string.ascii_letters + string.digits + "=*-:,. ~")
        assert len(line) < 400
    assert describe(trigger).endswith(", in the machine's time zone.")
    assert all(warning.isprintable() for warning in warnings(trigger))
    assert CronTrigger.from_expression(text) == trigger
    assert hash(CronTrigger.from_expression(text)) == hash(trigger)


@given(st.text(max_size=40) | st.text("0123456789*/-,#L@?~ \tjanmo", max_size=30))
def test_any_text_is_either_taken_or_refused_as_a_trigger(text: str) -> None:
    try:
        CronTrigger.from_expression(text)
    except InvalidTrigger as refused:
        assert refused.exit_code == 2
        assert str(refused)


@given(st.sampled_from(FIELDS), st.text("0123456789*/-,#L", min_size=1, max_size=12))
def test_any_field_text_is_either_taken_or_refused_by_the_fields_name(
    field: Field, text: str
) -> None:
    try:
        values = parse(field, text)
    except InvalidTrigger as refused:
        assert refused.message.startswith(f"{field.name}: ")
    else:
        assert values.numbers or values.last_day or values.nth
        assert values.star == text.startswith("*")


@pytest.mark.parametrize("field", [MONTH, WEEKDAY])
@given(data=st.data())
def test_names_are_numbers_in_any_case(field: Field, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(field.names))
    spelled = "".join(data.draw(st.sampled_from((letter, letter.upper()))) for letter in name)
    number = field.minimum + field.names.index(name)
    assert parse(field, spelled) == parse(field, str(number))
    assert parse(field, f"{number}-{spelled}/2") == parse(field, str(number))
