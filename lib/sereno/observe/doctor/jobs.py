"""Makes the facts of single jobs out of what the manager, the unit files and the journal say."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from os.path import isfile
from pathlib import Path

from sereno.errors import InvalidTrigger
from sereno.manager.analyze import elapses_of_each
from sereno.manager.names import service_name, timer_name
from sereno.manager.systemctl import Elapse, calendars_in, seconds
from sereno.observe.doctor.files import UnitFiles
from sereno.observe.doctor.job_facts import JobFacts, Properties
from sereno.observe.doctor.places import module_place, sites
from sereno.observe.job_state import JobState
from sereno.observe.survey import Answer
from sereno.triggers import CronTrigger, parse_text
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed, is_as_written
from sereno.units.unitdir import UnitDirectory

# What is asked of single units, where the states of all leave a question open.
DETAILS = (
    *("Result", "ExecMainStatus", "InactiveExitTimestamp", "LoadError"),
    *("ConditionResult", "ConditionTimestamp"),
    *("TimersCalendar", "AccuracyUSec", "RandomizedDelayUSec"),
)
UNLOADED = {"LoadState": "unloaded", "ActiveState": "inactive", "SubState": "dead"}


def job_facts(
    states: Iterable[JobState],
    installation: Installation,
    files: UnitFiles,
    answer: Answer,
    now_s: float,
) -> tuple[JobFacts, ...]:
    """The facts of the installed jobs that are in these states.

    Args:
        answer: what the manager says of all jobs; at `now_s` it was asked.
    """
    units, zone = installation.units, installation.local_zone
    found = [_at_first_sight(state, answer, units, files) for state in states]
    open_questions = [job for job in found if _leaves_a_question(job, now_s)]
    asked = [unit for job in open_questions for unit, _ in job.units]
    shown = installation.manager.show_all(asked, *DETAILS)
    found = [_with_details(job, shown) if job.timer_name in shown else job for job in found]
    calendars = [calendar for job in found for calendar in job.calendars]
    computed = elapses_of_each(calendars, 2, after_s=now_s)
    return tuple(_with_schedule(job, computed, zone) for job in found)


def _at_first_sight(
    state: JobState, answer: Answer, units: UnitDirectory, files: UnitFiles
) -> JobFacts:
    job = state.job
    assert isinstance(job, Installed)
    timer, service = timer_name(job.id), service_name(job.id)
    elapse = answer.elapses.get(timer, Elapse(None, None))
    bases_s = (elapse.last.timestamp() if elapse.last else None, units.timers.last_elapse_s(job.id))
    masked = {"LoadState": "masked"} if service in files.masks else {}
    facts = JobFacts(
        installed=job,
        state=state,
        timer=answer.units.get(timer, UNLOADED),
        service={**answer.units.get(service, UNLOADED), **masked},
        bases_s=tuple(moment for moment in bases_s if moment is not None),
        slack_s=job.slack_s,
        calendars=tuple(job.calendars),
        changed_files=tuple(
            str(units.path / name)
            for name, text in sorted(job.files.items())
            if not is_as_written(text)
        ),
        has_own_drop_ins=bool(files.of_timer(job.id)),
        settings=files.lines_of(job),
        drop_ins=tuple(files.of_job(job.id)),
    )
    # Removed at this moment, it has no time.
    with suppress(OSError):
        facts = replace(facts, installed_s=(units.path / timer).stat().st_mtime)
    return _with_code(facts)


def _with_code(job: JobFacts) -> JobFacts:
    """What a run loads, and whether its function's module is there, as far as that can be told from names of files."""
    program = job.program
    if program is None or job.installed.has_entry_script:
        return replace(job, code=(program,) if program else ())
    paths = tuple(path for path in (job.variable("PYTHONPATH") or "").split(":") if path)
    packages = sites(program)
    module = job.installed.function.partition(":")[0]
    found = module_place(module, paths + (packages or ()))
    is_known = packages is not None and os.path.exists(program) and not any(map(isfile, paths))
    # A module of a package, and the directories of that package.
    own = (found, *map(str, Path(found).parents[: module.count(".")])) if found else ()
    return replace(
        job,
        code=(program, *own, *paths, *(packages or ())),
        missing_module=module if found is None and is_known else None,
    )


def _leaves_a_question(job: JobFacts, now_s: float) -> bool:
    return (
        job.has_own_drop_ins
        or job.has_condition
        or "failed" in (job.timer.get("ActiveState"), job.service.get("ActiveState"))
        # A run that somebody starts moves it, which only the service's own times tell.
        or not job.interval_is_kept(now_s)
    )


def _with_details(job: JobFacts, shown: Mapping[str, Properties]) -> JobFacts:
    timer, service = shown[job.timer_name], shown[job.service_name]
    started = service.get("InactiveExitTimestamp", "").removeprefix("@")
    job = replace(
        job,
        timer={**job.timer, **timer},
        service={**job.service, **service},
        bases_s=(*job.bases_s, *([float(started)] if started else [])),
    )
    if not job.has_own_drop_ins:
        return job
    slack_s = sum(seconds(timer.get(name, "")) for name in ("AccuracyUSec", "RandomizedDelayUSec"))
    calendars = tuple(calendars_in(timer.get("TimersCalendar", "")))
    return replace(job, calendars=calendars, slack_s=slack_s)


def _with_schedule(
    job: JobFacts, computed: Mapping[str, list[datetime]], local_zone: str | None
) -> JobFacts:
    coming = sorted({at for each in job.calendars for at in computed.get(each, ())})
    apart_s = (coming[1] - coming[0]).total_seconds() if len(coming) > 1 else None
    return replace(
        job,
        expected_s=coming[0].timestamp() if coming else None,
        period_s=job.installed.interval_s or apart_s,
        calendars_now=None if job.has_own_drop_ins else _calendars_now(job.installed, local_zone),
    )


def _calendars_now(job: Installed, local_zone: str | None) -> tuple[str, ...] | None:
    with suppress(InvalidTrigger):
        trigger = parse_text(job.trigger)
        if isinstance(trigger, CronTrigger):
            lines = trigger.timer_lines(local_zone=local_zone)
            return tuple(line.removeprefix("OnCalendar=") for line in lines)
    return None
