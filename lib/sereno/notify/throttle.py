"""How often people are told of the same thing: (state, event, now) → (state, told or not). Pure.

A job that begins to fail is told at once; one that keeps failing at most once in `repeat_after_s`, with the number of
failures since; its recovery once, if the failure was told. A job that fails and recovers in turn is told of at most
`max_failures` failures in `repeat_after_s`. An alert follows the rule of a failure, for each alert by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MOST_ALERTS = 1000
"""Of one job, the newest, that are remembered."""


@dataclass(frozen=True, slots=True)
class Told:
    """An alert's last message: when (seconds since the epoch), and how many were held back since."""

    at_s: float
    untold: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is known of one job.

    Attributes:
        failing_since_s: the first of its failures in a row; None: it did not fail last.
        failures: how many in a row.
        told_s: the last message of these failures; None: there was none.
        untold: failures since that message.
        sent_s: times of the failure messages in the last `repeat_after_s`, over all periods of failures.
        alerts: by the alert's name.
    """

    failing_since_s: float | None = None
    failures: int = 0
    told_s: float | None = None
    untold: int = 0
    sent_s: tuple[float, ...] = ()
    alerts: Mapping[str, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state after an event, and whether people are told of it.

    Attributes:
        told: how many like it were held back before, None if it is held back itself.
        quiet_until_s: until when the next ones are only counted; None: the next is told.
    """

    state: State
    told: int | None
    quiet_until_s: float | None = None


def failed(state: State, now_s: float, *, repeat_after_s: float, max_failures: int) -> Verdict:
    """A run failed."""
    # Times in the future (the clock was set back) must not hold messages back for years.
    sent = tuple(s for s in state.sent_s if 0 <= now_s - s < repeat_after_s)
    if state.failing_since_s is None:
        state = replace(state, failing_since_s=now_s, failures=0, told_s=None)
    state = replace(state, failures=state.failures + 1, sent_s=sent)
    last_s = state.told_s
    due = last_s is None or not 0 <= now_s - last_s < repeat_after_s
    if not due or len(sent) >= max_failures:
        until_s = (last_s if last_s is not None and not due else sent[0]) + repeat_after_s
        return Verdict(replace(state, untold=state.untold + 1), None, until_s)
    untold, sent = state.untold, (*sent, now_s)
    state = replace(state, told_s=now_s, untold=0, sent_s=sent)
    return Verdict(state, untold, now_s + repeat_after_s)


def succeeded(state: State) -> Verdict:
    """A run succeeded."""
    untold = state.untold
    told = state.failing_since_s is not None and state.told_s is not None
    # What was never told stays counted, for the next message.
    state = replace(
        state, failing_since_s=None, failures=0, told_s=None, untold=0 if told else untold
    )
    return Verdict(state, untold if told else None)


def alerted(state: State, alert: str, now_s: float, *, repeat_after_s: float) -> Verdict:
    """A successful run raised an alert."""
    last = state.alerts.get(alert)
    state = replace(state, alerts=_remembered(state.alerts, now_s, repeat_after_s))
    if last is not None and 0 <= now_s - last.at_s < repeat_after_s:
        held = replace(last, untold=last.untold + 1)
        after = replace(state, alerts={**state.alerts, alert: held})
        return Verdict(after, None, last.at_s + repeat_after_s)
    after = replace(state, alerts={**state.alerts, alert: Told(now_s)})
    return Verdict(after, last.untold if last else 0, now_s + repeat_after_s)


def _remembered(alerts: Mapping[str, Told], now_s: float, repeat_after_s: float) -> dict[str, Told]:
    """Those that still hold back, or count, something; a job may give every alert a name of its own."""
    needed = [
        (name, told)
        for name, told in alerts.items()
        if told.untold or 0 <= now_s - told.at_s < repeat_after_s
    ]
    return dict(sorted(needed, key=lambda each: each[1].at_s)[-MOST_ALERTS:])


def undelivered(state: State, alert: str | None, verdict: Verdict) -> State:
    """The state after a message that `verdict` allowed and that nobody took: the next event is told at once."""
    untold = (verdict.told or 0) + 1
    if alert is not None:
        return replace(state, alerts={**state.alerts, alert: Told(0.0, untold)})
    if state.failing_since_s is None:
        return state
    return replace(state, told_s=None, untold=state.untold + untold, sent_s=state.sent_s[:-1])


def to_json(state: State) -> dict[str, Any]:
    return {
        "failing_since_s": state.failing_since_s,
        "failures": state.failures,
        "told_s": state.told_s,
        "untold": state.untold,
        "sent_s": list(state.sent_s),
        "alerts": {name: [told.at_s, told.untold] for name, told in state.alerts.items()},
    }


def from_json(value: Any) -> State:
    """Raises TypeError, ValueError, KeyError or AttributeError for what `to_json` did not write."""
    return State(
        failing_since_s=_time(value["failing_since_s"]),
        failures=int(value["failures"]),
        told_s=_time(value["told_s"]),
        untold=int(value["untold"]),
        sent_s=tuple(float(time_s) for time_s in value["sent_s"]),
        alerts={
            str(name): Told(float(at_s), int(untold))
            for name, (at_s, untold) in value["alerts"].items()
        },
    )


def _time(value: Any) -> float | None:
    return None if value is None else float(value)
