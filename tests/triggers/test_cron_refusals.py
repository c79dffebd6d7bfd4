"""Text that is not cron's, or that systemd cannot say, is refused with the field, the value, the rule and the place."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.errors import InvalidTrigger
from sereno.triggers import CronTrigger
from sereno.triggers.fields import CRON_FIELDS, WEEKDAY, Field, parse

# (text, what is marked, words of the message or the hint)
REFUSED = [
    ("60 * * * *", "60", ["minute", "0 to 59"]),
    ("0 24 * * *", "24", ["hour", "0 to 23"]),
    ("0 0 0 * *", "0", ["day", "1 to 31"]),
    ("0 0 32 * *", "32", ["day", "1 to 31"]),
    ("0 0 * 13 *", "13", ["month", "1 to 12"]),
    ("0 0 * 0 *", "0", ["month", "jan to dec"]),
    ("0 0 * * 8", "8", ["day_of_week", "0 to 7"]),
    ("0 1-24 * * *", "24", ["hour", "0 to 23"]),
    ("0 0 * mon *", "mon", ["month"]),
    ("0 0 * * jan", "jan", ["day_of_week"]),
    ("0 0 * * Tues", "Tues", ["day_of_week", "three letters: tue"]),
    ("5/15 * * * *", "5/15", ["minute", "single value", "5-59/15"]),
    ("*/0 * * * *", "/0", ["minute", "step"]),
    ("*/x * * * *", "/x", ["minute", "step"]),
    ("0 22-2 * * *", "22-2", ["hour", "backwards", "22-23,0-2"]),
    ("0 0 1 11-2 *", "11-2", ["month", "backwards", "11-12,1-2"]),
    ("0 0 * * 6-1", "6-1", ["day_of_week", "backwards", "6-7,1"]),
    ("0 0 * * fri-mon", "fri-mon", ["backwards", "fri-sat,sun-mon"]),
    ("0 0 * * sat-sun", "sat-sun", ["hint: sat,sun"]),
    ("0 0 * * 5-0", "5-0", ["hint: 5-7"]),
    ("0 0 * * 6-Sun", "6-Sun", ["hint: 6-7"]),
    ("0 23-2 * * *", "23-2", ["hint: 23,0-2"]),
    ("0 0 1 Nov-feb *", "Nov-feb", ["hint: Nov-dec,jan-feb"]),
    ("0 0 LW * *", "LW", ["nearest weekday", "L is the last day"]),
    ("H 3 * * *", "H", ["Jenkins's: choose the value"]),
    ("'0 3 * * *'", "'0", ["has a quote", "without quotes"]),
    ("0 0 * * fri-sun", "fri-sun", ["backwards", "fri-sat,sun"]),
    ("0 0 ? * MON", "?", ["day", "write *"]),
    ("~ 3 * * *", "~", ["minute", "random"]),
    ("0~30 3 * * *", "0~30", ["minute", "random"]),
    ("0 0 15W * *", "15W", ["day"]),
    ("0 0 L-3 * *", "L", ["day"]),
    ("0 L * * *", "L", ["hour"]),
    ("0 0 * * L", "L", ["day_of_week"]),
    ("0 0 * * 1#6", "#6", ["day_of_week", "#1 to #5", "1L"]),
    ("0 0 * * 1#0", "#0", ["day_of_week"]),
    ("0 0 * * 9#1", "9", ["day_of_week", "0 to 7"]),
    ("0 0 * * 1#99999999999", "#99999999999", ["day_of_week"]),
    ("1.5 * * * *", "1.5", ["minute"]),
    ("-1 * * * *", "-1", ["minute"]),
    ("5;8 * * * *", "5;8", ["minute"]),
    ("1-5-9 * * * *", "1-5-9", ["minute"]),
    ("*5 * * * *", "*5", ["minute"]),
    ("*/2/3 * * * *", "*/2/3", ["minute"]),
    ("99999999999999999999 * * * *", "99999999999999999999", ["minute"]),
    ("0 0 3,2,77 * *", "77", ["day"]),
]


@pytest.mark.parametrize(("text", "marked", "words"), REFUSED, ids=[text for text, *_ in REFUSED])
def test_a_wrong_field_is_named_with_its_value_and_marked(
    text: str, marked: str, words: list[str]
) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        CronTrigger.from_expression(text)
    for word in words:
        assert word in str(refused.value)
    _, shown, mark = refused.value.message.splitlines()
    assert shown == "    " + text
    start = mark.index("^")
    assert shown[start : start + mark.count("^")] == marked


@given(st.sampled_from(CRON_FIELDS), st.data())
def test_the_way_out_of_a_range_that_runs_backwards_names_the_values_that_were_meant(
    field: Field, data: st.DataObject
) -> None:
    top = 6 if field is WEEKDAY else field.maximum
    first = data.draw(st.integers(field.minimum + 1, top))
    last = data.draw(st.integers(field.minimum, first - 1))
    spelled = [
        data.draw(st.sampled_from((str(value), *field.names[value - field.minimum :][:1])))
        for value in (first, last)
    ]
    with pytest.raises(InvalidTrigger, match="backwards") as refused:
        parse(field, "-".join(spelled))
    assert refused.value.hint is not None
    way_out = refused.value.hint.split()[0]
    assert parse(field, way_out) == parse(field, f"{first}-{top},{field.minimum}-{last}")


@pytest.mark.parametrize("days", ["30 2 *", "*/2,L * */2,1#5"])
def test_days_that_never_come_or_cannot_be_said_are_marked(days: str) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        CronTrigger.from_expression(f"0  3 {days}")
    shown, mark = refused.value.message.splitlines()[1:]
    assert shown == f"    0 3 {days}"
    assert mark == f"        {'^' * len(days)}"


@pytest.mark.parametrize("text", ["1,,2 * * * *", ",1 * * * *", "1, * * * *"])
def test_an_empty_place_in_a_list_is_marked(text: str) -> None:
    with pytest.raises(InvalidTrigger, match="minute") as refused:
        CronTrigger.from_expression(text)
    mark = refused.value.message.splitlines()[2]
    assert mark.index("^") - 4 in (0, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["0 fields", "minute hour day month weekday"]),
        ("0 3 * *", ["4 fields"]),
        ("0 0 3 * * *", ["6 fields", "second="]),
        ("0 3 * * * 2030", ["6 fields", "no field of the year"]),
        ("0 0 3 * * ? *", ["7 fields", "no field of the year", "second="]),
        ("0 3 bin docs lib bin docs lib 1", ["9 fields", "in quotes: the shell"]),
        ("CRON_TZ=Europe/Berlin 0 3 * * *", ["timezone="]),
        ("TZ=UTC 0 3 * * *", ["timezone="]),
        ("@Reboot", ["@reboot"]),
        ("@Daily", ["@daily"]),
        ("@every 90m", ["interval"]),
        ("@daily x", ["@daily"]),
        ("0 3 * * *\n", ["place 10"]),
        ("0 3 * * *\n0 4 * * *", ["place 10"]),
        ("0 3 * * \N{ARABIC-INDIC DIGIT THREE}", ["place 9"]),
        ("0\N{NO-BREAK SPACE}3 * * *", ["place 2"]),
        ("0 3 * * *" + " " * 1000, ["1009 characters"]),
        ("0 0 30 2 *", ["never", "day=L"]),
        ("0 0 31 4,6,9,11 *", ["never"]),
        ("0 0 30 2 */2", ["never"]),
        ("0 0 */2,L * */2,1#5", ["start", "leave out"]),
    ],
)
def test_text_as_a_whole_is_refused_with_the_way_out(text: str, words: list[str]) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        CronTrigger.from_expression(text)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("expression", [None, 5, b"0 3 * * *", ["0", "3"]])
def test_what_is_not_text_is_refused(expression: Any) -> None:
    with pytest.raises(InvalidTrigger, match="is not text"):
        CronTrigger.from_expression(expression)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, ["no field", "hour="]),
        ({"timezone": "UTC"}, ["no field"]),
        ({"hour": 24}, ["hour", "24", "0 to 23"]),
        ({"hour": -1}, ["hour", "-1"]),
        ({"hour": True}, ["hour", "True"]),
        ({"hour": 3.0}, ["hour", "3.0"]),
        ({"hour": "3 4"}, ["hour", "blanks"]),
        ({"hour": " 3"}, ["hour", "blanks"]),
        ({"hour": ""}, ["hour", "blanks"]),
        ({"hour": "3\n"}, ["hour"]),
        ({"hour": "1," * 999}, ["hour", "characters"]),
        ({"hour": "\N{ARABIC-INDIC DIGIT THREE}"}, ["hour"]),
        ({"second": 60}, ["second", "0 to 59"]),
        ({"day": 30, "month": 2}, ["never"]),
        ({"day": "last"}, ["day", "L"]),
        ({"minute": "@daily"}, ["minute"]),
        ({"hour": 3, "minute": []}, ["minute"]),
    ],
)
def test_a_wrong_field_argument_is_named_with_its_value(
    fields: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        CronTrigger.from_fields(**fields)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    "zone",
    ["Europe/Atlantis", "europe/berlin", "", "+02:00", "../../etc/localtime", "/etc/localtime", "Europe", "Europe/",
     "UTC ", "Europe/Berlin\nUser=root", "zone.tab", "right/UTC", "posix/UTC", "localtime", "%H", 5],
)  # fmt: skip
def test_a_zone_that_the_machine_does_not_have_is_refused(zone: Any) -> None:
    with pytest.raises(InvalidTrigger, match="timezone"):
        CronTrigger.from_expression("0 3 * * *", timezone=zone)
    with pytest.raises(InvalidTrigger, match="local_zone"):
        CronTrigger.from_expression("5 * * * *").timer_lines(local_zone=zone)


@pytest.mark.parametrize(
    "zone", ["UTC", "Etc/UTC", "Europe/Berlin", "EST5EDT", "Etc/GMT+5", "America/Argentina/Salta"]
)
def test_a_zone_of_the_database_is_taken(zone: str) -> None:
    (line,) = CronTrigger.from_expression("0 3 * * *", timezone=zone).timer_lines()
    assert line == f"OnCalendar=*-*-* 03:00:00 {zone}"
