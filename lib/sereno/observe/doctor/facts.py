"""`Facts`: all that the doctor knows of one scope of a machine, as one value, and `Finding`, what a check makes of it.
Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sereno.errors import in_scope
from sereno.manager.names import TIMER_TEMPLATE
from sereno.observe.doctor.job_facts import JobFacts, Place, Properties, Settings

if TYPE_CHECKING:
    from sereno.fleet.claim import FleetHost

# A job does not run, or not as it was registered.
PROBLEM = "problem"
# It may go wrong, or could not be looked at.
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not well."""

    level: str  # PROBLEM or WARNING
    subject: str  # the unit, file or part that it is about
    # What was looked at and what it is, as systemd or the file system calls it.
    field: str
    value: str
    message: str  # what that means, one sentence
    hint: str  # the way out: a command, or the words before one; it names no path that others can swap
    check: str = ""  # name of the check that found it; `examine` fills it in

    def as_json(self) -> dict[str, str]:
        return asdict(self)


Level = Callable[[str, str, str, str, str], Finding]
problem: Level = partial(Finding, PROBLEM)
warning: Level = partial(Finding, WARNING)


@dataclass(frozen=True, slots=True)
class Entry:
    """A directory or file of the cache. Owner and group are names, or numbers where they have none."""

    path: str
    mode: int
    owner: str
    group: str
    is_directory: bool = True


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """The metadata cache of the scope."""

    # Mode, owner and group that its directories must have; None: any that strangers cannot write to.
    wanted: tuple[int, str, str] | None = None
    directories: tuple[Entry, ...] = ()  # those that the installation made
    inside: tuple[Entry, ...] = ()  # what the cache made there
    missing: tuple[str, ...] = ()  # directories that should be there
    damaged: tuple[str, ...] = ()  # directories of files that were found damaged and set aside
    stats: Mapping[str, Any] | None = None  # `get_stats()`; None: there is no cache yet
    error: str | None = None  # why it cannot be opened
    # Of many hosts: what the server tells of itself, and latency_ms.
    server: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """The sereno that asks, and the one that the template unit names; None: it names none that is there."""

    version: str
    place: str
    installed_version: str | None
    installed_place: str | None
    same: bool  # whether their code is


@dataclass(frozen=True, slots=True)
class Words:
    """What systemd says of a unit when it reads its files."""

    subject: str  # the file, or the unit where it names none
    line: int  # of the file, 0: none
    text: str


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """The fleet that jobs of this host are in.

    Attributes:
        path, is_open: the file with the database's URL; whether others can read it.
        error: why the database could not be asked; "": it was.
        ahead_s: this host's clock before the database's.
    """

    path: str
    is_open: bool = False
    error: str = ""
    ahead_s: float = 0.0
    hosts: tuple[FleetHost, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One scope of a machine."""

    scope: str  # "system" or "user"
    user: str  # name of the calling user
    now_s: float  # when the manager was asked, seconds since the epoch
    python: tuple[int, int]  # version of the interpreter
    systemd: str  # version of the manager
    has_python_systemd: bool = True  # whether this interpreter can write to the journal
    missing_packages: tuple[str, ...] = ()  # what sereno needs and this interpreter has not
    has_template: bool = True  # whether the hand-written units are installed
    code: Code | None = None  # None: not known
    jobs: tuple[JobFacts, ...] = ()
    target: Properties = field(default_factory=dict)  # of sereno.target
    # (application, whether its target is enabled, its properties).
    apps: tuple[tuple[str, bool, Properties], ...] = ()
    units: Mapping[str, Properties] = field(default_factory=dict)  # own, and what jobs require
    words: tuple[Words, ...] = ()  # what systemd says of the unit files as they are
    places: Mapping[str, Place] = field(default_factory=dict)  # of paths that checks or jobs name
    # {user: (number, numbers of its groups)} and {group: number}; None: there is none.
    accounts: Mapping[str, tuple[int, frozenset[int]] | None] = field(default_factory=dict)
    groups: Mapping[str, int | None] = field(default_factory=dict)
    written: frozenset[str] = frozenset()  # where this scope writes, beside the machine's places
    config_path: str = "/etc/sereno/notify.toml"  # who is told
    twice: tuple[tuple[str, str], ...] = ()  # (job id, user) of jobs in the other scope too
    # The machine's id as /etc and D-Bus have it; None: there is no such file.
    machine_id: str | None = "0" * 32
    bus_id: str | None = None
    mounts: int = 0  # file systems that are mounted
    journal_storage: str | None = None  # "persistent", "volatile", "none"; None: not known
    journal_begins_s: float | None = None  # the oldest record, seconds since the epoch
    # (path, whether it is a link to /dev/null) of files with sereno's names that are not sereno's.
    foreign: tuple[tuple[str, bool], ...] = ()
    interrupted: tuple[str, ...] = ()  # job ids of a change that was killed
    stale_files: tuple[str, ...] = ()  # unit files that were changed after the manager read them
    drop_ins: Mapping[str, Settings] = field(default_factory=dict)  # administrators', by path
    odd_files: tuple[str, ...] = ()  # drop-ins that are no files, on which systemd may wait
    orphans: Mapping[str, str] = field(default_factory=dict)  # {job id: app}; the timer is gone
    masks: frozenset[str] = frozenset()  # units that are links to /dev/null
    runtime_masks: frozenset[str] = frozenset()  # those of them until the next boot
    old_stamps: tuple[str, ...] = ()  # of timers that are no longer there
    lingers: bool | None = None  # whether the user's manager outlives the session
    clock_synchronized: bool | None = None  # None: not known, or a container's, which is its host's
    cache: CacheFacts | None = None  # None: there is none and need not be one
    fleet: FleetFacts | None = None  # None: no job runs once in a fleet
    untold: tuple[str, ...] = ()  # what keeps messages about failures from leaving
    unread: tuple[str, ...] = ()  # what could not be looked at, and why

    def at(self, path: str) -> Place:
        """What is true of a path; what was not looked at is not judged."""
        return self.places.get(path, _UNKNOWN)

    def command(self, words: str) -> str:
        """A command for this scope: see `sereno.errors.in_scope`."""
        return in_scope(words, user=self.scope == "user")

    @property
    def systemctl(self) -> str:
        """The command's beginning for this scope."""
        return self.command("systemctl")

    @property
    def reload(self) -> str:
        return f"{self.systemctl} daemon-reload"

    def sereno(self, words: str) -> str:
        """A command of sereno's for this scope."""
        return self.command(f"sereno {words}")

    @property
    def install(self) -> str:
        return self.command("./install.sh")

    @property
    def tells(self) -> bool:
        """Whether people want to be told."""
        return self.at(self.config_path).kind not in ("missing", "unknown")

    @property
    def environment_fits(self) -> bool:
        """Whether sereno's own environment is for the Python that it runs."""
        if not self.code:
            return True
        place = self.at(f"{self.code.installed_place}/venv/bin/python3")
        return place.kind != "missing" and place.runs in (None, *place.built_for)

    def is_scheduled(self, app: str) -> bool:
        """Whether the timers of `app` are to be active: the switches above them are on."""
        return self.target.get("ActiveState") == "active" and any(
            name == app and enabled and shown.get("ActiveState") == "active"
            for name, enabled, shown in self.apps
        )

    def unless_others(self, path: str, command: str, *, at: str | None = None) -> str:
        """A command for a path; where others could swap what is at it (`at`: at this one), words for its owner."""
        if self.at(at or path).open_at is not None:
            return f"its owner: {command}"
        return f"{command} {shlex.quote(path)}"

    def for_jobs(self, jobs: Iterable[JobFacts], *verbs: str) -> str:
        """Commands of sereno's for one job after the other."""
        ids = [job.id for job in jobs]
        return for_each(ids, " && ".join(self.sereno(f"{verb} $job") for verb in verbs))

    def begin_again(self, *jobs: JobFacts) -> str:
        """How to give timers their next elapse: the shortest way that runs no job.

        A restart of the timer, or a start of the seed's service, makes up for what was missed, and that is a run; a
        start or a reload gives nothing to a timer that is active without a next elapse.
        """
        return self.for_jobs(jobs, "pause", "resume")

    def unmask(self, *units: str) -> str:
        is_runtime = not self.runtime_masks.isdisjoint(units)
        return f"{self.systemctl} unmask {'--runtime ' * is_runtime}{' '.join(units)}"

    def unmask_own(self, unit: str) -> str:
        """Of a hand-written unit: in the system's scope the mask is where its file was, which is gone with that."""
        is_alone = self.scope == "system" and unit != TIMER_TEMPLATE
        return f"{self.unmask(unit)} && {self.install}" if is_alone else self.unmask(unit)

    def write_again(self, job: JobFacts) -> str:
        """How to have a job's units written again."""
        program = job.program
        is_there = program and self.at(program).kind == "file"
        app = "sereno" if job.installed.has_entry_script else job.installed.app
        return self.start_app(app, shlex.quote(program) if program and is_there else "PYTHON")

    def start_app(self, app: str, python: str = "PYTHON") -> str:
        """How to have the units of an application's jobs written."""
        if app == "sereno":
            return self.sereno("apply")
        apply = self.command(f"{python} -m sereno apply --jobs MODULE --app {app}")
        return f"start the application {app} again, or: {apply}"


_UNKNOWN = Place("unknown")


def for_each(job_ids: Iterable[str], command: str) -> str:
    """A command of the shell for one job, or for several: `$job` stands for its id."""
    ids = sorted(job_ids)
    if len(ids) == 1:
        return command.replace("$job", ids[0])
    return f"for job in {' '.join(ids)}; do {command}; done"


def shown_time(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
