"""`sereno history` and `sereno logs`: what the journal has of a job."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import tzinfo
from typing import Any

from sereno.cli import fleet
from sereno.cli.arguments import (
    add_days,
    add_fleet,
    add_job,
    add_reading,
    add_scope,
    check_days,
    count,
    installation_of,
    print_json,
)
from sereno.cli.terminal import Screen, duration, number, when
from sereno.errors import NoAnswer, NoSuchJob, NotAvailable, UsageError
from sereno.manager.names import service_name
from sereno.manager.systemctl import is_running
from sereno.observe import runs
from sereno.observe.cache_now import cache_now
from sereno.observe.job_state import is_unanswered, without_answer
from sereno.observe.totals import Period, Statistic, durations_ms, period_of, series, sparkline
from sereno.records.journal_reader import CLOSED, may_read_journal
from sereno.records.printable import printable
from sereno.records.run_record import Run, iso, run_id_of, text
from sereno.units.installation import Installation

_DAY_S = 86_400
_SHOWN_ID = 8
# Characters of what a run came to, also where no terminal's width cuts it.
_MOST_WHAT = 500
_LEVELS = "emerg alert crit err warning notice info debug".split()
_RUN_ID = re.compile(r"[0-9a-f]{4,32}")
# The run's own measure; a job may have a statistic duration_ms of its own.
_DURATION = "run_duration_ms"
_HEADER = ("START", "RESULT", "DURATION", "RUN", "WHAT")


def add_history(sub: argparse.ArgumentParser) -> None:
    add_job(sub)
    add_days(sub)
    sub.add_argument(
        "-n", type=count, default=20, metavar="COUNT", dest="count",
        help="runs to list, the newest (default: 20); totals are of all",
    )  # fmt: skip
    add_reading(sub, "an object with runs, totals and means")
    add_fleet(sub, "the runs", fleet.show_job)
    add_scope(sub)
    sub.set_defaults(command=_history)


def add_logs(sub: argparse.ArgumentParser) -> None:
    add_job(sub)
    sub.add_argument("-f", "--follow", action="store_true", help="go on as it is logged")
    sub.add_argument("--run", metavar="ID", help="one run: its id or the beginning of it")
    sub.add_argument("-n", metavar="COUNT", type=count, dest="count", help="the last lines only")
    sub.add_argument(
        "-S", "--since", metavar="TIME",
        help="from then on: '2026-11-29 04:00', 'yesterday', '-2h'; see systemd.time(7)",
    )  # fmt: skip
    sub.add_argument("-U", "--until", metavar="TIME", help="up to then")
    # "-2h" is a time, and no option.
    sub._negative_number_matcher = re.compile(r"-\d")
    sub.add_argument(
        "-p", "--priority", "--level", metavar="LEVEL", type=str.lower, choices=_LEVELS,
        help=f"this level and graver ones: {', '.join(_LEVELS)}",
    )  # fmt: skip
    add_reading(sub, "journalctl's records, one a line")
    add_scope(sub)
    sub.set_defaults(command=_logs)


def _history(arguments: argparse.Namespace) -> None:
    check_days(arguments, most=36_600)
    installation = installation_of(arguments)
    job = installation.job(arguments.job)
    until_s = time.time()
    since_s = until_s - arguments.days * _DAY_S
    unit, no_answer = dict[str, str](), ""
    try:
        unit = installation.manager.show(service_name(job.id), "ActiveState", "InvocationID")
    except (NotAvailable, NoAnswer) as error:
        no_answer = error.message
    running_id = unit.get("InvocationID") if is_running(unit.get("ActiveState")) else None
    with runs.Runs(user=installation.scope.is_user) as past:
        found = past.history(job.id, since_s=since_s, running_id=running_id)
    if is_unanswered(no_answer):
        found = [*found[:-1], *map(without_answer, found[-1:])]
    if not (installation.scope.is_user or may_read_journal()):
        print(f"warning: {CLOSED}", file=sys.stderr)
    period = period_of(found)
    now = cache_now(job.function, user=installation.scope.is_user)
    if arguments.json:
        zone = arguments.zone
        shown = {"job": job.id, "since": iso(since_s, zone), "until": iso(until_s, zone)}
        history = [run.as_json(zone) for run in found]
        print_json({**shown, **period.as_json(), "now": now, "history": history})
    else:
        _print_runs(found[max(0, len(found) - arguments.count) :], arguments.zone)
        _print_period(found, period, arguments.days, now)


def _print_runs(found: Sequence[Run], zone: tzinfo | None) -> None:
    rows = [
        (
            when(run.at_s, zone),
            printable(run.status),
            duration(run.duration_ms),
            printable(run.run_id[:_SHOWN_ID]),
            printable(run.what, _MOST_WHAT),
        )
        for run in found
    ]
    if rows:
        Screen().table(_HEADER, rows, cut=("WHAT",), drop=("DURATION", "WHAT", "RUN"))


def _print_period(
    found: Sequence[Run], period: Period, days: float, now: dict[str, Any] | None
) -> None:
    screen = Screen()
    counts = ", ".join(f"{count} {printable(status)}" for status, count in period.counts.items())
    if found:
        print()
    print(f"{days:g} days: {len(found)} runs{f' ({counts})' if counts else ''}")
    if now is not None:
        print(
            f"the cache now: {now['size']} of {now['max_size'] or 'any number of'} entries,"
            f" hit rate {now['hit_rate_percent']:.1f}%"
        )
    rows = [
        _figures(screen, name, figure, series(found, name))
        for name, figure in period.statistics.items()
    ]
    if period.duration_ms is not None:
        rows.insert(0, _figures(screen, _DURATION, period.duration_ms, durations_ms(found)))
    if rows:
        print()
        header = ("STATISTIC", "TOTAL", "MEAN", "LEAST", "MOST", "LAST", "OVER TIME")
        screen.table(header, rows, drop=("LEAST", "MOST", "OVER TIME", "TOTAL"))


def _figures(
    screen: Screen, name: str, figure: Statistic, values: Sequence[float]
) -> tuple[str, ...]:
    line = sparkline(values, ascii_only=screen.is_ascii)
    return (printable(name), *(number(value) for value in figure), line)


def _logs(arguments: argparse.Namespace) -> None:
    installation = installation_of(arguments)
    job = installation.job(arguments.job)
    run_id = None if arguments.run is None else _run_id(installation, job.id, arguments.run)
    words = ["journalctl", *_matches(installation, job.id, run_id)]
    for name in ("since", "until", "priority"):
        value = getattr(arguments, name)
        words += [f"--{name}={value}"] if value is not None else []
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
    wanted = given.lower().replace("-", "")
    hint = f"`{installation.scope.command(f'sereno history {job_id}')}` shows them"
    if not _RUN_ID.fullmatch(wanted):
        what = f"--run: {given!r} is not a run's id: 4 to 32 hexadecimal digits"
        raise UsageError(what, hint=hint)
    if len(wanted) == 32:
        return wanted
    with runs.Runs(user=installation.scope.is_user) as past:
        ids = dict.fromkeys(run_id_of(record) for record in past.records(job_id))
    found = [each for each in ids if each.startswith(wanted)]
    if not found:
        what = f"--run: the journal has no run of {job_id} whose id begins with {wanted!r}"
        raise NoSuchJob(what, hint=hint)
    if len(found) > 1:
        many = f"{wanted!r} is the beginning of {len(found)} runs"
        raise UsageError(f"--run: {many}: give more digits")
    return found[0]


def _matches(installation: Installation, job_id: str, run_id: str | None) -> list[str]:
    """journalctl's matches for what a job's runs said and what systemd said of its unit, and for nothing else."""
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
    names = ("SERENO_JOB", "SERENO_RUN", "_UID", "_PID")
    try:
        with runs.Runs(user=installation.scope.is_user) as past:
            return dict.fromkeys(
                tuple(f"{name}={text(record, name)}" for name in names)
                for record in past.records(job_id)
                if "_SYSTEMD_UNIT" not in record and "_SYSTEMD_USER_UNIT" not in record
            )
    except NotAvailable:
        return ()
