"""`sereno report`: all jobs, their past and the next day as one HTML file."""

from __future__ import annotations

import argparse
import sys
import time

from sereno.cli.arguments import (
    add_days,
    add_fleet,
    add_scope,
    add_zone,
    check_days,
    installation_of,
)
from sereno.cli.fleet import store_of
from sereno.cli.terminal import duration, number
from sereno.observe.report.gather import gather
from sereno.observe.report.model import Report
from sereno.observe.report.writing import write


def add_report(sub: argparse.ArgumentParser) -> None:
    add_days(sub)
    sub.add_argument(
        "-o", required=True, metavar="FILE", dest="output", help="where to; - prints it"
    )
    add_zone(sub)
    add_fleet(sub, "the runs", _fleet)
    add_scope(sub)
    sub.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> None:
    check_days(arguments, most=366)
    installation, now_s = installation_of(arguments), time.time()
    _write(gather(installation, days=arguments.days, now_s=now_s, zone=arguments.zone), arguments)


def _fleet(arguments: argparse.Namespace) -> None:
    check_days(arguments, most=366)
    from sereno.observe.report.of_fleet import gather_fleet

    report = gather_fleet(store_of(arguments), days=arguments.days, now_s=time.time())
    _write(report, arguments)


def _write(report: Report, arguments: argparse.Namespace) -> None:
    from sereno.observe.report.page import page

    text = page(report, filters={"duration": duration, "number": number}, zone=arguments.zone)
    if arguments.output == "-":
        # The page says that it is UTF-8, whatever the terminal is.
        sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    else:
        write(arguments.output, text)
