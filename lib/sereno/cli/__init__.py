"""The command `sereno`: its parser, and the one place that prints errors and turns them into an exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from sereno import __version__
from sereno.cli import progress
from sereno.cli.arguments import Parser, add_command
from sereno.errors import NotAvailable, SerenoError

# Of each command, in the order of the help: its module, whose function `add_COMMAND` gives the parser its arguments and
# what is then called with them; and what the help says. The module is loaded when its command is asked for.
COMMANDS = {
    "list": ("list_and_status", "show every job: schedule, next and last run, result, state"),
    "status": ("list_and_status", "show all of one job: why it failed, its log, its files"),
    "watch": ("watch", "show the state of all jobs, live; failing ones first"),
    "history": ("history_and_logs", "show a job's runs, with totals, means and sparklines"),
    "logs": ("history_and_logs", "show what a job logged, by journalctl"),
    "report": ("report", "write an HTML page: every job's runs, durations, failures, next elapses"),
    "run": ("run_and_pause", "run a job now"),
    "pause": ("run_and_pause", "stop a job's timer until it is resumed, also over a reboot"),
    "resume": ("run_and_pause", "let a paused job run on schedule again; nothing is made up"),
    "doctor": ("doctor", "look for what goes wrong and say how to mend it; mends nothing"),
    "apply": ("apply", "install the timers of the jobs that ship with sereno, or of a backend's"),
    "remove": ("apply", "remove a job's timer"),
    "render": ("apply", "write the unit files of the shipped jobs into a directory"),
    "seed": ("apply", "used by sereno-seed.service: first elapses in a boot"),
    "new": ("new", "write a new job into this checkout: module, entry script and test"),
    "explain": ("explain", "show what a schedule means and when it elapses; changes nothing"),
    "export": ("export", "print a backend's jobs for another scheduler"),
    "notify": ("notify", "send a test message by every handler of notify.toml"),
    "fleet": ("fleet", "prepare the database by which jobs run once in a fleet"),
    "cache": ("cache", "look into the shared metadata cache"),
    "completion": ("completion", "print the completion script of a shell"),
}
EXIT_STATUSES = """\
exit status:
  0  done
  1  failed: the job's run failed, or systemd or the cache refused
  2  wrong use: an option, an argument or a job that cannot be right
  3  no such job, or no such key
  4  rights are missing
  5  systemd, python-systemd or sereno's own units are missing
  6  a file or a job id belongs to somebody else
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status.

    This is the one place that prints sereno's errors and turns them into a status.
    """
    # A stream that whoever started it has closed.
    sys.stdout, sys.stderr = (each or open(os.devnull, "w") for each in (sys.stdout, sys.stderr))  # noqa: SIM115
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What this terminal's encoding lacks is shown escaped, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments = _parser().parse_args(argv)
        with progress.counting():
            status = int(arguments.command(arguments) or 0)
        # Here and not at the interpreter's end, where a full disk or a closed pipe could only be a traceback.
        sys.stdout.flush()
        return status
    except SerenoError as error:
        _complain(f"sereno: {error.message}")
        if error.hint:
            _complain(f"hint: {error.hint}")
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sereno"):
            raise
        print(f"sereno: {sys.executable} has no module {error.name!r}", file=sys.stderr)
        files = "-r lib/requirements.txt -r lib/requirements-command.txt"
        print(f"hint: ./install.sh again; for a backend: pip install {files}", file=sys.stderr)
        return NotAvailable.exit_code
    except OSError as error:
        # Nothing more is written to it. A reader that has gone (`sereno list | head`) needs no message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            _complain(f"sereno: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> None:
    """On standard error; what is quoted of units, arguments and systemctl's words is shown and not obeyed."""
    from sereno.records.printable import printable

    print("\n".join(printable(line) for line in text.split("\n")), file=sys.stderr)


def _parser() -> Parser:
    parser = Parser(
        prog="sereno",
        # `remove --a` shall not be taken for `remove --all`.
        allow_abbrev=False,
        description="Periodic Python jobs on systemd timers.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sereno {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        add_command(commands, name, text, partial(_add, module, name))
    return parser


def _add(module: str, name: str, sub: Parser) -> None:
    getattr(import_module(f"{__name__}.{module}"), f"add_{name}")(sub)
