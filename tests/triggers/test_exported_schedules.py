"""An exported cron text elapses when systemd's timer does, but for the one difference that is warned of.

Two judges: cronsim reads the text in UTC, where no clock changes; around the changes a model of Kubernetes' controller
does. Its schedules come from robfig/cron, whose own tests (spec_test.go) say that 02:30 is left out on the day that
skips it, and that 01:30 runs twice on the day on which it comes twice: each moment counts whose clock time matches.
It was asked itself, once, about 489 texts over 400 days and 59 in 15 zones around their changes: where it is wrong by
its own rule is a table below.
"""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trigger_judges import cron_elapses, elapses_of_timers, generated_expressions, local_elapses

from sereno.errors import InvalidTrigger
from sereno.export.cron_text import CronText, cron_text
from sereno.triggers import CronTrigger, IntervalTrigger

pytestmark = pytest.mark.oracle

LONG = os.environ.get("SERENO_TEST_LONG") == "1"
DAYS = 400
BASE = datetime(2026, 9, 1, tzinfo=UTC)
# Clocks that change by an hour, by half of one, and at midnight.
ZONES = ("Europe/Madrid", "Australia/Lord_Howe", "America/Santiago")
ONCE_A_DAY = ("30 2 * * *", "0 3 1,15 * 5", "45 1 */2 * *", "59 23 * * 0,6")
OFTEN = ("*/15 0-4 * * *", "5 * * * *", "*/20 * * * *", "15 */3 * * *")


def values(field: str, low: int, high: int) -> set[int]:
    """Those of a field that has only numbers, ranges and a whole "*"."""
    if field == "*":
        return set(range(low, high + 1))
    parts = [item.partition("-") for item in field.split(",")]
    return {
        number for first, _, last in parts for number in range(int(first), int(last or first) + 1)
    }


def controller(exported: CronText, since: datetime, until: datetime) -> list[str]:
    """Every minute in (since, until] that matches by the zone's clock, as UTC text."""
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
    fields = exported.text.split()
    minutes, hours, days, months, weekdays = (
        values(field, *bounds) for field, bounds in zip(fields, ranges, strict=True)
    )
    joined = all if "*" in (fields[2], fields[4]) else any
    return [
        at
        for at, local in clock(exported.zone, since, until)
        if local.minute in minutes and local.hour in hours and local.month in months
        if joined((local.day in days, local.isoweekday() % 7 in weekdays))
    ]


@cache
def clock(zone: str, since: datetime, until: datetime) -> list[tuple[str, datetime]]:
    """Every minute in (since, until], as UTC text and in the zone."""
    zone_info = ZoneInfo(zone)
    each = (since + timedelta(minutes=one) for one in range(1, _minutes(until - since) + 1))
    return [(_text(at), at.astimezone(zone_info)) for at in each]


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _minutes(span: timedelta) -> int:
    return span // timedelta(minutes=1)


@pytest.mark.parametrize(
    ("after", "text", "elapse"),
    [
        ("2012-03-11T00:00:00-05:00", "30 2 11 3 *", "2013-03-11 06:30:00"),
        ("2012-11-04T00:00:00-04:00", "30 2 4 11 *", "2012-11-04 07:30:00"),
        ("2012-11-04T01:45:00-04:00", "30 1 4 11 *", "2012-11-04 06:30:00"),
    ],
)
def test_the_model_of_the_controller_passes_the_tests_of_its_schedules(
    after: str, text: str, elapse: str
) -> None:
    since = datetime.fromisoformat(after).astimezone(UTC)
    until = datetime.fromisoformat(elapse).replace(tzinfo=UTC)
    # The whole year between two would take seconds.
    since = max(since, until - timedelta(days=2))
    exported = CronText(text, "America/New_York", False, 1, "", False)
    assert controller(exported, since, until)[:1] == [elapse]


def test_400_days_of_generated_texts_are_the_same_to_systemd_and_to_cronsim() -> None:
    """In UTC: which texts there are, and which days they name."""
    kept = []
    for text in generated_expressions(20261130, 120):
        trigger = CronTrigger.from_expression(text, timezone="UTC")
        try:
            kept.append((trigger.timer_lines(), cron_text(trigger, "UTC")))
        except InvalidTrigger as error:
            # A month's last days, or a day and a weekday that both have to hold.
            assert error.message.startswith("day, day_of_week: ")
            assert not (trigger.day_rules[0].any_weekday and len(trigger.day_rules) == 1) or (
                trigger.day_rules[0].from_end
            )
    assert len(kept) > 60
    # Of those with more than one elapse a day, as many as 400 days have of the others.
    ours = elapses_of_timers([lines for lines, _ in kept], BASE, DAYS)
    for (lines, exported), elapses in zip(kept, ours, strict=True):
        assert "/" not in exported.text and "7" not in exported.text.split()[4]
        assert elapses == cron_elapses(exported.text, BASE, DAYS), f"{exported} {lines}"


@pytest.mark.parametrize(
    ("text", "exported"),
    [
        ("0 3 * * mon#1,mon#2,mon#3,mon#4,mon#5,tue", "0 3 * * 1,2"),
        ("0 3 13 * mon#1,mon#2,mon#3,mon#4,mon#5,tue", "0 3 13 * 1,2"),
        ("0 3 13 * mon#1,mon#2,mon#3,mon#4,mon#5,2-7", "0 3 * * *"),
        ("0 3 * * 7,0", "0 3 * * 0"),
        ("0 3 */1 * */2", "0 3 * * 0,2,4,6"),
        ("0 3 */2 * */1", "0 3 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 * *"),
        ("0 3 1-31 * 1", "0 3 * * *"),
    ],
)
def test_days_that_are_written_in_a_roundabout_way_are_still_these_days(
    text: str, exported: str
) -> None:
    trigger = CronTrigger.from_expression(text, timezone="UTC")
    assert cron_text(trigger, "UTC").text == exported
    (ours,) = elapses_of_timers([trigger.timer_lines()], BASE, 60)
    assert ours == cron_elapses(exported, BASE, 60)


@pytest.mark.parametrize("zone", ZONES)
def test_400_days_with_clock_changes_differ_by_the_second_pass_of_what_comes_twice(
    zone: str,
) -> None:
    zone_info = ZoneInfo(zone)
    triggers = [CronTrigger.from_expression(text, timezone=zone) for text in (*ONCE_A_DAY, *OFTEN)]
    texts = [cron_text(trigger, zone) for trigger in triggers]
    lines = [trigger.timer_lines() for trigger in triggers]
    changes = clock_changes(zone_info)
    # By the clock on the wall: cronsim. systemd 252 forks for each elapse in a zone, so that in the ordinary run all of
    # the days are those of one zone, and of the others the ones around each change.
    spans = [(BASE, DAYS)]
    if not LONG and zone != ZONES[0]:
        spans = [(change - timedelta(days=10), 20) for change in changes]
    rare = len(ONCE_A_DAY)
    daily: list[list[str]] = [[] for _ in ONCE_A_DAY]
    for since, count in spans:
        found = elapses_of_timers(lines[:rare], since, count)
        for exported, elapses, known in zip(texts[:rare], found, daily, strict=True):
            assert elapses == local_elapses(exported.text, zone_info, since, count), exported
            known += elapses
    # Around each change: the controller.
    seen: set[CronText] = set()
    for change in changes:
        since, until = change - timedelta(hours=15), change + timedelta(hours=15)
        often = elapses_of_timers(lines[rare:], since, 90)
        for exported, elapses in zip(texts, daily + often, strict=True):
            shown = set(controller(exported, since, until))
            by_systemd = {at for at in elapses if _text(since) < at <= _text(until)}
            assert by_systemd <= shown, exported
            for elapse in shown - by_systemd:
                seen.add(exported)
                at = datetime.fromisoformat(elapse).replace(tzinfo=UTC)
                assert at.astimezone(zone_info).fold == 1, f"{exported} {elapse}"
    # The difference is what is warned of, no more and no less; but for days that no change was on.
    assert seen and seen <= {exported for exported in texts if exported.twice}
    if zone == "Europe/Madrid":
        assert {exported.text for exported in seen} == {"30 2 * * *", "0,15,30,45 0-4 * * *"}


@pytest.mark.parametrize(
    ("zone", "text", "elapse", "has_systemd"),
    [
        ("Australia/Lord_Howe", "15 */3 * * *", "2026-10-03 16:15:00", True),
        ("America/Santiago", "45 1 */2 * *", "2026-09-06 04:45:00", False),
        ("America/Havana", "45 1 */2 * *", "2027-03-14 05:45:00", False),
        ("Africa/Cairo", "0 3 1,15 * 5", "2027-04-30 00:00:00", True),
    ],
)
def test_where_robfig_cron_is_known_to_be_wrong_it_is_said(
    zone: str, text: str, elapse: str, has_systemd: bool
) -> None:
    """It has run or left out the opposite of systemd: version 3.0.1, which Kubernetes has, was asked."""
    trigger = CronTrigger.from_expression(text, timezone=zone)
    assert cron_text(trigger, zone).is_misread
    since = datetime.fromisoformat(elapse).replace(tzinfo=UTC) - timedelta(minutes=1)
    (elapses,) = elapses_of_timers([trigger.timer_lines()], since, 1)
    assert (elapses == [elapse]) is has_systemd
    # Not of what names neither a day nor an hour, nor where clocks change by a full hour in the night.
    assert not cron_text(CronTrigger.from_expression("5 * * * *", timezone=zone), zone).is_misread
    elsewhere = CronTrigger.from_expression(text, timezone="Europe/Madrid")
    assert not cron_text(elsewhere, "Europe/Madrid").is_misread


def clock_changes(zone: ZoneInfo) -> list[datetime]:
    hours = [BASE + timedelta(hours=hour) for hour in range(24 * DAYS)]
    offsets = itertools.pairwise(hour.astimezone(zone).utcoffset() for hour in hours)
    return [hour for hour, (before, after) in zip(hours, offsets, strict=False) if before != after]


@given(
    *(st.sets(st.integers(low, high), min_size=1) for low, high in ((0, 59), (0, 23), (1, 12))),
    st.sets(st.integers(1, 31)),
    st.sets(st.integers(0, 7)),
)
def test_an_exported_text_read_again_is_the_same_schedule(
    minutes: set[int], hours: set[int], months: set[int], days: set[int], weekdays: set[int]
) -> None:
    # Without a day in February alone that never comes.
    fields = (minutes, hours, days and days | {1}, months, weekdays)
    text = " ".join(",".join(map(str, sorted(field))) or "*" for field in fields)
    trigger = CronTrigger.from_expression(text, timezone="UTC")
    exported = cron_text(trigger, "UTC").text
    assert CronTrigger.from_expression(exported, timezone="UTC") == trigger


def test_an_interval_that_divides_a_day_has_its_length_between_all_elapses() -> None:
    accepted = []
    for minutes in range(1, 1441):
        try:
            exported = cron_text(IntervalTrigger(minutes=minutes), "Europe/Madrid")
        except InvalidTrigger:
            continue
        accepted.append(minutes)
        times = [datetime.fromisoformat(at) for at in cron_elapses(exported.text, BASE, 10)]
        gaps = {after - before for before, after in itertools.pairwise(times)}
        assert gaps == {timedelta(minutes=minutes)}
        assert (exported.zone, exported.twice) == ("UTC", "")
    assert accepted == [
        1,
        2,
        3,
        4,
        5,
        6,
        10,
        12,
        15,
        20,
        30,
        60,
        120,
        180,
        240,
        360,
        480,
        720,
        1440,
    ]
