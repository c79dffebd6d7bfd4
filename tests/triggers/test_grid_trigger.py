"""An interval on the grid of a fleet: systemd elapses at each of its times and at no other."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from sereno.errors import InvalidTrigger
from sereno.manager import analyze
from sereno.triggers import GridTrigger, in_words, parse_text

DAY_S = 86_400
START_S = int(datetime(2026, 10, 24, 23, 0, tzinfo=UTC).timestamp())


@pytest.mark.skipif(
    shutil.which(analyze.PROGRAM) is None, reason="no systemd-analyze (package systemd)"
)
@pytest.mark.parametrize(
    "interval_s", (1, 5, 27, 45, 60, 90, 675, 960, 3600, 5400, 32 * 60, 28_800, DAY_S)
)
def test_systemd_elapses_at_each_time_of_the_grid_also_over_midnight(interval_s: int) -> None:
    lines = GridTrigger(interval_s).timer_lines()
    elapses = analyze.next_elapses(
        [line.removeprefix("OnCalendar=") for line in lines], 60, after_s=START_S
    )
    first = START_S // interval_s * interval_s + interval_s
    assert [elapse.timestamp() for elapse in elapses] == [
        first + interval_s * each for each in range(60)
    ]


def test_what_does_not_divide_a_day_is_refused_with_the_nearest_that_does() -> None:
    for interval_s, near in ((7 * 60, "7min 12s"), (3590, "1h"), (7 * DAY_S, "1d"), (11, "10s")):
        with pytest.raises(InvalidTrigger, match=f"nearest that divides it is {near}\n"):
            GridTrigger(interval_s)


def test_its_text_can_be_read_back_and_said_in_words() -> None:
    trigger = GridTrigger(5400)
    assert trigger.text == "interval[1:30:00 UTC]"
    assert parse_text(trigger.text) == trigger
    assert in_words(trigger.text) == "every 1h 30min from midnight, UTC"
    assert trigger.by_the_minute and not GridTrigger(45).by_the_minute
