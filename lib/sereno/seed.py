"""The first elapse of interval timers in a boot: one interval after the last one, across reboots.

`OnUnitActiveSec=` counts from the service's last activation in this boot, so before the first run it has no elapse at
all. What systemd offers as a seed breaks a promise each: `OnActiveSec=` fires again after every daemon-reload,
`OnBootSec=` fires at once when the timer is started later than that after boot, and neither lets an interval that is
longer than the machine stays up ever come round. So every interval timer wants `sereno-seed.service` and starts after
it: it writes, for this boot only, `OnCalendar=` with the one absolute time at which the interval is over, counted from
the stamp that `Persistent=` keeps. An absolute time in the past never elapses again, so the seed needs no removal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sereno.systemctl import Systemctl
from sereno.unitdir import UnitDirectory
from sereno.units import HEADER, timer_name


def seed_text(unit: str, last_elapse_s: float, interval_s: float, now_s: float) -> str:
    """The drop-in for one timer.

    Args:
        last_elapse_s: time of the last elapse, seconds since the epoch. A time in the future (the clock was set back)
            counts as now, or the interval would not come round until then.
        interval_s: seconds between elapses.
        now_s: the time, seconds since the epoch.
    """
    first = datetime.fromtimestamp(min(last_elapse_s, now_s) + interval_s, UTC)
    return HEADER.format(unit=unit) + f"\n[Timer]\nOnCalendar={first:%Y-%m-%d %H:%M:%S.%f} UTC\n"


def seed(units: UnitDirectory, manager: Systemctl, now_s: Callable[[], float]) -> list[str]:
    """Give every interval timer that has no next elapse its first one; return their names.

    A timer that never elapsed counts from now, and its stamp says so before systemd would write it: a persistent timer
    makes up for an elapse between the stamp and its start, so that a short interval is not over before it began.
    """
    elapses = manager.list_timers()
    seeded = []
    for job in units.find().jobs.values():
        unit = timer_name(job.id)
        known = elapses.get(unit)
        if job.interval_s is None or (known is not None and known.next is not None):
            continue
        last = units.last_elapse_s(job.id)
        if last is None:
            units.waive_missed([job.id])
            last = now_s()
        units.write_seed(job.id, seed_text(unit, last, job.interval_s, now_s()))
        seeded.append(unit)
    if seeded:
        manager.reload()
    return seeded
