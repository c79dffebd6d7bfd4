"""`sereno explain` and `sereno import-crontab`: schedules looked at; nothing is changed."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sereno.commands import Commands
from sereno.errors import UsageError
from sereno.printable import printable


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

    sub = commands.add(
        "import-crontab", _import_crontab, "print a crontab's jobs as units; changes nothing"
    )
    sub.add_argument("file", metavar="FILE", help="a crontab, or - for standard input")
    sub.add_argument(
        "--system", dest="with_users", action="store_true",
        help="the format of /etc/crontab and /etc/cron.d: a user before each command",
    )  # fmt: skip
    sub.add_argument(
        "--run-as", metavar="USER", help="of a user's crontab: run in the system scope as USER"
    )


def _explain(arguments: argparse.Namespace) -> None:
    from sereno.preview import preview, read_span
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


def _import_crontab(arguments: argparse.Namespace) -> None:
    from sereno.crontab import read_crontab
    from sereno.crontab_units import render_entry
    from sereno.job import check_user
    from sereno.triggers import machine_zone

    if arguments.run_as is not None:
        if arguments.with_users:
            raise UsageError("--run-as: with --system each line names its user")
        check_user("--run-as", arguments.run_as)
    user_scope = not (arguments.with_users or arguments.run_as)
    zone = machine_zone()
    crontab = read_crontab(
        _text_of(arguments.file),
        system=arguments.with_users,
        user=arguments.run_as,
        local_zone=zone,
    )
    for remark in crontab.remarks:
        print(printable(f"# {remark}"))
    directory = "~/.config/systemd/user" if user_scope else "/etc/systemd/system"
    for entry in crontab.entries:
        files = render_entry(entry, user_scope=user_scope, local_zone=zone)
        for name, text in files.items():
            print(f"\n# {directory}/{name} (line {entry.line})\n{text}", end="")
    for refused in crontab.refused:
        print(printable(f"sereno: {arguments.file}: {refused}"), file=sys.stderr)
    if crontab.refused:
        raise UsageError(f"{arguments.file}: lines left out: {len(crontab.refused)}")


def _text_of(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"FILE: {file}: {error.strerror}") from error
    return data.decode("utf-8", "surrogateescape")
