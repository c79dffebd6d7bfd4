"""`sereno apply`, `remove`, `render` and `seed`: what changes or writes units."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from sereno.cli.arguments import add_scope, installation_of
from sereno.cli.discovery import of_entry_points, register_from, register_shipped
from sereno.cli.terminal import Screen, when
from sereno.errors import SerenoError, UsageError
from sereno.manager.names import service_name, timer_name
from sereno.records.printable import printable
from sereno.scheduler import DEFAULT_APP, Scheduler
from sereno.setting_names import APP
from sereno.units.installation import Installation
from sereno.units.seed import machine_id, seed


def add_apply(sub: argparse.ArgumentParser) -> None:
    backend = sub.add_mutually_exclusive_group()
    backend.add_argument(
        "--jobs", metavar="MODULE[:FUNCTION]",
        help="a backend's jobs: register(scheduler) of that module, else its register_…(scheduler)",
    )  # fmt: skip
    backend.add_argument(
        "--entry-points", action="store_true",
        help="the jobs of every installed package with an entry point in the group sereno.jobs",
    )  # fmt: skip
    sub.add_argument(
        "--app", metavar="NAME",
        help="with --jobs: their application (default: SERENO_APP); with --entry-points: only this one",
    )  # fmt: skip
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
    sub.set_defaults(command=_apply)


def add_remove(sub: argparse.ArgumentParser) -> None:
    which = sub.add_mutually_exclusive_group(required=True)
    which.add_argument("job", metavar="JOB", nargs="?")
    which.add_argument("--all", action="store_true", help="every job of every application")
    add_scope(sub, staged=True)
    sub.set_defaults(command=_remove)


def add_render(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--to", type=Path, required=True, metavar="DIR")
    sub.set_defaults(command=_render)


def add_seed(sub: argparse.ArgumentParser) -> None:
    add_scope(sub)
    sub.set_defaults(command=_seed)


def _shipped(arguments: argparse.Namespace) -> Scheduler:
    scheduler = Scheduler(DEFAULT_APP, scope=arguments.scope, root=arguments.root)
    register_shipped(scheduler)
    return scheduler


def registered(arguments: argparse.Namespace) -> list[Scheduler]:
    """The schedulers that the options of `apply` mean, their jobs registered; nothing is changed yet."""
    if arguments.jobs is None and not arguments.entry_points:
        if arguments.app is not None:
            raise UsageError("--app: only a backend's jobs have it", hint="give --jobs as well")
        return [_shipped(arguments)]

    def scheduler(app: str) -> Scheduler:
        return Scheduler(app, scope=arguments.scope, root=arguments.root)

    if arguments.entry_points:
        return of_entry_points(scheduler, arguments.app)
    app = arguments.app or os.environ.get(APP)
    if not app:
        # Not "sereno", the scheduler's default: two backends that both left it out would remove each other's jobs.
        raise UsageError(
            "--app: the backend's jobs need an application of their own",
            hint="--app NAME, or the environment's SERENO_APP; get_scheduler(app=…) uses the same",
        )
    backend = scheduler(app)
    register_from(arguments.jobs, backend)
    return [backend]


def _apply(arguments: argparse.Namespace) -> None:
    announce = partial(_print_diff, with_new=arguments.dry_run)
    lines: list[str] = []
    for scheduler in registered(arguments):
        changes = scheduler.apply(
            start=not arguments.no_start,
            dry_run=arguments.dry_run,
            shipped=arguments.jobs is None and not arguments.entry_points,
            prune=arguments.prune,
            announce=None if arguments.no_diff else announce,
        )
        lines += changes if arguments.dry_run else _with_next(changes, scheduler.installation)
    print("\n".join(lines) or "nothing to do")


def _with_next(changes: Sequence[str], installation: Installation) -> Iterator[str]:
    """The lines of changes, each with the time at which its timer elapses next."""
    timers = [line.split()[1] for line in changes if not line.startswith("remove ")]
    is_asked = timers and not installation.is_staged
    elapses = installation.manager.list_timers(*timers) if is_asked else {}
    for line in changes:
        elapse = elapses.get(line.split()[1])
        yield f"{line}; next {when(elapse.next)}" if elapse and elapse.next else line


def _print_diff(lines: list[str], *, with_new: bool) -> None:
    """Print a unified diff of unit files, to be read before anything is changed; `with_new`: also new files."""
    screen = Screen()
    colours = {"+": "green", "-": "red", "@": "cyan"}
    is_shown = True
    for line in lines:
        heading = line.startswith(("+++ ", "--- "))
        is_shown = (with_new or line != "--- /dev/null") if line[:4] == "--- " else is_shown
        if not is_shown:
            continue
        print(screen.coloured(printable(line), "bold" if heading else colours.get(line[:1])))
    screen.stream.flush()


def _remove(arguments: argparse.Namespace) -> None:
    installation = installation_of(arguments)
    if arguments.all:
        lines = installation.remove_all()
    else:
        job = installation.job(arguments.job)
        lines = [*installation.remove(job.app, [job.id]), *_what_stays(installation, job.id)]
    print("\n".join(lines) or "nothing to do")


def _what_stays(installation: Installation, job_id: str) -> list[str]:
    """What is left of a job that was removed, and how it comes back."""
    past = installation.scope.command(f"journalctl SERENO_JOB={job_id}")
    drop_ins = installation.units.drop_ins()
    yours = [*drop_ins.get(timer_name(job_id), ()), *drop_ins.get(service_name(job_id), ())]
    return [
        f"its past stays: {past}",
        *(f"your drop-in stays: {path}" for path in yours),
        "a run under way goes on; the job comes back when it is registered again",
    ]


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
    installation = installation_of(arguments)
    for unit in seed(installation.units, installation.manager, time.time, machine_id()):
        print(f"seeded {unit}")
