"""What is refused when jobs are installed, since the machine lacks it, and sentences for the log about what is probably
not meant."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from sereno.declare.access import namespaces_refused
from sereno.declare.job import Job
from sereno.errors import InvalidJob, NotAvailable, SystemdError, in_scope
from sereno.manager import analyze
from sereno.manager.names import timer_name
from sereno.manager.scope import Scope, others
from sereno.triggers import surprises
from sereno.units import reach
from sereno.units.plan import Plan
from sereno.units.unit_text import Installed


def check_accounts(jobs: Iterable[Job]) -> None:
    """systemd would fail each run of such a job with status 217 or 216. A staged system has users of its own."""
    for job in jobs:
        for kind, name, by_id, by_name in (
            ("user", job.user, pwd.getpwuid, pwd.getpwnam),
            ("group", job.group, grp.getgrgid, grp.getgrnam),
        ):
            try:
                name is None or (by_id(int(name)) if name.isdigit() else by_name(name))
            except (KeyError, OverflowError):
                raise InvalidJob(
                    f"{kind}: {name!r} is not a {kind} of this machine",
                    hint=f"{kind}add --system {name}, or leave {kind}= away",
                ) from None


def without_predecessor(todo: Plan) -> Iterator[str]:
    """Of jobs that stay and come after one that is removed."""
    # No refusal: an application's start must not depend on what another one has registered.
    for job_id, gone in todo.without_predecessor:
        yield (
            f"the job {job_id!r} comes after {gone!r}, which is removed: register it without, or its start() fails"
        )


def surprising(jobs: Iterable[Job]) -> Iterator[str]:
    """Of schedules that probably mean something else."""
    for job in jobs:
        yield from (f"job {job.id}: {sentence}" for sentence in surprises(job.trigger))


def out_of_reach(jobs: Iterable[Job]) -> Iterator[str]:
    """Of code that a job's user may not look into, as what is in a home: its runs would find no module there."""
    for user, group, path, module in dict.fromkeys(
        (job.user or "sereno", job.group, path, job.function.partition(":")[0])
        for job in jobs
        for path in job.import_paths
    ):
        uid, groups = reach.account(user) or (0, frozenset())
        also = {*map(reach.group, filter(None, ("sereno", group)))}
        with suppress(OSError):
            if uid and (closed := reach.closed(_code(path, module), (uid, groups | also))):
                yield (
                    f"the runs will not find {module} in {path}: {user} may not look into {closed[0]};"
                    f" {in_scope('sereno doctor', user=False)} has the way out"
                )


def _code(path: str, module: str) -> dict[str, reach.Entry]:
    """What Python lists, or reads as an archive, where it seeks a module in `path`: that, and the module's packages."""
    found = {}
    for depth in range(module.count(".") + 1):
        place = os.path.join(path, *module.split(".")[:depth])
        with suppress(FileNotFoundError, NotADirectoryError):
            found[place] = reach.entry(place)
    return found


def of_jobs(scope: Scope, jobs: Mapping[str, Installed], chosen: Collection[str]) -> Iterator[str]:
    """Of the jobs in `chosen` that were just installed; `jobs` are all, by id."""
    if scope.is_user and (setting := namespaces_refused()):
        yield (
            f"this machine lets users make no namespaces ({setting}): runs see and write all that you may, home= and"
            " write_paths= change nothing, and what passes here may fail in the system scope"
        )
    # An installation for each scope brings its own jobs to each.
    yield from twins(scope, [job for job in chosen if not jobs[job].has_entry_script])
    yield from delays(jobs, chosen)


def twins(scope: Scope, job_ids: Collection[str]) -> Iterator[str]:
    """Of jobs that are installed in another scope of this machine too, as far as the caller may look there."""
    for owner, units in others(scope):
        theirs, as_whom = f"the scope of the user {owner}", f" as {owner}"
        if scope.is_user:
            theirs, as_whom = "the system scope", ""
        for job_id in job_ids:
            if os.path.lexists(units / timer_name(job_id)):
                way_out = (
                    'get_scheduler(scope="system") registers it there alone, after'
                    f" `{in_scope(f'sereno remove {job_id}', user=True)}`{as_whom}"
                )
                yield f"the job {job_id!r} is installed in {theirs} too, and both run: {way_out}"


def delays(jobs: Mapping[str, Installed], chosen: Collection[str]) -> Iterator[str]:
    """Of the jobs in `chosen` that come after one whose jitter may make it the later of the two."""
    for job_id in chosen:
        for other in map(jobs.get, jobs[job_id].after if job_id in jobs else ()):
            delay_s = 0.0 if other is None else other.delay_s
            if other is None or not delay_s:
                continue
            with suppress(NotAvailable, SystemdError):
                (first,) = analyze.next_elapses(other.calendars, 1) or (None,)
                if first is None or not jobs[job_id].calendars:
                    continue
                first_s = first.timestamp()
                then = analyze.next_elapses(jobs[job_id].calendars, 1, after_s=first_s - 1)
                if then and then[0].timestamp() - first_s <= delay_s:
                    yield (
                        f"the job {job_id!r} comes after {other.id!r}, whose jitter may delay it until later: then it"
                        f" waits for nothing, and only_if_success= judges the run before; let it elapse"
                        f" {delay_s:g} s after it, or leave the jitter away"
                    )
