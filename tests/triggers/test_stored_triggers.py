"""A trigger's text, as it is kept in unit files, means the trigger that wrote it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.errors import InvalidTrigger
from sereno.triggers import BootTrigger, CronTrigger, IntervalTrigger, in_words, parse_text

TRIGGERS = [
    BootTrigger(),
    IntervalTrigger(seconds=5),
    IntervalTrigger(weeks=2, seconds=1),
    CronTrigger.from_expression("0 9 * * mon-fri"),
    CronTrigger.from_expression("@daily", timezone="Europe/Madrid"),
    CronTrigger.from_expression("*/15 9-17 1,L * mon#2,fri"),
    CronTrigger.from_fields(second="*/10"),
    CronTrigger.from_fields(hour=3, second=30, timezone="UTC"),
    CronTrigger.from_fields(day_of_week="mon", month=2),
    CronTrigger.from_fields(day="L", second=5),
]

WRONG = (
    "0 9 * * * second=99",
    "0 9 * * second=5",
    "0 9 * * * * second=5",
    "0 9 * * * * timezone=UTC",
)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: trigger.text)
def test_every_text_is_read_back_as_the_trigger_that_wrote_it(trigger) -> None:
    again = parse_text(trigger.text)
    assert again == trigger
    assert again.text == trigger.text
    zone = "Asia/Kolkata"
    assert again.timer_lines(local_zone=zone) == trigger.timer_lines(local_zone=zone)


@given(st.integers(1, 3_660 * 86_400))
def test_every_interval_is_read_back(seconds: int) -> None:
    trigger = IntervalTrigger(seconds=seconds)
    assert parse_text(trigger.text) == trigger


@pytest.mark.parametrize(
    "text",
    [
        *("", "cron[]", "cron[x]", "cron[0 9 * * *", "boot[60]", "interval[1:2:3]"),
        *(f"cron[{inner}]" for inner in WRONG),
    ],
)
def test_what_no_trigger_wrote_is_refused_and_shown_as_it_is(text: str) -> None:
    with pytest.raises(InvalidTrigger):
        parse_text(text)
    assert in_words(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("interval[1:30:00]", "every 1h 30min"),
        ("cron[@reboot]", "after each boot"),
        ("cron[0 3 * * *]", "at 03:00 every day"),
        ("cron[0 * * * *]", "at minute 0 of every hour"),
        ("cron[30 2 1 * * timezone=UTC]", "at 02:30 on day 1 of the month, UTC"),
    ],
)
def test_words_are_short_enough_for_a_table(text: str, words: str) -> None:
    assert in_words(text) == words
