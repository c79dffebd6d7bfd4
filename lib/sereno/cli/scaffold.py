"""The files of a new job in a checkout: module, entry script and test.

Pure but for `write`. The texts pass ruff and mypy as they are, and the test passes.
"""

from __future__ import annotations

import json
import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path

from sereno.declare.job import check_name
from sereno.errors import Conflict, InvalidJob, SerenoError, UsageError
from sereno.triggers import CronTrigger, IntervalTrigger, describe

# Longer ones would need other line breaks in the files below.
MAX_NAME, MAX_CRON = 36, 60
_PARTS = ("install.sh", "lib/sereno/jobs", "bin/sereno", "tests/unit")

MODULE = '''\
"""The job `{job_id}`: say here in one line what it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sereno.scheduler import Scheduler

JOB_ID = "{job_id}"


def {name}() -> dict[str, Any]:
    """Do the work and return statistics; an exception, or a key `error`, makes the run a failed one."""
    return {{"items": 0}}


def register_{name}_job(scheduler: Scheduler) -> str:
    """Register its schedule; return its job id."""
    return scheduler.{method}(
        {name},
        JOB_ID,
        {schedule},
    )
'''
ENTRY_SCRIPT = '''\
#!/usr/bin/env python3
"""Entry script of the job {job_id}; systemd starts it as sereno@{job_id}.service."""

import sys
from os.path import dirname, realpath

sys.path.insert(0, dirname(dirname(realpath(__file__))) + "/lib")

from sereno.runner import main

if __name__ == "__main__":
    sys.exit(main("{job_id}", "sereno.jobs.{name}_job:{name}"))
'''
TEST = '''\
"""The job {job_id}."""

from __future__ import annotations

from pathlib import Path

from sereno.jobs import {name}_job as job
from sereno.scheduler import Scheduler


def test_it_returns_its_statistics() -> None:
    assert job.{name}() == {{"items": 0}}


def test_it_is_registered_with_its_schedule(tmp_path: Path) -> None:
    scheduler = Scheduler(root=tmp_path)
    job.register_{name}_job(scheduler)
    (found,) = scheduler.get_jobs()
    assert found["id"] == "{job_id}"
    assert found["trigger"] == {trigger}
'''


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
    texts = {
        f"lib/sereno/jobs/{name}_job.py": MODULE,
        f"bin/{job_id}": ENTRY_SCRIPT,
        f"tests/unit/test_{name}_job.py": TEST,
    }
    return {
        path: text.format(
            job_id=job_id,
            name=name,
            method=method,
            schedule=schedule,
            trigger=json.dumps(trigger.text),
        )
        for path, text in texts.items()
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
