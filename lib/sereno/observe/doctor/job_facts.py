"""What the doctor knows of one job, and of a path, as values. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from sereno.manager.names import drop_in_name, service_name, timer_name
from sereno.observe.job_state import JobState
from sereno.records.run_record import Run
from sereno.units.reach import Entry
from sereno.units.unit_text import Installed

# Two readings of a clock are not one, and systemd's own times come to the second.
TOLERANCE_S = 2.0
# The (section, key, value) lines of unit files.
Settings = tuple[tuple[str, str, str], ...]
Properties = Mapping[str, str]
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Place(Entry):
    """What a path leads to, and what that is on."""

    leads_to: str | None = None  # of a link that leads nowhere: where to
    open_at: str | None = None  # the first on the way that others than root or caller may change
    mount: str = "/"  # where its file system is mounted
    is_noexec: bool = False
    is_read_only: bool = False
    lacks: str | None = None  # what that file system is full of: "bytes", "inodes"
    interpreter: str | None = None  # what the first line of a script names
    # Versions of Python ("3.11") of an environment's packages, and of its interpreter.
    built_for: tuple[str, ...] = ()
    runs: str | None = None


@dataclass(frozen=True)
class JobFacts:
    """One installed job; moments in seconds since the epoch, None where they are not known."""

    installed: Installed
    state: JobState  # as everything else shows it
    # The units' LoadState, ActiveState and SubState; more properties where these leave a question open.
    timer: Properties
    service: Properties
    expected_s: float | None = None  # a calendar's next elapse as its unit file means it
    # From what an interval may count: its last elapse, its last start, the stamp that its first elapse was seeded from.
    bases_s: tuple[float, ...] = ()
    slack_s: float = 1.0  # how late the timer may elapse: its accuracy and random delay, seconds
    period_s: float | None = None  # seconds between two elapses
    calendars: tuple[str, ...] = ()  # as in its file
    # As its schedule would have them if it were written now: another time zone of the machine changes them.
    calendars_now: tuple[str, ...] | None = None
    changed_files: tuple[str, ...] = ()  # generated ones that are no longer as sereno wrote them
    has_own_drop_ins: bool = False  # whether an administrator's drop-in changes the timer
    settings: Settings = ()  # of the template, its service and `drop_ins`
    drop_ins: tuple[str, ...] = ()  # paths of administrators' drop-ins of its service and its timer
    code: tuple[str, ...] = ()  # what a run loads: its program, its module, where Python looks
    missing_module: str | None = None  # that of its function, if it is in none of these
    installed_s: float = 0.0  # when its timer was written

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
    def units(self) -> tuple[tuple[str, Properties], ...]:
        return (self.timer_name, self.timer), (self.service_name, self.service)

    @property
    def has_its_drop_in(self) -> bool:
        """Whether the file that says what to execute is there; the template alone would execute something else."""
        return self.installed.has_entry_script or drop_in_name(self.id) in self.installed.files

    @property
    def next_s(self) -> float | None:
        """Next elapse as the manager has it; None: none."""
        return self.state.next.timestamp() if self.state.next else None

    @property
    def last(self) -> Run:
        """Its newest run; one without a status if none is known."""
        return self.state.last or Run(self.id, "", "")

    @property
    def program(self) -> str | None:
        """What the service executes; None if it cannot be told from the files."""
        commands = self.values("ExecStart")
        return first_word(commands[-1], self.id) if commands else None

    @property
    def user(self) -> str:
        return self.value("User") or "root"

    @property
    def is_roots(self) -> bool:
        return self.user in ("root", "0")

    @property
    def groups(self) -> list[str]:
        return self.words("Group", "SupplementaryGroups")

    def values(self, key: str, section: str = "[Service]") -> list[str]:
        """All values of a setting that may come several times; an empty one forgets those before (systemd.unit(5))."""
        found = self._lines.get((section, key), [])
        while "" in found:
            found = found[found.index("") + 1 :]
        return found

    def words(self, *keys: str, section: str = "[Service]") -> list[str]:
        return [word for key in keys for line in self.values(key, section) for word in line.split()]

    def value(self, key: str, section: str = "[Service]") -> str:
        """The value of a setting whose last line counts."""
        return self._lines.get((section, key), [""])[-1]

    @cached_property
    def _lines(self) -> Mapping[tuple[str, str], list[str]]:
        found: dict[tuple[str, str], list[str]] = {}
        for section, key, value in self.settings:
            found.setdefault((section, key), []).append(value)
        return found

    def variable(self, name: str) -> str | None:
        """A variable of the run's environment, by `Environment=`."""
        for line in reversed(self.values("Environment")):
            for word in reversed(_split(line)) if name in line else ():
                key, found, value = word.partition("=")
                if found and key == name:
                    return value.replace("%%", "%")
        return None

    @property
    def has_condition(self) -> bool:
        return any(key.startswith("Condition") for _, key, _ in self.settings)

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


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def grouped(found: Iterable[tuple[Key | None, JobFacts]]) -> list[tuple[Key, list[JobFacts]]]:
    """What jobs have in common, with those that have it: one cause is one finding. None: a job has no such thing."""
    groups: dict[Key, list[JobFacts]] = {}
    for common, job in found:
        if common is not None:
            groups.setdefault(common, []).append(job)
    return list(groups.items())


def by_cause(
    jobs: Iterable[JobFacts], cause: Callable[[JobFacts], Key | None]
) -> list[tuple[Key, list[JobFacts]]]:
    """`grouped`, with one cause a job at most."""
    return grouped((cause(job), job) for job in jobs)


def of_jobs(jobs: Iterable[JobFacts | str]) -> str:
    """Jobs, or their ids, in a message: one by its id, more by their number."""
    ids = sorted(job if isinstance(job, str) else job.id for job in jobs)
    return f"the job {ids[0]}" if len(ids) == 1 else f"{len(ids)} jobs ({ids[0]}, …)"
