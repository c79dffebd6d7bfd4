"""The first elapse of timers in a boot: an interval's, one interval after the last one, and that of @reboot.

`OnUnitActiveSec=` counts from the service's last activation in this boot, so before the first run it has no elapse at
all. What systemd offers as a seed breaks a promise each: `OnActiveSec=` fires again after every daemon-reload,
`OnBootSec=` fires at once when the timer is started later than that after boot, and neither lets an interval that is
longer than the machine stays up ever come round. So every interval timer has a drop-in for this boot, `OnCalendar=`
with the one absolute time at which the interval is over, counted from the stamp that `Persistent=` keeps. An absolute
time in the past never elapses again, so the seed needs no removal. `sereno-seed.service` writes it in each boot before
systemd loads the timers, `apply` with each change; timers want the service for when somebody else starts one.

A timer of @reboot has one elapse, long ago, and `Persistent=true`. Dating its stamp before that elapse, once in each
boot, makes systemd make up for it when it starts the timer, and date the stamp itself. A file below /run says that the
boot has had its run, or is to have none: of a paused timer, or one made or resumed since (`sereno.units.apply` does).

A jitter shifts the phase, once: `RandomizedDelaySec=` would be added to every period of an interval.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from sereno.declare.job import Job
from sereno.manager.names import ALL_TIMERS, timer_name
from sereno.manager.systemctl import ELAPSED, Elapse, Systemctl
from sereno.records.files import line_of
from sereno.triggers.interval import ELAPSE_S
from sereno.units.unit_text import Installed
from sereno.units.unitdir import UnitDirectory

# How much further away than its interval an elapse may seem: the two clocks are not asked at one moment.
_CLOCK_S = 60.0


def seed_text(unit: str, last_elapse_s: float, interval_s: float, now_s: float) -> str:
    """The drop-in for one timer. A last elapse in the future (the clock was set back) counts as now, or the interval
    would not come round until then."""
    first = datetime.fromtimestamp(min(last_elapse_s, now_s) + interval_s, UTC)
    return (
        f"# Written by sereno for this boot: the first elapse of {unit}.\n\n"
        f"[Timer]\nOnCalendar={first:%Y-%m-%d %H:%M:%S.%f} UTC\n"
    )


def machine_id(path: Path = Path("/etc/machine-id")) -> str:
    """What tells this machine from its siblings (machine-id(5)); its host name where that is missing."""
    return line_of(str(path)) or platform.node()


def phase_s(machine: str, unit: str, jitter_s: float) -> float:
    """Seconds from 0 up to less than `jitter_s`: always the same for one timer on one machine, even over many."""
    digest = hashlib.sha256(f"{machine} {unit}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48 * jitter_s


def seed(
    units: UnitDirectory, manager: Systemctl, now_s: Callable[[], float], machine: str
) -> list[str]:
    """Give every interval timer that has no next elapse its first one, and every @reboot its run; return their names.

    A next elapse that is further away than the interval is one that was given before the clock was set back: it is
    replaced. A timer that is active all the same (this service failed when it was started) is restarted, for only then
    it makes up for what is over.
    """
    jobs = units.find().jobs.values()
    there = {job.id: units.timers.seed(job.id) for job in jobs if job.interval_s is not None}
    booted = [timer_name(job.id) for job in jobs if job.at_boot and _give_boot_run(units, job)]
    states = manager.states(ALL_TIMERS)
    # In a boot none is active, and this question is the dearest.
    elapses = manager.list_timers() if "active" in states.values() else {}
    written, dead = [], []
    for job in jobs:
        unit = timer_name(job.id)
        if job.interval_s is None or not _needs_seed(job, elapses.get(unit), states, now_s()):
            continue
        text = first_elapse(units, job, now_s(), machine)
        if states.get(unit) == ELAPSED:
            dead.append(unit)
        # What was written meanwhile is of a change that knows better; what is there need not be read again.
        if text != there[job.id] == units.timers.seed(job.id):
            units.timers.write_seed(job.id, text)
            written.append(unit)
    # What is not loaded is read when it is.
    if dead or states.keys() & written:
        manager.reload()
    manager.restart([*dead, *(unit for unit in booted if states.get(unit) in ("active", ELAPSED))])
    return [*booted, *dict.fromkeys([*written, *dead])]


def first_elapse(units: UnitDirectory, job: Job | Installed, now_s: float, machine: str) -> str:
    """The seed of an interval timer.

    One that never elapsed counts from now, less its share of the jitter, and its stamp says so before systemd would
    write it: a persistent timer makes up for an elapse between the stamp and its start, so that a short interval is not
    over before it began.
    """
    assert job.interval_s is not None
    unit = timer_name(job.id)
    last_s = units.timers.last_elapse_s(job.id)
    if last_s is None:
        last_s = now_s - phase_s(machine, unit, job.jitter_s)
        units.timers.set_last_elapse(job.id, last_s)
    return seed_text(unit, last_s, job.interval_s, now_s)


def _needs_seed(
    job: Installed, known: Elapse | None, states: Mapping[str, str], now_s: float
) -> bool:
    if known is None or states.get(timer_name(job.id)) != "active":
        return True
    if known.next is None:
        # Its service runs: what comes next is counted from that.
        return False
    assert job.interval_s is not None
    return known.next.timestamp() - now_s > job.interval_s + _CLOCK_S


def _give_boot_run(units: UnitDirectory, job: Installed) -> bool:
    """Let systemd run the job when it starts its timer, if this boot has not run it and the job is not paused.

    Killed between the two steps, the run is given again by the timer's next start, and never lost.
    """
    if units.timers.is_booted(job.id):
        return False
    if job.enabled:
        units.timers.set_last_elapse(job.id, ELAPSE_S - 1)
    units.timers.set_booted(job.id)
    return job.enabled
