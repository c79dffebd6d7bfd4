"""`sereno export`: the jobs of a backend for another scheduler; nothing is installed."""

from __future__ import annotations

import argparse
import os
import sys

from sereno.cli.arguments import Parser, add_command, print_json
from sereno.cli.discovery import register_from
from sereno.declare.function import leads_into_a_home
from sereno.errors import UsageError
from sereno.export.kubernetes import export
from sereno.records.printable import printable
from sereno.scheduler import Scheduler
from sereno.setting_names import APP
from sereno.triggers import machine_zone
from sereno.triggers.zone import check_zone


def add_export(parser: Parser) -> None:
    kinds = parser.add_subparsers(title="schedulers", metavar="SCHEDULER", required=True)
    text = "print CronJobs as JSON, for kubectl apply -f -; asks no cluster"
    add_command(kinds, "kubernetes", text, _add_kubernetes, command=_kubernetes)


def _add_kubernetes(sub: Parser) -> None:
    for option, metavar, text in (
        ("image", "IMAGE", "its python3 finds sereno and the backend"),
        ("jobs", "MODULE[:FUNCTION]", "the jobs, as in `sereno apply --jobs`"),
        ("namespace", "NAME", "default: kubectl's"),
        ("app", "NAME", "their application (default: SERENO_APP, else MODULE's package)"),
        ("timezone", "ZONE", "of schedules that name none (default: this machine's)"),
    ):
        required = option in ("image", "jobs")
        sub.add_argument(f"--{option}", required=required, metavar=metavar, help=text)


def _kubernetes(arguments: argparse.Namespace) -> None:
    zone = check_zone("--timezone", arguments.timezone or machine_zone())
    module = arguments.jobs.partition(":")[0]
    app = arguments.app or os.environ.get(APP) or module.partition(".")[0]
    scheduler = Scheduler(app, scope="system")
    register_from(arguments.jobs, scheduler)
    jobs = scheduler.registered
    if not jobs:
        raise UsageError(f"--jobs: {arguments.jobs!r} registers no job")
    exported = export(
        jobs, arguments.image, zone, namespace=arguments.namespace,
        code_in_home=[
            job.id for job in jobs if leads_into_a_home(job.interpreter, *job.import_paths)
        ],
    )  # fmt: skip
    for warning in exported.warnings:
        print(f"warning: {printable(warning)}", file=sys.stderr)
    for command in exported.secrets:
        print(f"before the first run: {printable(command)}", file=sys.stderr)
    print_json(exported.manifests)
