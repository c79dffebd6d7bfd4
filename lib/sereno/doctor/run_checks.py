"""The checks of what a run needs: program, module, accounts, secrets, a place for metrics; and whose its code is. Pure.

What several jobs have in common is one finding: a user, an interpreter, a directory.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from typing import TypeVar

from sereno.doctor.facts import Facts, Finding, problem, warning
from sereno.doctor.job_facts import JobFacts, Place, of_jobs
from sereno.notify.health import SYSTEM_USER

PYTHON_MIN = (3, 11)
Key = TypeVar("Key")


def _by(facts: Facts, key: Callable[[JobFacts], Key | None]) -> dict[Key, list[JobFacts]]:
    """The jobs that have something in common, by what that is."""
    found: dict[Key, list[JobFacts]] = {}
    for job in facts.jobs:
        if (common := key(job)) is not None:
            found.setdefault(common, []).append(job)
    return found


def _fault(facts: Facts, job: JobFacts) -> tuple[str, str] | None:
    """(path, what is wrong with it) of what a job's service executes, or of what that names in its first line."""
    path = job.program if job.has_its_drop_in else None
    for _ in range(2):
        if path is None:
            return None
        place = facts.at(path)
        fault = _fault_of(place)
        if fault:
            return path, fault
        path = place.interpreter
    return None


def _fault_of(place: Place) -> str | None:
    if place.kind == "missing":
        return f"missing: it leads to {place.leads_to}" if place.leads_to else "missing"
    if place.kind != "unknown" and (place.kind != "file" or not place.mode & 0o111):
        return "not executable"
    if place.is_noexec:
        return f"on {place.mount}, which is mounted noexec"
    if place.built_for and place.runs and place.runs not in place.built_for:
        return f"Python {place.runs} now, and its packages are for {' '.join(place.built_for)}"
    if place.runs and tuple(map(int, place.runs.split("."))) < PYTHON_MIN:
        return f"Python {place.runs}, and sereno needs {'{}.{}'.format(*PYTHON_MIN)}"
    return None


def environment_fits(facts: Facts) -> bool:
    """Whether sereno's own environment is for the Python that it runs."""
    place = facts.at(f"{facts.code.installed_place}/venv/bin/python3") if facts.code else None
    return place is None or (place.kind != "missing" and place.runs in (None, *place.built_for))


def programs(facts: Facts) -> Iterator[Finding]:
    for (path, fault), jobs in _by(facts, lambda job: _fault(facts, job)).items():
        job, quoted = jobs[0], shlex.quote(path)
        is_script = job.installed.has_entry_script
        if is_script and path != job.program and not environment_fits(facts):
            # That is the installation's.
            continue
        place = facts.at(path)
        if fault == "not executable" and place.open_at is None:
            hint = f"chmod +x {quoted}"
        elif place.is_noexec:
            hint = f"mount -o remount,exec {shlex.quote(place.mount)}, and take noexec out of /etc/fstab"
        elif is_script and path == job.program and fault == "missing":
            hint = f"{facts.install} in the checkout, or: {facts.sereno(f'remove {job.id}')}"
        elif is_script:
            hint = f"{facts.install} in the checkout"
        else:
            hint = (
                f"make the environment of {job.installed.app} again, then: {facts.write_again(job)}"
            )
        kind = "entry script" if is_script and path == job.program else "interpreter"
        yield problem(
            job.service_name, "ExecStart", path, f"the {kind} of {of_jobs(jobs)} is {fault}", hint
        )


def _closed(facts: Facts, job: JobFacts) -> str | None:
    """The directory on the way to its code that the job's user may not enter."""
    if facts.scope == "user" or job.user in ("root", "0"):
        return None
    for path in job.code:
        for gate, mode, uid, gid in facts.at(path).gates:
            if not _may(facts, job, 0o1, mode, uid, gid):
                return gate
    return None


def closed(facts: Facts) -> Iterator[Finding]:
    for gate, jobs in _by(facts, lambda job: _closed(facts, job)).items():
        is_open = facts.at(jobs[0].code[0]).open_at is not None
        yield problem(gate, "mode", "closed", f"{jobs[0].user} may not enter it, where the code of {of_jobs(jobs)} is",
                      "its owner: chmod o+x" if is_open else f"chmod o+x {shlex.quote(gate)}")  # fmt: skip


def packages(facts: Facts) -> Iterator[Finding]:
    missing = _by(facts, lambda job: None if _fault(facts, job) else job.missing_module)
    for module, jobs in missing.items():
        yield problem(jobs[0].service_name, "Function", module,
                      f"no directory where Python looks has the module of {of_jobs(jobs)}",
                      f"install it again, or: {facts.sereno(f'remove {jobs[0].id}')}")  # fmt: skip


def accounts(facts: Facts) -> Iterator[Finding]:
    users = _by(facts, lambda job: job.user if facts.scope == "system" else None)
    for user in sorted(user for user, found in facts.accounts.items() if found is None):
        jobs = users.get(user, [])
        what = (
            f"{of_jobs(jobs)} cannot start (status 217)" if jobs else "nobody is told of failures"
        )
        yield problem(user, "user", "missing", what, _made_again(user, "useradd --system"))
    for group in sorted(group for group, found in facts.groups.items() if found is None):
        jobs = [job for job in facts.jobs if group in _groups_of(job)]
        # Who deletes a user deletes its group with it.
        if facts.accounts.get(group, ()) is not None:
            yield problem(group, "group", "missing", f"{of_jobs(jobs)} cannot start (status 216)",
                          _made_again(group, "groupadd --system"))  # fmt: skip


def _made_again(name: str, command: str) -> str:
    is_ours = name in ("sereno", SYSTEM_USER)
    return "systemd-sysusers sereno.conf" if is_ours else f"{command} {shlex.quote(name)}"


def _groups_of(job: JobFacts) -> list[str]:
    return [
        name
        for key in ("Group", "SupplementaryGroups")
        for line in job.values(key)
        for name in line.split()
    ]


# Settings that name paths without which systemd does not begin a run (systemd.exec(5)).
_NEEDED = """WorkingDirectory RootDirectory EnvironmentFile ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths
NoExecPaths BindPaths BindReadOnlyPaths""".split()


def needed_paths(job: JobFacts) -> list[str]:
    """The paths that must be there; with "-" before them, or where specifiers are in them, they need not."""
    lines = (line for key in _NEEDED for line in job.values(key))
    words = [word.lstrip("+").partition(":")[0] for line in lines for word in line.split()]
    return [*job.secrets, *(word for word in words if word.startswith("/") and "%" not in word)]


def needed(facts: Facts) -> Iterator[Finding]:
    for path in sorted({path for job in facts.jobs for path in needed_paths(job)}):
        jobs = [job for job in facts.jobs if path in needed_paths(job)]
        place, is_secret = facts.at(path), path in jobs[0].secrets
        if place.kind == "missing":
            hint = (
                "write this secret again (chmod 600)"
                if is_secret
                else "make it, or take it out of the drop-in"
            )
            yield problem(path, "path", "missing", f"{of_jobs(jobs)} cannot start without it", hint)
        elif is_secret and place.kind == "file" and place.mode & 0o044:
            hint = (
                f"chmod go-rwx {shlex.quote(path)}"
                if place.open_at is None
                else "its owner: chmod go-rwx"
            )
            yield warning(
                path,
                "mode",
                f"{place.mode:04o}",
                f"others may read this secret of {of_jobs(jobs)}",
                hint,
            )


def metrics(facts: Facts) -> Iterator[Finding]:
    for path, jobs in _by(facts, lambda job: job.variable("SERENO_TEXTFILE_DIR")).items():
        place, quoted = facts.at(path), shlex.quote(path)
        # The job whose rights do not suffice, if there is one.
        job = next((job for job in jobs if not _may_write(facts, job, place)), jobs[0])
        group = next(iter(_groups_of(job)), None) or "sereno"
        if place.kind == "missing":
            value, hint = "missing", f"install -d -g {group} -m 775 {quoted}"
            if place.open_at is not None:
                hint = f"another directory: whoever may change {place.open_at} could lead the file anywhere"
        elif place.kind == "directory" and not _may_write(facts, job, place):
            value, hint = (
                f"mode {place.mode:04o}",
                f"chgrp {group} {quoted} && chmod g+rwx {quoted}",
            )
            if place.open_at not in (None, path):
                hint = f"its owner: chgrp {group}, chmod g+rwx"
        elif place.kind not in ("directory", "unknown"):
            value, hint = "no directory", f"another directory in {' '.join(job.drop_ins)}"
        elif facts.scope == "system" and not _is_let_through(job, path):
            value, hint = (
                "read-only",
                f"add ReadWritePaths=-{path} below it, then: systemctl daemon-reload",
            )
        else:
            continue
        yield problem(
            path, "SERENO_TEXTFILE_DIR", value, f"no metrics of {of_jobs(jobs)} are written", hint
        )


def _may_write(facts: Facts, job: JobFacts, place: Place) -> bool:
    return _may(facts, job, 0o3, place.mode, place.uid, place.gid)


def _may(facts: Facts, job: JobFacts, wanted: int, mode: int, uid: int, gid: int) -> bool:
    """By the mode alone: in its sandbox root has no more rights than others."""
    account = facts.accounts.get(job.user)
    if account is None:
        return True
    groups = {*account[1], *(facts.groups.get(name) for name in _groups_of(job))}
    shift = 6 if uid == account[0] else 3 if gid in groups else 0
    return mode >> shift & wanted == wanted


def _is_let_through(job: JobFacts, path: str) -> bool:
    if job.value("ProtectSystem") != "strict":
        return True
    places = [
        word.lstrip("-+").rstrip("/")
        for line in job.values("ReadWritePaths")
        for word in line.split()
    ]
    return any(f"{path}/".startswith(f"{place}/") for place in places)


def code_of_root(facts: Facts) -> Iterator[Finding]:
    """What root runs, root alone may write: whoever else may, is root."""
    if facts.scope == "user":
        return
    own = facts.code.installed_place if facts.code else None
    if own and (open_at := facts.at(own).open_at):
        yield problem(open_at, "owner", str(facts.at(own).uid), "another user may change the sereno that root runs",
                      "./install.sh --prefix with a path that is root's alone")  # fmt: skip
    found: dict[str, list[JobFacts]] = {}
    for job in facts.jobs:
        places = (facts.at(path).open_at for path in job.code if job.user in ("root", "0"))
        for open_at in dict.fromkeys(place for place in places if place):
            found.setdefault(open_at, []).append(job)
    for open_at, jobs in found.items():
        yield problem(open_at, "owner or mode", "not root's alone",
                      f"another user may change the code of {of_jobs(jobs)}, which root runs",
                      "register it with user=, or keep its code where only root may write")  # fmt: skip


def cannot_start(facts: Facts, job: JobFacts) -> bool:
    """Whether another check names what keeps its runs from beginning: then a failed one tells nothing more."""
    return (
        _fault(facts, job) is not None
        or job.missing_module is not None
        or (facts.scope == "system" and facts.accounts.get(job.user, ()) is None)
        or any(facts.groups.get(name, 0) is None for name in _groups_of(job))
        or any(facts.at(path).kind == "missing" for path in needed_paths(job))
        or _closed(facts, job) is not None
    )
