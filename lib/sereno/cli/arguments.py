"""What the commands of `sereno` share: their parser, and the arguments that several have.

The modules of the commands have arguments and printing, no logic. Each loads what its commands need, but for what a
backend may have left out (urwid, Jinja), which is loaded when it is used.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any, NoReturn

from sereno.errors import UsageError, did_you_mean
from sereno.records.printable import printable_json

# Words of systemctl and of others, where no letters tell which one is meant.
_MEANT = {
    "start": "run", "stop": "pause", "disable": "pause", "enable": "resume", "show": "status", "ls": "list",
    "jobs": "list", "delete": "remove", "rm": "remove", "install": "apply", "--lines": "-n",
}  # fmt: skip


class Parser(argparse.ArgumentParser):
    """With the usage of the subcommand that was meant, and the word that was, where one is not known.

    Args:
        add: gives it its arguments, when something is parsed by it.
    """

    def __init__(self, *, add: Callable[[Parser], None] = lambda _: None, **named: Any) -> None:
        super().__init__(**named)
        self._add: Callable[[Parser], None] | None = add

    def fill(self) -> None:
        """Let it have its arguments."""
        add, self._add = self._add, None
        if add is not None:
            add(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.fill()
        return super().parse_known_args(args, namespace)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            found.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return found

    def error(self, message: str) -> NoReturn:
        word = re.search(r"(?:invalid choice: |unrecognized arguments: )'?([^' ]+)", message)
        known = [*self._option_string_actions]
        for action in self._actions:
            known += action.choices or ()
        meant = did_you_mean(_MEANT.get(word[1], word[1]), known) if word else None
        message = re.sub("invalid float value: (.*)", r"\1 is not a number", message)
        message = re.sub("invalid int value: (.*)", r"\1 is not a whole number", message)
        super().error(f"{message}\nhint: {meant}" if meant else message)


def add_command(
    commands: Any,
    name: str,
    text: str,
    add: Callable[[Parser], None] = lambda _: None,
    **defaults: Any,
) -> None:
    """Add a subcommand to `commands`, which is what `add_subparsers` returned.

    Args:
        add: gives it its arguments. Its defaults, or these, have `command`: what is called with the parsed ones, and
            returns the exit status, None for 0.
    """
    sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False, add=add)
    sub.set_defaults(parser=sub, scope=None, root=None, **defaults)


def add_scope(sub: argparse.ArgumentParser, *, staged: bool = False) -> None:
    """The options that choose the scope; with `staged` also a directory in which only files are written."""
    group = sub.add_mutually_exclusive_group()
    for scope in ("system", "user"):
        group.add_argument(
            f"--{scope}", dest="scope", action="store_const", const=scope,
            help=f"the {scope} scope (default: system for root, user for others)",
        )  # fmt: skip
    if staged:
        sub.add_argument("--root", type=Path, metavar="DIR", help="a staged system below DIR")


def add_reading(sub: argparse.ArgumentParser, shape: str) -> None:
    """The options of a command that shows something.

    Args:
        shape: the help's words for what `--json` prints.
    """
    sub.add_argument("--json", action="store_true", help=f"print {shape}, times as ISO 8601")
    add_zone(sub)


def add_fleet(sub: argparse.ArgumentParser, what: str, show: Callable[..., None]) -> None:
    """The option that has the fleet's database asked, by `show`, in place of this host."""
    sub.add_argument(
        "--fleet", dest="command", action="store_const", const=show,
        help=f'{what} of a job with once_per="fleet", on all hosts',
    )  # fmt: skip


def count(text: str) -> int:
    """The type of an argument that says how many are shown."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def add_days(sub: argparse.ArgumentParser) -> None:
    """The option that says how much of the past is shown."""
    sub.add_argument(
        "--days", type=float, default=7.0, metavar="N", help="how far back (default: 7)"
    )


def check_days(arguments: argparse.Namespace, *, most: int) -> None:
    if not 0 < arguments.days <= most:
        raise UsageError(f"--days: {arguments.days:g} is not in the range above 0 to {most}")


def add_zone(sub: argparse.ArgumentParser) -> None:
    """The option that chooses the zone of times."""
    sub.add_argument(
        "--utc", dest="zone", action="store_const", const=UTC,
        help="show times in UTC instead of the local zone",
    )  # fmt: skip


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print `value` for other programs: one document, UTF-8 as it is, without anything that a terminal would obey."""
    print(printable_json(json.dumps(value, ensure_ascii=False, indent=indent)))


def add_job(sub: argparse.ArgumentParser) -> None:
    """The argument JOB."""
    sub.add_argument("job", metavar="JOB", help="a job's id, as `sereno list` shows it")


def installation_of(arguments: argparse.Namespace) -> Any:
    """The `Installation` that the options of `add_scope` mean."""
    from sereno.units.installation import Installation

    return Installation(arguments.scope, root=arguments.root)
