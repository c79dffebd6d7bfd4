"""`sereno new`: the files of a new job in the checkout, module, entry script and test, from the texts in new_job/.

These pass ruff and mypy as they are, and the test passes.
"""

from __future__ import annotations

import argparse
import json
import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path

from sereno.cli.explain import read_span
from sereno.declare.job import check_name
from sereno.errors import Conflict, InvalidJob, SerenoError, UsageError
from sereno.triggers import CronTrigger, IntervalTrigger, describe

# Longer ones would need other line breaks in the files.
MAX_NAME, MAX_CRON = 36, 60
_TEXTS = Path(__file__).with_name("new_job")
_FILES = {
    "lib/sereno/jobs/{name}_job.py": "module.py.txt",
    "bin/{job_id}": "entry_script.txt",
    "tests/unit/test_{name}_job.py": "test.py.txt",
}
_PARTS = ("install.sh", "lib/sereno/jobs", "bin/sereno", "tests/unit")


def add_new(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("job", metavar="ID", help="the new job's id, such as sync_prices")
    schedule = sub.add_mutually_exclusive_group(required=True)
    schedule.add_argument("--every", metavar="SPAN", help="an interval, such as 2h or 1h30m")
    schedule.add_argument("--cron", metavar="TEXT", help='cron text as one word: "0 3 * * mon"')
    sub.set_defaults(command=_new)


def _new(arguments: argparse.Namespace) -> None:
    trigger = (
        CronTrigger.from_expression(arguments.cron)
        if arguments.every is None
        else read_span(arguments.every)
    )
    checkout = Path(__file__).resolve().parents[3]
    for line in write(checkout, arguments.job, trigger):
        print(line)
    name = module_name(arguments.job)
    print(
        f"\nNow write the function in lib/sereno/jobs/{name}_job.py. Then:\n"
        f"  tests/run tests/unit/test_{name}_job.py\n"
        "  sudo ./install.sh\n"
        f"  sudo sereno run {arguments.job} --wait"
    )


def files_of(job_id: str, trigger: CronTrigger | IntervalTrigger) -> dict[str, str]:
    """The new files by their path in the checkout.

    Raises:
        InvalidJob: the id cannot be a unit's name, or cannot become the name of a module and of a function; the cron
            text is too long for one line.
    """
    name = module_name(job_id)
    if isinstance(trigger, IntervalTrigger):
        minutes, seconds = divmod(trigger.interval_s, 60)
        parts = {"hours": minutes // 60, "minutes": minutes % 60, "seconds": seconds}
        method = "add_interval_job"
        schedule = ",\n        ".join(f"{unit}={count}" for unit, count in parts.items() if count)
    else:
        method, text = "add_cron_job", trigger.text[len("cron[") : -1]
        if len(text) > MAX_CRON:
            raise InvalidJob(
                f"--cron: {text!r} is longer than {MAX_CRON} characters",
                hint="write a shorter one, then the longer one in the module",
            )
        schedule = f"cron_expression={json.dumps(text)}"
    given = {"job_id": job_id, "name": name, "method": method, "schedule": schedule}
    given["trigger"] = json.dumps(trigger.text)
    return {
        path.format(**given): (_TEXTS / text).read_text("utf-8").format(**given)
        for path, text in _FILES.items()
    }


def module_name(job_id: str) -> str:
    """What a job's id is called in Python: "cache.report-daily" is `cache_report_daily`."""
    check_name("ID", job_id)
    name = re.sub(r"[.-]", "_", job_id).lower()
    if name == "scheduler" or name.startswith("register_"):
        raise InvalidJob(
            f"ID: {job_id!r} is what a module of a job calls something else",
            hint="another one; 'register_…' registers jobs and 'scheduler' is its argument",
        )
    if not name.isidentifier() or keyword.iskeyword(name) or len(name) > MAX_NAME:
        raise InvalidJob(
            f"ID: {job_id!r} cannot be the name of a module and of a function",
            hint=f"a letter, then up to {MAX_NAME - 1} letters, digits, '_', '-' and '.', and no keyword of Python",
        )
    return name


def write(checkout: Path, job_id: str, trigger: CronTrigger | IntervalTrigger) -> list[str]:
    """Write a job's files into a checkout; return a line for each.

    Raises:
        UsageError: `checkout` is none.
        InvalidJob, Conflict: as in `files_of`, or a file is there already; nothing was written.
    """
    if not all((checkout / part).exists() for part in _PARTS):
        raise UsageError(
            f"new: {checkout} is an installed release and not a checkout",
            hint="in the checkout: bin/sereno new …, then ./install.sh",
        )
    files = files_of(job_id, trigger)
    for path in files:
        if os.path.lexists(checkout / path):
            raise Conflict(f"file: {path} is there already; nothing was written")
    _write(checkout, files)
    does = {"lib": describe(trigger), "bin": "its entry script", "tests": "its test"}
    return [f"{path}: {does[path.partition('/')[0]]}" for path in files]


def _write(checkout: Path, files: Mapping[str, str]) -> None:
    written: list[Path] = []
    try:
        for name, text in files.items():
            path = checkout / name
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
            if path.parent.name == "bin":
                path.chmod(0o755)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise SerenoError(
            f"file: {error.filename}: {error.strerror}; nothing was written"
        ) from error
