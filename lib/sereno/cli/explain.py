"""`sereno explain`: a schedule looked at; nothing is changed."""

from __future__ import annotations

import argparse
import json

from sereno.cli.arguments import Commands
from sereno.errors import UsageError


def add_to(commands: Commands) -> None:
    sub = commands.add(
        "explain", _explain, "show what a schedule means and when it elapses; changes nothing"
    )
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "schedule", metavar="SCHEDULE", nargs="?",
        help='cron text as one word, such as "0 3 * * mon" or @daily',
    )  # fmt: skip
    which.add_argument("--every", metavar="SPAN", help="an interval, such as 90m or 1h30m")
    sub.add_argument("--timezone", metavar="ZONE", help="default: the machine's")
    sub.add_argument(
        "-n", type=int, default=10, metavar="COUNT", dest="count",
        help="elapses to show (default: 10)",
    )  # fmt: skip
    sub.add_argument("--json", action="store_true", help="print it as JSON")


def _explain(arguments: argparse.Namespace) -> None:
    from sereno.cli.preview import preview, read_span
    from sereno.triggers import (
        BootTrigger,
        CronTrigger,
        IntervalTrigger,
        from_cron_text,
        machine_zone,
    )

    trigger: BootTrigger | CronTrigger | IntervalTrigger
    if arguments.every is None:
        trigger = from_cron_text(arguments.schedule, timezone=arguments.timezone)
    elif arguments.timezone is None:
        trigger = read_span(arguments.every)
    else:
        raise UsageError("--timezone: an interval has no time zone")
    shown = preview(trigger, arguments.count, local_zone=machine_zone())
    if arguments.json:
        print(json.dumps(shown.as_json(), ensure_ascii=False, indent=2))
        return
    print(shown.meaning, *shown.lines, sep="\n")
    for elapse in shown.elapses:
        print(f"next: {elapse:%a %Y-%m-%d %H:%M:%S %Z}")
    for warning in shown.warnings:
        print(f"warning: {warning}")
