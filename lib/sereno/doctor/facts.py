"""`Facts`: all that the doctor knows of one scope of a machine, as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sereno.systemctl import is_running
from sereno.units import Installed, service_name, timer_name

# Two readings of a clock are not one, and systemd's own times come to the second.
TOLERANCE_S = 2.0


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One installed job.

    Attributes:
        installed: what its unit files say.
        timer, service: the units' LoadState, ActiveState and SubState; where these leave a question open, more
            properties as `systemctl show` prints them.
        next_s: next elapse as the manager has it, seconds since the epoch; None: none.
        expected_s: a calendar's next elapse after `Facts.now_s` as its unit file means it; None: not known.
        bases_s: from what an interval may count, seconds since the epoch: the last elapse, the last start of the job,
            and the stamp, from which its first elapse of this boot was seeded.
        slack_s: how late the timer may elapse as it is: its accuracy and random delay.
        period_s: seconds between two elapses; None: not known.
        calendars: the file's calendar expressions; `calendars_now`: those that its schedule would have if it were
            written now (another time zone of the machine changes them); None: not known.
        changed_files: generated files that are no longer as sereno wrote them.
        has_own_drop_ins: whether an administrator's drop-in changes the timer.
        program: what the service executes; `program_fault`: "missing" or "not executable"; None: nothing is wrong.
        installed_s: when its timer was written, seconds since the epoch.
        latest_status, latest_s, latest_error: what its newest run came to, when it ended, and why; None: not known.
    """

    installed: Installed
    timer: Mapping[str, str]
    service: Mapping[str, str]
    next_s: float | None = None
    expected_s: float | None = None
    bases_s: tuple[float, ...] = ()
    slack_s: float = 1.0
    period_s: float | None = None
    calendars: tuple[str, ...] = ()
    calendars_now: tuple[str, ...] | None = None
    changed_files: tuple[str, ...] = ()
    has_own_drop_ins: bool = False
    program: str | None = None
    program_fault: str | None = None
    installed_s: float = 0.0
    latest_status: str | None = None
    latest_s: float | None = None
    latest_error: str | None = None

    @property
    def timer_name(self) -> str:
        return timer_name(self.installed.id)

    @property
    def service_name(self) -> str:
        return service_name(self.installed.id)

    def interval_is_kept(self, now_s: float) -> bool:
        """Whether the next elapse is one interval after one of `bases_s`; True where there is nothing to compare."""
        interval_s = self.installed.interval_s
        if interval_s is None or self.next_s is None or not self.bases_s or self.has_own_drop_ins:
            return True
        slack_s = self.slack_s + TOLERANCE_S
        # A base in the future is a clock that was set back: then it counts from now.
        return any(
            abs(self.next_s - min(base_s, now_s) - interval_s) <= slack_s for base_s in self.bases_s
        )

    @property
    def is_running(self) -> bool:
        return is_running(self.service.get("ActiveState"))


@dataclass(frozen=True, slots=True)
class DropIn:
    """A drop-in of services that is not sereno's own.

    Attributes:
        path: its file.
        settings: the (key, value) pairs of its section `[Service]`, in order.
        services: names of the services that it changes.
    """

    path: str
    settings: tuple[tuple[str, str], ...]
    services: tuple[str, ...]


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
        stale_files: unit files that were changed after the manager read them.
        foreign: (path, whether it is a link to /dev/null) of files with sereno's names that are not sereno's.
        interrupted: job ids of a change that was killed.
        drop_ins: those of services that are not sereno's own.
        old_stamps: stamps of timers that are no longer there.
        lingers: whether the user's manager outlives the session; None: not asked (the system's scope).
        clock_synchronized: None: not known, or a container, whose clock is its host's.
        journal_persistent: None: not known.
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
    foreign: tuple[tuple[str, bool], ...] = ()
    interrupted: tuple[str, ...] = ()
    stale_files: tuple[str, ...] = ()
    drop_ins: tuple[DropIn, ...] = ()
    old_stamps: tuple[str, ...] = ()
    lingers: bool | None = None
    clock_synchronized: bool | None = None
    journal_persistent: bool | None = None
    journal_begins_s: float | None = None
    cache: CacheFacts | None = None
    untold: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def systemctl(self) -> str:
        """The command's beginning for this scope."""
        return "systemctl --user" if self.scope == "user" else "systemctl"

    def sereno(self, words: str) -> str:
        """A command of sereno's for this scope."""
        return f"sereno {words} --user" if self.scope == "user" else f"sereno {words}"

    @property
    def install(self) -> str:
        return "./install.sh --user" if self.scope == "user" else "./install.sh"

    def is_scheduled(self, app: str) -> bool:
        """Whether the timers of `app` are to be active: the switches above them are on."""
        return self.target.get("ActiveState") == "active" and any(
            name == app and enabled and shown.get("ActiveState") == "active"
            for name, enabled, shown in self.apps
        )

    def write_again(self, job: JobFacts) -> str:
        """How to have a job's units written again."""
        if job.installed.has_entry_script:
            return self.sereno("apply")
        python = "PYTHON" if job.program is None or job.program_fault else job.program
        app = job.installed.app
        return f"start the application {app} again, or: {python} -m sereno apply --jobs MODULE --app {app}"
