"""`sereno new`: the files of a new job in the checkout."""

from __future__ import annotations

import argparse
from pathlib import Path

from sereno.cli.arguments import Commands


def add_to(commands: Commands) -> None:
    sub = commands.add(
        "new", _new, "write a new job into this checkout: module, entry script and test"
    )
    sub.add_argument("job", metavar="ID", help="the new job's id, such as sync_prices")
    schedule = sub.add_mutually_exclusive_group(required=True)
    schedule.add_argument("--every", metavar="SPAN", help="an interval, such as 2h or 1h30m")
    schedule.add_argument("--cron", metavar="TEXT", help='cron text as one word: "0 3 * * mon"')


def _new(arguments: argparse.Namespace) -> None:
    from sereno.cli.preview import read_span
    from sereno.cli.scaffold import module_name, write
    from sereno.triggers import CronTrigger

    trigger = (
        CronTrigger.from_expression(arguments.cron)
        if arguments.every is None
        else read_span(arguments.every)
    )
    checkout = Path(__file__).resolve().parents[3]
    for line in write(checkout, arguments.job, trigger):
        print(line)
    name = module_name(arguments.job)
    print(
        f"\nNow write the function in lib/sereno/jobs/{name}_job.py. Then:\n"
        f"  tests/run tests/unit/test_{name}_job.py\n"
        "  sudo ./install.sh\n"
        f"  sudo sereno run {arguments.job} --wait"
    )
