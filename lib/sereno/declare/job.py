"""`Job`: one periodic job as a frozen, validated value."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from sereno.declare.access import READ_ONLY, Access, is_in_a_home
from sereno.declare.inputs import Inputs
from sereno.declare.limits import Limits, check_retry
from sereno.declare.quantities import check_seconds, check_truth
from sereno.declare.retry import Retry
from sereno.errors import InvalidJob
from sereno.setting_names import CACHE_URL
from sereno.triggers import BootTrigger, CronTrigger, GridTrigger, IntervalTrigger, Trigger

# systemd.unit(5) allows ASCII letters, digits and ":-_.\\@" in a unit name and 255 characters in all. ":", "\\" and "@"
# are left out: they mean something to systemd-escape(1), shells or unit templates. 200 leaves room for
# "sereno@….service.d" and for temporary names.
NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
NAME_RULE = "1 to 200 ASCII letters, digits, '_', '-' or '.', not starting with '-' or '.'"
# systemd's user names (NAME_REGEX of adduser, also accepted by sysusers.d(5)) or a numeric UID.
USER_PATTERN = re.compile(r"[a-z_][a-z0-9_-]{0,30}|[0-9]{1,10}")
# More than a year is no limit but a slip of the unit.
MAX_S = 366 * 24 * 3600
# systemd counts in microseconds, and takes an AccuracySec= of 0 for "not set".
FINEST_S = 1e-6
# What runs once at each elapse: a job on each host that has it, or in all of them together.
HOST, FLEET = "host", "fleet"
# Why a calendar job alone has a word on late and missed runs.
_NO_LATE_RUN: dict[type[Trigger], dict[str, str]] = {
    IntervalTrigger: {
        "misfire_grace": "an interval counts from its last run, so no run of it is late",
        "persistent": "an interval is kept over a reboot and has no missed runs to leave out",
    },
    BootTrigger: {
        "misfire_grace": "a run of @reboot has no time that it could be late for",
        "persistent": "@reboot has a run after each boot and no missed ones to leave out",
    },
}


@dataclass(frozen=True, slots=True)
class Job:
    """One job of one application.

    `sereno.declare.options.Options` explains the options: their fields have their names, with a unit where there is
    one, and None is the template's.

    Attributes:
        id: unique on a machine; the instance name of its units.
        function: "module:name".
        sandboxed: whether the template has the whole sandbox: in the system scope. A user's manager makes a part of it.
        namespaces: whether it can make that of namespaces; False: a user's manager on a machine that refuses them.
        interpreter: absolute path of the Python that runs the function; None: the job has an entry script bin/<id>.
        import_paths: directories that this interpreter needs on its path to import sereno and the function.
    """

    id: str
    function: str
    trigger: Trigger
    app: str = "sereno"
    name: str = ""
    timeout_s: float | None = None
    user: str | None = None
    group: str | None = None
    access: Access = field(default_factory=Access)
    sandboxed: bool = True
    namespaces: bool = True
    interpreter: str | None = None
    import_paths: tuple[str, ...] = ()
    jitter_s: float = 0
    persistent: bool = True
    accuracy_s: float | None = None
    misfire_grace_s: float | None = None
    retry: Retry = field(default_factory=Retry)
    limits: Limits = field(default_factory=Limits)
    inputs: Inputs = field(default_factory=Inputs)
    after: tuple[str, ...] = ()
    only_if_success: bool = False
    once_per: str = HOST

    def __post_init__(self) -> None:
        check_name("id", self.id)
        check_name("app", self.app)
        object.__setattr__(self, "name", self.name or self.id)
        check_line("name", self.name)
        check_line("trigger", self.trigger.text)
        if self.timeout_s is not None:
            check_seconds("timeout", self.timeout_s, least=FINEST_S, most=MAX_S)
        self._check_fleet()
        self._check_timing()
        check_retry(self.retry, self.timeout_s)
        self._check_after()
        self._check_network()
        check_account("user", self.user)
        check_account("group", self.group)
        start = self.inputs.working_directory
        if start is not None and self.sandboxed and not self.finds_homes and is_in_a_home(start):
            fault = f"working_directory: {start!r} is in a home, and the sandbox has none"
            raise InvalidJob(fault, hint=f"home={READ_ONLY!r} besides")
        if self.import_paths and any(name == "PYTHONPATH" for name, _ in self.inputs.environment):
            raise InvalidJob(
                "environment: 'PYTHONPATH' is how the run finds sereno and the function",
                hint="let the package be found by its interpreter: install it, or add a .pth file",
            )
        for path in (self.interpreter or "/", *self.import_paths):
            if not path.startswith("/") or ":" in path or not path.isprintable():
                raise InvalidJob(
                    f"path: {path!r} cannot be given to another process",
                    hint="an absolute path without ':' and control characters",
                )

    def _check_timing(self) -> None:
        interval_s = self.interval_s
        check_seconds("jitter", self.jitter_s, least=0, most=MAX_S)
        if interval_s is not None and self.jitter_s >= interval_s:
            raise InvalidJob(
                f"jitter: {self.jitter_s!r} s is not less than the interval, {interval_s} s"
            )
        if self.accuracy_s is not None:
            most = MAX_S if interval_s is None else interval_s
            check_seconds("accuracy", self.accuracy_s, least=FINEST_S, most=most)
        if self.misfire_grace_s is not None:
            check_seconds("misfire_grace", self.misfire_grace_s, above=0, most=MAX_S)
        check_truth("persistent", self.persistent)
        given = {
            "misfire_grace": self.misfire_grace_s is not None,
            "persistent": not self.persistent,
        }
        for name, reason in _NO_LATE_RUN.get(type(self.trigger), {}).items():
            if given[name]:
                other = "" if self.at_boot else ", or give the times with add_cron_job"
                raise InvalidJob(f"{name}: {reason}", hint=f"leave {name} away{other}")

    def _check_after(self) -> None:
        for other in self.after:
            check_name("after", other)
        if self.id in self.after or len(set(self.after)) != len(self.after):
            raise InvalidJob(
                f"after: {self.after!r} names the job itself, or a job twice", hint="other ids"
            )
        check_truth("only_if_success", self.only_if_success)
        if self.only_if_success and not self.after:
            raise InvalidJob(
                "only_if_success: True without after= names no job that must have succeeded"
            )

    def _check_fleet(self) -> None:
        if self.once_per == HOST:
            return
        if self.once_per != FLEET:
            raise InvalidJob(f"once_per: {self.once_per!r} is neither {HOST!r} nor {FLEET!r}")
        trigger, reason = self.trigger, None
        if isinstance(trigger, IntervalTrigger):
            # Counted from the last run, it would have another phase on each host.
            object.__setattr__(self, "trigger", GridTrigger(trigger.interval_s))
        elif self.at_boot:
            reason = "@reboot is a run of each host, at no time that they share", "leave one away"
        elif isinstance(trigger, CronTrigger) and trigger.timezone is None:
            needed = "timezone= is needed, for the hosts of a fleet may be in several zones"
            reason = needed, "timezone='UTC', or the zone that is meant"
        if self.after:
            asked = "after= asks this host, and the other job's run may have been on another"
            reason = asked, "leave after= away"
        elif not self.access.network:
            reason = "the run itself asks a database, and has no network", "add network=True"
        if reason is not None:
            raise InvalidJob(f"once_per: {reason[0]}", hint=reason[1])

    def _check_network(self) -> None:
        # Never implied: it would open the network to the job itself, which nobody asked for.
        if self.access.network:
            return
        if self.inputs.ping_url is not None or self.inputs.ping_url_file is not None:
            raise InvalidJob(
                "ping_url: the run itself calls the monitor, and has no network",
                hint="add network=True, or be told of failures alone: `man sereno-notify`",
            )
        url = dict(self.inputs.environment).get(CACHE_URL, "")
        if url and not url.startswith("unix:"):
            raise InvalidJob(
                f"environment: {CACHE_URL} names a server on the network, which the job has not",
                hint="add network=True",
            )

    @property
    def interval_s(self) -> int | None:
        """Seconds between runs; None for other triggers."""
        return self.trigger.interval_s if isinstance(self.trigger, IntervalTrigger) else None

    @property
    def at_boot(self) -> bool:
        """Whether each boot runs it once."""
        return isinstance(self.trigger, BootTrigger)

    @property
    def finds_homes(self) -> bool:
        """Whether homes are there for its runs: it says so, or its code is in one."""
        code = (self.interpreter or "", *self.import_paths)
        return bool(self.access.home) or any(map(is_in_a_home, code))

    @property
    def has_entry_script(self) -> bool:
        """Whether bin/<id> runs the job: true for those that install.sh puts on the machine."""
        return self.interpreter is None


def check_name(field: str, value: object) -> str:
    """Return `value` if a unit name can hold it; raise `InvalidJob` that names `field` if not."""
    if not isinstance(value, str) or not NAME_PATTERN.fullmatch(value):
        raise InvalidJob(f"{field}: {value!r} cannot be part of a unit name", hint=NAME_RULE)
    return value


def ids_of(field: str, value: str | Iterable[str]) -> tuple[str, ...]:
    """The ids in `value`, one or several; raise `InvalidJob` that names `field` if it is neither."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise InvalidJob(f"{field}: {value!r} is neither the id of a job nor a list of ids")
    return tuple(value)


def check_account(kind: str, value: object) -> None:
    """Raise `InvalidJob` unless `value` can be the name or number of a system account of that kind, or is None."""
    if value is not None and not (isinstance(value, str) and USER_PATTERN.fullmatch(value)):
        raise InvalidJob(
            f"{kind}: {value!r} is not the name of a system {kind}",
            hint=f"lower-case letters, digits, '-' and '_', or a numeric {kind} id",
        )


def check_line(field: str, value: object) -> None:
    """Raise `InvalidJob` unless `value` is one printable line that a unit file can hold.

    A backslash at the end would join the next line of the unit file to this one (systemd.syntax(7)).
    """
    if not isinstance(value, str) or not value.isprintable() or value.endswith("\\"):
        raise InvalidJob(
            f"{field}: {value!r} is not one printable line",
            hint="no line break, no control character, no backslash at the end",
        )
