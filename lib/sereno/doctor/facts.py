"""`Facts`: all that the doctor knows of one scope of a machine, as one value, and `Finding`, what a check makes of it.
Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sereno.doctor.job_facts import JobFacts, Place, Settings
from sereno.errors import in_scope

# A job does not run, or not as it was registered.
PROBLEM = "problem"
# It may go wrong, or could not be looked at.
WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not well.

    Attributes:
        level: PROBLEM or WARNING.
        subject: the unit, file or part that it is about.
        field, value: what was looked at and what it is, as systemd or the file system calls it.
        message: what that means, one sentence.
        hint: the way out: a command, or the words before one. It names no path that others can swap.
        check: name of the check that found it; `examine` fills it in.
    """

    level: str
    subject: str
    field: str
    value: str
    message: str
    hint: str
    check: str = ""

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def problem(subject: str, field: str, value: str, message: str, hint: str) -> Finding:
    return Finding(PROBLEM, subject, field, value, message, hint)


def warning(subject: str, field: str, value: str, message: str, hint: str) -> Finding:
    return Finding(WARNING, subject, field, value, message, hint)


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
    """The metadata cache of the scope.

    Attributes:
        wanted: the mode, owner and group that its directories must have; None: any that strangers cannot write to.
        directories: those that the installation made; inside: the directories and files that the cache made there.
        missing: directories that should be there.
        damaged: directories of files that were found damaged and set aside.
        stats: `get_stats()`; None: there is no cache yet.
        error: why it cannot be opened.
    """

    wanted: tuple[int, str, str] | None = None
    directories: tuple[Entry, ...] = ()
    inside: tuple[Entry, ...] = ()
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    stats: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """The sereno that asks, and the one that runs the jobs.

    Attributes:
        version, place: of the one that asks.
        installed_version, installed_place: of the one that the template unit names; None: it names none that is there.
        same: whether their code is the same.
    """

    version: str
    place: str
    installed_version: str | None
    installed_place: str | None
    same: bool


@dataclass(frozen=True, slots=True)
class Words:
    """What systemd says of a unit when it reads its files.

    Attributes:
        subject: the file, or the unit where it names none; line: of the file, 0: none.
    """

    subject: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """One scope of a machine.

    Attributes:
        scope: "system" or "user".
        user: name of the calling user.
        now_s: when the manager was asked, seconds since the epoch.
        python: version of the interpreter; systemd: of the manager.
        has_python_systemd: whether this interpreter can write to the journal.
        has_template: whether the hand-written units are installed.
        code: which sereno this is; None: not known.
        jobs: the installed jobs, by id.
        target: properties of sereno.target; apps: (application, whether its target is enabled, its properties).
        units: LoadState, LoadError, ActiveState and FragmentPath of sereno's own units, and of what jobs require.
        words: what systemd says of the unit files as they are.
        places: what is true of the paths that a check or a job names.
        accounts: {user: (number, numbers of its groups)}, None: there is no such user; groups: {group: number or None}.
        written: paths where sereno and the jobs of this scope write, beside the machine's.
        config_path: where the file is that says who is told.
        twice: (job id, user) of jobs that are installed in the other scope too.
        machine_id, bus_id: what /etc and D-Bus have as the machine's id; None: there is no such file.
        journal_storage: "persistent", "volatile", "none"; None: not known.
        stale_files: unit files that were changed after the manager read them.
        foreign: (path, whether it is a link to /dev/null) of files with sereno's names that are not sereno's.
        interrupted: job ids of a change that was killed.
        drop_ins: {path: its (section, key, value) lines} of jobs' drop-ins that are not sereno's own.
        odd_files: drop-ins that are no files: systemd cannot read them, or waits for ever.
        orphans: {job id: application} of jobs whose timer's file is gone.
        masks: units that are links to /dev/null; runtime_masks: those until the next boot.
        missing_packages: Python's packages that sereno needs and this interpreter has not.
        old_stamps: stamps of timers that are no longer there.
        lingers: whether the user's manager outlives the session; None: not asked (the system's scope).
        clock_synchronized: None: not known, or a container, whose clock is its host's.
        journal_begins_s: time of the oldest record that can be read, seconds since the epoch.
        cache: None: there is no cache and need not be one.
        untold: what keeps messages about failures from leaving.
        unread: what could not be looked at, and why.
    """

    scope: str
    user: str
    now_s: float
    python: tuple[int, int]
    systemd: str
    has_python_systemd: bool = True
    has_template: bool = True
    code: Code | None = None
    jobs: tuple[JobFacts, ...] = ()
    target: Mapping[str, str] = field(default_factory=dict)
    apps: tuple[tuple[str, bool, Mapping[str, str]], ...] = ()
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    words: tuple[Words, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict)
    accounts: Mapping[str, tuple[int, frozenset[int]] | None] = field(default_factory=dict)
    groups: Mapping[str, int | None] = field(default_factory=dict)
    written: frozenset[str] = frozenset()
    config_path: str = "/etc/sereno/notify.toml"
    twice: tuple[tuple[str, str], ...] = ()
    machine_id: str | None = "0" * 32
    bus_id: str | None = None
    journal_storage: str | None = None
    foreign: tuple[tuple[str, bool], ...] = ()
    interrupted: tuple[str, ...] = ()
    stale_files: tuple[str, ...] = ()
    drop_ins: Mapping[str, Settings] = field(default_factory=dict)
    odd_files: tuple[str, ...] = ()
    orphans: Mapping[str, str] = field(default_factory=dict)
    masks: frozenset[str] = frozenset()
    runtime_masks: frozenset[str] = frozenset()
    missing_packages: tuple[str, ...] = ()
    old_stamps: tuple[str, ...] = ()
    lingers: bool | None = None
    clock_synchronized: bool | None = None
    journal_begins_s: float | None = None
    cache: CacheFacts | None = None
    untold: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

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

    def is_scheduled(self, app: str) -> bool:
        """Whether the timers of `app` are to be active: the switches above them are on."""
        return self.target.get("ActiveState") == "active" and any(
            name == app and enabled and shown.get("ActiveState") == "active"
            for name, enabled, shown in self.apps
        )

    def begin_again(self, job_id: str) -> str:
        """How to give a timer its next elapse; unlike a start, it makes up for nothing, and so runs no job."""
        return f"{self.sereno(f'pause {job_id}')} && {self.sereno(f'resume {job_id}')}"

    def unmask(self, unit: str) -> str:
        return f"{self.systemctl} unmask {'--runtime ' * (unit in self.runtime_masks)}{unit}"

    def write_again(self, job: JobFacts) -> str:
        """How to have a job's units written again."""
        if job.installed.has_entry_script:
            return self.sereno("apply")
        program = job.program
        is_there = program and self.at(program).kind == "file"
        return self.start_app(
            job.installed.app, shlex.quote(program) if program and is_there else "PYTHON"
        )

    def start_app(self, app: str, python: str = "PYTHON") -> str:
        """How to have the units of an application's jobs written."""
        if app == "sereno":
            return self.sereno("apply")
        by_hand = self.command(f"{python} -m sereno apply --jobs MODULE --app {app}")
        return f"start the application {app} again, or: {by_hand}"


_UNKNOWN = Place("unknown")
