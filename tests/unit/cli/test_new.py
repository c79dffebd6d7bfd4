"""`sereno new`: what it writes passes the linters and its own test, and a wrong input writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shipped import copy_of_checkout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_checkout(tmp_path / "checkout")


def new(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "bin/sereno"), "new", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(checkout: Path) -> dict[str, bytes]:
    found = (path for path in checkout.rglob("*") if "__pycache__" not in path.parts)
    return {str(path.relative_to(checkout)): path.read_bytes() for path in found if path.is_file()}


def python(checkout: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=checkout, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.waiting
def test_new_jobs_pass_the_linters_and_their_tests_and_are_installed_with_the_others(
    checkout: Path, mypy: tuple[str, ...]
) -> None:
    longest = "a" * 36
    made = [
        ("zz_prices", ("--every", "2h30m"), "interval[2:30:00]"),
        ("zz.report-Daily", ("--cron", "@daily"), "cron[@daily]"),
        (longest, ("--cron", "0-59/5,7 1,3,5,7,9,11,13,15,17,19,21,23 1,15 * mon-fri"), "cron[0-59/5"),
    ]  # fmt: skip
    for job_id, schedule, _ in made:
        done = new(checkout, job_id, *schedule)
        assert done.returncode == 0, done.stderr
        assert "\n  tests/run tests/unit/test_" in done.stdout
        assert os.access(checkout / "bin" / job_id, os.X_OK)
    written = (
        "lib/sereno/jobs",
        "tests/unit/test_zz_prices_job.py",
        f"tests/unit/test_{longest}_job.py",
    )
    assert python(checkout, "ruff", "check", *written) == ""
    assert python(checkout, "ruff", "format", "--check", *written) == ""
    assert python(checkout, *mypy, "--strict", "lib/sereno/jobs") == ""
    tests = sorted(str(path) for path in checkout.glob("tests/unit/test_*_job.py"))
    assert len(tests) >= len(made)
    # Those that were there before hold as well.
    assert python(checkout, "pytest", "-q", *tests, "tests/unit/cli/test_cli.py") == ""

    command = [
        sys.executable,
        str(checkout / "bin/sereno"),
        "render",
        "--to",
        str(checkout / "out"),
    ]
    subprocess.run(command, check=True)
    for job_id, _, trigger in made:
        assert f"Trigger={trigger}" in (checkout / f"out/sereno@{job_id}.timer").read_text()
    ran = subprocess.run(
        [str(checkout / "bin/zz_prices")], capture_output=True, text=True, check=True
    )
    assert '{"items": 0}' in ran.stderr


# One process for all: a start of the command takes longer than what it does.
EACH = """
import contextlib, io, json, sys
sys.path.insert(0, sys.argv[1])
from sereno.cli import main
ended = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = main(["new", *words])
    ended.append([status, said.getvalue()])
json.dump(ended, sys.stdout)
"""


def test_a_wrong_schedule_or_id_writes_nothing(checkout: Path) -> None:
    wrong = (
        (("x", "--cron", "0 25 * * *"), "hour"),
        (("x", "--cron", "0 0 30 2 *"), "would never run"),
        (("x", "--every", "2 fortnights"), "is not a time span"),
        (("x", "--cron", "0 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21 * * *"), "is longer than"),
        (("../x", "--every", "2h"), "cannot be part of a unit name"),
        (("3x", "--every", "2h"), "cannot be the name of a module"),
        (("import", "--every", "2h"), "cannot be the name of a module"),
        (("register_users", "--every", "2h"), "is what a module of a job calls something else"),
        (("scheduler", "--every", "2h"), "is what a module of a job calls something else"),
        (("a" * 37, "--every", "2h"), "cannot be the name of a module"),
        (("sereno", "--every", "2h"), "bin/sereno is there already"),
        (("cache_cleanup", "--every", "2h"), "lib/sereno/jobs/cache_cleanup_job.py is there already"),
    )  # fmt: skip
    before = files(checkout)
    done = subprocess.run(
        [sys.executable, "-c", EACH, checkout / "lib"], input=json.dumps([words for words, _ in wrong]),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for (words, said), (status, stderr) in zip(wrong, json.loads(done.stdout), strict=True):
        assert status in (2, 6), words
        assert said in stderr
        assert "Traceback" not in stderr
    assert files(checkout) == before


def test_an_installed_release_is_no_checkout(checkout: Path) -> None:
    (checkout / "install.sh").unlink()
    done = new(checkout, "x", "--every", "2h")
    assert done.returncode == 2
    assert "is an installed release and not a checkout\nhint: in the checkout: " in done.stderr


ADDED = """
import sereno


def tidy():
    return {"tidied": 3}


def register_tidy(scheduler):
    return scheduler.add_interval_job(tidy, "tidy_up", hours=6)
"""
ENTRY = """#!/usr/bin/env python3
import sys
from os.path import dirname, realpath

sys.path.insert(0, dirname(dirname(realpath(__file__))) + "/lib")

from sereno.runner import main

sys.exit(main("tidy_up", "sereno.jobs.tidy:tidy"))
"""


def add_tidy(checkout: Path) -> Path:
    (checkout / "lib/sereno/jobs/tidy.py").write_text(ADDED)
    script = checkout / "bin/tidy_up"
    script.write_text(ENTRY)
    script.chmod(0o755)
    return script


def render(checkout: Path) -> subprocess.CompletedProcess[str]:
    command = [str(checkout / "bin/sereno"), "render", "--to", str(checkout / "out")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done


def test_a_module_and_an_entry_script_are_a_job_and_another_job_does_not_load_it(
    checkout: Path,
) -> None:
    script = add_tidy(checkout)
    (checkout / "lib/sereno/jobs/rules.py").write_text("# What jobs share; none itself.\n")
    assert render(checkout).returncode == 0
    assert (checkout / "out/sereno@tidy_up.timer").exists()
    ran = subprocess.run([str(script)], capture_output=True, text=True, check=True)
    assert '{"tidied": 3}' in ran.stderr

    (checkout / "lib/sereno/jobs/tidy.py").write_text("raise SystemExit('loaded')\n")
    environment = {**os.environ, "SERENO_CACHE_DIR": str(checkout)}
    cleanup = [sys.executable, str(checkout / "bin/cache_cleanup_hourly")]
    subprocess.run(cleanup, env=environment, check=True)


def test_a_job_that_its_package_exports_is_registered_once_as_any_other(checkout: Path) -> None:
    script = add_tidy(checkout)
    package = checkout / "lib/sereno/jobs/__init__.py"
    text = package.read_text() + "\nfrom .tidy import tidy, register_tidy\n"
    package.write_text(text + '\n__all__ = ["tidy", "register_tidy"]\n')
    assert render(checkout).returncode == 0
    assert len(list((checkout / "out").glob("*.timer"))) == 2
    assert subprocess.run([str(script)], capture_output=True, check=True).returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import celery_of_nobody", "raised ModuleNotFoundError: No module named 'celery_of_nobody'"),
        ("1 / 0", "lib/sereno/jobs: importing 'sereno.jobs.tidy' raised ZeroDivisionError"),
        ("def register_x(scheduler): 1 / 0", "sereno.jobs.tidy:register_x raised ZeroDivisionError"),
        ("def register(scheduler): scheduler.add_cron_job(register, 'x', hour=25)", "job x: hour: '25'"),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_loaded_is_named(checkout: Path, text: str, said: str) -> None:
    add_tidy(checkout)
    (checkout / "lib/sereno/jobs/tidy.py").write_text(text)
    done = render(checkout)
    assert done.returncode == 2
    assert said in done.stderr
