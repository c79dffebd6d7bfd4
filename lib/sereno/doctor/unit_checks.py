"""The checks of unit files: sereno's own units, drop-ins of administrators, and what systemd says of them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from os.path import basename, dirname

from sereno.doctor.facts import Facts, Finding, Words, problem, warning
from sereno.doctor.job_facts import JobFacts, of_jobs
from sereno.units import DROP_IN, SEED_SERVICE, TARGET, drop_in_name, timer_name

SOCKET, LISTENER = "sereno-notify.socket", "sereno-notify.service"
ADDRESS = "/run/sereno/notify"
# An instance of no job stands for the template.
TELLER = "sereno-failed@doctor.service"
# Of sereno's own units: what does not happen without it.
OWN_UNITS = {
    TARGET: "no timer starts",
    SEED_SERVICE: "no interval has a first elapse after a boot",
    "sereno-seed.timer": "intervals are late after the clock was set",
    SOCKET: "nobody is told of recoveries and alerts",
    LISTENER: "nobody is told of recoveries and alerts",
    TELLER: "nobody is told of failures",
    "sereno.slice": "no job starts",
}
_FOR_TELLING = (SOCKET, LISTENER, TELLER)


def own_units(facts: Facts) -> Iterator[Finding]:
    if not facts.has_template:
        return
    for unit, why in OWN_UNITS.items():
        shown, name = facts.units.get(unit, {}), unit.replace("@doctor", "@")
        level = warning if unit in _FOR_TELLING and not facts.tells else problem
        state = shown.get("LoadState", "loaded")
        fragment = shown.get("FragmentPath", "")
        if state == "masked":
            more = f" && {facts.systemctl} start {unit}" if unit in (TARGET, SOCKET) else ""
            yield level(name, "LoadState", state, f"{why}: a masked unit is never started",
                        f"{facts.unmask(name)}{more}")  # fmt: skip
        elif state == "not-found" or facts.at(fragment).kind == "missing":
            yield level(name, "file", "missing", why, facts.install)
        elif unit == SOCKET and facts.tells and _was_stopped(shown):
            yield level(name, "ActiveState", shown["ActiveState"], why,
                        f"{facts.systemctl} start {unit}")  # fmt: skip
        elif unit == SOCKET and facts.tells and _lost_its_file(facts, shown):
            yield level(name, "ListenDatagram", ADDRESS, f"{why}: the socket's file is gone",
                        f"{facts.systemctl} restart {unit}")  # fmt: skip
        elif unit == SEED_SERVICE and shown.get("ActiveState") == "failed":
            yield level(name, "ActiveState", "failed", why,
                        f"{facts.systemctl} status {unit}; mend it, then: {facts.systemctl} start {unit}")  # fmt: skip


def _was_stopped(shown: Mapping[str, str]) -> bool:
    """Whether the socket failed, or was stopped after it had been there: the first run of a boot starts it."""
    state = shown.get("ActiveState", "active")
    return state == "failed" or (state != "active" and bool(shown.get("InactiveEnterTimestamp")))


def _lost_its_file(facts: Facts, shown: Mapping[str, str]) -> bool:
    is_active = shown.get("ActiveState") == "active"
    return facts.scope == "system" and is_active and facts.at(ADDRESS).kind == "missing"


def masked(facts: Facts) -> Iterator[Finding]:
    of_all = facts.masks & {"sereno@.service", "sereno@.timer"}
    for unit in sorted(of_all):
        yield problem(unit, "link to", "/dev/null", "no job starts: a masked unit is never started",
                      f"{facts.unmask(unit)}; {_reloaded(facts, facts.jobs)}")  # fmt: skip
    for job in () if of_all else facts.jobs:
        for unit, shown in ((job.timer_name, job.timer), (job.service_name, job.service)):
            if shown.get("LoadState") == "masked":
                yield problem(unit, "LoadState", "masked", "a masked unit is never started",
                              f"{facts.unmask(unit)} && {facts.begin_again(job.id)}")  # fmt: skip
    for path, is_mask in facts.foreign:
        if is_mask:
            yield problem(
                path, "link to", "/dev/null",
                "a masked unit is never started; a backend's job comes back when the backend is started again",
                f"rm {shlex.quote(path)} && {facts.systemctl} daemon-reload && {facts.sereno('apply')}",
            )  # fmt: skip


def foreign(facts: Facts) -> Iterator[Finding]:
    for path in facts.odd_files:
        yield problem(path, "kind", "no file", "systemd cannot read this drop-in, or waits for ever for what is in it",
                      f"{_set_aside(path)} && {facts.systemctl} daemon-reload")  # fmt: skip
    for path, is_mask in facts.foreign:
        if not is_mask:
            yield problem(
                path, "[X-Sereno]", "missing",
                "the file has a job's name and is not sereno's, so that the job cannot be installed",
                f"mv {shlex.quote(path)} ~/ && {facts.systemctl} daemon-reload",
            )  # fmt: skip


def words(facts: Facts) -> Iterator[Finding]:
    """What systemd itself says of unit files: one finding for each file, for a time zone, for a unit without words."""
    jobs = {unit: job for job in facts.jobs for unit in (job.timer_name, job.service_name)}
    changed = {unit for unit, job in jobs.items() if job.changed_files}
    told = {_unit_of(said.subject) for said in facts.words if said.line}
    by_subject: dict[str, list[Words]] = {}
    for said in facts.words:
        unit = _unit_of(said.subject)
        if unit not in changed and (said.line or not {unit, *_OF_ALL_JOBS} & told):
            by_subject.setdefault(said.subject, []).append(said)
    told |= by_subject.keys()
    # sereno wrote it, and systemd took it then: what has gone since is its time zone.
    lost = [subject for subject in by_subject if subject.endswith(".timer") and "/" in subject]
    for subject in lost[:1] + [subject for subject in by_subject if subject not in lost]:
        first, *more = by_subject[subject]
        job = jobs.get(_unit_of(subject))
        others = f"; {len(more)} more" if more and first.line else ""
        message = (
            "systemd leaves this line out"
            if "gnoring" in first.text
            else "systemd refuses the unit"
        )
        hint = _mended(facts, subject, job)
        if subject in lost:
            blind = [jobs[unit] for unit in map(_unit_of, lost) if unit in jobs]
            message = f"the time zone of {of_jobs(blind)} is not on this machine"
            hint = f"apt-get install tzdata-legacy; {_reloaded(facts, blind)}"
        yield problem(
            subject,
            f"line {first.line}" if first.line else "systemd",
            first.text,
            message + others,
            hint,
        )
    for unit, job in jobs.items():
        shown = job.timer if unit == job.timer_name else job.service
        state = shown.get("LoadState", "loaded")
        if state not in ("loaded", "unloaded", "masked") and not {unit, *_OF_ALL_JOBS} & told:
            yield problem(unit, "LoadState", state, shown.get("LoadError") or "systemd could not load it",
                          _reloaded(facts, [job]))  # fmt: skip


# Units whose drop-ins change those of every job.
_OF_ALL_JOBS = ("sereno@.service", "sereno@.timer", "service", "timer")


def _unit_of(subject: str) -> str:
    """The unit whose drop-in, or whose file, this is."""
    directory = basename(dirname(subject))
    return directory.removesuffix(".d") if directory.endswith(".d") else basename(subject)


def _mended(facts: Facts, subject: str, job: JobFacts | None) -> str:
    if not subject.startswith("/") and job:
        kind = subject.rpartition(".")[2]
        units = (subject, kind, f"sereno@.{kind}")
        subject = next(
            (path for path in reversed(job.drop_ins) if _unit_of(path) in units), subject
        )
    if not subject.endswith(".conf"):
        return facts.install if job is None else _reloaded(facts, [job])
    jobs = facts.jobs if _unit_of(subject) in _OF_ALL_JOBS else [job] if job else []
    return f"{_set_aside(subject)} && {_reloaded(facts, jobs)}"


def _set_aside(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path)}.off"


def _reloaded(facts: Facts, jobs: Iterable[JobFacts]) -> str:
    """How to have systemd read files again, and timers go on that lost their elapse by them."""
    stuck = (job for job in jobs if job.installed.enabled
             and (job.timer.get("LoadState"), job.timer.get("SubState")) != ("loaded", "waiting"))  # fmt: skip
    again = "".join(f" && {facts.begin_again(job.id)}" for job in stuck)
    return f"{facts.systemctl} daemon-reload{again}"


def requirements(job: JobFacts) -> list[str]:
    """The units without which a run of the job does not start."""
    keys = ("Requires", "Requisite", "BindsTo")
    return [unit for key in keys for line in job.values(key, "[Unit]") for unit in line.split()]


def dependencies(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        for unit in requirements(job):
            state = facts.units.get(unit, {}).get("LoadState", "loaded")
            if state != "loaded":
                yield problem(job.service_name, "Requires", unit,
                              f"systemd does not start the job: the unit that it requires is {state}",
                              _without_drop_in(facts, job, "[Unit]", unit))  # fmt: skip
        # Before the first start it is "no" as well.
        if job.service.get("ConditionResult") == "no" and job.service.get("ConditionTimestamp"):
            yield warning(job.service_name, "ConditionResult", "no",
                          "a condition in its unit kept systemd from starting the job's last run",
                          _without_drop_in(facts, job, "[Unit]", "Condition"))  # fmt: skip


def commands(facts: Facts) -> Iterator[Finding]:
    for job in facts.jobs:
        found = job.values("ExecStart")
        if len(found) > 1 and job.service.get("LoadState") != "bad-setting":
            yield warning(job.service_name, "ExecStart", found[-1],
                          "a run executes this besides the job: a line ExecStart= without a value is missing before it",
                          _without_drop_in(facts, job, "[Service]", found[-1]))  # fmt: skip


def elsewhere(facts: Facts) -> Iterator[Finding]:
    """Drop-ins by which a timer starts something else, or a failure is told to nobody."""
    for job in facts.jobs:
        if unit := job.value("Unit", "[Timer]"):
            yield problem(job.timer_name, "Unit", unit, "the timer starts this in place of the job",
                          _without_drop_in(facts, job, "[Timer]", "Unit="))  # fmt: skip
        told = [line for line in job.values("OnFailure", "[Unit]") if "sereno-failed@" in line]
        if facts.tells and not told and ("[Unit]", "OnFailure", "") in job.settings:
            yield warning(job.service_name, "OnFailure", "(empty)", "nobody is told of its failures",
                          _without_drop_in(facts, job, "[Unit]", "OnFailure="))  # fmt: skip


def _without_drop_in(facts: Facts, job: JobFacts, section: str, text: str) -> str:
    """How to take away the last drop-in of a job's service that has this text in a line."""
    for path in reversed(job.drop_ins):
        lines = facts.drop_ins.get(path, ())
        if any(where == section and text in f"{key}={value}" for where, key, value in lines):
            return f"{_set_aside(path)} && {facts.systemctl} daemon-reload"
    return f"{facts.systemctl} cat {job.service_name}"


def changed(facts: Facts) -> Iterator[Finding]:
    for job_id, app in facts.orphans.items():
        yield problem(timer_name(job_id), "file", "missing", "the job has lost its timer: nothing starts it",
                      facts.start_app(app))  # fmt: skip
    for job in facts.jobs:
        if not job.has_its_drop_in:
            yield problem(drop_in_name(job.id), "file", "missing", "what the job executes stood in it",
                          facts.write_again(job))  # fmt: skip
        for name in job.changed_files:
            yield problem(
                name, "Digest", "differs",
                "the file is not as sereno wrote it: changed by hand, or by another version"
                + ("; changes belong into a drop-in of another name" if DROP_IN in name else ""),
                facts.write_again(job),
            )  # fmt: skip


def stale(facts: Facts) -> Iterator[Finding]:
    # What systemd says of a file is told with the way to have it read again.
    files = [
        path for path in facts.stale_files if path not in {said.subject for said in facts.words}
    ]
    if files:
        others = len(files) - 1
        yield warning(
            files[0], "changed", "after the last daemon-reload",
            f"systemd does not know this file as it is now{f', nor {others} more' if others else ''}",
            f"{facts.systemctl} daemon-reload",
        )  # fmt: skip
