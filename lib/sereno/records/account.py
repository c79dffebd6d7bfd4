"""systemd's own account of a job's latest run: what is known without a journal, since boot and while it is loaded."""

from __future__ import annotations

import signal
from collections.abc import Collection, Container, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from sereno.errors import SerenoError
from sereno.manager.names import ALL_SERVICES, job_of_service, service_name
from sereno.manager.systemctl import FEW, Systemctl, is_running
from sereno.records.run_record import Run, judged
from sereno.records.verdict import EXITS, SUCCESS, Seen

# systemd.exec(5), "Process Exit Codes", and org.freedesktop.systemd1(5) name these properties of a service.
PROPERTIES = (
    *("InvocationID", "ActiveState", "Result", "ExecMainCode", "ExecMainStatus", "StatusText"),
    *("ExecMainStartTimestamp", "ExecMainStartTimestampMonotonic"),
    *("ExecMainExitTimestamp", "ExecMainExitTimestampMonotonic"),
    *("InactiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"),
)  # fmt: skip
# Of a child that ended, as waitid(2) has it: as systemd.exec(5) calls it in $EXIT_CODE.
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}
# What a run has said by its status alone. The template's SuccessExitStatus= has systemd count these as a success; "15"
# is SIGTERM before Python was up.
_SAID = {**{str(number): status for status, number in EXITS.items()}, "15": "interrupted"}


class Account(NamedTuple):
    """A run as the manager tells of it; until `is_over` the rest says nothing.

    `result`, `exit_code`, `exit_status`: as `Event` has them; `began_s`, `ended_s`: seconds since this boot.
    `has_left`: it ended without a word of what it came to.
    """

    run_id: str
    is_over: bool
    result: str = ""
    exit_code: str = ""
    exit_status: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0
    has_left: bool = False

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended well of itself: one that was stopped or left out has another exit status than 0."""
        return self.is_over and self[2:5] == (SUCCESS, "exited", "0") and not self.has_left

    @property
    def has_failed(self) -> bool:
        return self.is_over and self.result != SUCCESS


def of(shown: Mapping[str, str]) -> Account | None:
    """The account in a service's `PROPERTIES`, as `systemctl show` prints them; None: of no run. Pure."""
    if not shown.get("InvocationID"):
        return None
    code = _CODES.get(shown.get("ExecMainCode", ""), "")
    return Account(
        shown["InvocationID"],
        shown.get("ActiveState") in ("inactive", "failed"),
        shown.get("Result", ""),
        code,
        exit_status(code, shown.get("ExecMainStatus", "")) if code else "",
        _seconds(shown, "InactiveExit"),
        _seconds(shown, "InactiveEnter"),
        has_left(shown),
    )


def run_of(job_id: str, shown: Mapping[str, str]) -> Run | None:
    """The same as a run, without statistics and by the status of its process; None: none whose process began. Pure."""
    # "@seconds", whole ones, or nothing.
    start_s, end_s = (
        float(at[1:])
        if (at := shown.get(f"ExecMain{which}Timestamp", "")).startswith("@")
        else None
        for which in ("Start", "Exit")
    )
    # Without an invocation its result is what a unit begins with.
    if not shown.get("InvocationID") or start_s is None:
        return None
    running = is_running(shown.get("ActiveState"))
    if running:
        end_s = None
    elif "ExecMainExitTimestampMonotonic" in shown:
        end_s = start_s + max(
            0.0, _seconds(shown, "ExecMainExit") - _seconds(shown, "ExecMainStart")
        )
    status, result = shown.get("ExecMainStatus", ""), shown.get("Result") or SUCCESS
    seen = Seen(
        _SAID.get(status) if result == SUCCESS and not has_left(shown) else None,
        result=result,
        exit_code=_CODES.get(shown.get("ExecMainCode", ""), ""),
        exit_status=status,
        limit=None,
        running=running,
    )
    return judged(job_id, shown["InvocationID"], start_s, end_s, seen, {}, is_over=not running)


def has_left(shown: Mapping[str, str]) -> bool:
    """Whether a run whose process is gone with a good status never said what it came to (os._exit(), exec)."""
    status = shown.get("ExecMainStatus", "")
    return shown.get("StatusText") == "running" and _SAID.get(status) in ("success", "skipped")


def _seconds(shown: Mapping[str, str], of_what: str) -> float:
    return int(shown.get(f"{of_what}TimestampMonotonic") or 0) / 1e6


def exit_status(code: str, status: str) -> str:
    """A process's exit status, or the name of the signal that ended it."""
    if code != "exited" and status.isdigit():
        with suppress(ValueError):
            return signal.Signals(int(status)).name.removeprefix("SIG")
    return status


def shown_of(
    manager: Systemctl, job_ids: Iterable[str], loaded: Container[str]
) -> dict[str, dict[str, str]]:
    """The `PROPERTIES` of those of the jobs whose service is loaded, by job id.

    Of what is not loaded the manager knows nothing, and it would load it to say so.
    """
    services = {service_name(job_id): job_id for job_id in job_ids}
    shown = manager.show_all([unit for unit in services if unit in loaded], *PROPERTIES)
    return {services[unit]: properties for unit, properties in shown.items()}


def ask(
    manager: Systemctl, job_ids: Collection[str], *, failed: bool = False
) -> dict[str, Account]:
    """The accounts of those of the jobs whose service is loaded; of none where there is no manager to ask.

    `failed`: and of all jobs whose service failed and was neither started nor reset since.
    """
    units = {service_name(job_id) for job_id in job_ids}
    try:
        names = units if len(units) <= FEW else (ALL_SERVICES,)
        loaded = units.intersection(manager.list_units(*names) if units else ())
        if failed:
            loaded |= manager.list_units(ALL_SERVICES, state="failed").keys()
        shown = manager.show_all(sorted(loaded), *PROPERTIES)
    except SerenoError:
        return {}
    found = {job_of_service(unit): of(properties) for unit, properties in shown.items()}
    return {job_id: account for job_id, account in found.items() if account is not None}
