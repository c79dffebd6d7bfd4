"""`sereno list` and `sereno status`: what is installed, when it runs, and what became of it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import tzinfo
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from sereno.cli import fleet
from sereno.cli.arguments import (
    add_fleet,
    add_job,
    add_reading,
    add_scope,
    installation_of,
    print_json,
)
from sereno.cli.terminal import MOST_SHOWN, Screen, colour_of, duration, in_columns, when
from sereno.errors import NotAvailable, did_you_mean
from sereno.manager import systemctl
from sereno.manager.names import timer_name
from sereno.manager.scope import of_this_process
from sereno.observe.survey import Question, ask, survey
from sereno.records.printable import printable

if TYPE_CHECKING:
    # Loaded while the manager is asked, which takes longest.
    from sereno.observe.job_state import JobState
    from sereno.units.installation import Installation


_HEADER = ("JOB", "APP", "SCHEDULE", "NEXT", "LAST", "RESULT", "DURATION", "STATE")
# What is least missed goes first where the terminal is narrow.
_DROP = ("APP", "DURATION", "LAST", "SCHEDULE", "RESULT", "NEXT")
_LOG_LINES = 8


def add_list(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "patterns", nargs="*", metavar="PATTERN",
        help="only these jobs: ids, or shell patterns such as 'shop_*'",
    )  # fmt: skip
    sub.add_argument("--failing", action="store_true", help="only jobs whose last run failed")
    sub.add_argument("--app", metavar="NAME", help="only jobs of this application")
    add_reading(sub, "an array of jobs")
    add_fleet(sub, "the latest run", fleet.show_list)
    add_scope(sub)
    sub.set_defaults(command=_list)


def add_status(sub: argparse.ArgumentParser) -> None:
    add_job(sub)
    add_reading(sub, "one job as in `list`, with timer, files and log")
    add_fleet(sub, "the latest runs", fleet.show_job)
    add_scope(sub)
    sub.set_defaults(command=_status)


def _list(arguments: argparse.Namespace) -> None:
    user = of_this_process(arguments.scope).is_user
    question = Question(systemctl.Systemctl(user=user))
    installation = installation_of(arguments)
    installed = installation.jobs()
    wanted = {
        job_id: job
        for job_id, job in installed.items()
        if arguments.app in (None, job.app)
        and any(fnmatchcase(job_id, each) for each in arguments.patterns or "*")
    }
    jobs = survey(wanted, installation, question)
    if jobs and (missing := question.answer().missing):
        print(f"warning: {printable(missing)}: NEXT and STATE are not known", file=sys.stderr)
    if arguments.failing:
        jobs = [job for job in jobs if job.failing]
    if arguments.json:
        print_json([job.as_json(arguments.zone) for job in jobs])
    elif jobs:
        _print_list(jobs, arguments.zone)
    elif installed:
        # As systemctl says it: that none is what was asked for is no error.
        print(f"0 of {len(installed)} jobs listed", file=sys.stderr)
        known = [*installed, *{job.app for job in installed.values()}]
        # What names a job, or several, is meant.
        words = {arguments.app or "", *arguments.patterns} - {"", *known}
        words = {word for word in words if not any(fnmatchcase(each, word) for each in installed)}
        for meant in filter(None, (did_you_mean(word, known) for word in sorted(words))):
            print(f"hint: {meant}", file=sys.stderr)
    else:
        scope = installation.scope
        other = "system" if scope.is_user else "user"
        print(f"no jobs in the {scope.name} scope; --{other} shows the other one", file=sys.stderr)


def _print_list(jobs: Sequence[JobState], zone: tzinfo | None) -> None:
    rows = [
        (
            printable(job.job.id),
            printable(job.job.app),
            printable(job.schedule),
            when(job.next, zone),
            when(job.last.at_s, zone) if job.last else "-",
            printable(job.last.status) if job.last else "-",
            duration(job.last.duration_ms) if job.last else "-",
            job.state,
        )
        for job in jobs
    ]
    Screen().table(_HEADER, rows, cut=("SCHEDULE",), drop=_DROP)


def _status(arguments: argparse.Namespace) -> None:
    installation = installation_of(arguments)
    installed = installation.job(arguments.job)
    (job,) = survey({installed.id: installed}, installation, ask(installation, installed.id))
    lines = installed.files[timer_name(installed.id)].splitlines()
    timer = [line for line in lines if line.startswith("On")]
    files = [str(installation.units.path / name) for name in sorted(installed.files)]
    log = _log(installation, job.job.id)
    if arguments.json:
        from sereno.records.run_record import iso

        zone = arguments.zone
        said = [
            {"time": iso(record["__REALTIME_TIMESTAMP"] / 1e6, zone), "message": _message(record)}
            for record in log
        ]
        print_json({**job.as_json(zone), "timer": timer, "files": files, "log": said})
    else:
        _print_status(job, timer, files, log, arguments.zone)
        print(f"\n{_what_to_do(installation, job)}")


def _log(installation: Installation, job_id: str) -> list[dict[str, Any]]:
    from sereno.observe import runs

    try:
        with runs.Runs(user=installation.scope.is_user) as past:
            return past.tail(job_id, _LOG_LINES)
    except NotAvailable:
        return []


def _print_status(
    job: JobState,
    timer: Sequence[str],
    files: Sequence[str],
    log: Sequence[dict[str, Any]],
    zone: tzinfo | None,
) -> None:
    screen = Screen()
    installed = job.job
    print(f"{screen.coloured(printable(installed.id), 'bold')} - {printable(installed.name)}")
    facts = [
        ("state", screen.coloured(job.state, colour_of(job.state))),
        ("schedule", printable(job.schedule)),
        *(("", line) for line in timer),
        ("next", when(job.next, zone)),
        *_about_last(screen, job, zone),
        ("function", f"{printable(installed.function)}, application {printable(installed.app)}"),
        *(("files" if not number else "", printable(path)) for number, path in enumerate(files)),
        *(("changed by", printable(path)) for path in job.drop_ins),
    ]
    for label, value in facts:
        print(f"{label:>10}{':' if label else ' '} {value}")
    if log:
        print("\nlast of its log:")
    for record in log:
        moment_s = record["__REALTIME_TIMESTAMP"] / 1e6
        print(f"  {when(moment_s, zone)} {printable(_message(record), MOST_SHOWN)}")


def _message(record: dict[str, Any]) -> str:
    from sereno.records.run_record import text

    return text(record, "MESSAGE")[:MOST_SHOWN]


def _about_last(screen: Screen, job: JobState, zone: tzinfo | None) -> list[tuple[str, str]]:
    run = job.last
    if run is None:
        return [("last", "no run is known: there was none, or this user may not read the journal")]
    took = "" if run.duration_ms is None else f" in {duration(run.duration_ms)}"
    result = screen.coloured(printable(run.status), colour_of(run.status))
    lines = [("last", f"{when(run.at_s, zone)}: {result}{took}")]
    if run.error:
        result = f" (systemd: {printable(run.result)})" if run.result else ""
        lines.append(("error", screen.coloured(printable(run.error, MOST_SHOWN) + result, "red")))
    if run.hint:
        lines.append(("hint", printable(run.hint, MOST_SHOWN)))
    figures = in_columns(run.stats or {})
    lines += [("" if number else "statistics", line) for number, line in enumerate(figures)]
    return [*lines, ("run", printable(run.run_id))]


def _what_to_do(installation: Installation, job: JobState) -> str:
    name, command = job.job.id, installation.scope.command
    run, logs = command(f"sereno run {name} --wait"), command(f"sereno logs {name}")
    if job.paused:
        return f"It is paused: {command(f'sereno resume {name}')}"
    if job.why_stopped:
        is_known = "unknown" not in job.state
        known = "Its timer does not run" if is_known else "Whether its timer runs is not known"
        return f"{known}: {job.why_stopped}"
    if job.failing and job.last is not None:
        logs = command(f"sereno logs {name} --run {job.last.run_id[:8]}")
        return f"That run: {logs}; again: {run}"
    return f"Now: {run}; its past: {command(f'sereno history {name}')}, {logs}"
