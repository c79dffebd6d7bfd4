"""A schedule in one sentence, and what about it surprises."""

from __future__ import annotations

import pytest

from sereno.errors import InvalidTrigger
from sereno.triggers import CronTrigger, IntervalTrigger, describe, warnings

MEANINGS = [
    ("0 3 * * *", "At 03:00 every day"),
    ("0 0,12 * * *", "At 00:00 and 12:00 every day"),
    ("0 9 * * mon-fri", "At 09:00 on Monday to Friday"),
    ("0 9 * * 0,6", "At 09:00 on Saturday and Sunday"),
    ("0 0 13 * 5", "At 00:00 on day 13 of the month or on Friday"),
    ("0 0 */10 * 1", "At 00:00 on days 1, 11, 21 and 31 of the month if it is Monday"),
    ("0 12 1 jan-mar *", "At 12:00 on day 1 of January to March"),
    ("0 12 * 7 *", "At 12:00 every day in July"),
    ("0 0 L * *", "At 00:00 on the last day of the month"),
    ("0 0 * 2 5L", "At 00:00 on the last Friday of February"),
    ("0 0 * * 1#1", "At 00:00 on days 1 to 7 of the month if it is Monday"),
    ("* * * * *", "Every minute"),
    ("*/15 * * * *", "Every 15 minutes"),
    ("*/45 * * * *", "At minutes 0 and 45 of every hour"),
    ("5 * * * *", "At minute 5 of every hour"),
    ("@hourly", "At minute 0 of every hour"),
    ("*/15 9-17 * * *", "Every 15 minutes of hours 9 to 17 every day"),
    ("* 3 * * *", "Every minute of hour 3 every day"),
    ("0 */2 * * *", "At minute 0 of hours 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20 and 22 every day"),
]


@pytest.mark.parametrize(("text", "meaning"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_a_schedule_is_one_sentence(text: str, meaning: str) -> None:
    assert describe(CronTrigger.from_expression(text)) == f"{meaning}, in the machine's time zone."


def test_the_sentence_names_the_zone_the_seconds_and_the_interval() -> None:
    assert (
        describe(CronTrigger.from_fields(hour=3, second=30, minute=5, timezone="Europe/Madrid"))
        == "At 03:05:30 every day, Europe/Madrid time."
    )
    assert (
        describe(CronTrigger.from_fields(second="*/10"))
        == "Every 10 seconds, in the machine's time zone."
    )
    assert (
        describe(CronTrigger.from_fields(hour=3, minute="*/5", second="0,30"))
        == "Every 30 seconds of every 5 minutes of hour 3 every day, in the machine's time zone."
    )
    assert (
        describe(IntervalTrigger(5415))
        == "Every 1h 30min 15s, counted from the start of the run before."
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 4 1-7 * 1", ["when either holds"]),
        (
            "0 4 31 * *",
            ["no run in February, April, June, September and November, for want of a day 31"],
        ),
        ("0 4 29 * *", ["February but for leap years"]),
        ("0 4 30 1,2 *", ["no run in February,"]),
        ("0 4 29 2 *", ["leap years only"]),
        ("0 4 * * 1#5", ["days from 29 on have no Monday"]),
        ("30 2 * * *", ["no run at 02:30", "the first time, at 02:30"]),
        ("*/20 1-3 * * *", ["no run at 02:00 to 02:40", "at 02:00 to 02:40"]),
        ("*/90 4 * * *", ["minute: */90 is its first value alone"]),
        ("0 4,*/24 */31 * *", ["hour: */24 is", "day: */31 is"]),
        ("5 * * * *", ["the time that comes twice"]),
    ],
)
def test_what_surprises_is_said(text: str, words: list[str]) -> None:
    found = warnings(CronTrigger.from_expression(text))
    assert len(found) == len(words)
    for warning, word in zip(found, words, strict=True):
        assert word in warning


@pytest.mark.parametrize(
    "text",
    ["0 4 * * *", "0 4 1,15 * *", "0 4 * * mon", "0 4 */2 * mon", "0 4 L * *", "0 4 31 1,3,5 *", "*/15 * * * *",
     "0 4 1-31 * 1", "0 4 28 2 *", "0 4 * * 1L"],
)  # fmt: skip
def test_a_schedule_without_surprise_has_no_warning(text: str) -> None:
    assert warnings(CronTrigger.from_expression(text)) == ()


def test_clock_changes_are_those_of_the_zone() -> None:
    at_2_30 = CronTrigger.from_expression("30 2 * * *")
    at_1_30 = CronTrigger.from_expression("30 1 * * *")
    assert len(warnings(at_2_30, local_zone="Europe/Berlin")) == 2
    assert warnings(at_2_30, local_zone="Europe/London") == ()
    assert len(warnings(at_1_30, local_zone="Europe/London")) == 2
    assert warnings(at_2_30, local_zone="Asia/Kolkata") == ()
    assert warnings(CronTrigger.from_expression("30 2 * * *", timezone="UTC")) == ()
    # Where the clocks go forward at midnight.
    (skipped,) = warnings(CronTrigger.from_expression("@daily", timezone="America/Santiago"))
    assert skipped.startswith("no run at 00:00")
    # And back at midnight, to the hour before it.
    (twice,) = warnings(CronTrigger.from_expression("5 23 * * *", timezone="America/Santiago"))
    assert twice.startswith("one run, the first time, at 23:05")
    # The zone of the schedule counts, not the machine's.
    named = CronTrigger.from_expression("30 2 * * *", timezone="Asia/Kolkata")
    assert warnings(named, local_zone="Europe/Berlin") == ()


def test_every_hour_is_warned_of_only_where_utc_cannot_hold_it() -> None:
    every_hour = CronTrigger.from_expression("5 * * * *")
    assert warnings(every_hour, local_zone="Europe/Berlin") == ()
    assert warnings(every_hour, local_zone="Asia/Kolkata") == ()
    # There the clocks go back from 02:00 to 01:30.
    assert warnings(every_hour, local_zone="Australia/Lord_Howe") == ()
    half_past = CronTrigger.from_expression("35 * * * *")
    assert len(warnings(half_past, local_zone="Australia/Lord_Howe")) == 1


def test_intervals_have_no_surprise_and_a_wrong_zone_is_refused() -> None:
    assert warnings(IntervalTrigger(60)) == ()
    with pytest.raises(InvalidTrigger, match="local_zone"):
        warnings(CronTrigger.from_expression("@daily"), local_zone="Europe/Atlantis")
