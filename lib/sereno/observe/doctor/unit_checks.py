"""The checks of unit files: sereno's own units, drop-ins of administrators, and what systemd says of them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from os.path import basename, dirname

from sereno.manager.names import (
    DROP_IN,
    SEED_SERVICE,
    TARGET,
    TELLER,
    TEMPLATE,
    TIMER_TEMPLATE,
    drop_in_name,
    timer_name,
)
from sereno.observe.doctor.facts import Facts, Finding, Level, Words, problem, warning
from sereno.observe.doctor.job_facts import JobFacts, Properties, by_cause, grouped, of_jobs

SOCKET, LISTENER = "sereno-notify.socket", "sereno-notify.service"
ADDRESS = "/run/sereno/notify"
# Of sereno's own units: what does not happen without it. An instance of no job stands for a template.
OWN_UNITS = {
    TARGET: "no timer starts",
    "sereno-start.service": "no timer starts at boot",
    "sereno-apps.target": "no timer starts at boot",
    "sereno-start@doctor.service": "no timer starts at boot",
    "sereno-jobs@doctor.target": "no timer starts at boot",
    SEED_SERVICE: "no interval has a first elapse after a boot",
    "sereno-seed.timer": "intervals are late after the clock was set",
    SOCKET: "nobody is told of recoveries and alerts",
    LISTENER: "nobody is told of recoveries and alerts",
    TELLER: "nobody is told of failures",
    "sereno.slice": "no job starts",
}
_FOR_TELLING = (SOCKET, LISTENER, TELLER)
# Units whose drop-ins change those of every job.
_OF_ALL_JOBS = (TEMPLATE, TIMER_TEMPLATE, "service", "timer")


def own_units(facts: Facts) -> Iterator[Finding]:
    for unit, why in OWN_UNITS.items() if facts.has_template else ():
        if found := _fault(facts, unit, facts.units.get(unit, {})):
            field, value, more, hint = found
            level = warning if unit in _FOR_TELLING and not facts.tells else problem
            yield level(unit.replace("@doctor", "@"), field, value, why + more, hint)


def _fault(facts: Facts, unit: str, shown: Properties) -> tuple[str, str, str, str] | None:
    """(field, value, what to add to the message, way out)."""
    name, systemctl = unit.replace("@doctor", "@"), facts.systemctl
    load, state = shown.get("LoadState", "loaded"), shown.get("ActiveState", "active")
    if load == "masked":
        # With a unit that is no more, `unmask` takes the link by which it was enabled.
        verb = {TARGET: "enable --now", SOCKET: "start"}.get(unit)
        more = f" && {systemctl} {verb} {unit}" if verb else ""
        hint = f"{facts.unmask_own(name)}{more}"
        return "LoadState", load, ": a masked unit is never started", hint
    if load == "not-found" or facts.at(shown.get("FragmentPath", "")).kind == "missing":
        return "file", "missing", "", facts.install
    if unit == SOCKET and facts.tells:
        # Stopped after it had been there: the first run of a boot starts it.
        was_there = state != "active" and bool(shown.get("InactiveEnterTimestamp"))
        if state == "failed" or was_there:
            return "ActiveState", state, "", f"{systemctl} start {unit}"
        if facts.scope == "system" and state == "active" and facts.at(ADDRESS).kind == "missing":
            more = ": the socket's file is gone"
            return "ListenDatagram", ADDRESS, more, f"{systemctl} restart {unit}"
    # Started again and again, it is not "failed" meanwhile.
    retried = shown.get("SubState", "").startswith("auto-restart")
    if unit == SEED_SERVICE and (state == "failed" or retried):
        hint = f"{systemctl} status {unit}; mend it, then: {systemctl} start {unit}"
        return "ActiveState", "failed", "", hint
    return None


def masked(facts: Facts) -> Iterator[Finding]:
    why = "a masked unit is never started"
    of_all = facts.masks & {TEMPLATE, TIMER_TEMPLATE}
    for unit in sorted(of_all):
        yield problem(unit, "link to", "/dev/null", f"no job starts: {why}",
                      f"{facts.unmask_own(unit)}; {_reloaded(facts, facts.jobs)}")  # fmt: skip
    single = grouped(
        ((place, job.units[place][0] in facts.runtime_masks), job)
        for job in (() if of_all else facts.jobs)
        for place in (0, 1)
        if job.units[place][1].get("LoadState") == "masked"
    )
    for (place, _), jobs in single:
        units = [job.units[place][0] for job in jobs]
        yield problem(units[0], "LoadState", "masked", f"of {of_jobs(jobs)}: {why}",
                      f"{facts.unmask(*units)} && {facts.begin_again(*jobs)}")  # fmt: skip
    for path, is_mask in facts.foreign:
        if is_mask:
            yield problem(path, "link to", "/dev/null",
                          f"{why}; a backend's job comes back when the backend is started again",
                          f"rm {shlex.quote(path)} && {facts.reload} && {facts.sereno('apply')}")  # fmt: skip


def foreign(facts: Facts) -> Iterator[Finding]:
    for path in facts.odd_files:
        yield problem(path, "kind", "no file", "systemd cannot read this drop-in, or waits for ever for what is in it",
                      f"{_set_aside(path)} && {facts.reload}")  # fmt: skip
    for path, is_mask in facts.foreign:
        if not is_mask:
            yield problem(path, "[X-Sereno]", "missing",
                          "the file has a job's name and is not sereno's, so that the job cannot be installed",
                          f"mv {shlex.quote(path)} ~/ && {facts.reload}")  # fmt: skip


def words(facts: Facts) -> Iterator[Finding]:
    """What systemd itself says of unit files: one finding for each file, for a time zone, for a unit without words."""
    jobs = {unit: job for job in facts.jobs for unit, _ in job.units}
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
    blind = [jobs[unit] for unit in map(_unit_of, lost) if unit in jobs]
    for subject in lost[:1] + [subject for subject in by_subject if subject not in lost]:
        first, *more = by_subject[subject]
        message = (
            f"systemd {'leaves this line out' if 'gnoring' in first.text else 'refuses the unit'}"
        )
        hint = _mended(facts, subject, jobs.get(_unit_of(subject)))
        if subject in lost:
            message = f"the time zone of {of_jobs(blind)} is not on this machine"
            hint = f"apt-get install tzdata-legacy; {_reloaded(facts, blind)}"
        others = f"; {len(more)} more" if more and first.line else ""
        field = f"line {first.line}" if first.line else "systemd"
        yield problem(subject, field, first.text, message + others, hint)
    yield from _without_words(facts, told)


def _without_words(facts: Facts, told: set[str]) -> Iterator[Finding]:
    for job in facts.jobs:
        for unit, shown in job.units:
            state = shown.get("LoadState", "loaded")
            if state not in ("loaded", "unloaded", "masked") and not {unit, *_OF_ALL_JOBS} & told:
                yield problem(unit, "LoadState", state, shown.get("LoadError") or "systemd could not load it",
                              _reloaded(facts, [job]))  # fmt: skip


def _unit_of(subject: str) -> str:
    """The unit whose drop-in, or whose file, this is."""
    directory = basename(dirname(subject))
    return directory.removesuffix(".d") if directory.endswith(".d") else basename(subject)


def _mended(facts: Facts, subject: str, job: JobFacts | None) -> str:
    if not subject.startswith("/") and job:
        kind = subject.rpartition(".")[2]
        units = (subject, kind, timer_name("") if kind == "timer" else TEMPLATE)
        found = (path for path in reversed(job.drop_ins) if _unit_of(path) in units)
        subject = next(found, subject)
    if not subject.endswith(".conf"):
        return facts.install if job is None else _reloaded(facts, [job])
    jobs = facts.jobs if _unit_of(subject) in _OF_ALL_JOBS else [job] if job else []
    return f"{_set_aside(subject)} && {_reloaded(facts, jobs)}"


def _set_aside(path: str) -> str:
    return f"mv {shlex.quote(path)} {shlex.quote(path)}.off"


def _reloaded(facts: Facts, jobs: Iterable[JobFacts]) -> str:
    """How to have systemd read files again, and timers go on that lost their elapse by them."""
    stuck = [job for job in jobs if job.installed.enabled
             and (job.timer.get("LoadState"), job.timer.get("SubState")) != ("loaded", "waiting")]  # fmt: skip
    return f"{facts.reload} && {facts.begin_again(*stuck)}" if stuck else facts.reload


def requirements(job: JobFacts) -> list[str]:
    """The units without which a run of the job does not start."""
    return job.words("Requires", "Requisite", "BindsTo", section="[Unit]")


def dependencies(facts: Facts) -> Iterator[Finding]:
    for unit, state in facts.units.items():
        if (load := state.get("LoadState", "loaded")) != "loaded":
            jobs = [job for job in facts.jobs if unit in requirements(job)]
            yield from _by_drop_in(facts, jobs, problem, "[Unit]", unit, "Requires", unit,
                                   f"systemd does not start {{}}: the unit that it requires is {load}")  # fmt: skip
    # Before the first start it is "no" as well, and it stays so when the condition is gone.
    jobs = [job for job in facts.jobs if job.has_condition
            and job.service.get("ConditionResult") == "no" and job.service.get("ConditionTimestamp")]  # fmt: skip
    yield from _by_drop_in(facts, jobs, warning, "[Unit]", "Condition", "ConditionResult", "no",
                           "a condition in its unit kept systemd from starting the last run of {}")  # fmt: skip


def commands(facts: Facts) -> Iterator[Finding]:
    loaded = [job for job in facts.jobs if job.service.get("LoadState") != "bad-setting"]
    twice = ((found[-1], job) for job in loaded if len(found := job.values("ExecStart")) > 1)
    for command, double in grouped(twice):
        yield from _by_drop_in(facts, double, warning, "[Service]", command, "ExecStart", command,
                               "runs of {} execute this besides: a line ExecStart= without a value is missing"
                               " before it")  # fmt: skip


def elsewhere(facts: Facts) -> Iterator[Finding]:
    """Drop-ins by which a timer starts something else, or a failure is told to nobody."""
    for unit, astray in by_cause(facts.jobs, lambda job: job.value("Unit", "[Timer]") or None):
        yield from _by_drop_in(facts, astray, problem, "[Timer]", "Unit=", "Unit", unit,
                               "the timer starts this in place of {}")  # fmt: skip
    silent = [job for job in facts.jobs if facts.tells and ("[Unit]", "OnFailure", "") in job.settings
              and not any("sereno-failed" in line for line in job.values("OnFailure", "[Unit]"))]  # fmt: skip
    yield from _by_drop_in(facts, silent, warning, "[Unit]", "OnFailure=", "OnFailure", "(empty)",
                           "nobody is told of failures of {}")  # fmt: skip


def _by_drop_in(
    facts: Facts, jobs: Iterable[JobFacts], level: Level, section: str, text: str, field: str, value: str, message: str
) -> Iterator[Finding]:  # fmt: skip
    """One finding for each drop-in by which jobs are so: the last one that has this text in a line of the section."""

    def way_out(job: JobFacts) -> str:
        for path in reversed(job.drop_ins):
            for where, key, setting in facts.drop_ins.get(path, ()):
                if where == section and text in f"{key}={setting}":
                    return f"{_set_aside(path)} && {facts.reload}"
        return f"{facts.systemctl} cat {job.service_name}"

    for way, same in by_cause(jobs, way_out):
        subject = same[0].timer_name if section == "[Timer]" else same[0].service_name
        yield level(subject, field, value, message.format(of_jobs(same)), way)


def changed(facts: Facts) -> Iterator[Finding]:
    for job_id, app in facts.orphans.items():
        yield problem(timer_name(job_id), "file", "missing", "the job has lost its timer: nothing starts it",
                      facts.start_app(app))  # fmt: skip
    for job in facts.jobs:
        if not job.has_its_drop_in:
            yield problem(drop_in_name(job.id), "file", "missing", "what the job executes stood in it",
                          facts.write_again(job))  # fmt: skip
        for name in job.changed_files:
            more = "; changes belong into a drop-in of another name" if DROP_IN in name else ""
            yield problem(name, "Digest", "differs",
                          f"the file is not as sereno wrote it: somebody changed it, or another version wrote it{more}",
                          facts.write_again(job))  # fmt: skip


def stale(facts: Facts) -> Iterator[Finding]:
    # What systemd says of a file is told with the way to have it read again.
    told = {said.subject for said in facts.words}
    for path in facts.stale_files:
        if path not in told:
            yield warning(path, "changed", "after the last daemon-reload",
                          "systemd does not know this file as it is now", facts.reload)  # fmt: skip
