"""(desired, installed) → what to change. Pure and deterministic; `sereno.units.apply` carries it out.

Laws: the same call twice leaves nothing for the second; a timer whose schedule is unchanged is never stopped; a paused
job stays paused; nothing of another application and nothing that is not sereno's is ever part of a plan.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sereno.declare.job import Job
from sereno.declare.order import check_order, dependents
from sereno.errors import Conflict
from sereno.manager.names import timer_name
from sereno.units.unit_text import Installed, render, section


@dataclass(frozen=True, slots=True)
class Plan:
    """What turns the installed timers of one application into the desired ones.

    Attributes:
        create, update, remove: job ids, each in one of them at most.
        write: unit files to write, {file name: text}.
        delete: unit files to delete.
        resume: ids of paused jobs whose timer is to be started with its application again.
        restart: job ids whose timer must be (stopped and) started, because it is new or not active, or because it is
            active with another schedule.
        forget_activation: the part of `restart` whose last activation the manager must forget first: timers that are or
            were an interval's or not persistent, for which it would otherwise count as an elapse that is overdue.
        skip_missed: persistent calendar timers, as they were, whose missed elapses are skipped, so that starting them
            causes no run.
        forget_elapse: other timers whose last elapse no longer counts.
        at_boot: timers of @reboot that are new or in `skip_missed`, so that this boot runs them no more.
        first: the intervals in `restart` or `resume`, whose first elapse in this boot is to be written.
        held: enabled jobs, of any application, that come after one in `forget_activation`. Their services keep its
            service in the manager's memory, so their timers stop meanwhile and go on as they were.
        active: names of the timers that are active now and that the change stops.
        without_predecessor: jobs that stay, of any application, each with one in `remove` that it comes after.
    """

    create: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    write: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    resume: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    forget_activation: tuple[str, ...] = ()
    skip_missed: tuple[Installed, ...] = ()
    forget_elapse: tuple[str, ...] = ()
    at_boot: tuple[str, ...] = ()
    first: tuple[Job | Installed, ...] = ()
    held: tuple[Installed, ...] = ()
    active: tuple[str, ...] = ()
    without_predecessor: tuple[tuple[str, str], ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.write or self.delete or self.resume or self.restart)

    def lines(self) -> list[str]:
        """One line per change, for people."""
        started = set(self.restart) - set(self.create) - set(self.update)
        verbs = (("create", self.create), ("update", self.update), ("remove", self.remove))
        return [f"{verb} {timer_name(job)}" for verb, jobs in verbs for job in jobs] + [
            f"start {timer_name(job)}" for job in sorted(started)
        ]

    def diff(self, installed: Mapping[str, Installed]) -> list[str]:
        """What it does to the unit files of what was `installed`, as lines of a unified diff without line ends."""
        from difflib import unified_diff

        before = {name: text for job in installed.values() for name, text in job.files.items()}
        lines: list[str] = []
        for name in sorted({*self.write, *self.delete}):
            old, new = before.get(name), self.write.get(name)
            lines += unified_diff(
                (old or "").splitlines(),
                (new or "").splitlines(),
                "/dev/null" if old is None else f"a/{name}",
                "/dev/null" if new is None else f"b/{name}",
                lineterm="",
            )
        return lines


def build(
    desired: Iterable[Job],
    installed: Mapping[str, Installed],
    *,
    app: str,
    foreign: Collection[str] = (),
    active: Collection[str] | None = (),
    start: bool = True,
    prune: Collection[str] = (),
    local_zone: str | None = None,
) -> Plan:
    """Plan the change of the timers of `app`.

    Args:
        installed: every job that is installed on the machine, of any application, by id.
        foreign: names of unit files that are in the way and not sereno's.
        active: names of the timers that the manager has active; None: there is no manager to ask, so none is started.
        start: False: no timer is started that is not active.
        prune: ids to remove if they are installed for `app` and not desired.

    Raises:
        Conflict: an id belongs to another application, or a file that is not sereno's has its name.
        InvalidJob: a job comes after one that is not there, or after itself.
    """
    kinds: dict[str, set[str]] = {}
    write: dict[str, str] = {}
    delete: list[str] = []
    desired = sorted(desired, key=lambda job: job.id)
    for job in desired:
        before, files = installed.get(job.id), render(job, local_zone=local_zone)
        _check_owner(job, before, files, foreign, app)
        old = before.files if before else {}
        changed = {name: text for name, text in files.items() if old.get(name) != text}
        gone = sorted(old.keys() - files.keys())
        kinds[job.id] = set(_kinds(job, before, files, active, start))
        if before is not None and (changed or gone):
            kinds[job.id].add("update")
        write |= changed
        delete += gone
    remove = sorted(
        job_id
        for job_id in prune
        if job_id not in kinds and job_id in installed and installed[job_id].app == app
    )
    left = {job_id: job.after for job_id, job in installed.items() if job_id not in remove}
    after = left | {job.id: job.after for job in desired}
    check_order(after, list(kinds), after)

    def ids(kind: str) -> tuple[str, ...]:
        return tuple(job_id for job_id, own in kinds.items() if kind in own)

    restart, forget_activation = ids("restart"), ids("forget_activation")
    held = held_by(forget_activation, installed, after, leave=(*restart, *remove))
    stopped = (*remove, *restart, *(job.id for job in held))
    return Plan(
        create=ids("create"),
        update=ids("update"),
        remove=tuple(remove),
        write=write,
        delete=(*delete, *(name for job_id in remove for name in sorted(installed[job_id].files))),
        restart=restart,
        forget_activation=forget_activation,
        first=tuple(job for job in desired if job.interval_s is not None and job.id in restart),
        held=held,
        active=tuple(unit for unit in map(timer_name, stopped) if unit in (active or ())),
        skip_missed=tuple(installed[job_id] for job_id in ids("skip_missed")),
        forget_elapse=ids("forget_elapse"),
        at_boot=ids("at_boot"),
        without_predecessor=tuple(
            (one, gone) for one in sorted(after) for gone in after[one] if gone in remove
        ),
    )


def resumption(
    job: Installed, installed: Mapping[str, Installed], active: Collection[str], *, start: bool
) -> Plan:
    """Plan that a paused job's timer elapses again, with `start` from now on; what it missed meanwhile is skipped."""
    # A timer that goes by its stamp alone needs nothing forgotten.
    forgotten = () if job.by_stamp else (job.id,)
    held = held_by(forgotten, installed)
    return Plan(
        resume=(job.id,),
        restart=(job.id,) if start else (),
        forget_activation=forgotten,
        skip_missed=(job,) if job.by_stamp else (),
        forget_elapse=forgotten,
        at_boot=(job.id,) if job.at_boot else (),
        first=() if job.interval_s is None else (job,),
        held=held,
        active=tuple(name for each in held if (name := timer_name(each.id)) in active),
    )


def held_by(
    job_ids: Collection[str],
    installed: Mapping[str, Installed],
    after: Mapping[str, Collection[str]] | None = None,
    leave: Collection[str] = (),
) -> tuple[Installed, ...]:
    """`Plan.held` of the jobs `job_ids`, where jobs are to come after those in `after` too, but for those in `leave`,
    whose timers are stopped anyway."""
    both = {
        job_id: {*job.after, *(after or {}).get(job_id, ())} for job_id, job in installed.items()
    }
    found = dependents(both, job_ids) if job_ids else set()
    return tuple(
        installed[job_id] for job_id in sorted(found.difference(leave)) if installed[job_id].enabled
    )


def _kinds(
    job: Job,
    before: Installed | None,
    files: Mapping[str, str],
    active: Collection[str] | None,
    start: bool,
) -> Iterator[str]:
    """The parts of a plan that a desired job is in, as `Plan` calls them, but "update"."""
    # An unlinked timer was paused, or disabled by the administrator.
    paused = before is not None and not before.enabled
    rescheduled = before is not None and _schedule(before.files) != _schedule(files)
    is_active = active is not None and timer_name(job.id) in active
    by_stamp = job.interval_s is None and job.persistent
    # One that is active must never see its schedule change: a daemon-reload counts from its last elapse.
    must_start = before is None or rescheduled if is_active else start
    restart = active is not None and not paused and must_start
    if restart:
        yield "restart"
    if before is None:
        yield "create"
    elif restart or rescheduled:
        yield "skip_missed" if by_stamp else "forget_elapse"
        if restart and not (by_stamp and before.by_stamp):
            yield "forget_activation"
    else:
        return
    if job.at_boot:
        yield "at_boot"


def _check_owner(
    job: Job,
    before: Installed | None,
    files: Mapping[str, str],
    foreign: Collection[str],
    app: str,
) -> None:
    if before is not None and before.app != app:
        raise Conflict(
            f"job id: {job.id!r} belongs to the application {before.app!r}, not to {app!r}",
            hint="choose another id; ids are unique on a machine",
        )
    for name in files:
        if name in foreign:
            raise Conflict(
                f"unit file: {name} exists and is not sereno's; it was left as it is",
                hint="move it away, or choose another job id",
            )


def _schedule(files: Mapping[str, str]) -> list[str]:
    """The `[Timer]` lines among a job's unit files: what a running timer must be restarted for."""
    return [
        line for name in files if name.endswith(".timer") for line in section(files[name], "Timer")
    ]
