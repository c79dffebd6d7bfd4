"""Changes that meet: two applications at once, an application or an upgrade during a run, a reboot during a run."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from shop import FINISHED, INTERRUPTED, STARTED, Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from machine import Machine

JOBS = """
import importlib, os, time

def waits():
    while not os.path.exists("/srv/shop/go"):
        time.sleep(0.02)
    from sereno.manager import analyze as elapses
    return {"late": os.path.realpath(elapses.__file__)}

def quick():
    return {"rows": 3}
"""


@pytest.fixture
def own_machine(
    boot: Callable[..., Machine], installed_layers: tuple[Path, ...]
) -> Iterator[Machine]:
    """An installed machine of the test's own, with the functions of these tests."""
    with boot(*installed_layers) as machine:
        Shop(machine)
        machine.run("mkdir", "-p", "/var/log/journal")
        machine.run("systemctl", "restart", "systemd-journald.service")
        machine.write("/srv/shop/meeting_jobs.py", JOBS)
        yield machine


def install(machine: Machine, *registrations: str, app: str = "shop") -> None:
    Shop(machine, app).install(*registrations, functions="meeting_jobs")


def begin(machine: Machine, job_id: str) -> str:
    """Start a run that waits; its id."""
    machine.run("systemctl", "start", "--no-block", f"sereno@{job_id}.service")
    records = machine.wait_for(lambda: Shop(machine).runs(job_id, STARTED), what="a run")
    run_id: str = records[-1]["SERENO_RUN"]
    return run_id


def assert_sound(machine: Machine, *job_ids: str) -> None:
    """Nothing failed or is stuck, and the timers wait for their next elapses."""
    timers = {row["unit"]: row["next"] for row in machine.list_timers()}
    for job_id in (*job_ids, "cache_cleanup_hourly"):
        assert timers[f"sereno@{job_id}.timer"], job_id
    assert machine.run("systemctl", "--failed", "--no-legend").stdout == ""
    waiting = machine.run("systemctl", "list-jobs", "--no-legend").stdout
    assert "sereno" not in waiting
    left = machine.run("find", "/etc/systemd/system", "-name", ".sereno*").stdout
    assert left == ""


def test_applications_and_their_workers_apply_at_the_same_time(own_machine: Machine) -> None:
    machine = own_machine

    def worker(number: int) -> None:
        if number % 3 == 2:
            machine.run("sereno", "apply")
            return
        app = ("shop", "club")[number % 3]
        install(
            machine,
            f"add_interval_job(jobs.quick, '{app}_hourly', hours=1)",
            f"add_cron_job(jobs.quick, '{app}_nightly', hour=3)",
            app=app,
        )

    with ThreadPoolExecutor(9) as pool:
        for done in [pool.submit(worker, number) for number in range(9)]:
            done.result()
    jobs = ("shop_hourly", "shop_nightly", "club_hourly", "club_nightly")
    assert_sound(machine, *jobs)
    assert [Shop(machine).runs(job_id, STARTED) for job_id in jobs] == [[]] * 4


def test_an_application_during_a_run_leaves_the_run_alone(own_machine: Machine) -> None:
    machine = own_machine
    install(machine, "add_interval_job(jobs.waits, 'waits', hours=1)")
    run_id = begin(machine, "waits")
    install(machine, "add_cron_job(jobs.waits, 'waits', hour=3, timeout=900)")
    machine.run("sereno", "apply")
    machine.run("touch", "/srv/shop/go")
    (closing,) = machine.wait_for(
        lambda: Shop(machine).runs("waits", FINISHED), what="the end of the run"
    )
    assert closing["SERENO_RUN"] == run_id
    machine.wait_for(
        lambda: machine.show("sereno@waits.service", "ActiveState")["ActiveState"] == "inactive",
        what="the end of the service",
    )
    assert_sound(machine, "waits")
    assert len(Shop(machine).runs("waits", STARTED)) == 1


def test_a_run_during_an_upgrade_ends_on_the_code_that_it_began_with(own_machine: Machine) -> None:
    machine = own_machine
    old = machine.run("readlink", "-f", "/opt/sereno/current").stdout.strip()
    install(machine, "add_interval_job(jobs.waits, 'waits', hours=1)")
    run_id = begin(machine, "waits")
    machine.run("mkdir", "/root/newer")
    for name in ("lib", "bin", "systemd", "install.sh"):
        machine.run("cp", "-r", f"/src/{name}", "/root/newer/")
    package = "/root/newer/lib/sereno/__init__.py"
    machine.run("sed", "-i", 's/^__version__ = .*/__version__ = "99.0"/', package)
    machine.run("/root/newer/install.sh", "--wheels", "/wheels", timeout=180)
    assert machine.run("readlink", "-f", "/opt/sereno/current").stdout.strip() != old
    machine.run("touch", "/srv/shop/go")
    (closing,) = machine.wait_for(
        lambda: Shop(machine).runs("waits", FINISHED), what="the end of the run"
    )
    assert closing["SERENO_RUN"] == run_id
    assert closing["SERENO_STAT_LATE"] == f"{old}/lib/sereno/manager/analyze.py"
    later = json.loads(machine.run("sereno", "run", "--wait", "waits").stdout)
    assert "/releases/99.0-" in later["late"]
    assert_sound(machine, "waits")


@pytest.mark.parametrize("way", ["reboot", "crash"])
def test_a_reboot_during_a_run_leaves_its_record_and_nothing_stuck(
    own_machine: Machine, way: str
) -> None:
    machine = own_machine
    install(
        machine,
        "add_interval_job(jobs.waits, 'waits', hours=1)",
        "add_cron_job(jobs.waits, 'nightly', hour=3)",
    )
    run_ids = {job_id: begin(machine, job_id) for job_id in ("waits", "nightly")}
    if way == "reboot":
        machine.stop()
    else:
        machine.run("journalctl", "--sync")
        machine.crash()
    machine.start()
    assert_sound(machine, "waits", "nightly")
    for job_id, run_id in run_ids.items():
        history = json.loads(machine.run("sereno", "history", job_id, "--json").stdout)["history"]
        (run,) = [run for run in history if run["run"] == run_id]
        assert run["status"] == ("interrupted" if way == "reboot" else "lost")
        assert len(Shop(machine).runs(job_id, INTERRUPTED)) == (way == "reboot")
    machine.run("touch", "/srv/shop/go")
    assert "late" in json.loads(machine.run("sereno", "run", "--wait", "waits").stdout)
