"""Our lines, read by systemd, elapse when Debian's cron would run the text: two judges, very many texts."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import repeat
from multiprocessing import get_context
from zoneinfo import ZoneInfo

import pytest
from trigger_judges import (
    LAST_YEAR,
    MACROS,
    cron_elapses,
    elapses_of_timers,
    generated_expressions,
    local_elapses,
)

from sereno.triggers import CronTrigger

pytestmark = pytest.mark.oracle

LONG = os.environ.get("SERENO_TEST_LONG") == "1"
ELAPSES = 50
PROCESSES = 2
SEED = 20261123
# The examples of crontab(5), Debian.
EXAMPLES = (
    "5 0 * * *",
    "15 14 1 * *",
    "0 22 * * 1-5",
    "23 0-23/2 * * *",
    "5 4 * * sun",
    "33 22 * * *",
    "30 4 1,15 * 5",
)
BASES = {
    "the end of a year": datetime(2026, 12, 31, 23, 58, 30, tzinfo=UTC),
    "a leap day": datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC),
    "a year without a leap day": datetime(2100, 2, 28, 12, 0, tzinfo=UTC),
    "Europe's clocks go forward": datetime(2027, 3, 28, 0, 30, tzinfo=UTC),
    "Europe's clocks go back": datetime(2026, 10, 25, 0, 30, tzinfo=UTC),
}


def disagreements(expressions: list[str], bases: Iterable[datetime]) -> list[str]:
    """Where the judges differ, as text; also called in processes of its own."""
    timers = [
        CronTrigger.from_expression(text).timer_lines(local_zone="UTC") for text in expressions
    ]
    found = []
    for base in bases:
        for text, lines, ours in zip(
            expressions, timers, elapses_of_timers(timers, base, ELAPSES), strict=True
        ):
            right = cron_elapses(text, base, ELAPSES)
            if ours != right or (len(right) < ELAPSES and right[-1] < str(LAST_YEAR - 41)):
                found.append(
                    f"{text!r} after {base}: {lines}\n  systemd {ours[:4]}\n  cron    {right[:4]}"
                )
    return found


def judged(expressions: list[str], bases: Iterable[datetime] = BASES.values()) -> list[str]:
    if not LONG:
        # Processes of their own take as long to start.
        return disagreements(expressions, bases)
    parts = [expressions[start::16] for start in range(16)]
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        found = pool.map(disagreements, parts, repeat([*bases]))
        return [line for lines in found for line in lines]


def test_the_next_50_elapses_of_generated_texts_are_those_of_debians_cron() -> None:
    found = judged(generated_expressions(SEED, 25_000 if LONG else 200))
    assert not found, "\n".join(found[:10])


def test_every_step_of_every_field_keeps_the_slots_that_systemds_own_steps_lose() -> None:
    texts = [f"*/{step} * * * *" for step in range(1, 61)]
    texts += [f"0 */{step} * * *" for step in range(1, 25)]
    texts += [f"0 0 */{step} * *" for step in range(1, 32)]
    texts += [f"0 0 1 */{step} *" for step in range(1, 13)]
    texts += [f"0 0 * * */{step}" for step in range(1, 8)]
    found = judged(texts, [BASES["the end of a year"], BASES["a leap day"]])
    assert not found, "\n".join(found[:10])


def test_the_examples_of_the_manual_and_the_words_mean_what_debians_cron_says() -> None:
    expansions = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
                  "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *"}  # fmt: skip
    assert set(expansions) == set(MACROS)
    for word, text in expansions.items():
        assert CronTrigger.from_expression(word) == CronTrigger.from_expression(text)
    found = disagreements([*EXAMPLES, *expansions.values()], BASES.values())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("second", "text"),
    [
        ("*/7", "* * * * *"),
        ("30", "*/5 3 * * *"),
        ("0-10/5,59", "15 0-23/6 13 * fri"),
        ("1", "0 0 L 2 *"),
    ],
)
def test_seconds_are_those_of_the_sixth_field_that_cronsim_has(second: str, text: str) -> None:
    names = ("minute", "hour", "day", "month", "day_of_week")
    fields = dict(zip(names, text.split(), strict=True))
    lines = CronTrigger.from_fields(second=second, **fields).timer_lines(local_zone="UTC")
    for base in BASES.values():
        assert elapses_of_timers([lines], base, ELAPSES) == [
            cron_elapses(f"{second} {text}", base, ELAPSES)
        ]


def test_days_that_come_once_in_a_generation_still_come() -> None:
    # 29 February on a Sunday: 2032, 2060, 2088, 2128 (2100 is no leap year).
    lines = CronTrigger.from_expression("0 0 29 2 */7").timer_lines()
    ((*elapses,),) = elapses_of_timers([lines], BASES["the end of a year"], 4)
    assert [at[:4] for at in elapses] == ["2032", "2060", "2088", "2128"]


NORTH = {
    "before the change of spring": datetime(2027, 3, 13, 12, 0, tzinfo=UTC),
    "before the change of autumn": datetime(2026, 10, 24, 20, 0, tzinfo=UTC),
}
SOUTH = {
    "before the change of autumn": datetime(2027, 4, 3, 10, 0, tzinfo=UTC),
    "before the change of spring": datetime(2026, 10, 3, 10, 0, tzinfo=UTC),
}
ZONES = {
    **dict.fromkeys(("Europe/Berlin", "America/New_York", "Europe/London", "Antarctica/Troll"), NORTH),
    **dict.fromkeys(("Australia/Adelaide", "Pacific/Chatham", "Australia/Lord_Howe", "America/Santiago"), SOUTH),
    "Asia/Kathmandu": {"where no clock changes": datetime(2027, 3, 13, 12, 0, tzinfo=UTC)},
}  # fmt: skip


@pytest.mark.parametrize("zone_name", ZONES)
def test_a_schedule_that_names_hours_keeps_the_zones_own_time(zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    texts = ["30 2 * * *", "*/15 0-4 * * *", "59 23 * * *", "*/30 * * * 0,6", "15 */3 * * *"]
    texts += list(generated_expressions(SEED + 1, 120 if LONG else 3))
    triggers = [CronTrigger.from_expression(text, timezone=zone_name) for text in texts]
    kept = [
        (text, trigger)
        for text, trigger in zip(texts, triggers, strict=True)
        if not trigger.every_hour
    ]
    found = []
    for base in ZONES[zone_name].values():
        all_ours = elapses_of_timers([trigger.timer_lines() for _, trigger in kept], base, 20)
        for (text, trigger), ours in zip(kept, all_ours, strict=True):
            right = local_elapses(text, zone, base, 20)
            if ours != right:
                found.append(f"{trigger.text} after {base}: systemd {ours[:6]}, cron {right[:6]}")
    assert not found, "\n".join(found[:10])
