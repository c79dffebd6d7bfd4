"""`sereno report`: all jobs, their past and the next day as one HTML file."""

from __future__ import annotations

import argparse
import sys
import time

from sereno.cli.arguments import add_days, add_scope, add_zone, check_days, installation_of
from sereno.cli.terminal import duration, number
from sereno.observe.report.gather import gather
from sereno.observe.report.writing import write


def add_report(sub: argparse.ArgumentParser) -> None:
    add_days(sub)
    sub.add_argument(
        "-o", required=True, metavar="FILE", dest="output", help="where to; - prints it"
    )
    add_zone(sub)
    add_scope(sub)
    sub.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> None:
    check_days(arguments, most=366)
    from sereno.observe.report.page import page

    installation = installation_of(arguments)
    report = gather(
        installation,
        days=arguments.days,
        now_s=time.time(),
        zone=arguments.zone,
    )
    text = page(
        report,
        filters={"duration": duration, "number": number},
        zone=arguments.zone,
    )
    if arguments.output == "-":
        # The page says that it is UTF-8, whatever the terminal is.
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    else:
        write(arguments.output, text)
