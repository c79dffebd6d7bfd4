"""`sereno list`: what is installed, and when it elapses."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from typing import Any

from sereno.commands import Commands, add_scope, installation_of


def add_to(commands: Commands) -> None:
    add_scope(commands.add("list", _list, "show the installed jobs and their next elapse"))


def _list(arguments: argparse.Namespace) -> None:
    from sereno.status import job_status
    from sereno.units import timer_name

    installation = installation_of(arguments)
    elapses = installation.elapses()
    jobs = [
        job_status(None, job, elapses.get(timer_name(job_id)))
        for job_id, job in sorted(installation.jobs().items())
    ]
    if not jobs:
        other = "system" if installation.scope.is_user else "user"
        print(
            f"no jobs in the {installation.scope.name} scope; --{other} shows the other one",
            file=sys.stderr,
        )
        return
    rows = [("JOB", "APP", "TRIGGER", "NEXT", "STATE")]
    rows += [
        (job["id"], job["app"], job["trigger"], _local(job["next_run"]), _state(job))
        for job in jobs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _state(job: dict[str, Any]) -> str:
    if job["paused"]:
        return "paused"
    return "active" if job["active"] else "stopped"


def _local(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z")
