"""Elapses that no run came of: what no record tells, and only the schedule does. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from sereno.records.run_record import Run

# A timer may be early by nothing, and a clock that is being set by a little.
_EARLY_S = 1.0
# How long after its elapse a run may still be about to begin.
_PATIENCE_S = 60.0


def missed(
    elapses_s: Sequence[float], runs: Iterable[Run], *, until_s: float, slack_s: float = 0
) -> list[float]:
    """The elapses of a calendar schedule that have neither run nor skip: none began between one and the next.

    So a run that starts late (it waits for another job, or makes up for a time in which the machine was off) counts for
    the elapse before it, and one that passes while a run goes on is an overrun and not missed.

    Args:
        elapses_s: ascending, seconds since the epoch.
        runs: every run that began or ended in that time, skipped ones too.
        until_s: now.
        slack_s: how late the timer itself may be (jitter and accuracy).
    """
    spans = sorted(
        (begin_s, until_s if run.end_s is None and run.status == "running" else run.end_s or begin_s)
        for run in runs
        if (begin_s := run.at_s) is not None
    )  # fmt: skip
    begins = [begin_s for begin_s, _ in spans]
    patience_s = slack_s + _PATIENCE_S
    found = []
    for elapse_s, next_s in zip(elapses_s, (*elapses_s[1:], until_s + _EARLY_S), strict=False):
        if elapse_s > until_s - patience_s:
            break
        before = bisect_right(begins, elapse_s)
        if before and spans[before - 1][1] >= elapse_s:
            continue
        first = bisect_left(begins, elapse_s - _EARLY_S)
        if first == len(begins) or begins[first] >= next_s - _EARLY_S:
            found.append(elapse_s)
    return found
