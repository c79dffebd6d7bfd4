"""Elapses of many expressions in one call of systemd-analyze."""

import shutil
from datetime import UTC, datetime

import pytest

from sereno.manager.analyze import elapses_of_each, elapses_until

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze (package systemd)"
)


def test_each_expression_has_its_own_elapses_and_one_that_is_refused_has_none() -> None:
    base = datetime(2026, 11, 26, 12, tzinfo=UTC)
    found = elapses_of_each(
        ["*-*-* 03:00:00 UTC", "daily UTC", "nonsense 7", "*-02-30"], 2, after_s=base.timestamp()
    )
    assert found == {
        "*-*-* 03:00:00 UTC": [datetime(2026, 11, day, 3, tzinfo=UTC) for day in (27, 28)],
        "daily UTC": [datetime(2026, 11, day, tzinfo=UTC) for day in (27, 28)],
        "*-02-30": [],
    }
    assert elapses_of_each([], 2, after_s=0) == {}


def test_all_elapses_of_a_stretch_are_found_and_what_elapses_too_often_is_left_out() -> None:
    base = datetime(2026, 11, 26, 12, tzinfo=UTC)
    stretch = {"after_s": base.timestamp(), "until_s": base.timestamp() + 86_400}
    calendars = ["*-*-* *:00/5 UTC", "*-*-* 03:00:00 UTC", "*-*-* *:*:* UTC", "*-02-30"]
    found = elapses_until(calendars, **stretch, most=4_000)
    assert {calendar: len(times) for calendar, times in found.items()} == {
        "*-*-* *:00/5 UTC": 288,
        "*-*-* 03:00:00 UTC": 1,
        "*-02-30": 0,
    }
    assert max(found["*-*-* *:00/5 UTC"]).timestamp() == stretch["until_s"]
    assert elapses_until([], **stretch, most=100) == {}
