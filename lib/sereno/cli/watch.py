"""`sereno watch`: the state of all jobs, live in a terminal."""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from sereno.cli.arguments import add_scope, add_zone, installation_of
from sereno.cli.terminal import Screen
from sereno.cli.watch_table import WatchTable, counts
from sereno.errors import UsageError
from sereno.observe import runs
from sereno.observe.look import Poll, Snapshot

_LEAST_S, _MOST_S = 0.5, 3600.0


def add_watch(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--interval", type=float, default=2.0, metavar="S",
        help="seconds from one look to the next (default: 2)",
    )  # fmt: skip
    add_zone(sub)
    add_scope(sub)
    sub.set_defaults(command=_watch)


def _watch(arguments: argparse.Namespace) -> int:
    if not _LEAST_S <= (given_s := arguments.interval) <= _MOST_S:
        raise UsageError(f"--interval: {given_s:g} is not in the range {_LEAST_S:g} to {_MOST_S:g}")
    installation = installation_of(arguments)
    poll = Poll(installation)
    # Before the screen is taken: what goes wrong at once is an error like any other command's.
    snapshot = poll.ask()
    if not _is_screen():
        _print(snapshot)
        return 0
    from sereno.cli.watch_screen import LiveScreen

    user = installation.scope.is_user

    def log(job_id: str, count: int) -> list[dict[str, Any]]:
        with runs.Runs(user=user) as past:
            return past.tail(job_id, count)

    screen = LiveScreen(
        poll, snapshot, log, installation.scope.name, arguments.interval, arguments.zone
    )
    return screen.run()


def _is_screen() -> bool:
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return is_terminal and os.environ.get("TERM", "dumb") != "dumb"


def _print(snapshot: Snapshot) -> None:
    """The same once, for a pipe or a terminal that can do no more."""
    screen = Screen()
    table = WatchTable(snapshot, time.time(), screen.width, is_ascii=screen.is_ascii)
    lines = map(table.line, range(len(snapshot.jobs)))
    for line in (counts(snapshot.jobs), table.header(), *lines):
        screen.print_line(line)
