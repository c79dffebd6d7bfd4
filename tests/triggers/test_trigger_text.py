"""The text of a cron trigger, as `get_jobs()` shows it and unit files keep it, can be read back."""

import pytest

from sereno.errors import InvalidTrigger
from sereno.triggers import CronTrigger, parse_text


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger.from_expression("*/15 9-17 * * mon-fri"),
        CronTrigger.from_expression("30 4 1,15 * 5", timezone="Europe/Berlin"),
        CronTrigger.from_expression("@weekly"),
        CronTrigger.from_fields(hour=3, second="*/10", timezone="UTC"),
        CronTrigger.from_fields(day="L", second=5),
    ],
    ids=repr,
)
def test_what_is_read_back_means_the_same(trigger: CronTrigger) -> None:
    again = parse_text(trigger.text)
    assert isinstance(again, CronTrigger)
    assert again == trigger
    assert again.text == trigger.text
    assert again.timer_lines(local_zone="Asia/Kolkata") == trigger.timer_lines(
        local_zone="Asia/Kolkata"
    )


@pytest.mark.parametrize("text", ["", "interval[1:00]", "cron[0 3 * *]", "cron[0 3 * * *"])
def test_what_is_no_such_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidTrigger):
        parse_text(text)
