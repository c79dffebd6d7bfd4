"""Two backends on one machine, each with an interpreter and a package of its own."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import blocks
from shop import Shop

if TYPE_CHECKING:
    from machine import Machine

JOBS = """
import sys

def who():
    return {{"prefix": sys.prefix, "module": __name__}}

def register(scheduler):
    scheduler.add_cron_job(who, "{name}_nightly", hour=3)
    scheduler.add_interval_job(who, "{name}_often", hours=1)

def fewer(scheduler):
    scheduler.add_cron_job(who, "{name}_nightly", hour=3)
"""
# The part of FastAPI that the README's example needs: the image has no network to install it from.
FASTAPI = """
class FastAPI:
    def __init__(self, lifespan):
        self.lifespan = lifespan
    def get(self, path):
        return lambda function: function
"""
WORKERS = """
import asyncio, json, subprocess, sys
sys.path[:0] = ["/srv/example", "/opt/sereno/lib"]
if len(sys.argv) > 1:
    from shop import main
    async def live():
        async with main.lifespan(main.app):
            print(json.dumps(main.jobs(), default=str))
    asyncio.run(live())
else:
    workers = [subprocess.Popen([sys.executable, __file__, "worker"]) for _ in range(4)]
    sys.exit(max(worker.wait() for worker in workers))
"""
SERVED = """
from contextlib import asynccontextmanager
import shop_jobs
from sereno import get_scheduler
from starlette.applications import Starlette

@asynccontextmanager
async def lifespan(app):
    scheduler = get_scheduler(app="served")
    scheduler.add_interval_job(shop_jobs.quick, "served_often", hours=1)
    scheduler.start()
    yield
    scheduler.shutdown(wait=False)

app = Starlette(lifespan=lifespan)
"""
BACKENDS = ("shop", "news")


@pytest.fixture(scope="module")
def backends(machine: Machine) -> Machine:
    """The packages shop and news, installed in environments of their own that share sereno's library."""
    for name in BACKENDS:
        environment = f"/srv/{name}/venv"
        machine.run("python3", "-m", "venv", "--without-pip", "--system-site-packages", environment)
        site = machine.run(
            "sh", "-c", f"echo {environment}/lib/python3.*/site-packages"
        ).stdout.strip()
        machine.write(f"{site}/sereno.pth", "/opt/sereno/lib\n")
        machine.write(f"{site}/{name}/__init__.py", "")
        machine.write(f"{site}/{name}/jobs.py", JOBS.format(name=name))
        about = f"{site}/{name}-1.dist-info"
        machine.write(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        machine.write(
            f"{about}/entry_points.txt", f"[sereno.jobs]\n{name} = {name}.jobs:register\n"
        )
    return machine


def apply(machine: Machine, name: str, *words: str) -> str:
    python = f"/srv/{name}/venv/bin/python"
    return machine.run(python, "-m", "sereno", "apply", "--no-diff", *words).stdout


def timers(machine: Machine) -> set[str]:
    found = {timer["unit"] for timer in machine.list_timers()}
    return {unit.removeprefix("sereno@").removesuffix(".timer") for unit in found if "@" in unit}


def test_backends_run_their_jobs_by_their_own_interpreter_and_prune_only_their_own(
    backends: Machine,
) -> None:
    everything = {"cache_cleanup_hourly"} | {
        f"{name}_{kind}" for name in BACKENDS for kind in ("nightly", "often")
    }
    for name in BACKENDS:
        apply(backends, name, "--jobs", f"{name}.jobs", "--app", name, "--prune")
    assert timers(backends) == everything
    for name in BACKENDS:
        ran = json.loads(backends.run("sereno", "run", "--wait", f"{name}_nightly").stdout)
        assert ran == {"prefix": f"/srv/{name}/venv", "module": f"{name}.jobs"}

    pruned = apply(backends, "shop", "--jobs", "shop.jobs:fewer", "--app", "shop", "--prune")
    assert pruned == "remove sereno@shop_often.timer\n"
    assert timers(backends) == everything - {"shop_often"}
    # The jobs that ship belong to an application of their own, in both directions.
    backends.run("sereno", "apply", "--prune")
    assert timers(backends) == everything - {"shop_often"}

    created = apply(backends, "shop", "--entry-points")
    assert re.fullmatch(r"create sereno@shop_often.timer; next 20.* UTC\n", created)
    assert apply(backends, "shop", "--entry-points") == "nothing to do\n"
    assert timers(backends) == everything


def test_the_workers_of_the_readmes_backend_register_their_jobs_at_once_in_the_lifespan(
    backends: Machine,
) -> None:
    for block in blocks():
        if block.argument in ("shop/main.py", "/srv/shop/shop/jobs.py"):
            name = block.argument.rpartition("/")[2]
            backends.write(f"/srv/example/shop/{name}", block.text)
    backends.write("/srv/example/fastapi.py", FASTAPI)
    backends.write("/srv/example/workers.py", WORKERS)
    python = "/opt/sereno/current/venv/bin/python3"
    said = backends.run(python, "/srv/example/workers.py").stdout.splitlines()
    assert len(said) == 4
    for line in said:
        assert [(job["id"], job["active"]) for job in json.loads(line)] == [
            ("shop_expire_carts", True),
            ("shop_sync_prices", True),
        ]
    assert {"shop_expire_carts", "shop_sync_prices"} <= timers(backends)
    assert (
        backends.journal("SERENO_JOB=shop_sync_prices", "SYSLOG_IDENTIFIER=shop_sync_prices") == []
    )
    assert backends.run("sereno", "doctor").stdout.startswith("system scope: all is well; jobs: ")


def test_the_timers_of_a_served_backend_stop_with_its_last_worker_alone(machine: Machine) -> None:
    """Two workers of uvicorn each: one of them is restarted, then a release takes the place of another."""
    Shop(machine)
    machine.write("/srv/shop/web.py", SERVED)
    timer = "sereno@served_often.timer"

    def serve(release: str) -> None:
        machine.run(
            *(
                "systemd-run",
                f"--unit={release}",
                "--setenv=PYTHONPATH=/opt/sereno/lib:/srv/shop:/libraries",
            ),
            *("/srv/shop/venv/bin/python", "-m", "uvicorn", "web:app", "--workers", "2"),
            *("--uds", f"/run/{release}.sock"),
        )
        await_workers(release, 2)

    def await_workers(release: str, count: int) -> None:
        machine.wait_for(
            lambda: len(said(release, "startup")) >= count, what=f"workers of {release}"
        )

    def said(release: str, what: str) -> list[str]:
        found = machine.journal(f"_SYSTEMD_UNIT={release}.service")
        return [each["_PID"] for each in found if f"Application {what} complete" in each["MESSAGE"]]

    def since() -> dict[str, str]:
        return machine.show(timer, "ActiveState", "ActiveEnterTimestampMonotonic")

    serve("first")
    began = since()
    assert began["ActiveState"] == "active"
    machine.run("kill", "-TERM", said("first", "startup")[0])
    await_workers("first", 3)
    assert said("first", "shutdown")
    assert since() == began

    serve("second")
    machine.run("systemctl", "stop", "first")
    assert since() == began
    # No worker has a chance to say goodbye.
    serve("third")
    machine.run("systemctl", "kill", "--signal=KILL", "second")
    machine.run("systemctl", "stop", "third")
    assert machine.show(timer, "ActiveState") == {"ActiveState": "inactive"}
    machine.run("sereno", "remove", "served_often")


def test_the_installed_completion_knows_the_jobs_of_the_machine(backends: Machine) -> None:
    script = "/usr/local/share/bash-completion/completions/sereno"
    asked = f"source {script}; _sereno_job_ids cache_"
    assert backends.run("bash", "-c", asked).stdout == "cache_cleanup_hourly\n"
