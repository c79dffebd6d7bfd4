"""The text of a crontab → its jobs, and what there is to say of each line. Pure.

The format is that of Debian's cron (crontab(5); `load_env()` and `load_entry()` in env.c and entry.c, `child_process()`
in do_command.c): environment lines hold for the entries after them; in a command the first "%" that has no backslash
begins the standard input, and each further one there is a line break.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sereno.errors import InvalidTrigger, UsageError
from sereno.job import check_user
from sereno.triggers import CronTrigger, warnings
from sereno.triggers.crontext import MACROS

# What cron sets without being asked; systemd's own PATH is another.
DEFAULT_SHELL = "/bin/sh"
DEFAULT_PATH = "/usr/bin:/bin"
_ENVIRONMENT = re.compile(
    r"""(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s='"]+))\s*=\s*(?P<value>.*)"""
)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"/[A-Za-z0-9_./+@:,=~-]*")
_UNESCAPED_PERCENT = re.compile(r"(?<!\\)%")


@dataclass(frozen=True, slots=True)
class Remark:
    """What is to be said of one line, counted from 1."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One job of a crontab.

    Attributes:
        line: its line, counted from 1.
        trigger: when it runs; None: at each boot (@reboot).
        user: the system user of the run; None: the crontab's owner.
        command: what the shell gets.
        stdin: the text after the first "%", without its last line break; None: nothing.
        shell: absolute path of the program that runs the command.
        home: working directory; None: the user's own.
        environment: variables to set, PATH among them.
    """

    line: int
    trigger: CronTrigger | None
    user: str | None
    command: str
    stdin: str | None
    shell: str
    home: str | None
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Crontab:
    """What was read: the jobs, the `remarks` on what changes for them, and the lines that were `refused`."""

    entries: tuple[Entry, ...]
    remarks: tuple[Remark, ...]
    refused: tuple[Remark, ...]


def read_crontab(
    text: str, *, system: bool = False, user: str | None = None, local_zone: str | None = None
) -> Crontab:
    """Read a crontab. A line that cannot be moved is refused alone; the others are read all the same.

    Args:
        system: the format of /etc/crontab and /etc/cron.d, with a user name before each command.
        user: the user of the entries that name none.
        local_zone: name of the machine's zone, for the remarks on clock changes; default: not known.
    """
    reader = _Reader(system, user, local_zone)
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.lstrip(" \t")
        if line and not line.startswith("#"):
            reader.read(number, line)
    return Crontab(tuple(reader.entries), tuple(reader.remarks), tuple(reader.refused))


class _Reader:
    def __init__(self, system: bool, user: str | None, local_zone: str | None) -> None:
        self.system, self.user, self.local_zone = system, user, local_zone
        self.entries: list[Entry] = []
        self.remarks: list[Remark] = []
        self.refused: list[Remark] = []
        self.variables = {"PATH": DEFAULT_PATH}
        self.shell = DEFAULT_SHELL
        self.home: str | None = None
        self.zone: str | None = None

    def read(self, number: int, line: str) -> None:
        try:
            variable = _ENVIRONMENT.fullmatch(line)
            if variable:
                name = variable["double"] or variable["single"] or variable["bare"] or ""
                self._set(number, name, _unquoted(variable["value"]))
            else:
                self.entries.append(self._entry(number, line))
        except UsageError as error:
            hint = f" (hint: {error.hint})" if error.hint else ""
            self.refused.append(Remark(number, error.message + hint))

    def _set(self, number: int, name: str, value: str) -> None:
        if not _VARIABLE.fullmatch(name):
            raise UsageError(f"variable: {name!r} cannot be set for a service")
        match name:
            case "MAILTO":
                self._remark(
                    number, f"MAILTO={value!r}: no mail is sent; output goes to the journal"
                )
            case "LOGNAME" | "USER":
                self._remark(number, f"{name}: left out; it follows from the user of the run")
            case "RANDOM_DELAY":
                self._remark(number, f"RANDOM_DELAY={value!r}: left out; see RandomizedDelaySec=")
            case "CRON_TZ":
                # An unknown zone is refused now; so are the entries that would count in it.
                CronTrigger.from_expression("@daily", timezone=value)
                self.zone = value
                self._remark(number, f"CRON_TZ={value}: taken as meant; Debian's cron ignores it")
            case "SHELL" | "HOME" if not _PLACE.fullmatch(value):
                raise UsageError(f"{name}: {value!r} is not an absolute path of plain characters")
            case "SHELL":
                self.shell = self.variables[name] = value
            case "HOME":
                self.home = self.variables[name] = value
            case _:
                self.variables[name] = value

    def _entry(self, number: int, line: str) -> Entry:
        trigger, rest = self._schedule(number, line)
        user = self.user
        if self.system:
            user, rest = (*rest.split(None, 1), "", "")[:2]
            check_user("user", user)
        command, stdin = split_percent(rest.lstrip(" \t"))
        if not command.strip():
            raise UsageError("command: missing")
        return Entry(
            line=number,
            trigger=trigger,
            user=user,
            command=command,
            stdin=stdin,
            shell=self.shell,
            home=self.home,
            environment=dict(self.variables),
        )

    def _schedule(self, number: int, line: str) -> tuple[CronTrigger | None, str]:
        count = 1 if line.startswith("@") else 5
        words = line.split(None, count)
        rest = words[count] if len(words) > count else ""
        schedule = " ".join(words[:count])
        if schedule == "@reboot":
            self._remark(number, "@reboot: a service that each boot starts, without a timer")
            return None, rest
        if count == 1 and schedule not in MACROS:
            # The message of the field's own reader names the words that there are.
            raise _refusal(schedule)
        trigger = CronTrigger.from_expression(schedule, timezone=self.zone)
        for warning in warnings(trigger, local_zone=self.local_zone):
            self._remark(number, warning)
        return trigger, rest

    def _remark(self, number: int, text: str) -> None:
        self.remarks.append(Remark(number, text))


def _refusal(schedule: str) -> InvalidTrigger:
    try:
        CronTrigger.from_expression(schedule)
    except InvalidTrigger as error:
        return error
    raise AssertionError(schedule)


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value


def split_percent(text: str) -> tuple[str, str | None]:
    r"""The command and its standard input: `mail a%Hi%there` and `date +\%F` as cron reads them.

    >>> split_percent(r"mail a%Hi 5\%%there")
    ('mail a', 'Hi 5%\nthere')
    >>> split_percent(r"date +\%F")
    ('date +%F', None)
    """
    command, *lines = [part.replace("\\%", "%") for part in _UNESCAPED_PERCENT.split(text)]
    return command, "\n".join(lines).removesuffix("\n") if lines else None
