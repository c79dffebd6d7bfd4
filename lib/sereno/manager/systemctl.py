"""systemctl(1): the only module that talks to systemd's manager.

A subprocess and not D-Bus: python-systemd has no D-Bus client, and one call covers any number of units.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from sereno.errors import NoAnswer, NotAllowed, NotAvailable, SystemdError, in_scope, rights_hint
from sereno.manager.names import ALL_JOBS, service_name, timer_name

# systemctl's arguments, and the seconds within which it has to answer; None: it waits for a run.
Call = Callable[[Sequence[str], float | None], "subprocess.CompletedProcess[str]"]

NOT_BOOTED = "has not been booted with systemd"
_NO_MANAGER = (
    NOT_BOOTED,
    "Failed to connect to bus",
    "Failed to connect to system scope bus",
    "Failed to connect to user scope bus",
)
# What root's systemctl says when its own time for the answer of a manager that stands still is over, 95 s in 252.
_NO_ANSWER = ("Transport endpoint is not connected", "Connection timed out")
# What an active timer without a next elapse is here: it counts as not active. Only timers have a SubState of that name.
ELAPSED = "elapsed"
_TIMERS_CALENDAR = re.compile(r"\{ OnCalendar=(.*) ; next_elapse=.*\}")
_SPAN_PART = re.compile(r"([0-9.]+)(y|month|w|d|h|min|s|ms|us)\b")
# systemd.time(7)
_UNIT_S = {
    "y": 31_557_600, "month": 2_629_800, "w": 604_800, "d": 86_400, "h": 3600, "min": 60, "s": 1,
    "ms": 1e-3, "us": 1e-6,
}  # fmt: skip
# For a manager that reloads a thousand units on a slow disk. systemctl itself waits up to 25 s for each answer, and for
# the end of a job without a limit.
LIMIT_S = 120.0
# So many units are asked for by name. The manager compares each name with each unit.
FEW = 50
_NO_RIGHTS = ("Access denied", "Interactive authentication required", "Permission denied")


@dataclass(frozen=True, slots=True)
class Elapse:
    """Wall-clock times of a timer: `next` is None while its service runs, `last` before its first elapse."""

    next: datetime | None
    last: datetime | None


def states_in(units: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """ActiveState by unit name, of `Systemctl.list_units`; an active timer without a next elapse is `ELAPSED`."""
    return {
        unit: row["SubState"] if row["SubState"] == ELAPSED else row["ActiveState"]
        for unit, row in units.items()
    }


def is_active(state: str | None, *, at_boot: bool = False) -> bool:
    """Whether a unit is active or about to be, by `states_in`; None: it is not loaded.

    A timer without a next elapse is not, but for one of @reboot, which has had its run.
    """
    return state in ("active", "activating", "reloading") or (state == ELAPSED and at_boot)


def is_running(service: str | None) -> bool:
    """Whether a run is under way, by its service's ActiveState; None: it is not loaded."""
    return service in ("activating", "active", "reloading", "deactivating")


def is_of_a_user(environ: Mapping[str, str]) -> bool:
    """Whether a user's manager started the process with that environment, and not the system's."""
    # systemd.exec(5): the former alone sets it.
    return "MANAGERPID" in environ


class Systemctl:
    """One manager: the system's, or the calling user's.

    Args:
        user: True for the user's manager.
        call: runs an argument vector; tests put their own here.

    Every method raises `NotAvailable` when there is no manager, `NotAllowed` when it denies access, `NoAnswer` when it
    does not answer within `LIMIT_S`, and `SystemdError` with systemctl's own words when it fails otherwise.
    """

    def __init__(self, *, user: bool = False, call: Call | None = None) -> None:
        scope = ("--user",) if user else ()
        self._prefix = ("systemctl", *scope, "--no-pager", "--no-ask-password")
        self._user = user
        self._call = call or asked

    @classmethod
    def of_this_process(cls, environ: Mapping[str, str], call: Call | None = None) -> Systemctl:
        """The manager that started this process, a run."""
        return cls(user=is_of_a_user(environ), call=call)

    def reload(self) -> None:
        self._run("daemon-reload")

    def start(self, units: Iterable[str], *, wait: bool = True) -> None:
        """Start units in one call. A oneshot service is waited for, as long as it runs, unless `wait` is False."""
        units = list(units)
        is_run = wait and any(unit.endswith(".service") for unit in units)
        self._units("start", units, *(() if wait else ("--no-block",)), is_endless=is_run)

    def start_alone(self, units: Iterable[str]) -> None:
        """Start units and nothing that they want or need; what is starting already is waited for as they ask."""
        self._units("start", units, "--job-mode=ignore-requirements")

    def restart(self, units: Iterable[str]) -> None:
        """Have units stopped and started, and do not wait for it."""
        self._units("restart", units, "--no-block")

    def stop(self, units: Iterable[str]) -> None:
        """Stop units; one that is not loaded counts as stopped."""
        # Only what is active: systemd loads an inactive unit, tells of it and unloads it, a hundred of them in 25 s.
        stopped = [unit for unit, state in self._states(units) if state != "inactive"]
        # Quiet: or systemctl asks of each what could start it again, for which systemd loads what it has just unloaded.
        self._units("stop", stopped, "--quiet")

    def reset_failed(self, units: Iterable[str]) -> None:
        """Forget the failed state of units; one that is not loaded has none."""
        self._units("reset-failed", units, check=False)

    def list_timers(self, *names: str) -> dict[str, Elapse]:
        """Those timers (default: all of jobs) that are active, failed or about to start, by unit name: one call.

        Args:
            names: names of timers, or patterns.
        """
        patterns = [name for name in names or (ALL_JOBS,) if "*" in name]
        # Of a pattern the manager makes half as much work again as of all timers (252; 1,000 timers: 160 and 110 ms).
        named = ("--", *names) if len(names) <= FEW and not patterns else ()
        text = self._run("list-timers", "--output=json", *named).stdout
        return {
            row["unit"]: Elapse(next=_moment(row["next"]), last=_moment(row["last"]))
            for row in json.loads(text or "[]")
            if (unit := row["unit"]) in names or any(fnmatchcase(unit, each) for each in patterns)
        }

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of one unit as systemctl prints them; times as "@seconds" since the epoch."""
        return self.show_all([unit], *properties)[unit]

    def show_all(self, units: Iterable[str], *properties: str) -> dict[str, dict[str, str]]:
        """Properties of many units in one call, by unit name, as `show` gives them; one that comes several times is
        joined by line breaks."""
        units = list(units)
        if not units:
            return {}
        chosen = "--property=" + ",".join(("Id", *properties))
        text = self._run("show", "--timestamp=unix", "--all", chosen, "--", *units).stdout
        found: dict[str, dict[str, str]] = {}
        for unit, block in zip(units, text.split("\n\n"), strict=True):
            shown = found.setdefault(unit, {})
            for line in block.strip("\n").split("\n"):
                key, _, value = line.partition("=")
                shown[key] = f"{shown[key]}\n{value}" if key in shown else value
        return found

    def list_units(self, *patterns: str, state: str = "") -> dict[str, dict[str, str]]:
        """LoadState, ActiveState and SubState of every loaded unit that matches and is in `state` ("failed"; "": any),
        by unit name: one call for all."""
        chosen = f"--state={state}" if state else "--all"
        text = self._run("list-units", chosen, "--output=json", "--", *patterns).stdout
        names = {"LoadState": "load", "ActiveState": "active", "SubState": "sub"}
        return {
            row["unit"]: {name: row[key] for name, key in names.items()}
            for row in json.loads(text or "[]")
        }

    def is_starting(self, *patterns: str) -> bool:
        """Whether a unit that matches is about to be started: a job waits in the manager's queue, or is at it."""
        listed = self._run("list-jobs", "--plain", "--no-legend", "--", *patterns).stdout
        return any(row.split()[2:3] == ["start"] for row in listed.splitlines())

    def loaded_s(self) -> float:
        """When the manager last began to read unit files, at boot or by a daemon-reload: seconds since the epoch."""
        # The second one is empty until the first daemon-reload.
        names = "UnitsLoadStartTimestamp,UnitsLoadTimestamp"
        text = self._run("show", "--timestamp=us+utc", f"--property={names}", "--value").stdout
        return max(
            datetime.strptime(line, "%a %Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC).timestamp()
            for line in text.splitlines()
            if line
        )

    def version(self) -> str:
        """The running manager's version, such as "252.39-1~deb12u1"."""
        return self._run("show", "--property=Version", "--value").stdout.strip()

    def run_of(self, job_id: str, *properties: str) -> tuple[bool, list[str], dict[str, str]]:
        """Of a job's run that is under way: whether its timer started it, the calendar expressions that the manager has
        for the timer, and properties of the service.

        The timer did if it elapsed after the run before had ended. Its state does not tell: a timer that is stopped
        meanwhile is "dead", and keeps its times by the template's After=. Nor does `TRIGGER_TIMER_MONOTONIC_USEC=`,
        which keeps the first trigger's value, also in runs that somebody starts (252, 257).
        """
        timer, service = timer_name(job_id), service_name(job_id)
        times = "LastTriggerUSecMonotonic", "InactiveEnterTimestampMonotonic"
        found = self.show_all((timer, service), *times, "TimersCalendar", *properties)
        elapsed_s, ended_us = seconds(found[timer].get(times[0], "")), found[service].get(times[1])
        calendars = calendars_in(found[timer].get("TimersCalendar", ""))
        return elapsed_s > int(ended_us or 0) / 1e6, calendars, found[service]

    def is_active(self, unit: str) -> bool:
        """Whether a unit is active. `systemctl is-active` ends with 3 or 4 when not, which is no error."""
        return self._run("is-active", "--", unit, check=False).stdout.strip() == "active"

    def states(self, *patterns: str) -> dict[str, str]:
        """`states_in` of every loaded unit that matches: one call for all."""
        return states_in(self.list_units(*patterns))

    def active_units(self, *patterns: str) -> set[str]:
        """Those of the matching units for which `is_active` says so."""
        return {unit for unit, state in self.states(*patterns).items() if is_active(state)}

    def running(self, units: Iterable[str]) -> set[str]:
        """Those of the services `units` that run at this moment."""
        return {unit for unit, state in self._states(units) if is_running(state)}

    def _states(self, units: Iterable[str]) -> Iterable[tuple[str, str]]:
        units = list(units)
        # Without any name it would be all units of the machine.
        return self.states(*units).items() if units else ()

    def _units(self, verb: str, units: Iterable[str], *options: str, **how: bool) -> None:
        units = list(units)
        if units:
            self._run(verb, *options, "--", *units, **how)

    def _run(
        self, *words: str, check: bool = True, is_endless: bool = False
    ) -> subprocess.CompletedProcess[str]:
        try:
            done = self._call((*self._prefix, *words), None if is_endless else LIMIT_S)
        except subprocess.TimeoutExpired as error:
            raise self._no_answer(
                f"systemctl {words[0]}: no answer within {error.timeout:g} s"
            ) from None
        except FileNotFoundError:
            missing = "systemd: there is no systemctl on this machine"
            raise NotAvailable(missing, hint="sereno needs systemd 252 or later") from None
        if any(text in done.stderr for text in _NO_MANAGER):
            if self._user:
                hint = "log in with a user session, or: loginctl enable-linger"
            elif NOT_BOOTED in done.stderr:
                hint = "the jobs run only on a machine that systemd has booted"
            else:
                hint = "the timers may go on without an answer; when it answers again says "
                hint += in_scope("systemctl status", user=False)
            raise NotAvailable(f"systemd: {done.stderr.strip().splitlines()[0]}", hint=hint)
        if check and done.returncode != 0:
            detail = done.stderr.strip() or f"exit status {done.returncode}"
            failure = f"systemctl {words[0]}: {detail}"
            if any(text in detail for text in _NO_RIGHTS):
                raise NotAllowed(failure, hint=rights_hint(user=self._user))
            if any(text in detail for text in _NO_ANSWER):
                raise self._no_answer(f"systemctl {words[0]}: no answer: {detail}")
            raise SystemdError(failure)
        return done

    def _no_answer(self, what: str) -> NoAnswer:
        asking = in_scope("systemctl list-jobs", user=self._user)
        return NoAnswer(what, hint=f"{asking} shows what systemd waits for")


def calendars_in(value: str) -> list[str]:
    """The calendar expressions in a timer's property TimersCalendar, one a line."""
    return [match[1] for match in map(_TIMERS_CALENDAR.fullmatch, value.split("\n")) if match]


def seconds(span: str) -> float:
    """A time span as a unit file has it or `systemctl show` prints it: "1min 500ms"; 0 for none, or one without end."""
    return sum(float(number) * _UNIT_S[unit] for number, unit in _SPAN_PART.findall(span))


def asked(argv: Sequence[str], limit_s: float | None) -> subprocess.CompletedProcess[str]:
    """Run a program of systemd's and take what it says, in words that can be recognised: not translated."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        argv, check=False, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL,
        timeout=limit_s,
    )  # fmt: skip


def _moment(microseconds: int | None) -> datetime | None:
    """`systemctl list-timers -o json` gives wall-clock microseconds for both kinds of timers, 0 or null for none."""
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC) if microseconds else None
