"""`sereno run`, `pause` and `resume`: a run outside the schedule, and a job without its timer."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import Future
from functools import partial
from threading import Thread

from sereno.cli.arguments import add_job, add_scope, installation_of, print_json
from sereno.cli.terminal import MOST_SHOWN, in_columns
from sereno.declare.job import FLEET
from sereno.errors import JobFailed
from sereno.manager.names import service_name
from sereno.observe import run_and_wait, runs
from sereno.observe.pause_and_resume import switch
from sereno.records import verdict
from sereno.records.printable import printable
from sereno.records.run_record import Run, text
from sereno.units.installation import Installation


def add_run(sub: argparse.ArgumentParser) -> None:
    add_job(sub)
    sub.add_argument(
        "--wait", action="store_true",
        help="follow its log on standard error, print its statistics (JSON but on a terminal), end with its status",
    )  # fmt: skip
    add_scope(sub)
    sub.set_defaults(command=_run)


def _add_switch(sub: argparse.ArgumentParser, *, on: bool) -> None:
    add_job(sub)
    sub.add_argument(
        "--host", action="store_true",
        help='of a job with once_per="fleet": on this host alone, not on all',
    )  # fmt: skip
    add_scope(sub)
    sub.set_defaults(command=partial(_switch, on=on))


add_pause, add_resume = partial(_add_switch, on=False), partial(_add_switch, on=True)


def _run(arguments: argparse.Namespace) -> int:
    installation = installation_of(arguments)
    job_id = installation.job(arguments.job).id
    command = installation.scope.command
    if not arguments.wait:
        # One that is under way already stays the only one.
        installation.manager.start([service_name(job_id)], wait=False)
        logs, status = (command(f"sereno {words} {job_id}") for words in ("logs -f", "status"))
        print(f"started {job_id}; to follow it: {logs}; what became of it: {status}")
        return 0
    try:
        run, said = _followed(installation, job_id)
    except KeyboardInterrupt:
        logs = command(f"sereno logs -f {job_id}")
        print(f"\nno longer followed; the run goes on: {logs}", file=sys.stderr)
        return 130
    if run.stats is not None and sys.stdout.isatty():
        print("\n".join(in_columns(run.stats)))
    elif run.stats is not None:
        print_json(run.stats, indent=None)
    if run.status != "success":
        hint = run.hint
        if hint is None and run.run_id:
            hint = command(f"sereno logs {job_id} --run {run.run_id}")
        # What its log has just said need not be said twice.
        is_told = run.error is not None and any(run.error in line for line in said)
        outcome = run.status if is_told else run.outcome
        error = JobFailed(printable(f"{job_id}: {outcome}", MOST_SHOWN), hint=hint)
        error.exit_code = verdict.exit_of(run.status)
        raise error
    return 0


def _followed(installation: Installation, job_id: str) -> tuple[Run, list[str]]:
    """Run a job, print what it logs as it comes, and return its run and the last of these lines."""
    ended: Future[Run] = Future()
    said: list[str] = []

    def run() -> None:
        try:
            found = run_and_wait.run(job_id, installation.manager, user=installation.scope.is_user)
            ended.set_result(found)
        except BaseException as error:
            ended.set_exception(error)

    with runs.Runs(user=installation.scope.is_user) as past:
        lines = past.follow(job_id, ended.done)
        next(lines)
        # A daemon: whoever stops following must not wait for the run.
        Thread(target=run, daemon=True).start()
        for record in lines:
            # Its closing record is among the last: systemd's words of the unit come after it.
            said = [*said[-20:], text(record, "MESSAGE")]
            print(printable(said[-1], MOST_SHOWN), file=sys.stderr, flush=True)
    return ended.result(), said


def _switch(arguments: argparse.Namespace, *, on: bool) -> None:
    installation = installation_of(arguments)
    job = installation.job(arguments.job)
    resume, where = installation.scope.command(f"sereno resume {job.id}"), ""
    if job.once_per == FLEET:
        where = " on this host alone" if arguments.host else " in the whole fleet"
        resume += " --host" * arguments.host
    was_other = switch(installation, job, on=on, on_host=arguments.host)
    if not on:
        print(f"paused {job.id}{where}; {resume} lets it run again")
        return
    print(f"resumed {job.id}{where}" if was_other else f"{job.id} is not paused{where}")
    if where and not arguments.host and not job.enabled:
        print(f"on this host it stays paused by itself: {resume} --host")
