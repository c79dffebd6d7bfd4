"""Intervals: what is taken, what is refused, and what they become."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.errors import InvalidTrigger
from sereno.triggers import IntervalTrigger
from sereno.triggers.interval import MAX_INTERVAL_S


@pytest.mark.parametrize(
    ("parts", "text", "line"),
    [
        ({"hours": 1, "minutes": 30, "seconds": 15}, "interval[1:30:15]", "1h 30min 15s"),
        ({"seconds": 5415}, "interval[1:30:15]", "1h 30min 15s"),
        ({"seconds": 2}, "interval[0:00:02]", "2s"),
        ({"minutes": 90}, "interval[1:30:00]", "1h 30min"),
        ({"days": 1}, "interval[24:00:00]", "1d"),
        ({"weeks": 1}, "interval[168:00:00]", "1w"),
        ({"weeks": 1, "days": 1, "seconds": 1}, "interval[192:00:01]", "1w 1d 1s"),
        ({"hours": 2.0}, "interval[2:00:00]", "2h"),
    ],
)
def test_parts_are_added_and_shown(parts: dict[str, Any], text: str, line: str) -> None:
    trigger = IntervalTrigger(**parts)
    assert trigger.text == text
    assert trigger.timer_lines() == (f"OnUnitActiveSec={line}",)


def test_intervals_of_the_same_length_are_equal_however_they_were_given() -> None:
    assert (
        len(
            {
                IntervalTrigger(minutes=90),
                IntervalTrigger(5400),
                IntervalTrigger(hours=1, minutes=30.0),
            }
        )
        == 1
    )
    assert IntervalTrigger(1) != IntervalTrigger(2)
    assert eval(repr(IntervalTrigger(minutes=2))) == IntervalTrigger(120)


def test_an_interval_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        IntervalTrigger(1).interval_s = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, ["interval", "0 s"]),
        ({"hours": 0, "minutes": 0, "seconds": 0}, ["interval", "0 s"]),
        ({"seconds": -1}, ["seconds", "-1", "negative"]),
        ({"hours": 2, "minutes": -30}, ["minutes", "-30", "negative"]),
        ({"seconds": 0.5}, ["seconds", "0.5", "whole"]),
        ({"hours": 1.5}, ["hours", "1.5", "minutes=30"]),
        ({"seconds": math.nan}, ["seconds", "nan"]),
        ({"seconds": math.inf}, ["seconds", "inf"]),
        ({"days": -math.inf}, ["days", "-inf"]),
        ({"seconds": True}, ["seconds", "True"]),
        ({"seconds": "5"}, ["seconds", "'5'"]),
        ({"seconds": None}, ["seconds", "None"]),
        ({"weeks": 523}, ["ten years"]),
        ({"seconds": 10**30}, ["ten years"]),
        ({"seconds": 1e300}, ["ten years"]),
    ],
)
def test_what_is_no_interval_is_refused_with_its_field_and_value(
    parts: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InvalidTrigger) as refused:
        IntervalTrigger(**parts)
    for word in words:
        assert word in str(refused.value)


_UNITS_S = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1}


@given(st.integers(1, MAX_INTERVAL_S))
def test_the_line_and_the_text_hold_the_whole_interval(interval_s: int) -> None:
    trigger = IntervalTrigger(interval_s)
    (line,) = trigger.timer_lines()
    parts = re.findall(r"(\d+)([a-z]+)", line.removeprefix("OnUnitActiveSec="))
    assert sum(int(count) * _UNITS_S[unit] for count, unit in parts) == interval_s
    match = re.fullmatch(r"interval\[(\d+):(\d\d):(\d\d)\]", trigger.text)
    assert match is not None
    hours, minutes, seconds = map(int, match.groups())
    assert hours * 3600 + minutes * 60 + seconds == interval_s
