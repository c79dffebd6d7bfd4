"""(desired, installed) → what to change. Pure and deterministic; `sereno.apply` carries it out.

Laws: the same call twice leaves nothing for the second; a timer whose schedule is unchanged is never stopped; a paused
job stays paused; nothing of another application and nothing that is not sereno's is ever part of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sereno.errors import Conflict
from sereno.order import check_order, dependents
from sereno.units import Installed, render, section, timer_name

if TYPE_CHECKING:
    from sereno.job import Job


@dataclass(frozen=True, slots=True)
class Plan:
    """What turns the installed timers of one application into the desired ones.

    Attributes:
        create, update, remove, keep: job ids, each in exactly one of them.
        write: unit files to write, {file name: text}.
        delete: unit files to delete.
        unlink: the part of `remove` that is not paused.
        link: job ids whose timer the application's target is to start; also those that a killed process left unlinked.
        restart: job ids whose timer must be (stopped and) started, because it is new or not active, or because it is
            active with another schedule.
        forget: the part of `restart` whose last activation the manager must forget first: timers that are or were an
            interval's or not persistent, for which it would otherwise count as an elapse that is overdue.
        resumed: an earlier change was killed, so the manager may not know what is on disk.
        waive: persistent calendar timers, as they were, whose missed elapses are waived, so that starting them causes
            no run.
        anew: other timers that begin anew: their last elapse no longer counts.
        at_boot: timers of @reboot that are new or begin anew, so that this boot runs them no more.
        first: (interval, jitter) in seconds of the intervals in `restart`, by job id.
        held: enabled jobs, of any application, that come after one in `forget`. Their services keep its service in the
            manager's memory, so their timers stop meanwhile and go on as they were.
        active: names of the timers that are active now and that the change stops.
        bereft: jobs that stay, of any application, each with one in `remove` that it comes after.
    """

    create: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    unlink: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    write: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    forget: tuple[str, ...] = ()
    waive: tuple[Installed, ...] = ()
    anew: tuple[str, ...] = ()
    at_boot: tuple[str, ...] = ()
    first: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    held: tuple[Installed, ...] = ()
    active: tuple[str, ...] = ()
    bereft: tuple[tuple[str, str], ...] = ()
    resumed: bool = False

    @property
    def changes_files(self) -> bool:
        return bool(self.write or self.delete or self.link or self.forget or self.resumed)

    @property
    def is_empty(self) -> bool:
        return not (self.changes_files or self.restart)

    def lines(self) -> list[str]:
        """One line per change, for people."""
        started = set(self.restart) - set(self.create) - set(self.update)
        verbs = (("create", self.create), ("update", self.update), ("remove", self.remove))
        return [f"{verb} {timer_name(job)}" for verb, jobs in verbs for job in jobs] + [
            f"start {timer_name(job)}" for job in sorted(started)
        ]


def build(
    desired: Iterable[Job],
    installed: Mapping[str, Installed],
    *,
    app: str,
    foreign: Collection[str] = (),
    active: Collection[str] | None = (),
    start: bool = True,
    interrupted: Collection[str] | None = None,
    prune: Collection[str] = (),
    local_zone: str | None = None,
) -> Plan:
    """Plan the change of the timers of `app`.

    Args:
        desired: the jobs that shall be there.
        installed: every job that is installed on the machine, of any application, by id.
        foreign: names of unit files that are in the way and not sereno's.
        active: names of the timers that the manager has active; None: there is no manager to ask, so none is started.
        start: False: no timer is started that is not active.
        interrupted: ids that an earlier, killed change was going to link, of any application; None: there was none.
        local_zone: the machine's time zone.
        prune: ids to remove if they are installed for `app` and not desired.

    Raises:
        Conflict: an id belongs to another application, or a file that is not sereno's has its name.
        InvalidJob: a job comes after one that is not there, or after itself.
    """
    changes = []
    interrupted = _own(interrupted, installed, app)
    desired = sorted(desired, key=lambda job: job.id)
    for job in desired:
        before = installed.get(job.id)
        files = render(job, local_zone=local_zone)
        _check_owner(job, before, files, foreign, app)
        changes.append(_change(job, files, before, active, start, interrupted or ()))
    wanted = {change.job_id for change in changes}
    remove = sorted(
        job_id
        for job_id in prune
        if job_id not in wanted and job_id in installed and installed[job_id].app == app
    )
    left = {job_id: job.after for job_id, job in installed.items() if job_id not in remove}
    after = left | {job.id: job.after for job in desired}
    check_order(after, [job.id for job in desired], after)

    def ids(chosen: Callable[[_Change], bool]) -> tuple[str, ...]:
        return tuple(change.job_id for change in changes if chosen(change))

    restart = ids(lambda change: change.restart)
    forget = ids(lambda change: change.restart and change.forget)
    held = held_by(forget, installed, after, leave=(*restart, *remove))
    stopped = (*remove, *restart, *(job.id for job in held))
    return Plan(
        create=ids(lambda change: change.is_new),
        update=ids(lambda change: not change.is_new and change.differs),
        remove=tuple(remove),
        unlink=tuple(job_id for job_id in remove if installed[job_id].enabled),
        keep=ids(lambda change: not change.differs),
        write={name: text for change in changes for name, text in change.write.items()},
        delete=tuple(
            name
            for names in (
                *(change.delete for change in changes),
                *(sorted(installed[job_id].files) for job_id in remove),
            )
            for name in names
        ),
        link=ids(lambda change: change.link),
        restart=restart,
        forget=forget,
        first={
            job.id: (job.interval_s, job.jitter_s)
            for job in desired
            if job.interval_s is not None and job.id in restart
        },
        held=held,
        active=tuple(unit for unit in map(timer_name, stopped) if unit in (active or ())),
        waive=tuple(
            installed[each] for each in ids(lambda change: change.begins_again and change.by_stamp)
        ),
        anew=ids(lambda change: change.begins_again and not change.by_stamp),
        at_boot=ids(lambda change: change.at_boot and (change.is_new or change.begins_again)),
        bereft=tuple((one, gone) for one in sorted(after) for gone in after[one] if gone in remove),
        resumed=interrupted is not None,
    )


def resumption(
    job: Installed, installed: Mapping[str, Installed], active: Collection[str], *, start: bool
) -> Plan:
    """Plan that a paused job's timer elapses again; what it missed meanwhile is waived.

    Args:
        installed, active: as in `build`.
        start: start it now.
    """
    # A timer that goes by its stamp alone needs nothing forgotten.
    held = () if job.by_stamp else held_by([job.id], installed)
    this, nothing = (job.id,), ()
    return Plan(
        keep=this,
        link=this,
        restart=this if start else nothing,
        forget=nothing if job.by_stamp else this,
        waive=(job,) if job.by_stamp else nothing,
        anew=nothing if job.by_stamp else this,
        at_boot=this if job.at_boot else nothing,
        first={} if job.interval_s is None else {job.id: (job.interval_s, job.jitter_s)},
        held=held,
        active=tuple(name for each in held if (name := timer_name(each.id)) in active),
    )


def held_by(
    job_ids: Collection[str],
    installed: Mapping[str, Installed],
    after: Mapping[str, Collection[str]] | None = None,
    leave: Collection[str] = (),
) -> tuple[Installed, ...]:
    """`Plan.held` of the jobs `job_ids`.

    Args:
        after: what jobs are to come after, besides what is installed.
        leave: ids of jobs whose timers are stopped anyway.
    """
    both = {
        job_id: {*job.after, *(after or {}).get(job_id, ())} for job_id, job in installed.items()
    }
    found = dependents(both, job_ids) if job_ids else set()
    return tuple(
        installed[job_id] for job_id in sorted(found.difference(leave)) if installed[job_id].enabled
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """What happens to one desired job."""

    job_id: str
    write: Mapping[str, str]
    delete: tuple[str, ...]
    is_new: bool
    forget: bool
    by_stamp: bool
    at_boot: bool
    rescheduled: bool
    link: bool
    restart: bool

    @property
    def differs(self) -> bool:
        return bool(self.write or self.delete)

    @property
    def begins_again(self) -> bool:
        return not self.is_new and (self.restart or self.rescheduled)


def _change(
    job: Job,
    files: Mapping[str, str],
    before: Installed | None,
    active: Collection[str] | None,
    start: bool,
    interrupted: Collection[str],
) -> _Change:
    old: Mapping[str, str] = before.files if before else {}
    # An unlinked timer was paused (or disabled by the administrator), unless a killed change left it so.
    paused = before is not None and not before.enabled and job.id not in interrupted
    rescheduled = before is not None and _schedule(old) != _schedule(files)
    is_active = active is not None and timer_name(job.id) in active
    by_stamp = job.interval_s is None and job.persistent
    return _Change(
        job_id=job.id,
        write={name: text for name, text in files.items() if old.get(name) != text},
        delete=tuple(sorted(set(old) - set(files))),
        is_new=before is None,
        forget=before is not None and not (by_stamp and before.by_stamp),
        by_stamp=by_stamp,
        at_boot=job.at_boot,
        rescheduled=rescheduled,
        link=not paused and not (before and before.enabled),
        # One that is active must never see its schedule change: a daemon-reload counts from its last elapse.
        restart=active is not None
        and not paused
        and (before is None or rescheduled if is_active else start),
    )


def _own(
    interrupted: Collection[str] | None, installed: Mapping[str, Installed], app: str
) -> Collection[str] | None:
    """What of a killed change concerns `app`: None if all that it announced is another application's."""
    if not interrupted:
        return interrupted
    own = [
        job_id for job_id in interrupted if job_id not in installed or installed[job_id].app == app
    ]
    return own or None


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
