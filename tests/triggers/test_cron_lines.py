"""What each construct of cron text becomes, line by line."""

from __future__ import annotations

import pytest

from sereno.triggers import CronTrigger

# (cron text, OnCalendar= values). The machine's zone is taken to be UTC where it matters.
LINES = [
    # Day and weekday both restricted: either one fires, so there are two lines.
    ("0 0 13 * 5", ["*-*-13 00:00:00", "Fri *-*-* 00:00:00"]),
    ("30 4 1,15 * 5", ["*-*-01,15 04:30:00", "Fri *-*-* 04:30:00"]),
    ("0 0 1-7 * 1", ["*-*-01..07 00:00:00", "Mon *-*-* 00:00:00"]),
    # A field that starts with a star is unrestricted for that rule, whatever follows the star: both must hold.
    ("0 0 */2 * 1", ["Mon *-*-01,03,05,07,09,11,13,15,17,19,21,23,25,27,29,31 00:00:00"]),
    ("0 12 1-7 * */7", ["Sun *-*-01..07 12:00:00"]),
    ("0 12 */100,1-7 * MON", ["Mon *-*-01..07 12:00:00"]),
    ("0 12 * * MON", ["Mon *-*-* 12:00:00"]),
    # One of the two names every day: that is every day, in one line.
    ("0 0 1-31 * 1", ["*-*-* 00:00:00"]),
    ("0 0 5 * 0-6", ["*-*-* 00:00:00"]),
    # Steps are written as what they hit: a list, with runs as ranges.
    ("*/5 * * * *", ["*-*-* *:00,05,10,15,20,25,30,35,40,45,50,55:00 UTC"]),
    ("*/7 * * * *", ["*-*-* *:00,07,14,21,28,35,42,49,56:00 UTC"]),
    ("*/45 * * * *", ["*-*-* *:00,45:00 UTC"]),
    ("0 */5 * * *", ["*-*-* 00,05,10,15,20:00:00"]),
    ("0 0 */10 * *", ["*-*-01,11,21,31 00:00:00"]),
    ("0 0 1 */5 *", ["*-01,06,11-01 00:00:00"]),
    ("10-45/20 * * * *", ["*-*-* *:10,30:00 UTC"]),
    ("0 9-17/2 * * *", ["*-*-* 09,11,13,15,17:00:00"]),
    ("5-5/3 9 * * *", ["*-*-* 09:05:00"]),
    ("*/60 * * * *", ["*-*-* *:00:00 UTC"]),
    ("0 */24 * * *", ["*-*-* 00:00:00"]),
    ("*/999999999 3 * * *", ["*-*-* 03:00:00"]),
    ("1,2,3,*/20 * * * *", ["*-*-* *:00..03,20,40:00 UTC"]),
    ("0,30 8-10,14 * * *", ["*-*-* 08..10,14:00,30:00"]),
    ("007 03 * * *", ["*-*-* 03:07:00"]),
    # Weekdays: 0 and 7 are Sunday, systemd's week ends with it.
    ("0 0 * * 7", ["Sun *-*-* 00:00:00"]),
    ("0 0 * * 0", ["Sun *-*-* 00:00:00"]),
    ("0 9 * * 1-5", ["Mon..Fri *-*-* 09:00:00"]),
    ("0 0 * * 5-7", ["Fri..Sun *-*-* 00:00:00"]),
    ("0 0 * * 0-2", ["Mon,Tue,Sun *-*-* 00:00:00"]),
    ("0 0 * * sun-tue", ["Mon,Tue,Sun *-*-* 00:00:00"]),
    ("0 9 * * 1-5/2", ["Mon,Wed,Fri *-*-* 09:00:00"]),
    ("0 9 * * mon-fri/2", ["Mon,Wed,Fri *-*-* 09:00:00"]),
    ("0 9 * * */2", ["Tue,Thu,Sat,Sun *-*-* 09:00:00"]),
    ("0 9 * * 0-7", ["*-*-* 09:00:00"]),
    # Names in any case.
    ("0 0 1 jan *", ["*-01-01 00:00:00"]),
    ("0 0 1 JAN-mar *", ["*-01..03-01 00:00:00"]),
    ("0 0 1 jan-jun/2 *", ["*-01,03,05-01 00:00:00"]),
    # Rare days are taken as they are; a part that never comes is left out beside one that does.
    ("0 0 31 * *", ["*-*-31 00:00:00"]),
    ("0 0 29 2 *", ["*-02-29 00:00:00"]),
    ("0 0 30 2 1", ["Mon *-02-* 00:00:00"]),
    # Extensions.
    ("0 0 L * *", ["*-*~01 00:00:00"]),
    ("0 0 1,l 2 *", ["*-02-01 00:00:00", "*-02~01 00:00:00"]),
    ("0 0 * * 5L", ["Fri *-*~01..07 00:00:00"]),
    ("0 0 * * friL", ["Fri *-*~01..07 00:00:00"]),
    ("0 0 * * 1#2", ["Mon *-*-08..14 00:00:00"]),
    ("0 0 * * 7#5", ["Sun *-*-29..31 00:00:00"]),
    ("0 0 * * 1#1,1#3,tue#1", ["Mon,Tue *-*-01..07 00:00:00", "Mon *-*-15..21 00:00:00"]),
    ("0 0 * * 1,1#2", ["Mon *-*-* 00:00:00"]),
    ("0 0 L * */2", ["Tue,Thu,Sat,Sun *-*~01 00:00:00"]),
    ("0 0 15 * 5L", ["*-*-15 00:00:00", "Fri *-*~01..07 00:00:00"]),
    # Everything.
    ("* * * * *", ["*-*-* *:*:00 UTC"]),
    ("  0\t3  * * * ", ["*-*-* 03:00:00"]),
    # The words: a week begins on Sunday, unlike systemd's "weekly".
    ("@yearly", ["*-01-01 00:00:00"]),
    ("@annually", ["*-01-01 00:00:00"]),
    ("@monthly", ["*-*-01 00:00:00"]),
    ("@weekly", ["Sun *-*-* 00:00:00"]),
    ("@daily", ["*-*-* 00:00:00"]),
    ("@midnight", ["*-*-* 00:00:00"]),
    ("@hourly", ["*-*-* *:00:00 UTC"]),
]


@pytest.mark.parametrize(("text", "values"), LINES, ids=[text for text, _ in LINES])
def test_cron_text_becomes_these_lines(text: str, values: list[str]) -> None:
    lines = CronTrigger.from_expression(text).timer_lines(local_zone="UTC")
    assert lines == tuple(f"OnCalendar={value}" for value in values)


# (fields, OnCalendar= values): finer fields than the finest one given are at their minimum, coarser ones free.
FIELDS = [
    ({"hour": 3}, ["*-*-* 03:00:00"]),
    ({"hour": "3", "minute": "0"}, ["*-*-* 03:00:00"]),
    ({"minute": "*/15"}, ["*-*-* *:00,15,30,45:00 UTC"]),
    ({"minute": 5}, ["*-*-* *:05:00 UTC"]),
    ({"day": 1}, ["*-*-01 00:00:00"]),
    ({"month": 6}, ["*-06-01 00:00:00"]),
    ({"month": 6, "day_of_week": "mon"}, ["Mon *-06-* 00:00:00"]),
    ({"day_of_week": "mon"}, ["Mon *-*-* 00:00:00"]),
    ({"day_of_week": 0}, ["Sun *-*-* 00:00:00"]),
    ({"second": "*/20"}, ["*-*-* *:*:00,20,40 UTC"]),
    ({"hour": 3, "second": 30}, ["*-*-* 03:*:30"]),
    ({"day": "1", "day_of_week": "mon"}, ["*-*-01 00:00:00", "Mon *-*-* 00:00:00"]),
    # What covers the whole field restricts nothing, however it is written; in cron text it does.
    ({"day": "1-31", "day_of_week": "mon"}, ["Mon *-*-* 00:00:00"]),
    ({"day": "1-31/1", "day_of_week": "mon#1"}, ["Mon *-*-01..07 00:00:00"]),
    ({"day": "16-31,L,1-15", "day_of_week": "mon"}, ["Mon *-*-* 00:00:00"]),
    ({"day": "*/1", "day_of_week": "mon"}, ["Mon *-*-* 00:00:00"]),
    ({"day": 13, "day_of_week": "mon-sat,0"}, ["*-*-13 00:00:00"]),
    ({"day": 13, "day_of_week": "1-7", "hour": 3}, ["*-*-13 03:00:00"]),
    ({"day": "1-30", "day_of_week": "mon"}, ["*-*-01..30 00:00:00", "Mon *-*-* 00:00:00"]),
    ({"month": "jan", "hour": "6-8"}, ["*-01-* 06..08:00:00"]),
]


@pytest.mark.parametrize(("fields", "values"), FIELDS, ids=[str(fields) for fields, _ in FIELDS])
def test_fields_that_are_left_out_follow_the_finest_one_given(
    fields: dict[str, str | int], values: list[str]
) -> None:
    lines = CronTrigger.from_fields(**fields).timer_lines(local_zone="UTC")  # type: ignore[arg-type]
    assert lines == tuple(f"OnCalendar={value}" for value in values)


def test_the_zone_is_written_into_every_line() -> None:
    trigger = CronTrigger.from_expression("0 3 1 * mon", timezone="Europe/Madrid")
    assert trigger.timer_lines() == (
        "OnCalendar=*-*-01 03:00:00 Europe/Madrid",
        "OnCalendar=Mon *-*-* 03:00:00 Europe/Madrid",
    )


@pytest.mark.parametrize(
    ("trigger", "text"),
    [
        (CronTrigger.from_expression("0 3 * * *"), "cron[0 3 * * *]"),
        (CronTrigger.from_expression(" 0  3 * *\tMon "), "cron[0 3 * * Mon]"),
        (CronTrigger.from_expression("@daily"), "cron[@daily]"),
        (CronTrigger.from_fields(hour=3, minute=0), "cron[0 3 * * *]"),
        (CronTrigger.from_fields(second="*/10"), "cron[* * * * * second=*/10]"),
        # As cron text, as which it is read back, the other would mean each day.
        (CronTrigger.from_fields(day="1-31", day_of_week="mon"), "cron[0 0 * * mon]"),
        (
            CronTrigger.from_fields(hour=3, timezone="Europe/Madrid"),
            "cron[0 3 * * * timezone=Europe/Madrid]",
        ),
    ],
)
def test_the_text_shows_what_was_asked_for(trigger: CronTrigger, text: str) -> None:
    assert trigger.text == text


def test_triggers_with_the_same_runs_are_equal_however_they_were_written() -> None:
    same = [
        CronTrigger.from_expression("0 0 * * 0"),
        CronTrigger.from_expression("@weekly"),
        CronTrigger.from_expression("00 */24 * * SUN"),
        CronTrigger.from_fields(day_of_week=7),
        CronTrigger.from_expression("0 0 * 1-12 7,7#3"),
    ]
    assert len(set(same)) == 1
    assert CronTrigger.from_expression("@weekly", timezone="UTC") != same[0]
    assert CronTrigger.from_expression("0 0 * * 1") != same[0]


def test_a_trigger_cannot_be_changed() -> None:
    trigger = CronTrigger.from_expression("@daily")
    with pytest.raises(AttributeError):
        trigger.hours = (1,)  # type: ignore[misc]


def test_no_line_has_a_step() -> None:
    # systemd leaves out the slot after the field's end for a step that does not divide the field.
    for text, _ in LINES:
        for line in CronTrigger.from_expression(text).timer_lines():
            assert "/" not in line
