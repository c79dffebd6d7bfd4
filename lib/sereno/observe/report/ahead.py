"""The elapses of all jobs in the next 24 hours, by hours. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from sereno.observe.report.plots import Window, bars

DAY_S = 86_400
_QUARTERS = 96
# Jobs that are named in an hour.
NAMED_JOBS = 12


@dataclass(frozen=True, slots=True)
class Hour:
    """The elapses of one hour: how many, of which jobs ((id, when its only one is or None, how many), …)."""

    begin_s: float
    count: int
    jobs: tuple[tuple[str, float | None, int], ...]
    more: int


@dataclass(frozen=True, slots=True)
class Ahead:
    """The elapses of the next 24 hours."""

    total: int
    path: str
    most: int
    hours: tuple[Hour, ...]
    incomplete: tuple[str, ...]


def ahead(
    elapses_s: Mapping[str, Sequence[float]],
    now_s: float,
    incomplete: Iterable[str] = (),
    zone: tzinfo | None = None,
) -> Ahead:
    """The next 24 hours, by hours of the clock.

    Args:
        incomplete: jobs of which only the next elapse is known.
        zone: of the clock; None: the local one. Of a zone at UTC+5:30 the hours begin at UTC's half hours.
    """
    window = Window(now_s, now_s + DAY_S, _QUARTERS)
    hours: dict[float, dict[str, list[float]]] = {}
    quarters = [0] * _QUARTERS
    for job_id, moments in sorted(elapses_s.items()):
        for moment_s in moments:
            if now_s <= moment_s <= window.until_s:
                quarters[window.slot(moment_s)] += 1
                at = datetime.fromtimestamp(moment_s, UTC).astimezone(zone)
                begin_s = at.replace(minute=0, second=0, microsecond=0).timestamp()
                hours.setdefault(begin_s, {}).setdefault(job_id, []).append(moment_s)
    return Ahead(
        sum(quarters),
        bars(quarters, max(quarters) or 1, least=4),
        max(quarters),
        tuple(_hour(begin_s, jobs) for begin_s, jobs in sorted(hours.items())),
        tuple(sorted(incomplete)),
    )


def _hour(begin_s: float, jobs: Mapping[str, Sequence[float]]) -> Hour:
    named = sorted(jobs.items(), key=lambda job: (job[1][0], job[0]))[:NAMED_JOBS]
    return Hour(
        begin_s,
        sum(len(moments) for moments in jobs.values()),
        tuple(
            (job_id, moments[0] if len(moments) == 1 else None, len(moments))
            for job_id, moments in named
        ),
        len(jobs) - len(named),
    )
