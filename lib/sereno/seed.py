"""The first elapse of interval timers in a boot: one interval after the last one, across reboots.

`OnUnitActiveSec=` counts from the service's last activation in this boot, so before the first run it has no elapse at
all. What systemd offers as a seed breaks a promise each: `OnActiveSec=` fires again after every daemon-reload,
`OnBootSec=` fires at once when the timer is started later than that after boot, and neither lets an interval that is
longer than the machine stays up ever come round. So every interval timer wants `sereno-seed.service` and starts after
it: it writes, for this boot only, `OnCalendar=` with the one absolute time at which the interval is over, counted from
the stamp that `Persistent=` keeps. An absolute time in the past never elapses again, so the seed needs no removal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime

from sereno.systemctl import Systemctl
from sereno.unitdir import UnitDirectory
from sereno.units import HEADER, timer_name


def seed_text(unit: str, last_elapse_s: float | None, interval_s: float, now_s: float) -> str:
    """The drop-in for one timer.

    Args:
        last_elapse_s: time of the last elapse, seconds since the epoch; None: there was none, count from now. A time in
            the future (the clock was set back) counts as now, or the interval would not come round until then.
        interval_s: seconds between elapses.
        now_s: the time, seconds since the epoch.
    """
    base_s = now_s if last_elapse_s is None else min(last_elapse_s, now_s)
    first = datetime.fromtimestamp(base_s + interval_s, UTC)
    return HEADER.format(unit=unit) + f"\n[Timer]\nOnCalendar={first:%Y-%m-%d %H:%M:%S.%f} UTC\n"


def seed(units: UnitDirectory, manager: Systemctl, now_s: Callable[[], float]) -> list[str]:
    """Give every interval timer that is not active its first elapse; return their names.

    An active timer has its elapse already, and needs no other.
    """
    active: Collection[str] = manager.list_timers()
    seeded = []
    for job in units.find().jobs.values():
        unit = timer_name(job.id)
        if job.interval_s is not None and unit not in active:
            last = units.last_elapse_s(job.id)
            units.write_seed(job.id, seed_text(unit, last, job.interval_s, now_s()))
            seeded.append(unit)
    if seeded:
        manager.reload()
    return seeded
