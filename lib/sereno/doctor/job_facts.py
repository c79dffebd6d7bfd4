"""What the doctor knows of one job, and of a path, as values. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sereno.systemctl import is_running
from sereno.units import Installed, drop_in_name, service_name, timer_name

# Two readings of a clock are not one, and systemd's own times come to the second.
TOLERANCE_S = 2.0
Settings = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to, links followed.

    Attributes:
        kind: "file", "directory", "missing", "other" (a FIFO, a device); "unknown": the caller may not look.
        mode, uid, gid: as stat(2) has them, the mode without the kind.
        leads_to: of a link that leads nowhere: where to.
        open_at: the first path on the way that another user than root, or the caller, may change; None: none.
        gates: (path, mode, uid, gid) of the directories on the way that are not open to all.
        mount: where its file system is mounted; is_noexec, is_read_only: how.
        lacks: what that file system is full of: "bytes", "inodes"; None: there is room.
        interpreter: what the first line of a script names.
        built_for, runs: versions of Python ("3.11") of an environment's packages, and of its interpreter.
    """

    kind: str = "missing"
    mode: int = 0
    uid: int = 0
    gid: int = 0
    leads_to: str | None = None
    open_at: str | None = None
    gates: tuple[tuple[str, int, int, int], ...] = ()
    mount: str = "/"
    is_noexec: bool = False
    is_read_only: bool = False
    lacks: str | None = None
    interpreter: str | None = None
    built_for: tuple[str, ...] = ()
    runs: str | None = None


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
        settings: the (section, key, value) lines of its service, the template's and its own, and those of `drop_ins`,
            the paths of administrators' drop-ins of its service and its timer.
        code: what a run loads: its program, the module of its function, the directories where Python looks.
        missing_module: the module of its function, if it is in none of these.
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
    settings: Settings = ()
    drop_ins: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    missing_module: str | None = None
    installed_s: float = 0.0
    latest_status: str | None = None
    latest_s: float | None = None
    latest_error: str | None = None

    @property
    def id(self) -> str:
        return self.installed.id

    @property
    def timer_name(self) -> str:
        return timer_name(self.installed.id)

    @property
    def service_name(self) -> str:
        return service_name(self.installed.id)

    @property
    def has_its_drop_in(self) -> bool:
        """Whether the file that says what to execute is there; the template alone would execute something else."""
        return self.installed.has_entry_script or drop_in_name(self.id) in self.installed.files

    @property
    def is_running(self) -> bool:
        return is_running(self.service.get("ActiveState"))

    @property
    def program(self) -> str | None:
        """What the service executes; None if it cannot be told from the files."""
        commands = self.values("ExecStart")
        return first_word(commands[-1], self.id) if commands else None

    @property
    def user(self) -> str:
        return self.value("User") or "root"

    def values(self, key: str, section: str = "[Service]") -> list[str]:
        """All values of a setting that may come several times; an empty one forgets those before (systemd.unit(5))."""
        found: list[str] = []
        for where, name, value in self.settings:
            if (where, name) == (section, key):
                found = [*found, value] if value else []
        return found

    def value(self, key: str, section: str = "[Service]") -> str:
        """The value of a setting whose last line counts."""
        lines = reversed(self.settings)
        return next((value for where, name, value in lines if (where, name) == (section, key)), "")

    def variable(self, name: str) -> str | None:
        """A variable of the run's environment, by `Environment=`."""
        for line in reversed(self.values("Environment")):
            for word in reversed(_words(line)) if name in line else ():
                key, found, value = word.partition("=")
                if found and key == name:
                    return value.replace("%%", "%")
        return None

    @property
    def secrets(self) -> list[str]:
        """Paths of the credentials that are read for it from files."""
        paths = (line.partition(":")[2] for line in self.values("LoadCredential"))
        return [path.replace("%%", "%") for path in paths if path.startswith("/")]

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


def first_word(value: str, job_id: str) -> str | None:
    """The program of an `ExecStart=` line; None if it holds specifiers or escapes beyond those that sereno writes."""
    value = value.lstrip("@-:+!|")
    quoted = re.match(r'"([^"\\]*)"', value)
    word = (quoted[1] if quoted else value.partition(" ")[0]).replace("%i", job_id)
    if re.search(r'["\\]|(?<!%)%(?:%%)*(?!%)', word):
        return None
    return word.replace("%%", "%").replace("$$", "$")


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def of_jobs(jobs: Iterable[JobFacts]) -> str:
    """Jobs in a message: one by its id, more by their number."""
    ids = sorted(job.id for job in jobs)
    return f"the job {ids[0]}" if len(ids) == 1 else f"{len(ids)} jobs ({ids[0]}, …)"
