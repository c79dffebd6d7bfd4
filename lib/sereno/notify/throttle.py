"""How often people are told of the same thing: what is known of a job, and what each handler has told of it. Pure.

A job that begins to fail is told at once; one that keeps failing at most once in `repeat_after_s`, with the number of
failures since; its recovery once, if the failure was told. A job that fails and recovers in turn is told of at most
`max_failures` failures in `repeat_after_s`. An alert follows the rule of a failure, for each alert by itself. All of
this is so for each handler: only what it has delivered counts as told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from sereno.notify.message import FAILURE, RECOVERY, Event

if TYPE_CHECKING:
    from sereno.notify.config import Config

MOST_ALERTS, _MOST_NAME = 1000, 200
"""Of one job, the newest, that are remembered for a handler; characters of a name."""


class Moment(NamedTuple):
    """A time that no setting of the clock moves: seconds since the boot of this id."""

    boot: str
    monotonic_s: float


class Row(NamedTuple):
    """Failures in a row: when the first was (seconds since the epoch), and how many there were."""

    since_s: float
    number: int


class Last(NamedTuple):
    """The last message of one thing: when (seconds since the epoch; 0: none yet), and how often it happened since."""

    at_s: float = 0.0
    untold: int = 0


class Told(NamedTuple):
    """What a handler has told of one job.

    Attributes:
        last: by the alert's name; under "" of the failures that go on.
        sent_s: times of its failure messages in the last `repeat_after_s`, also of failures that are over.
        owed: failures that it told of and whose end it has yet to tell.
    """

    last: Mapping[str, Last] = {}
    sent_s: tuple[float, ...] = ()
    owed: Row | None = None


class State(NamedTuple):
    """What is known of one job.

    Attributes:
        failing: its failures in a row; None: it did not fail last.
        run, ended: the last failure's run, and when that was over.
        told: by the handler's name; under "" of all that are not there.
    """

    failing: Row | None = None
    run: str = ""
    ended: Moment | None = None
    told: Mapping[str, Told] = {}

    def of(self, handler: str) -> Told:
        return self.told.get(handler, self.told.get("", Told()))

    @property
    def wants_success(self) -> bool:
        """Whether a success is news."""
        return self.failing is not None or any(told.owed for told in self.told.values())


def name_of(event: Event) -> str:
    return (event.alert or "")[:_MOST_NAME]


def failed(
    state: State,
    event: Event,
    ended: Moment,
    rule: Config,
    handlers: Collection[str],
    *,
    is_first: bool = False,
) -> State:
    """The state after a failure, which is yet to be told; `is_first`: a success was before it, known or not so far."""
    row = None if is_first else state.failing
    if row is None:
        row = Row(event.time_s, 0)
        told = {name: _without(state.of(name))._replace(owed=None) for name in handlers}
        state = state._replace(told=told)
    counted = happened(state, event, rule, handlers)
    return State(row._replace(number=row.number + 1), event.run, ended, counted.told)


def _without(told: Told) -> Told:
    """The failures' message forgotten. What was never told stays counted, for the next one."""
    untold = told.last.get("", Last()).untold
    return told._replace(last={**told.last, "": Last(0.0, untold)})


def happened(state: State, event: Event, rule: Config, handlers: Collection[str]) -> State:
    """The state after a failure or an alert, which is yet to be told."""
    counted = {}
    for handler in handlers:
        told, name = state.of(handler), name_of(event)
        last = told.last.get(name, Last())
        kept = _remembered(told.last, event.time_s, rule)
        counted[handler] = told._replace(last={**kept, name: last._replace(untold=last.untold + 1)})
    return state._replace(told=counted)


def _remembered(lasts: Mapping[str, Last], now_s: float, rule: Config) -> dict[str, Last]:
    """Those that still hold back, or count, something; a job may give every alert a name of its own."""
    needed = [
        (name, last)
        for name, last in lasts.items()
        if not name or last.untold or rule.is_recent(last.at_s, now_s)
    ]
    return dict(sorted(needed, key=lambda each: (not each[0], each[1].at_s))[-MOST_ALERTS:])


def succeeded(state: State, ended: Moment, handlers: Collection[str]) -> State:
    """The state after a success; one that is not later than the last failure changes nothing.

    The success ended in this boot: a failure in another one was before it.
    """
    told = {name: state.of(name) for name in handlers}
    last = state.ended
    is_later = last is None or last.boot != ended.boot or ended > last
    if state.failing is None or not is_later:
        return state._replace(told=told)
    for name, one in told.items():
        if one.last.get("", Last()).at_s:
            told[name] = _without(one)._replace(owed=state.failing)
    return state._replace(failing=None, told=told)


def quiet_until_s(told: Told, event: Event, now_s: float, rule: Config) -> float | None:
    """Until when a handler holds this event back; None: it is to be told now."""
    if event.kind == RECOVERY:
        return None if told.owed else inf
    at_s = told.last.get(name_of(event), Last()).at_s
    if at_s and rule.is_recent(at_s, now_s):
        return at_s + rule.repeat_after_s
    sent = [time_s for time_s in told.sent_s if rule.is_recent(time_s, now_s)]
    is_too_many = event.kind == FAILURE and len(sent) >= rule.max_failures
    return sent[0] + rule.repeat_after_s if is_too_many else None


def delivered(state: State, handler: str, event: Event, now_s: float, rule: Config) -> State:
    """The state after a handler has told an event."""
    told = state.of(handler)
    # What came while it was on its way is yet to be told.
    untold = max(told.last.get(name_of(event), Last()).untold - event.untold - 1, 0)
    told = told._replace(last={**told.last, name_of(event): Last(now_s, untold)})
    if event.kind == RECOVERY:
        told = told._replace(last={**told.last, "": Last()}, owed=None)
    elif event.kind == FAILURE:
        sent = [time_s for time_s in told.sent_s if rule.is_recent(time_s, now_s)]
        told = told._replace(sent_s=(*sent, now_s))
        if state.failing is None:
            # A success came while it was being told.
            row = Row(event.failing_since_s or now_s, event.failures)
            told = told._replace(last={**told.last, "": Last()}, owed=row)
    return state._replace(told={**state.told, handler: told})


def from_json(value: Any) -> State:
    """The state of which `value` is the JSON; an exception of any kind where it is none."""
    failing, run, ended, told = value
    return State(
        failing=failing and Row(_time(failing[0]), int(failing[1])),
        run=str(run),
        ended=ended and Moment(str(ended[0]), float(ended[1])),
        told={
            handler: Told(
                {name: Last(_time(at_s), int(untold)) for name, (at_s, untold) in last.items()},
                tuple(map(_time, sent_s)),
                owed and Row(_time(owed[0]), int(owed[1])),
            )
            for handler, (last, sent_s, owed) in told.items()
        },
    )


def _time(value: Any) -> float:
    # What is no date must not break a message; the year 5138 is far enough.
    if not 0 <= float(value) < 1e11:
        raise ValueError(f"{value!r}: no time")
    return float(value)
