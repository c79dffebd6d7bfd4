"""Two backends on one machine, each with an interpreter and a package of its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

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
BACKENDS = ("shop", "news")


@pytest.fixture(scope="module")
def backends(machine: Machine) -> Machine:
    """The packages shop and news, installed in environments of their own that share sereno's library."""
    for name in BACKENDS:
        environment = f"/srv/{name}/venv"
        site = f"{environment}/lib/python3.11/site-packages"
        machine.run("python3", "-m", "venv", "--without-pip", "--system-site-packages", environment)
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
    return machine.run(python, "-m", "sereno", "apply", *words).stdout


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
        ran = json.loads(backends.run("sereno", "run", f"{name}_nightly").stdout)
        assert ran == {"prefix": f"/srv/{name}/venv", "module": f"{name}.jobs"}

    pruned = apply(backends, "shop", "--jobs", "shop.jobs:fewer", "--app", "shop", "--prune")
    assert pruned == "remove sereno@shop_often.timer\n"
    assert timers(backends) == everything - {"shop_often"}
    # The jobs that ship belong to an application of their own, in both directions.
    backends.run("sereno", "apply", "--prune")
    assert timers(backends) == everything - {"shop_often"}

    assert apply(backends, "shop", "--entry-points") == "create sereno@shop_often.timer\n"
    assert apply(backends, "shop", "--entry-points") == "nothing to do\n"
    assert timers(backends) == everything
