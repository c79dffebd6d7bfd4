"""systemd's own account of a job's latest run: what is known of it without a journal."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sereno.errors import SerenoError
from sereno.notify.throttle import Moment
from sereno.systemctl import Systemctl

PROPERTIES = (
    *("InvocationID", "ActiveState", "Result", "ExecMainCode", "ExecMainStatus"),
    *("InactiveExitTimestampMonotonic", "InactiveEnterTimestampMonotonic"),
)
# Of a child that ended, as waitid(2) has it: as systemd.exec(5) calls it in $EXIT_CODE.
_CODES = {"1": "exited", "2": "killed", "3": "dumped"}


class Account(NamedTuple):
    """A run as the manager tells of it; until `is_over` the rest says nothing.

    `result`, `exit_code`, `exit_status`: as `Event` has them; `began_s`, `ended_s`: seconds since this boot.
    """

    run_id: str
    is_over: bool
    result: str = ""
    exit_code: str = ""
    exit_status: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0

    @property
    def has_succeeded(self) -> bool:
        """Whether it ended well of itself: one that was stopped or left out has another exit status than 0."""
        return self.is_over and self[2:5] == ("success", "exited", "0")

    @property
    def has_failed(self) -> bool:
        return self.is_over and self.result != "success"


def of_monitored(environ: Mapping[str, str]) -> Account:
    """The account of a failed run in the variables that a handler of OnFailure= gets (systemd.exec(5))."""
    names = ("INVOCATION_ID", "SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")
    run_id, result, code, status = (environ.get(f"MONITOR_{name}", "") for name in names)
    return Account(run_id, True, result, code, status)


def of(shown: Mapping[str, str]) -> Account | None:
    """The account in a service's `PROPERTIES`, as `systemctl show` prints them; None: of no run. Pure."""
    if not shown.get("InvocationID"):
        return None
    code, status = _CODES.get(shown.get("ExecMainCode", ""), ""), shown.get("ExecMainStatus", "")
    began, ended = (int(shown.get(name) or 0) / 1e6 for name in PROPERTIES[-2:])
    return Account(
        shown["InvocationID"],
        shown.get("ActiveState") in ("inactive", "failed"),
        shown.get("Result", ""),
        code,
        exit_status(code, status) if code else "",
        began,
        ended,
    )


def exit_status(code: str, status: str) -> str:
    """A process's exit status, or the name of the signal that ended it."""
    if code != "exited" and status.isdigit():
        with suppress(ValueError):
            return signal.Signals(int(status)).name.removeprefix("SIG")
    return status


def ask(manager: Systemctl, job_ids: Collection[str]) -> dict[str, Account]:
    """The accounts of those of the jobs whose service is loaded; of none where there is no manager to ask."""
    services = {f"sereno@{job_id}.service": job_id for job_id in job_ids}
    try:
        # Of what is not loaded the manager knows nothing, and it would load it to say so.
        loaded = manager.list_units(*services) if services else {}
        shown = manager.show_all(services.keys() & loaded.keys(), *PROPERTIES)
    except SerenoError:
        return {}
    found = {services[service]: of(properties) for service, properties in shown.items()}
    return {job_id: account for job_id, account in found.items() if account is not None}


def moment(monotonic_s: float | None = None) -> Moment:
    """A time of this boot; None: now."""
    boot = ""
    # In a sandbox of an administrator's own /proc/sys may be missing; then all is taken to be of one boot.
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")
    return Moment(boot, time.monotonic() if monotonic_s is None else monotonic_s)
