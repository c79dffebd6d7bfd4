"""How often people are told: laws over any course of runs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.notify.throttle import (
    MOST_ALERTS,
    State,
    alerted,
    failed,
    from_json,
    succeeded,
    to_json,
    undelivered,
)

DAY_S = 86_400.0
RULE = {"repeat_after_s": DAY_S, "max_failures": 3}
# Runs: seconds since the one before, and whether it succeeded.
COURSES = st.lists(st.tuples(st.floats(0.1, 2 * DAY_S), st.booleans()), max_size=60)


def course(runs: list[tuple[float, bool]]) -> list[tuple[float, bool, bool]]:
    """(time, succeeded, told) of each run."""
    state, now_s, seen = State(), 1_000_000.0, []
    for pause_s, good in runs:
        now_s += pause_s
        verdict = succeeded(state) if good else failed(state, now_s, **RULE)
        state = from_json(to_json(verdict.state))
        assert state == verdict.state
        seen.append((now_s, good, verdict.told is not None))
    return seen


def test_the_first_failure_is_told_at_once_and_the_same_one_again_only_after_a_while() -> None:
    seen = course([(60.0, False)] * 3000)
    told = [time_s for time_s, _, told in seen if told]
    assert told[0] == seen[0][0]
    assert len(told) == 3
    assert all(after - before >= DAY_S for before, after in itertools.pairwise(told))


def test_a_reminder_says_how_many_failures_were_only_counted() -> None:
    state = failed(State(), 0.0, **RULE).state
    for minute in range(1, 1440):
        state = failed(state, minute * 60.0, **RULE).state
    verdict = failed(state, DAY_S, **RULE)
    assert (verdict.told, verdict.state.failures) == (1439, 1441)
    assert verdict.quiet_until_s == 2 * DAY_S


@given(COURSES)
def test_no_window_of_the_repeat_time_has_more_failures_told_than_allowed(runs) -> None:
    told = [time_s for time_s, good, told in course(runs) if told and not good]
    for index, time_s in enumerate(told):
        assert sum(time_s <= other < time_s + DAY_S for other in told[index:]) <= 3


@given(COURSES)
def test_a_recovery_is_told_exactly_when_the_failures_before_it_were(runs) -> None:
    told_since_success = False
    failing = False
    for _, good, told in course(runs):
        if good:
            assert told == (failing and told_since_success)
            failing = told_since_success = False
        else:
            failing = True
            told_since_success = told_since_success or told


@given(COURSES, st.floats(0, 2_000_000_000))
def test_a_clock_that_was_set_back_holds_no_failure_back_for_longer_than_once(runs, now_s) -> None:
    state = State()
    for number, (_, good) in enumerate(runs):
        at_s = 3_000_000_000.0 + number
        state = (succeeded(state) if good else failed(state, at_s, **RULE)).state
    assert failed(state, now_s, **RULE).told is not None


@pytest.mark.parametrize("again_s", [1.0, DAY_S - 1])
def test_an_alert_is_told_once_in_the_repeat_time_and_each_alert_for_itself(again_s) -> None:
    first = alerted(State(), "capacity", 0.0, repeat_after_s=DAY_S)
    assert first.told == 0
    second = alerted(first.state, "capacity", again_s, repeat_after_s=DAY_S)
    assert (second.told, second.quiet_until_s) == (None, DAY_S)
    assert alerted(second.state, "hit_rate", again_s, repeat_after_s=DAY_S).told == 0
    assert alerted(second.state, "capacity", DAY_S, repeat_after_s=DAY_S).told == 1


def test_alerts_that_no_longer_count_are_forgotten_and_never_are_more_kept_than_a_bound() -> None:
    state = State()
    for day in range(5):
        for name in ("twice", "twice", f"disk-{day}"):
            state = alerted(state, name, day * 2 * DAY_S, repeat_after_s=DAY_S).state
    assert state.alerts.keys() == {"twice", "disk-4"}
    for number in range(2 * MOST_ALERTS):
        state = alerted(state, f"disk-{number}", 1e6 + number, repeat_after_s=DAY_S).state
    assert len(state.alerts) <= MOST_ALERTS + 1
    assert f"disk-{2 * MOST_ALERTS - 1}" in state.alerts


def test_a_failure_that_nobody_took_does_not_hold_the_next_one_back() -> None:
    first = failed(State(), 0.0, **RULE)
    state = undelivered(first.state, None, first)
    verdict = failed(state, 60.0, **RULE)
    assert (verdict.told, verdict.state.failures) == (1, 2)
    # A recovery of what nobody was told of is not told either.
    assert succeeded(state).told is None


def test_an_alert_that_nobody_took_does_not_hold_the_next_one_back() -> None:
    first = alerted(State(), "capacity", 1e9, repeat_after_s=DAY_S)
    state = undelivered(first.state, "capacity", first)
    assert alerted(state, "capacity", 1e9 + 60, repeat_after_s=DAY_S).told == 1


def test_a_success_without_a_failure_before_changes_nothing() -> None:
    verdict = succeeded(replace(State(), sent_s=(5.0,)))
    assert verdict.told is None
    assert verdict.state == State(sent_s=(5.0,))
