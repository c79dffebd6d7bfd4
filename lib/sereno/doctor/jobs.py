"""Makes the facts of single jobs out of what the manager, the unit files and the journal say."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sereno.doctor.facts import JobFacts
from sereno.elapses import elapses_of_each
from sereno.errors import InvalidTrigger
from sereno.systemctl import Elapse, calendars_in
from sereno.triggers import CronTrigger
from sereno.unitdir import UnitDirectory, seed_name
from sereno.units import Installed, is_as_written, service_name, timer_name

Properties = Mapping[str, str]
_EXECUTED = re.compile(r"\{ path=(.*?) ; argv\[\]=")
_SPAN_PART = re.compile(r"([0-9.]+)(y|month|w|d|h|min|s|ms|us)\b")
# systemd.time(7)
_UNIT_S = {
    "y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1,
    "ms": 1e-3, "us": 1e-6,
}  # fmt: skip


def job_facts(
    jobs: Mapping[str, Installed],
    shown: Mapping[str, Properties],
    elapses: Mapping[str, Elapse],
    latest: Mapping[str, tuple[str, float]],
    units: UnitDirectory,
    local_zone: str | None,
    now_s: float,
) -> tuple[JobFacts, ...]:
    """The facts of `jobs`.

    Args:
        shown: the properties of each job's units.
        elapses: of the active timers, by unit name.
        latest: status and time of each job's latest record.
        now_s: seconds since the epoch, after the manager was asked.
    """
    changed_by_others = {
        job_id for job_id in jobs if _has_drop_ins(shown[timer_name(job_id)], units, job_id)
    }
    # What an administrator changed is taken from the manager, the rest from the file, which the manager may not know.
    calendars = {
        job_id: calendars_in(shown[timer_name(job_id)].get("TimersCalendar", ""))
        if job_id in changed_by_others
        else _calendars_of(job)
        for job_id, job in jobs.items()
        if job.interval_s is None
    }
    computed = elapses_of_each(
        (each for found in calendars.values() for each in found), 2, after_s=now_s
    )
    facts = []
    for job_id, job in sorted(jobs.items()):
        coming = sorted({at for each in calendars.get(job_id, ()) for at in computed.get(each, ())})
        status, at_s = latest.get(job_id, (None, None))
        facts.append(
            replace(
                _of_units(
                    job,
                    shown[timer_name(job_id)],
                    shown[service_name(job_id)],
                    elapses.get(timer_name(job_id), Elapse(None, None)),
                    units,
                ),
                expected_s=coming[0].timestamp() if coming else None,
                period_s=job.interval_s
                or ((coming[1] - coming[0]).total_seconds() if len(coming) > 1 else None),
                calendars_now=_calendars_now(job, local_zone),
                has_own_drop_ins=job_id in changed_by_others,
                latest_status=status,
                latest_s=at_s,
            )
        )
    return tuple(facts)


def _of_units(
    job: Installed, timer: Properties, service: Properties, elapse: Elapse, units: UnitDirectory
) -> JobFacts:
    last_s = elapse.last.timestamp() if elapse.last else None
    started = service.get("InactiveExitTimestamp", "").removeprefix("@")
    bases_s = (last_s, float(started) if started else None, units.last_elapse_s(job.id))
    program = _EXECUTED.match(service.get("ExecStart", ""))
    return JobFacts(
        installed=job,
        timer=timer,
        service=service,
        next_s=elapse.next.timestamp() if elapse.next else None,
        bases_s=tuple(moment for moment in bases_s if moment is not None),
        slack_s=seconds(timer.get("AccuracyUSec", ""))
        + seconds(timer.get("RandomizedDelayUSec", "")),
        calendars=tuple(_calendars_of(job)),
        changed_files=tuple(
            str(units.path / name)
            for name, text in sorted(job.files.items())
            if not is_as_written(text)
        ),
        program=program[1] if program else None,
        program_fault=_fault(program[1]) if program else None,
        installed_s=(units.path / timer_name(job.id)).stat().st_mtime,
    )


def seconds(span: str) -> float:
    """A time span as `systemctl show` prints it: "1min 500ms"; 0 for none, or one without end."""
    return sum(float(number) * _UNIT_S[unit] for number, unit in _SPAN_PART.findall(span))


def _calendars_of(job: Installed) -> list[str]:
    lines = job.files[timer_name(job.id)].splitlines()
    return [line.removeprefix("OnCalendar=") for line in lines if line.startswith("OnCalendar=")]


def _calendars_now(job: Installed, local_zone: str | None) -> tuple[str, ...] | None:
    if job.interval_s is not None:
        return None
    try:
        lines = CronTrigger.from_text(job.trigger).timer_lines(local_zone=local_zone)
    except InvalidTrigger:
        return None
    return tuple(line.removeprefix("OnCalendar=") for line in lines)


def _has_drop_ins(timer: Properties, units: UnitDirectory, job_id: str) -> bool:
    own = str(units.scope.runtime / seed_name(job_id))
    return any(path != own for path in timer.get("DropInPaths", "").split())


def _fault(program: str) -> str | None:
    try:
        mode = Path(program).stat().st_mode
    except PermissionError:
        return None
    except OSError:
        return "missing"
    return None if mode & 0o111 and os.path.isfile(program) else "not executable"
