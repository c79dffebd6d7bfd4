"""The checks of what a run needs: program, module, accounts, secrets, a place for metrics; and whose its code is. Pure.

What several jobs have in common is one finding: a user, an interpreter, a directory.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from sereno.declare.access import is_in_a_home
from sereno.notify.health import SYSTEM_USER
from sereno.observe.doctor.facts import Facts, Finding, problem, warning
from sereno.observe.doctor.job_facts import JobFacts, Place, by_cause, grouped, of_jobs
from sereno.setting_names import TEXTFILE_DIR
from sereno.units import reach

PYTHON_MIN = (3, 11)


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


def programs(facts: Facts) -> Iterator[Finding]:
    for (path, fault), jobs in by_cause(facts.jobs, lambda job: _fault(facts, job)):
        job = jobs[0]
        is_script, is_program = job.installed.has_entry_script, path == job.program
        if is_script and not is_program and not facts.environment_fits:
            # That is the installation's.
            continue
        kind = "entry script" if is_script and is_program else "interpreter"
        yield problem(job.service_name, "ExecStart", path, f"the {kind} of {of_jobs(jobs)} is {fault}",
                      _way_out(facts, job, path, fault))  # fmt: skip


def _way_out(facts: Facts, job: JobFacts, path: str, fault: str) -> str:
    place = facts.at(path)
    if fault == "not executable" and place.open_at is None:
        return f"chmod +x {shlex.quote(path)}"
    if place.is_noexec:
        return (
            f"mount -o remount,exec {shlex.quote(place.mount)}, and take noexec out of /etc/fstab"
        )
    if not job.installed.has_entry_script:
        return f"make the environment of {job.installed.app} again, then: {facts.write_again(job)}"
    is_gone = path == job.program and fault == "missing"
    return f"{facts.install} in the checkout" + (
        f", or: {facts.sereno(f'remove {job.id}')}" if is_gone else ""
    )


def _closed(facts: Facts, job: JobFacts) -> tuple[str, str, int, int] | None:
    """What the job's user may not enter, list or read of its code, which of the three, and whose it is."""
    account = _account(facts, job)
    if facts.scope == "user" or job.is_roots or account is None:
        return None
    executed = None if job.installed.has_entry_script else job.program
    return reach.closed({path: facts.at(path) for path in job.code}, account, executed)


def closed(facts: Facts) -> Iterator[Finding]:
    for (path, kind, uid, gid), jobs in by_cause(facts.jobs, lambda job: _closed(facts, job)):
        _, letters, verb = reach.RIGHTS[kind]
        # As chmod(1) names the bits that the kernel looks at for these users.
        accounts = filter(None, (_account(facts, job) for job in jobs))
        who = "".join(sorted({"ogu"[reach.shift(one, uid, gid) // 3] for one in accounts}))
        hint = facts.unless_others(path, f"chmod {who}+{letters}", at=jobs[0].code[0])
        if is_in_a_home(path):
            # Not to be opened to everybody for one job.
            hint = "keep the code outside of homes, as in /srv, or register it with user= of whose home it is"
        yield problem(path, "mode", "closed", f"{jobs[0].user} may not {verb} it, where the code of {of_jobs(jobs)} is",
                      hint)  # fmt: skip


def packages(facts: Facts) -> Iterator[Finding]:
    whole = [job for job in facts.jobs if not _fault(facts, job)]
    for module, jobs in by_cause(whole, lambda job: job.missing_module):
        yield problem(jobs[0].service_name, "Function", module,
                      f"no directory where Python looks has the module of {of_jobs(jobs)}",
                      f"install it again, or: {facts.sereno(f'remove {jobs[0].id}')}")  # fmt: skip


def accounts(facts: Facts) -> Iterator[Finding]:
    for user in sorted(user for user, found in facts.accounts.items() if found is None):
        jobs = [job for job in facts.jobs if facts.scope == "system" and job.user == user]
        yield _missing(user, "user", jobs)
    for group in sorted(group for group, found in facts.groups.items() if found is None):
        # Who deletes a user deletes its group with it.
        if facts.accounts.get(group, ()) is not None:
            yield _missing(group, "group", [job for job in facts.jobs if group in job.groups])


def _missing(name: str, kind: str, jobs: list[JobFacts]) -> Finding:
    status = {"user": 217, "group": 216}[kind]
    return problem(name, kind, "missing",
                   f"{of_jobs(jobs)} cannot start (status {status})" if jobs else "nobody is told of failures",
                   "systemd-sysusers sereno.conf" if name in ("sereno", SYSTEM_USER) else
                   f"{kind}add --system {shlex.quote(name)}")  # fmt: skip


# Settings that name paths without which systemd does not begin a run (systemd.exec(5)).
_NEEDED = """WorkingDirectory RootDirectory EnvironmentFile ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths
NoExecPaths BindPaths BindReadOnlyPaths""".split()


def needed_paths(job: JobFacts) -> list[str]:
    """The paths that must be there; with "-" before them, or where specifiers are in them, they need not."""
    words = [word.lstrip("+").partition(":")[0] for word in job.words(*_NEEDED)]
    return [*job.secrets, *(word for word in words if word.startswith("/") and "%" not in word)]


def needed(facts: Facts) -> Iterator[Finding]:
    named = grouped((path, job) for job in facts.jobs for path in dict.fromkeys(needed_paths(job)))
    for path, jobs in sorted(named, key=lambda found: found[0]):
        place, is_secret = facts.at(path), path in jobs[0].secrets
        if place.kind == "missing":
            yield problem(path, "path", "missing", f"{of_jobs(jobs)} cannot start without it",
                          "write this secret again (chmod 600)" if is_secret else
                          "make it, or take it out of the drop-in")  # fmt: skip
        elif is_secret and place.kind == "file" and place.mode & 0o044:
            yield warning(path, "mode", f"{place.mode:04o}", f"others may read this secret of {of_jobs(jobs)}",
                          facts.unless_others(path, "chmod go-rwx"))  # fmt: skip


def metrics(facts: Facts) -> Iterator[Finding]:
    for path, jobs in by_cause(facts.jobs, lambda job: job.variable(TEXTFILE_DIR)):
        place = facts.at(path)
        # The job whose rights do not suffice, if there is one.
        job = next((job for job in jobs if not _may_write(facts, job, place)), jobs[0])
        if found := _kept_from_metrics(facts, job, path, place):
            value, hint = found
            yield problem(
                path, TEXTFILE_DIR, value, f"no metrics of {of_jobs(jobs)} are written", hint
            )


def _kept_from_metrics(
    facts: Facts, job: JobFacts, path: str, place: Place
) -> tuple[str, str] | None:
    """What is wrong with the directory, and the way out."""
    group, quoted = next(iter(job.groups), "sereno"), shlex.quote(path)
    if place.kind == "unknown":
        return None
    if place.kind == "missing":
        if place.open_at is not None:
            return (
                "missing",
                f"another directory: whoever may change {place.open_at} could lead the file anywhere",
            )
        return "missing", f"install -d -g {group} -m 775 {quoted}"
    if place.kind != "directory":
        return "no directory", f"another directory in {' '.join(job.drop_ins)}"
    if not _may_write(facts, job, place):
        if place.open_at not in (None, path):
            return f"mode {place.mode:04o}", f"its owner: chgrp {group}, chmod g+rwx"
        return f"mode {place.mode:04o}", f"chgrp {group} {quoted} && chmod g+rwx {quoted}"
    if facts.scope == "system" and not _is_let_through(job, path):
        return "read-only", f"add ReadWritePaths=-{path} below it, then: systemctl daemon-reload"
    return None


def _may_write(facts: Facts, job: JobFacts, place: Place) -> bool:
    account = _account(facts, job)
    return account is None or reach.may(account, 0o3, place.mode, place.uid, place.gid)


def _account(facts: Facts, job: JobFacts) -> reach.Account | None:
    found = facts.accounts.get(job.user)
    return found and (found[0], found[1] | {facts.groups.get(name) for name in job.groups})


def _is_let_through(job: JobFacts, path: str) -> bool:
    places = (word.lstrip("-+").rstrip("/") for word in job.words("ReadWritePaths"))
    return job.value("ProtectSystem") != "strict" or any(
        f"{path}/".startswith(f"{place}/") for place in places
    )


def code_of_root(facts: Facts) -> Iterator[Finding]:
    """What root runs, root alone may write: whoever else may, is root."""
    # Whose the jobs are, the template says.
    if facts.scope == "user" or not facts.has_template:
        return
    own = facts.code.installed_place if facts.code else None
    if own and (open_at := facts.at(own).open_at):
        yield problem(open_at, "owner", str(facts.at(own).uid), "another user may change the sereno that root runs",
                      "./install.sh --prefix with a path that is root's alone")  # fmt: skip
    of_root = [job for job in facts.jobs if job.is_roots]
    for open_at, jobs in grouped(
        (open_at, job)
        for job in of_root
        for open_at in dict.fromkeys(facts.at(path).open_at for path in job.code)
    ):
        yield problem(open_at, "owner or mode", "not root's alone",
                      f"another user may change the code of {of_jobs(jobs)}, which root runs",
                      "register it with user=, or keep its code where only root may write")  # fmt: skip


def cannot_start(facts: Facts, job: JobFacts) -> bool:
    """Whether another check names what keeps its runs from beginning: then a failed one tells nothing more."""
    return (
        _fault(facts, job) is not None
        or job.missing_module is not None
        or (facts.scope == "system" and facts.accounts.get(job.user, ()) is None)
        or any(facts.groups.get(name, 0) is None for name in job.groups)
        or any(facts.at(path).kind == "missing" for path in needed_paths(job))
        or _closed(facts, job) is not None
    )
