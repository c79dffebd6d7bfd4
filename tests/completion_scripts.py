"""The completion scripts of the command, made by shtab from its parser; the repository ships what is made here.

The words of the command are in the script, so that a key press starts no Python; systemd is asked for the job ids.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import shtab

from sereno.cli.arguments import Parser

# Both scopes: which one is meant may not be typed yet.
_LISTS = "; ".join(
    f"systemctl {scope} list-unit-files --no-legend 'sereno@*.timer'"
    for scope in ("--system", "--user")
)
_IDS = r"2>/dev/null | sed -n 's/^sereno@\(..*\)\.timer .*/\1/p'"
_POSIX = f"$({{ {_LISTS}; }} {_IDS})"
JOB_IDS: dict[str, str | dict[str, str]] = {
    "bash": "_sereno_job_ids",
    "zsh": "_sereno_job_ids",
    "fish": "(_sereno_job_ids)",
    "preamble": {
        "bash": f'_sereno_job_ids() {{ compgen -W "{_POSIX}" -- "$1"; }}',
        "zsh": f'_sereno_job_ids() {{ local -a ids; ids=(${{(f)"{_POSIX}"}}); compadd -a ids }}',
        "fish": f"function _sereno_job_ids; begin; {_LISTS}; end {_IDS}; end",
    },
}
# An argument's placeholder in the help → what completes it.
_BY_METAVAR: dict[str, Any] = {
    "JOB": JOB_IDS,
    "PATTERN": JOB_IDS,
    "DIR": shtab.DIRECTORY,
    "FILE": shtab.FILE,
}


def script(parser: Parser, shell: str) -> str:
    """The completion script of `parser` for bash, zsh or fish."""
    for action in _actions(parser):
        if isinstance(action.metavar, str) and action.metavar in _BY_METAVAR:
            action.complete = _BY_METAVAR[action.metavar]  # type: ignore[attr-defined]
    return shtab.complete(parser, shell).rstrip() + "\n"


def _actions(parser: Parser) -> Iterator[argparse.Action]:
    parser.fill()
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
