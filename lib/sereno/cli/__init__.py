"""The command `sereno`: its parser, and the one place that prints errors and turns them into an exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
from collections.abc import Sequence

from sereno import __version__
from sereno.cli import (
    apply,
    cache,
    completion,
    doctor,
    explain,
    history_and_logs,
    list_and_status,
    new,
    notify,
    report,
    run_and_pause,
    watch,
)
from sereno.cli.arguments import Commands, Parser
from sereno.errors import NotAvailable, SerenoError

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
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    arguments = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What this terminal's encoding lacks is shown escaped, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
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


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="sereno",
        # `remove --a` shall not be taken for `remove --all`.
        allow_abbrev=False,
        description="Periodic Python jobs on systemd timers.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sereno {__version__}")
    commands = Commands(parser, "commands", "COMMAND")
    for module in (
        list_and_status,
        watch,
        history_and_logs,
        report,
        run_and_pause,
        doctor,
        apply,
        new,
        explain,
        notify,
        cache,
        completion,
    ):
        module.add_to(commands)
    return parser
