"""How often people are told: laws over any course of runs, for each handler by itself."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sereno.notify.config import Config
from sereno.notify.message import ALERT, FAILURE, RECOVERY, Event
from sereno.notify.throttle import (
    MOST_ALERTS,
    Last,
    Moment,
    Row,
    State,
    Told,
    delivered,
    failed,
    from_json,
    happened,
    quiet_until_s,
    succeeded,
)

DAY_S = 86_400.0
RULE = Config((), DAY_S, max_failures=3, log_lines=0)
NAMES = ("mail", "hook")
# Runs: seconds since the one before, and whether it succeeded.
COURSES = st.lists(st.tuples(st.floats(0.1, 2 * DAY_S), st.booleans()), max_size=60)


def event(kind: str, now_s: float, alert: str | None = None, **details: Any) -> Event:
    return Event(kind, "j", f"run at {now_s}", "h", "system", now_s, alert=alert, **details)


class Course:
    """Runs of a job, and what two handlers are told of them; those in `broken` deliver nothing."""

    def __init__(self) -> None:
        self.state, self.now_s, self.broken = State(), 1_000_000.0, set[str]()
        self.told: list[tuple[float, str, str]] = []

    def run(self, pause_s: float, good: bool) -> None:
        self.now_s += pause_s
        ended = Moment("boot", self.now_s)
        if good:
            this = event(RECOVERY, self.now_s)
            self.state = succeeded(self.state, ended, NAMES)
        else:
            this = event(FAILURE, self.now_s)
            self.state = failed(self.state, this, ended, RULE, NAMES)
        self.tell(this)

    def alert(self, name: str) -> None:
        this = event(ALERT, self.now_s, name)
        self.state = happened(self.state, this, RULE, NAMES)
        self.tell(this)

    def tell(self, this: Event) -> None:
        for name in NAMES:
            until_s = quiet_until_s(self.state.of(name), this, self.now_s, RULE)
            if until_s is None and name not in self.broken:
                self.told.append((self.now_s, name, this.kind))
                self.state = delivered(self.state, name, this, self.now_s, RULE)
        kept = from_json(json.loads(json.dumps(self.state)))
        assert kept == self.state

    def times(self, name: str, kind: str) -> list[float]:
        return [at_s for at_s, handler, what in self.told if (handler, what) == (name, kind)]


def test_the_first_failure_is_told_at_once_and_the_same_one_again_only_after_a_while() -> None:
    course = Course()
    for _ in range(3000):
        course.run(60.0, good=False)
    told = course.times("mail", FAILURE)
    assert told[0] == 1_000_060.0
    assert len(told) == 3
    assert all(after - before >= DAY_S for before, after in itertools.pairwise(told))
    assert course.state.failing == Row(1_000_060.0, 3000)


def test_what_is_held_back_is_counted_and_until_when_is_said() -> None:
    course = Course()
    for _ in range(1440):
        course.run(60.0, good=False)
    told = course.state.of("mail")
    assert told.last[""].untold == 1439
    until_s = quiet_until_s(told, event(FAILURE, course.now_s), course.now_s, RULE)
    assert until_s == 1_000_060.0 + DAY_S


@given(COURSES)
def test_no_window_of_the_repeat_time_has_more_failures_told_than_allowed(runs) -> None:
    course = Course()
    for run in runs:
        course.run(*run)
    told = course.times("mail", FAILURE)
    for index, time_s in enumerate(told):
        assert sum(time_s <= other < time_s + DAY_S for other in told[index:]) <= 3


@given(st.lists(st.tuples(st.floats(0.1, 2 * DAY_S), st.booleans(), st.booleans()), max_size=60))
def test_a_handler_is_told_of_the_end_of_exactly_the_failures_that_it_told_of(runs) -> None:
    course, knows, owed = Course(), dict.fromkeys(NAMES, False), dict.fromkeys(NAMES, False)
    for pause_s, good, works in runs:
        course.broken = set() if works else {"hook"}
        before = len(course.told)
        course.run(pause_s, good)
        told = {(name, kind) for _, name, kind in course.told[before:]}
        for name in NAMES:
            if good:
                owed[name] = owed[name] or knows[name]
                knows[name] = False
                can = name not in course.broken
                assert ((name, RECOVERY) in told) == (owed[name] and can)
                owed[name] = owed[name] and not can
            else:
                owed[name] = False
                knows[name] = knows[name] or (name, FAILURE) in told
    assert course.state.wants_success == (course.state.failing is not None or any(owed.values()))


def test_one_handler_that_is_down_holds_back_nothing_of_itself_or_another() -> None:
    course = Course()
    course.broken = {"hook"}
    course.run(60.0, good=False)
    course.broken = set()
    course.run(60.0, good=False)
    course.run(60.0, good=False)
    assert course.times("mail", FAILURE) == [1_000_060.0]
    assert course.times("hook", FAILURE) == [1_000_120.0]


def test_a_recovery_that_a_handler_did_not_take_is_told_by_it_after_the_next_success() -> None:
    course = Course()
    course.run(60.0, good=False)
    course.broken = {"hook"}
    course.run(60.0, good=True)
    course.broken = set()
    assert course.state.wants_success
    course.run(60.0, good=True)
    assert course.times("mail", RECOVERY) == [1_000_120.0]
    assert course.times("hook", RECOVERY) == [1_000_180.0]
    assert not course.state.wants_success


@pytest.mark.parametrize(
    ("ended", "recovers"),
    [(Moment("a", 99.0), False), (Moment("a", 101.0), True), (Moment("b", 1.0), True)],
)
def test_only_a_success_that_ended_after_the_failure_is_a_recovery(ended, recovers) -> None:
    failure = event(FAILURE, 1e9)
    state = failed(State(), failure, Moment("a", 100.0), RULE, NAMES)
    state = delivered(state, "mail", failure, 1e9, RULE)
    state = succeeded(state, ended, NAMES)
    assert (state.failing is None) is recovers
    assert (state.of("mail").owed is not None) is recovers


def test_a_success_that_comes_while_a_failure_is_being_told_is_owed_to_that_handler() -> None:
    failure = event(FAILURE, 1e9, failing_since_s=1e9, failures=1)
    state = failed(State(), failure, Moment("a", 1.0), RULE, NAMES)
    state = succeeded(state, Moment("a", 2.0), NAMES)
    assert not state.wants_success
    state = delivered(state, "hook", failure, 1e9, RULE)
    assert state.of("hook").owed == Row(1e9, 1)
    assert state.of("mail").owed is None


@given(COURSES, st.floats(0, 2_000_000_000))
def test_a_clock_that_was_set_back_holds_no_failure_back_for_longer_than_once(runs, now_s) -> None:
    course = Course()
    course.now_s = 3_000_000_000.0
    for run in runs:
        course.run(*run)
    assert quiet_until_s(course.state.of("mail"), event(FAILURE, now_s), now_s, RULE) is None


@pytest.mark.parametrize("again_s", [1.0, DAY_S - 1])
def test_an_alert_is_told_once_in_the_repeat_time_and_each_alert_for_itself(again_s) -> None:
    course = Course()
    course.alert("capacity")
    course.now_s += again_s
    course.alert("capacity")
    assert course.times("mail", ALERT) == [1_000_000.0]
    course.alert("hit_rate")
    assert course.times("mail", ALERT) == [1_000_000.0, 1_000_000.0 + again_s]
    assert course.state.of("mail").last["capacity"] == Last(1_000_000.0, 1)
    course.now_s = 1_000_000.0 + DAY_S
    course.alert("capacity")
    assert len(course.times("mail", ALERT)) == 3


def test_alerts_that_no_longer_count_are_forgotten_and_never_are_more_kept_than_a_bound() -> None:
    course = Course()
    for day in range(5):
        course.now_s = 1e6 + 2 * day * DAY_S
        for name in ("twice", "twice", f"disk-{day}"):
            course.alert(name)
    assert course.state.of("mail").last.keys() == {"twice", "disk-4"}
    course.run(1.0, good=False)
    for number in range(MOST_ALERTS + 100):
        course.state = happened(
            course.state, event(ALERT, course.now_s, f"{number}-" + "x" * 70_000), RULE, ["mail"]
        )
    kept = course.state.of("mail").last
    assert len(kept) <= MOST_ALERTS + 1
    assert max(map(len, kept)) == 200
    # The failures that go on are never among those.
    assert kept[""].at_s == course.now_s


@pytest.mark.parametrize(
    "garbage",
    [
        None, [], {}, [None, "", None], [None, "", None, []], [[1], "", None, {}],
        [[1e300, 1], "", None, {}], [[float("nan"), 1], "", None, {}],
        [None, "", None, {"mail": [{"": [-1, 0]}, [], None]}], [None, "", [1], {}],
    ],
)  # fmt: skip
def test_what_is_no_state_is_refused(garbage) -> None:
    with pytest.raises((TypeError, ValueError, LookupError, AttributeError)):
        assert from_json(garbage) == "nothing"


def test_a_success_without_a_failure_before_changes_nothing() -> None:
    state = State(told={"mail": Told(sent_s=(5.0,))})
    assert succeeded(state, Moment("a", 1.0), ["mail"]) == state
