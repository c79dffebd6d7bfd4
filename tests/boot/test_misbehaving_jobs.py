"""Jobs that misbehave, and journals that do not take records: each run ends, and with its own result."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest
from shop import FAILED, FINISHED, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

LINES = 1_000_000 if os.environ.get("SERENO_TEST_LONG") == "1" else 50_000
JOBS = """
import logging, os, signal, sys, time

def logs(lines):
    logger = logging.getLogger("shop")
    for number in range(lines):
        logger.info("line %d", number)
    return {"lines": lines}

def returns_much():
    return {"rows": 3, "page": "x" * 10_000_000, "pages": 4}

def leaves_children():
    for number in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execlp("sleep", f"left-behind", "600")
            os._exit(0)
    return {"children": 3}

def ignores_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("deaf", flush=True)
    while True:
        time.sleep(600)

def allocates():
    taken = []
    while True:
        taken.append(bytearray(16 << 20))

def closes_everything():
    print("begun, and never to be read", end="")
    for number in range(3):
        os.close(number)
    return {"closed": 3}

def waits():
    while not os.path.exists("/run/go"):
        time.sleep(0.05)

def succeeds():
    logging.getLogger("shop").info("said")
    print("printed")
    return {"rows": 3}

def fails():
    logging.getLogger("shop").info("said")
    raise ValueError("no such table")
"""


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    """The shop with the functions of these tests as `jobs`."""
    shop.machine.write("/srv/shop/bad_jobs.py", JOBS)
    return shop


def install(shop: Shop, *registrations: str) -> None:
    shop.install(*registrations, functions="bad_jobs")


def start(machine: Machine, job_id: str, timeout: float = 60) -> str:
    """Run a job; its result as systemd has it."""
    unit = f"sereno@{job_id}.service"
    machine.run("systemctl", "reset-failed")
    done = machine.run("systemctl", "start", unit, check=False, timeout=timeout)
    result = machine.show(unit, "Result")["Result"]
    assert (done.returncode == 0) is (result == "success")
    return result


def closing(shop: Shop, job_id: str, kind: str = FINISHED) -> dict[str, str]:
    """The newest closing record; journald may still be writing what came before it."""
    found: list[dict[str, str]] = shop.machine.wait_for(
        lambda: shop.runs(job_id, kind), what="the closing record", deadline_s=120
    )
    return found[-1]


def test_a_job_that_logs_without_end_has_its_statistics_in_the_journal(jobs: Shop) -> None:
    install(jobs, f"add_interval_job(jobs.logs, 'talks', hours=1, kwargs={{'lines': {LINES}}})")
    began = time.monotonic()
    assert start(jobs.machine, "talks", timeout=900) == "success"
    record = closing(jobs, "talks")
    # Shown by pytest -s.
    print(f"{LINES} lines: {time.monotonic() - began:.0f} s, {record['SERENO_DURATION_MS']} ms")
    assert record["SERENO_STAT_LINES"] == str(LINES)


def test_statistics_of_ten_megabytes_are_bounded_and_the_record_says_so(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.returns_much, 'much', hours=1)")
    assert start(jobs.machine, "much") == "success"
    record = closing(jobs, "much")
    assert json.loads(record["SERENO_STATS"]) == {"rows": 3, "pages": 4}
    said = [record["MESSAGE"] for record in jobs.machine.journal("SERENO_JOB=much")]
    assert any("1 estadísticas omitidas" in message for message in said)


def test_children_that_a_job_leaves_are_gone_with_its_run(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.leaves_children, 'parent', hours=1)")
    assert start(jobs.machine, "parent") == "success"
    closing(jobs, "parent")
    assert jobs.machine.run("pgrep", "-x", "sleep", check=False).stdout == ""
    assert jobs.machine.show("sereno@parent.service", "ActiveState")["ActiveState"] == "inactive"


def test_a_job_that_ignores_sigterm_is_killed_after_its_grace(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.ignores_sigterm, 'deaf', hours=1, timeout=2)")
    began = time.monotonic()
    assert start(jobs.machine, "deaf") == "timeout"
    assert time.monotonic() - began > 10
    shown = jobs.machine.show("sereno@deaf.service", "ExecMainStatus", "ActiveState")
    assert shown == {"ExecMainStatus": "9", "ActiveState": "failed"}


def test_a_job_that_allocates_without_end_fails_at_its_limit_and_says_so(jobs: Shop) -> None:
    """By a limit of its own process; `memory_max=` is tested where the memory controller acts."""
    install(jobs, "add_interval_job(jobs.allocates, 'greedy', hours=1)")
    drop_in = "/etc/systemd/system/sereno@greedy.service.d/limit.conf"
    jobs.machine.write(drop_in, "[Service]\nLimitAS=512M\n")
    jobs.machine.run("systemctl", "daemon-reload")
    try:
        assert start(jobs.machine, "greedy") == "exit-code"
        assert "MemoryError" in closing(jobs, "greedy", FAILED)["SERENO_ERROR"]
    finally:
        jobs.machine.run("rm", "-r", "/etc/systemd/system/sereno@greedy.service.d/limit.conf")


def test_a_job_that_closes_its_outputs_has_its_record(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.closes_everything, 'closed', hours=1)")
    assert start(jobs.machine, "closed") == "success"
    assert closing(jobs, "closed")["SERENO_STAT_CLOSED"] == "3"


# --- journals ---------------------------------------------------------------------------------------------------------

BOTH = (
    "add_interval_job(jobs.succeeds, 'good', hours=1)",
    "add_interval_job(jobs.fails, 'bad', hours=1)",
)
JOURNALD = (
    "systemd-journald.socket",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
)


@pytest.fixture
def no_journal(jobs: Shop) -> Iterator[Machine]:
    """The machine without a journald; what waits for it does so in vain."""
    install(jobs, *BOTH)
    jobs.machine.run("systemctl", "stop", *JOURNALD)
    yield jobs.machine
    jobs.machine.run("systemctl", "start", *JOURNALD)


@pytest.mark.parametrize("socket_file", ["left", "gone"])
def test_without_a_journal_jobs_run_and_end_with_their_own_result(
    no_journal: Machine, socket_file: str
) -> None:
    if socket_file == "gone":
        no_journal.run("rm", "-f", "/run/systemd/journal/socket", "/run/systemd/journal/stdout")
    assert start(no_journal, "good") == "success"
    assert start(no_journal, "bad") == "exit-code"
    assert no_journal.show("sereno@bad.service", "ExecMainStatus") == {"ExecMainStatus": "1"}


def test_a_journal_that_stops_during_a_run_changes_no_result(jobs: Shop) -> None:
    machine = jobs.machine
    install(jobs, "add_interval_job(jobs.waits, 'waits', hours=1)")
    machine.run("systemctl", "start", "--no-block", "sereno@waits.service")
    machine.wait_for(lambda: machine.journal("SERENO_JOB=waits"), what="the start of the run")
    machine.run("systemctl", "stop", *JOURNALD)
    try:
        machine.run("touch", "/run/go")
        machine.wait_for(
            lambda: (
                machine.show("sereno@waits.service", "ActiveState")["ActiveState"] != "activating"
            ),
            what="the end of the run",
        )
        assert machine.show("sereno@waits.service", "Result")["Result"] == "success"
    finally:
        machine.run("systemctl", "start", *JOURNALD)


def test_a_journal_on_a_full_disk_changes_no_result(jobs: Shop) -> None:
    install(jobs, *BOTH)
    machine = jobs.machine
    machine.run("mkdir", "-p", "/var/log/journal")
    machine.run("mount", "-t", "tmpfs", "-o", "size=64k", "none", "/var/log/journal")
    machine.run("sh", "-c", "head -c 1M /dev/zero >/var/log/journal/ballast || :")
    machine.run("systemctl", "restart", "systemd-journald.service")
    try:
        assert start(machine, "good") == "success"
        assert start(machine, "bad") == "exit-code"
    finally:
        machine.run("systemctl", "stop", "systemd-journald.service")
        machine.run("umount", "--lazy", "/var/log/journal")
        machine.run("systemctl", "restart", "systemd-journald.service")


def test_a_rate_limit_of_the_journal_changes_no_result(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.logs, 'limited', hours=1, kwargs={'lines': 2000})")
    drop_in = "/etc/systemd/system/sereno@limited.service.d/limit.conf"
    limit = "[Service]\nLogRateLimitIntervalSec=600\nLogRateLimitBurst=2\n"
    jobs.machine.write(drop_in, limit)
    jobs.machine.run("systemctl", "daemon-reload")
    assert start(jobs.machine, "limited") == "success"
    assert len(jobs.machine.journal("SERENO_JOB=limited", "LOGGER=shop")) < 2000
    jobs.machine.run("rm", drop_in)
