"""`sereno history` and `sereno logs`: what the journal has of a job."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from sereno.cli.arguments import (
    Commands,
    add_job,
    add_reading,
    add_scope,
    installation_of,
    print_json,
)
from sereno.errors import NotAvailable, UsageError

if TYPE_CHECKING:
    from sereno.cli.terminal import Screen
    from sereno.observe.totals import Period, Statistic
    from sereno.records.run_record import Run
    from sereno.units.installation import Installation

_DAY_S = 86_400
_SHOWN_ID = 8
# Characters of what a run came to, also where no terminal's width cuts it.
_MOST_WHAT = 500
_RUN_ID = re.compile(r"[0-9a-f]{4,32}")
# The run's own measure; a job may have a statistic duration_ms of its own.
_DURATION = "run_duration_ms"
_HEADER = ("START", "RESULT", "DURATION", "RUN", "WHAT")


def add_to(commands: Commands) -> None:
    sub = commands.add("history", _history, "show a job's runs, with totals, means and sparklines")
    add_job(sub)
    sub.add_argument(
        "--days", type=float, default=7.0, metavar="N", help="how far back (default: 7)"
    )
    sub.add_argument(
        "-n", type=int, default=20, metavar="COUNT", dest="count",
        help="runs to list, the newest (default: 20); totals are of all",
    )  # fmt: skip
    add_reading(sub, "an object with runs, totals and means")
    add_scope(sub)

    sub = commands.add("logs", _logs, "show what a job logged, by journalctl")
    add_job(sub)
    sub.add_argument("-f", "--follow", action="store_true", help="go on as it is logged")
    sub.add_argument("--run", metavar="ID", help="one run: its id or the beginning of it")
    sub.add_argument("-n", metavar="COUNT", type=int, dest="count", help="the last lines only")
    add_reading(sub, "journalctl's records, one a line")
    add_scope(sub)


def _history(arguments: argparse.Namespace) -> None:
    from sereno.manager.names import service_name
    from sereno.observe.runs import Runs
    from sereno.observe.totals import period_of
    from sereno.records.run_record import iso

    if not 0 < arguments.days <= 36_600:
        raise UsageError(f"--days: {arguments.days:g} is not in the range above 0 to 36600")
    if arguments.count < 0:
        raise UsageError(f"-n: {arguments.count} is negative")
    installation = installation_of(arguments)
    job = installation.job(arguments.job)
    until_s = time.time()
    since_s = until_s - arguments.days * _DAY_S
    with Runs(user=installation.scope.is_user) as past:
        runs = past.history(
            job.id, since_s=since_s, running_id=_running_id(installation, service_name(job.id))
        )
    period = period_of(runs)
    now = cache_now(job.function, user=installation.scope.is_user)
    if arguments.json:
        print_json(
            {
                "job": job.id,
                "since": iso(since_s, arguments.zone),
                "until": iso(until_s, arguments.zone),
                **period.as_json(),
                "now": now,
                "history": [run.as_json(arguments.zone) for run in runs],
            }
        )
    else:
        _print_runs(runs[max(0, len(runs) - arguments.count) :], arguments.zone)
        _print_period(runs, period, arguments.days, now)


def _running_id(installation: Installation, service: str) -> str | None:
    from sereno.manager.systemctl import is_running

    try:
        shown = installation.manager.show(service, "ActiveState", "InvocationID")
    except NotAvailable:
        return None
    return shown.get("InvocationID") if is_running(shown.get("ActiveState")) else None


def cache_now(function: str, *, user: bool) -> dict[str, Any] | None:
    """Of the cache's cleanup: the scope's cache at this moment; None for other jobs, and where it cannot be read."""
    from sereno.jobs import cache_cleanup_job

    if function != f"{cache_cleanup_job.__name__}:cleanup_expired_cache":
        return None
    from sereno.errors import SerenoError

    try:
        from sereno.cache import as_owner, place
        from sereno.cache.board import CURRENT

        # The machine's runs have the machine's cache, also for somebody who may not use it and so has another.
        path = place.default_path("metadata") if user else f"{place.MACHINE_DIRECTORY}/metadata"
        # Looking must not make it.
        if not os.path.lexists(f"{path}/{CURRENT}"):
            return None
        stats = as_owner.figures(as_owner.ask(path, "get_stats"), path)
    except (SerenoError, OSError, ImportError):
        return None
    return {name: stats[name] for name in ("size", "max_size", "hit_rate_percent")}


def _print_runs(runs: Sequence[Run], zone: tzinfo | None) -> None:
    from sereno.cli.terminal import Screen, colour_of, duration, when
    from sereno.records.printable import printable

    rows = [
        (
            when(run.at_s, zone),
            printable(run.status),
            duration(run.duration_ms),
            printable(run.run_id[:_SHOWN_ID]),
            printable(run.what, _MOST_WHAT),
        )
        for run in runs
    ]
    colours = [{"RESULT": colour_of(run.status)} for run in runs]
    if rows:
        Screen().table(
            _HEADER, rows, cut=("WHAT",), drop=("DURATION", "WHAT", "RUN"), colours=colours
        )


def _print_period(
    runs: Sequence[Run], period: Period, days: float, now: dict[str, Any] | None
) -> None:
    from sereno.cli.terminal import Screen
    from sereno.observe.totals import durations_ms, series
    from sereno.records.printable import printable

    screen = Screen()
    counts = ", ".join(f"{count} {printable(status)}" for status, count in period.counts.items())
    print(
        f"{'' if not runs else chr(10)}{days:g} days: {len(runs)} runs"
        + (f" ({counts})" if counts else "")
    )
    if now is not None:
        print(
            f"the cache now: {now['size']} of {now['max_size'] or 'any number of'} entries,"
            f" hit rate {now['hit_rate_percent']:.1f}%"
        )
    rows = [
        _figures(screen, name, figure, series(runs, name))
        for name, figure in period.statistics.items()
    ]
    if period.duration_ms is not None:
        rows.insert(0, _figures(screen, _DURATION, period.duration_ms, durations_ms(runs)))
    if rows:
        print()
        header = ("STATISTIC", "TOTAL", "MEAN", "LEAST", "MOST", "LAST", "OVER TIME")
        screen.table(header, rows, drop=("LEAST", "MOST", "OVER TIME", "TOTAL"))


def _figures(
    screen: Screen, name: str, figure: Statistic, values: Sequence[float]
) -> tuple[str, ...]:
    from sereno.cli.terminal import number
    from sereno.observe.totals import sparkline
    from sereno.records.printable import printable

    line = sparkline(values, ascii_only=screen.is_ascii)
    return (printable(name), *(number(value) for value in figure), line)


def _logs(arguments: argparse.Namespace) -> None:
    installation = installation_of(arguments)
    job = installation.job(arguments.job)
    run_id = None if arguments.run is None else _run_id(installation, job.id, arguments.run)
    words = ["journalctl", *_matches(installation, job.id, run_id)]
    words += ["--follow"] if arguments.follow else []
    words += [f"--lines={arguments.count}"] if arguments.count is not None else []
    words += ["--output=json", "--all"] if arguments.json else []
    words += ["--utc"] if arguments.zone else []
    try:
        # In this process's place: the pager, Ctrl-C and the exit status are journalctl's.
        os.execvp(words[0], words)
    except FileNotFoundError:
        raise NotAvailable("journalctl: there is none on this machine") from None


def _run_id(installation: Installation, job_id: str, given: str) -> str:
    """The id of a run that `given` is the beginning of."""
    from sereno.errors import NoSuchJob
    from sereno.observe.runs import Runs
    from sereno.records.run_record import run_id_of

    wanted = given.lower().replace("-", "")
    history = installation.scope.command(f"sereno history {job_id}")
    if not _RUN_ID.fullmatch(wanted):
        raise UsageError(
            f"--run: {given!r} is not a run's id: 4 to 32 hexadecimal digits",
            hint=f"`{history}` shows them",
        )
    if len(wanted) == 32:
        return wanted
    with Runs(user=installation.scope.is_user) as runs:
        ids = dict.fromkeys(run_id_of(record) for record in runs.records(job_id))
    found = [each for each in ids if each.startswith(wanted)]
    if not found:
        raise NoSuchJob(
            f"--run: the journal has no run of {job_id} whose id begins with {wanted!r}",
            hint=f"`{history}` shows them",
        )
    if len(found) > 1:
        raise UsageError(
            f"--run: {wanted!r} is the beginning of {len(found)} runs: give more digits"
        )
    return found[0]


def _matches(installation: Installation, job_id: str, run_id: str | None) -> list[str]:
    """journalctl's matches for what a job's runs said and what systemd said of its unit, and for nothing else."""
    from sereno.manager.names import service_name

    user = installation.scope.is_user
    service, own = service_name(job_id), [f"_UID={os.geteuid()}"] if user else []
    printed = [f"_SYSTEMD_{'USER_' if user else ''}UNIT={service}", *own]
    manager = [f"USER_UNIT={service}", *own] if user else ["_PID=1", f"UNIT={service}"]
    if run_id is None:
        groups = [printed, manager]
    else:
        invocation = f"{'USER_' if user else ''}INVOCATION_ID={run_id}"
        groups = [
            [*printed, f"SERENO_RUN={run_id}"],
            [*printed, f"_SYSTEMD_INVOCATION_ID={run_id}"],
            [*manager, invocation],
        ]
    groups += [
        list(fields)
        for fields in _without_unit(installation, job_id)
        if run_id is None or f"SERENO_RUN={run_id}" in fields
    ]
    return [word for group in groups for word in ("+", *group)][1:]


def _without_unit(installation: Installation, job_id: str) -> Iterable[Sequence[str]]:
    """What finds each of a job's own records that journald knows no unit of, and no stranger's."""
    from sereno.observe.runs import Runs
    from sereno.records.run_record import text

    names = ("SERENO_JOB", "SERENO_RUN", "_UID", "_PID")
    try:
        with Runs(user=installation.scope.is_user) as runs:
            return dict.fromkeys(
                tuple(f"{name}={text(record, name)}" for name in names)
                for record in runs.records(job_id)
                if "_SYSTEMD_UNIT" not in record and "_SYSTEMD_USER_UNIT" not in record
            )
    except NotAvailable:
        return ()
