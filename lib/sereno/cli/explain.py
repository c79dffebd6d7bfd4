"""`sereno explain`: what a schedule means before it is installed, its next elapses, and what about it surprises."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from sereno import triggers
from sereno.cli.arguments import print_json
from sereno.declare.quantities import read_span_s
from sereno.errors import InvalidTrigger, UsageError
from sereno.manager.analyze import next_elapses
from sereno.triggers import CronTrigger, IntervalTrigger, Trigger

MAX_COUNT = 1000


def add_explain(sub: argparse.ArgumentParser) -> None:
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
    sub.set_defaults(command=_explain)


def _explain(arguments: argparse.Namespace) -> None:
    trigger: Trigger
    if arguments.every is None:
        trigger = triggers.from_cron_text(arguments.schedule, timezone=arguments.timezone)
    elif arguments.timezone is None:
        trigger = read_span(arguments.every)
    else:
        raise UsageError("--timezone: an interval has no time zone")
    shown = preview(trigger, arguments.count, local_zone=triggers.machine_zone())
    if arguments.json:
        print_json({**shown._asdict(), "elapses": [each.isoformat() for each in shown.elapses]})
        return
    print(shown.meaning, *shown.lines, sep="\n")
    for elapse in shown.elapses:
        print(f"next: {elapse:%a %Y-%m-%d %H:%M:%S %Z}")
    for warning in shown.warnings:
        print(f"warning: {warning}")


class Preview(NamedTuple):
    """What can be said of a schedule.

    Attributes:
        trigger: its text, as `get_jobs()` shows it.
        meaning: one English sentence.
        lines: the lines of the `[Timer]` section.
        elapses: the next ones, aware, in the zone of the schedule; empty for an interval, which counts from its runs,
            and for @reboot.
        warnings: what may not be what its author expects.
    """

    trigger: str
    meaning: str
    lines: tuple[str, ...]
    elapses: tuple[datetime, ...]
    warnings: tuple[str, ...]


def preview(
    trigger: Trigger, count: int, *, local_zone: str | None = None, after_s: float | None = None
) -> Preview:
    """Look at a schedule.

    Args:
        count: how many elapses, 0 to 1000.
        local_zone: name of the machine's zone; default: not known.
        after_s: seconds since the epoch from which elapses count; default: now.

    Raises:
        UsageError: `count` is out of its range.
        NotAvailable: there is no systemd-analyze, which is needed for a `count` above 0 of a calendar schedule.
    """
    if not 0 <= count <= MAX_COUNT:
        raise UsageError(f"-n: {count} is not in the range 0 to {MAX_COUNT}")
    lines = trigger.timer_lines(local_zone=local_zone)
    elapses: tuple[datetime, ...] = ()
    if isinstance(trigger, CronTrigger) and count:
        zone = ZoneInfo(trigger.timezone) if trigger.timezone else None
        calendars = [line.removeprefix("OnCalendar=") for line in lines]
        elapses = tuple(
            elapse.astimezone(zone) for elapse in next_elapses(calendars, count, after_s=after_s)
        )
    surprises = triggers.warnings(trigger, local_zone=local_zone)
    return Preview(trigger.text, triggers.describe(trigger), lines, elapses, surprises)


def read_span(text: str) -> IntervalTrigger:
    """An interval written as `90m`, `1h30min` or `2w 3d`; see `sereno.declare.quantities.read_span_s`.

    Raises:
        InvalidTrigger: it is not written so, or names a unit twice; the interval is zero or over ten years.
    """
    return IntervalTrigger(seconds=read_span_s("--every", text, error=InvalidTrigger))
