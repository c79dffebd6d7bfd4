"""`sereno report`: all jobs, their past and the next day as one HTML file."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial

from sereno.cli.arguments import Commands, add_scope, add_zone, installation_of
from sereno.errors import UsageError


def add_to(commands: Commands) -> None:
    sub = commands.add(
        "report", _report, "write an HTML page: every job's runs, durations, failures, next elapses"
    )
    sub.add_argument(
        "--days", type=float, default=7.0, metavar="N", help="how far back (default: 7)"
    )
    sub.add_argument(
        "-o", required=True, metavar="FILE", dest="output", help="where to; - prints it"
    )
    add_zone(sub)
    add_scope(sub)


def _report(arguments: argparse.Namespace) -> None:
    if not 0 < arguments.days <= 366:
        raise UsageError(f"--days: {arguments.days:g} is not in the range above 0 to 366")
    from sereno.cli.history_and_logs import cache_now
    from sereno.cli.terminal import duration, number
    from sereno.observe.report.gather import gather
    from sereno.observe.report.page import page
    from sereno.observe.report.writing import write
    from sereno.records.printable import printable

    installation = installation_of(arguments)
    report = gather(
        installation,
        days=arguments.days,
        now_s=time.time(),
        cache_now=partial(cache_now, user=installation.scope.is_user),
        zone=arguments.zone,
    )
    text = page(
        report,
        filters={"duration": duration, "number": number},
        printable=printable,
        zone=arguments.zone,
    )
    if arguments.output == "-":
        # The page says that it is UTF-8, whatever the terminal is.
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    else:
        write(arguments.output, text)
