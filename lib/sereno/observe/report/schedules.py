"""When jobs elapse in the next 24 hours, and when they should have in the time before, by systemd's own word.

systemd-analyze is asked for many expressions in one call, and for no more elapses than it computes in a second or two;
what remains unknown because of that is said, and not guessed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sereno.errors import NotAvailable, SystemdError
from sereno.manager.analyze import elapses_until
from sereno.manager.names import timer_name
from sereno.manager.systemctl import Elapse, Systemctl, calendars_in
from sereno.observe.report.ahead import DAY_S
from sereno.units.unit_text import Installed

# Elapses that are computed for what is past and for what is ahead, each.
_MOST = 40_000
# Of one interval: one of ten seconds.
_MOST_OF_ONE = 8_640

Moments = Mapping[str, Sequence[datetime]]


@dataclass(frozen=True, slots=True)
class Schedules:
    """The elapses of calendar jobs.

    Attributes:
        calendars: expressions by job id.
        future: the elapses of the next 24 hours by expression; one that is not there elapses too often to list.
        past: those from `past_since_s` until now; as above.
        remarks: what could not be asked.
    """

    calendars: Mapping[str, Sequence[str]]
    future: Moments
    past: Moments
    past_since_s: float
    remarks: tuple[str, ...]

    def due(self, job: Installed, since_s: float) -> list[float] | None:
        """When a calendar job should have elapsed from `since_s` until now; None if that is not known."""
        calendars = self.calendars.get(job.id, ())
        # A drop-in has no time from which it was in force, and a paused job is not to elapse.
        if not calendars or not job.enabled or list(calendars) != job.calendars:
            return None
        if any(calendar not in self.past for calendar in calendars):
            return None
        found = {moment.timestamp() for calendar in calendars for moment in self.past[calendar]}
        return sorted(moment_s for moment_s in found if moment_s >= since_s)

    def ahead(
        self, job: Installed, elapse: Elapse | None, now_s: float
    ) -> tuple[list[float], bool]:
        """The elapses of a job's timer in the next 24 hours, and whether these are all.

        The first one is the manager's, with its jitter; later ones of a calendar are without.
        """
        if elapse is None:
            return [], True
        next_s = elapse.next.timestamp() if elapse.next else None
        if job.interval_s is not None:
            if next_s is None and elapse.last is not None:
                # It runs at this moment, and counts from when that began.
                next_s = elapse.last.timestamp() + job.interval_s
            return _each(next_s, job.interval_s, now_s + DAY_S)
        first = [] if next_s is None else [next_s]
        calendars = self.calendars.get(job.id, ())
        if any(calendar not in self.future for calendar in calendars):
            return first, next_s is None or next_s > now_s + DAY_S
        later = {moment.timestamp() for calendar in calendars for moment in self.future[calendar]}
        return [*first, *sorted(each for each in later if next_s is None or each > next_s)], True


def _each(first_s: float | None, interval_s: float, until_s: float) -> tuple[list[float], bool]:
    if first_s is None:
        return [], True
    count = int((until_s - first_s) // interval_s) + 1
    shown = [first_s + number * interval_s for number in range(min(count, _MOST_OF_ONE))]
    return shown, count <= _MOST_OF_ONE


def schedules_of(
    jobs: Mapping[str, Installed],
    changed: Collection[str],
    manager: Systemctl,
    *,
    since_s: float,
    now_s: float,
) -> Schedules:
    """Ask for the schedules of `jobs`.

    Args:
        changed: ids of those whose timer has a drop-in: the manager alone knows what holds.
    """
    calendars: dict[str, Sequence[str]] = {job.id: job.calendars for job in jobs.values()}
    remarks = []
    try:
        if changed:
            names = {timer_name(job_id): job_id for job_id in changed}
            for name, shown in manager.show_all(names, "TimersCalendar").items():
                calendars[names[name]] = calendars_in(shown.get("TimersCalendar", ""))
        all_calendars = {each for found in calendars.values() for each in found}
        future = elapses_until(all_calendars, after_s=now_s, until_s=now_s + DAY_S, most=_MOST)
        past_since_s = max(since_s, now_s - _most_days(future) * DAY_S)
        # Those that elapse too often to list are left out here too.
        past = elapses_until(future, after_s=past_since_s, until_s=now_s, most=_MOST)
    except (NotAvailable, SystemdError) as error:
        remarks.append(f"elapses: {error.message}")
        future, past, past_since_s = {}, {}, now_s
    return Schedules(calendars, future, past, past_since_s, tuple(remarks))


def _most_days(future: Moments) -> float:
    """How many days can be looked back for: each call computes up to four times what is wanted."""
    of_a_day = sum(len(moments) for moments in future.values())
    return _MOST / (4 * of_a_day) if of_a_day else _MOST
