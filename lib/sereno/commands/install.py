"""`sereno apply`, `remove`, `render` and `seed`: what changes or writes units."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from sereno.commands import Commands, add_scope, installation_of
from sereno.errors import SerenoError


def add_to(commands: Commands) -> None:
    sub = commands.add("apply", _apply, "install the timers of the jobs that ship with sereno")
    sub.add_argument("--dry-run", action="store_true", help="print the changes, make none")
    sub.add_argument(
        "--prune", action="store_true",
        help="remove the application's jobs that are registered no longer; never another's",
    )  # fmt: skip
    sub.add_argument(
        "--no-diff", action="store_true", help="do not show what changes in unit files"
    )
    sub.add_argument("--no-start", action="store_true", help="start nothing before the next boot")
    add_scope(sub, staged=True)

    sub = commands.add("remove", _remove, "remove a job's timer")
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("job", metavar="JOB", nargs="?")
    which.add_argument("--all", action="store_true", help="every job of every application")
    add_scope(sub, staged=True)

    sub = commands.add(
        "render", _render, "write the unit files of the shipped jobs into a directory"
    )
    sub.add_argument("--to", type=Path, required=True, metavar="DIR")

    add_scope(commands.add("seed", _seed, "used by sereno-seed.service: first elapses in a boot"))


def _shipped(arguments: argparse.Namespace) -> Any:
    """The scheduler of sereno's own application, with the shipped jobs registered."""
    from sereno.jobs import register_all
    from sereno.scheduler import DEFAULT_APP, Scheduler

    scheduler = Scheduler(DEFAULT_APP, scope=arguments.scope, root=arguments.root)
    register_all(scheduler)
    return scheduler


def _apply(arguments: argparse.Namespace) -> None:
    lines = _shipped(arguments).apply(
        start=not arguments.no_start,
        dry_run=arguments.dry_run,
        prune=arguments.prune,
        announce=None if arguments.no_diff else _print_diff,
    )
    print("\n".join(lines) or "nothing to do")


def _print_diff(lines: list[str]) -> None:
    """Print a unified diff of unit files; it is there to be read before anything is changed."""
    from sereno.commands.terminal import Screen, safe

    screen = Screen()
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        heading = line.startswith(("+++ ", "--- "))
        print(screen.coloured(safe(line), "bold" if heading else colours.get(line[:1])))
    screen.stream.flush()


def _remove(arguments: argparse.Namespace) -> None:
    installation = installation_of(arguments)
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


def _seed(arguments: argparse.Namespace) -> None:
    from sereno.seed import machine_id, seed

    installation = installation_of(arguments)
    for unit in seed(installation.units, installation.manager, time.time, machine_id()):
        print(f"seeded {unit}")
