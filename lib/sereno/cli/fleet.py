"""`sereno fleet`: the tables that the hosts of a fleet share; and what list, status and history show of them."""

from __future__ import annotations

import argparse
import sys
from datetime import tzinfo
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sereno.cli.arguments import Parser, add_command, add_scope, print_json
from sereno.cli.terminal import Screen, duration, when
from sereno.errors import NoSuchJob, did_you_mean
from sereno.manager.scope import of_this_process
from sereno.records.journal import to_json
from sereno.records.printable import printable
from sereno.records.run_record import iso

if TYPE_CHECKING:
    # Loaded where there is a fleet.
    from sereno.fleet.claim import FleetHost, FleetJob, FleetRun
    from sereno.fleet.postgresql import PostgreSQL

# For a person, who can wait longer than a run.
LIMIT_S = 10.0
_COLUMNS = ("DUE", "HOST", "RESULT", "DURATION")
_OF_STATUS = 5


def add_fleet(parser: Parser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add_command(
        actions, "init", "show the tables that it needs, or make them", _add_init, command=_init
    )


def _add_init(sub: Parser) -> None:
    sub.add_argument(
        "--apply", action="store_true",
        help="make what is missing, as the user of the URL; again changes nothing",
    )  # fmt: skip
    sub.add_argument(
        "--role", help="also grant this role what hosts need, so that they need not be the owner"
    )
    sub.add_argument(
        "--url-file", type=Path, metavar="FILE",
        help="a file with the owner's URL, postgresql://… (default: that of the hosts, fleet.url)",
    )  # fmt: skip
    add_scope(sub)


def _init(arguments: argparse.Namespace) -> None:
    from sereno.fleet.postgresql import schema

    statements = schema(arguments.role)
    if arguments.apply:
        store_of(arguments).apply(statements)
        print("the tables are there")
    else:
        print(statements, end="")


def store_of(arguments: argparse.Namespace) -> PostgreSQL:
    """The store whose URL this host has, or the file that was given."""
    from sereno.fleet.postgresql import PostgreSQL

    path = getattr(arguments, "url_file", None) or of_this_process(arguments.scope).fleet_url
    return PostgreSQL.of_file(path, limit_s=LIMIT_S)


def show_list(arguments: argparse.Namespace) -> None:
    """`sereno list --fleet`."""
    wanted = arguments.patterns or "*"
    jobs = [
        job
        for job in store_of(arguments).jobs()
        if arguments.app in (None, job.app)
        and any(fnmatchcase(job.id, each) for each in wanted)
        and (not arguments.failing or "failing" in job.state)
    ]
    if arguments.json:
        print_json([_json(job, arguments.zone) for job in jobs])
    elif not jobs:
        print('no such job with once_per="fleet" has been due so far', file=sys.stderr)
    else:
        rows = []
        for job in jobs:
            ran = _columns(job.latest, arguments.zone) if job.latest else ("-",) * len(_COLUMNS)
            rows.append((printable(job.id), printable(job.app), *ran, job.state))
        Screen().table(("JOB", "APP", *_COLUMNS, "STATE"), rows, drop=("APP", "DURATION"))


def show_job(arguments: argparse.Namespace) -> None:
    """`sereno status JOB --fleet` and `history JOB --fleet`: where it is installed, and the latest runs."""
    store, zone = store_of(arguments), arguments.zone
    job = _job(store, arguments.job)
    runs = store.runs(job.app, job.id, getattr(arguments, "count", _OF_STATUS))
    hosts = [host for host in store.hosts() if (host.app, host.job) == (job.app, job.id)]
    if arguments.json:
        lists = {
            "hosts": [_json(host, zone) for host in hosts],
            "history": [_json(run, zone) for run in runs],
        }
        print_json({**_json(job, zone), "state": job.state, **lists})
        return
    print(f"{printable(job.id)}, application {printable(job.app)}: {job.state}")
    for host in hosts:
        said = printable(f"{host.host}: {host.declaration}")
        print(f"  {said}, seen {when(host.seen_s, zone)}")
    rows = [
        (*_columns(run, zone), printable(run.error or (to_json(run.stats) if run.stats else "")))
        for run in runs
    ]
    Screen().table((*_COLUMNS, "WHAT"), rows, cut=("WHAT",), drop=("DURATION",))


def _job(store: PostgreSQL, job_id: str) -> FleetJob:
    jobs = {job.id: job for job in store.jobs()}
    if job_id not in jobs:
        hint = did_you_mean(job_id, [*jobs]) or "list --fleet shows those that there are"
        raise NoSuchJob(f"job id: no host of the fleet has {job_id!r}", hint=hint)
    return jobs[job_id]


def _columns(run: FleetRun, zone: tzinfo | None) -> tuple[str, ...]:
    due = when(run.elapse_s, zone) + (" (started)" if run.kind == "hand" else "")
    return due, printable(run.host), printable(run.status), duration(run.duration_ms)


def _json(value: FleetJob | FleetRun | FleetHost, zone: tzinfo | None) -> dict[str, Any]:
    """The fields of a value, its moments as ISO 8601."""
    fields: list[tuple[str, Any]] = [*zip(value._fields, value, strict=True)]
    found: dict[str, Any] = {}
    for name, each in fields:
        if name in ("elapse_s", "began_s", "paused_s", "seen_s"):
            found[name.removesuffix("_s")] = iso(each, zone)
        else:
            found[name] = _json(each, zone) if name == "latest" and each else each
    return found
