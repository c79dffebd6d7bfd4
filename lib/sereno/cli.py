"""The command `sereno`: arguments and printing, no logic."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sereno import __version__, cache_command
from sereno.errors import JobFailed, NotAvailable, SerenoError, UsageError

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
    try:
        status = int(arguments.command(arguments) or 0)
        # Here and not at the interpreter's end, where a full disk or a closed pipe could only be a traceback.
        sys.stdout.flush()
        return status
    except SerenoError as error:
        print(f"sereno: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sereno"):
            raise
        print(f"sereno: {sys.executable} has no module {error.name!r}", file=sys.stderr)
        print("hint: ./install.sh, or: pip install -r lib/requirements.txt", file=sys.stderr)
        return NotAvailable.exit_code
    except OSError as error:
        # Nothing more is written to it. A reader that has gone (`sereno list | head`) needs no message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            print(f"sereno: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sereno",
        description="Periodic Python jobs on systemd timers.",
        epilog=EXIT_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sereno {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, command: Callable[[Any], int | None], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, scope=None, root=None)
        return sub

    def scoped(sub: argparse.ArgumentParser, *, staged: bool = False) -> None:
        group = sub.add_mutually_exclusive_group()
        for scope in ("system", "user"):
            group.add_argument(
                f"--{scope}", dest="scope", action="store_const", const=scope,
                help=f"the {scope} scope (default: system for root, user for others)",
            )  # fmt: skip
        if staged:
            sub.add_argument("--root", type=Path, metavar="DIR", help="a staged system below DIR")

    scoped(add("list", _list, "show the installed jobs and their next elapse"))

    sub = add("run", _run, "run a job now, wait for it, and print its statistics as JSON")
    sub.add_argument("job", metavar="JOB")
    scoped(sub)

    sub = add("apply", _apply, "install the timers of the jobs that ship with sereno")
    sub.add_argument("--dry-run", action="store_true", help="print the changes, make none")
    sub.add_argument("--no-start", action="store_true", help="start nothing before the next boot")
    scoped(sub, staged=True)

    sub = add("remove", _remove, "remove a job's timer")
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("job", metavar="JOB", nargs="?")
    which.add_argument("--all", action="store_true", help="every job of every application")
    scoped(sub, staged=True)

    sub = add("render", _render, "write the unit files of the shipped jobs into a directory")
    sub.add_argument("--to", type=Path, required=True, metavar="DIR")

    sub = add(
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

    sub = add("import-crontab", _import_crontab, "print a crontab's jobs as units; changes nothing")
    sub.add_argument("file", metavar="FILE", help="a crontab, or - for standard input")
    sub.add_argument(
        "--system", dest="with_users", action="store_true",
        help="the format of /etc/crontab and /etc/cron.d: a user before each command",
    )  # fmt: skip
    sub.add_argument(
        "--run-as", metavar="USER", help="of a user's crontab: run in the system scope as USER"
    )

    scoped(add("seed", _seed, "used by sereno-seed.service: first elapses of interval timers"))
    text = "look into the shared metadata cache"
    cache_command.add_actions(commands.add_parser("cache", help=text, description=text))
    return parser


def _installation(arguments: argparse.Namespace) -> Any:
    from sereno.installation import Installation

    return Installation(arguments.scope, root=arguments.root)


def _shipped(arguments: argparse.Namespace) -> Any:
    """The scheduler of sereno's own application, with the shipped jobs registered."""
    from sereno.jobs import register_all
    from sereno.scheduler import DEFAULT_APP, Scheduler

    scheduler = Scheduler(DEFAULT_APP, scope=arguments.scope, root=arguments.root)
    register_all(scheduler)
    return scheduler


def _list(arguments: argparse.Namespace) -> None:
    from sereno.status import job_status
    from sereno.units import timer_name

    installation = _installation(arguments)
    elapses = installation.elapses()
    jobs = [
        job_status(None, job, elapses.get(timer_name(job_id)))
        for job_id, job in sorted(installation.jobs().items())
    ]
    if not jobs:
        other = "system" if installation.scope.is_user else "user"
        print(
            f"no jobs in the {installation.scope.name} scope; --{other} shows the other one",
            file=sys.stderr,
        )
        return
    rows = [("JOB", "APP", "TRIGGER", "NEXT", "STATE")]
    rows += [
        (job["id"], job["app"], job["trigger"], _local(job["next_run"]), _state(job))
        for job in jobs
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def _state(job: dict[str, Any]) -> str:
    if job["paused"]:
        return "paused"
    return "active" if job["active"] else "stopped"


def _local(moment: datetime | None) -> str:
    return "-" if moment is None else moment.astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z")


def _run(arguments: argparse.Namespace) -> int:
    installation = _installation(arguments)
    run = installation.run(installation.job(arguments.job).id)
    if run.stats is not None:
        print(json.dumps(run.stats, ensure_ascii=False))
    if run.status != "success":
        raise JobFailed(run.message, hint=f"journalctl SERENO_RUN={run.run_id}")
    return 0


def _apply(arguments: argparse.Namespace) -> None:
    lines = _shipped(arguments).apply(start=not arguments.no_start, dry_run=arguments.dry_run)
    print("\n".join(lines) or "nothing to do")


def _remove(arguments: argparse.Namespace) -> None:
    installation = _installation(arguments)
    if arguments.all:
        lines = installation.remove_all()
    else:
        job = installation.job(arguments.job)
        lines = installation.remove(job.app, [job.id])
    print("\n".join(lines) or "nothing to do")


def _render(arguments: argparse.Namespace) -> None:
    arguments.scope, arguments.root = "system", None
    for name, text in _shipped(arguments).render().items():
        path = arguments.to / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        except OSError as error:
            raise SerenoError(f"--to: {path}: {error.strerror}") from error


def _explain(arguments: argparse.Namespace) -> None:
    from sereno.preview import preview, read_span
    from sereno.triggers import CronTrigger, IntervalTrigger, machine_zone

    trigger: CronTrigger | IntervalTrigger
    if arguments.every is None:
        trigger = CronTrigger.from_expression(arguments.schedule, timezone=arguments.timezone)
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
        print(f"# {remark}")
    directory = "~/.config/systemd/user" if user_scope else "/etc/systemd/system"
    for entry in crontab.entries:
        files = render_entry(entry, user_scope=user_scope, local_zone=zone)
        for name, text in files.items():
            print(f"\n# {directory}/{name} (line {entry.line})\n{text}", end="")
    for refused in crontab.refused:
        print(f"sereno: {arguments.file}: {refused}", file=sys.stderr)
    if crontab.refused:
        raise UsageError(f"{arguments.file}: lines left out: {len(crontab.refused)}")


def _text_of(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"FILE: {file}: {error.strerror}") from error
    return data.decode("utf-8", "surrogateescape")


def _seed(arguments: argparse.Namespace) -> None:
    from sereno.seed import machine_id, seed

    installation = _installation(arguments)
    for unit in seed(installation.units, installation.manager, time.time, machine_id()):
        print(f"seeded {unit}")
