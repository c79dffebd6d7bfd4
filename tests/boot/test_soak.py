"""Many jobs and 8 processes at the shared cache for a while, with kills, pauses, applies; then the books are checked.

A run costs some 0.1 s of a core, sandbox and PID 1 included: 80 jobs every 12 s keep two thirds of a core busy, 200
every 20 s (the long form) a whole one.

An elapse is accounted for by one start of the service, as PID 1 records it: also of a run that is killed before its
first line. An elapse that finds the run before still going has none of its own: it is recorded as an overrun, and one
start follows at the end of that run. Intervals count from start to start, so for them no start may be missing.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from shop import Shop

if TYPE_CHECKING:
    from machine import Machine

LONG = os.environ.get("SERENO_TEST_LONG") == "1"
DURATION_S, PERIOD_S = (1800, 20) if LONG else (30, 12)
CALENDAR_JOBS, PAUSED_JOBS, INTERVAL_JOBS = (140, 10, 50) if LONG else (54, 4, 22)
CACHE_PROCESSES = 8
EVENT_EACH_S = 2.0
LATE_S = 15.0 if LONG else 10.0
CLOCK_S = 0.02
STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"
JOBS = """
import random, time

def nap():
    time.sleep(random.random())
    return {"slept": True}
"""
REGISTER = f"""
import soak_jobs
def calendar(name, number):
    at = f"{{number % {PERIOD_S}}}-59/{PERIOD_S}"
    scheduler.add_cron_job(soak_jobs.nap, f"{{name}}_{{number}}", minute="*", second=at, accuracy=0.000001)
for number in range({CALENDAR_JOBS}):
    calendar("calendar", number)
for number in range({PAUSED_JOBS}):
    calendar("paused", number)
for number in range({INTERVAL_JOBS}):
    scheduler.add_interval_job(soak_jobs.nap, f"interval_{{number}}", seconds={PERIOD_S}, accuracy=0.000001)
scheduler.start()
"""
# Each process counts its requests in a file: the last one may be missing there, when it is killed in between.
CACHE_PROCESS = """
import os, random, sys, time
from sereno import MetadataCache
cache = MetadataCache(max_size=500)
count = os.open(f"/run/soak/{sys.argv[1]}", os.O_RDWR | os.O_CREAT)
done = int(os.pread(count, 20, 0) or b"0")
while True:
    key = f"key:{random.randrange(1000)}"
    found = cache.get(key)
    done += 1
    os.pwrite(count, b"%020d" % done, 0)
    if found is None:
        cache.set(key, {"key": key, "text": "x" * random.randrange(2000)}, ttl=random.choice([0.5, 5, 60]))
    elif found["key"] != key:
        os.write(os.open("/run/soak/wrong", os.O_WRONLY | os.O_CREAT), key.encode())
    if random.random() < 0.05:
        cache.invalidate(key)
    time.sleep(0.005)
"""
# After an opening, which frees the slots of dead processes: those that are still taken.
READERS = """
import glob, lmdb
from sereno.cache.store import _ENGINE
(place,) = glob.glob("/var/cache/sereno/**/data.mdb", recursive=True)
env = lmdb.open(place.removesuffix("/data.mdb"), readonly=True, max_readers=1024, lib_version=_ENGINE)
print(env.readers())
"""


@pytest.fixture
def soaked(machine: Machine) -> Shop:
    shop = Shop(machine, app="soak")
    machine.write("/srv/shop/soak_jobs.py", JOBS)
    machine.write("/srv/shop/cache_process.py", CACHE_PROCESS)
    return shop


@pytest.mark.alone
@pytest.mark.first_systemd
def test_every_elapse_has_its_run_and_nothing_is_left_behind(
    soaked: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, machine = soaked, soaked.machine
    shop.call("scheduler.start()")
    machine.run("sereno", "cache", "set", "first", "1")
    machine.run("sereno", "cache", "stats")
    # Every run wants it, and it stays.
    machine.run("systemctl", "start", "sereno-notify.socket")
    before = left_behind(machine)
    shop.call(REGISTER)
    start_cache_processes(machine)
    files = unit_files(machine)
    events = Events(shop, seed := random.randrange(1_000_000))
    begin_s = time.time()
    while time.time() < begin_s + DURATION_S:
        time.sleep(EVENT_EACH_S)
        events.happen()
    events.resume_all()
    end_s = time.time()
    assert unit_files(machine) == files
    shop.call("scheduler.shutdown(wait=True)")
    requests = stop_cache_processes(machine)
    told = f"seed {seed}, {dict(events.counts)}"

    starts = starts_by_job(machine, begin_s, end_s)
    try:
        assert_each_elapse_has_one_start(starts, begin_s, end_s)
        for number in range(PAUSED_JOBS):
            events.assert_silent_while_paused(starts, number)
    except AssertionError as error:
        raise AssertionError(told) from error

    shop.remove_all()
    counted = json.loads(machine.run("sereno", "cache", "stats", "--json").stdout)
    machine.wait_for(
        lambda: left_behind(machine) == before,
        what=f"the state before: {told}, {before}, {left_behind(machine)}",
    )
    assert not machine.exists("/run/soak/wrong"), told
    total = counted["total_requests"]
    assert counted["hits"] + counted["misses"] == total
    assert requests <= total <= requests + events.counts["cache process killed"] + CACHE_PROCESSES
    with capsys.disabled():
        runs, took_s = sum(map(len, starts.values())), end_s - begin_s
        text = f"\nsoak: {runs} runs in {took_s:.0f} s, {total} requests, {told}"
        # Not to standard output, which a process of xdist's has none of.
        print(text, file=sys.stderr)


def assert_each_elapse_has_one_start(
    starts: dict[str, list[float]], begin_s: float, end_s: float
) -> None:
    for number in range(CALENDAR_JOBS):
        found = starts[f"calendar_{number}"]
        periods = periods_of(found, number)
        wrong = [
            (before, after) for before, after in pairwise(zip(periods, found, strict=True))
            if after[0] != before[0] + 1
        ]  # fmt: skip
        assert not wrong, (number, wrong)
        assert found[0] < begin_s + PERIOD_S + LATE_S, (number, found)
        assert found[-1] > end_s - PERIOD_S - LATE_S, (number, found)
    for number in range(INTERVAL_JOBS):
        found = starts[f"interval_{number}"]
        distances_s = [after - before for before, after in pairwise(found)]
        assert all(PERIOD_S - CLOCK_S < it < PERIOD_S + LATE_S for it in distances_s), (
            number,
            found,
        )
        assert found[-1] > end_s - PERIOD_S - LATE_S, (number, found)


def periods_of(starts: list[float], number: int) -> list[int]:
    """The number of the period, of those that begin with the job's elapse, in which each start lies."""
    return [int((start - number % PERIOD_S) // PERIOD_S) for start in starts]


class Events:
    """What happens to the jobs and the cache's processes, at random."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.shop = shop
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.pauses: dict[str, list[list[float]]] = {}
        self.paused: set[str] = set()
        self._kinds = {
            "cache process killed": self._kill_cache_process,
            "run killed": self._kill_run,
            "job paused or resumed": self._pause_or_resume,
            "apply": lambda: self.shop.call(REGISTER),
            "daemon-reload": lambda: self.shop.machine.run("systemctl", "daemon-reload"),
        }

    def happen(self) -> None:
        kind = self.random.choice(list(self._kinds))
        self._kinds[kind]()
        self.counts[kind] += 1

    def _kill_cache_process(self) -> None:
        unit = f"soak-{self.random.randrange(CACHE_PROCESSES)}.service"
        self.shop.machine.run("systemctl", "kill", "--signal=KILL", unit, check=False)

    def _kill_run(self) -> None:
        machine = self.shop.machine
        rows = json.loads(
            machine.run(
                "systemctl", "list-units", "--output=json", "--state=activating", "sereno@*"
            ).stdout
        )
        if rows:
            unit = self.random.choice(rows)["unit"]
            machine.run("systemctl", "kill", "--signal=KILL", unit, check=False)

    def _pause_or_resume(self) -> None:
        job = f"paused_{self.random.randrange(PAUSED_JOBS)}"
        if job in self.paused:
            self._resume(job)
        else:
            self.shop.call(f"{REGISTER}\nscheduler.pause_job({job!r})")
            self.pauses.setdefault(job, []).append([time.time(), float("inf")])
            self.paused.add(job)

    def _resume(self, job: str) -> None:
        self.pauses[job][-1][1] = time.time()
        self.shop.call(f"{REGISTER}\nscheduler.resume_job({job!r})")
        self.paused.discard(job)

    def resume_all(self) -> None:
        for job in sorted(self.paused):
            self._resume(job)

    def assert_silent_while_paused(self, starts: dict[str, list[float]], number: int) -> None:
        job = f"paused_{number}"
        found = starts.get(job, [])
        periods = periods_of(found, number)
        assert len(set(periods)) == len(periods), (job, found)
        pauses = self.pauses.get(job, [])
        assert not [it for it in found if any(begin < it < end for begin, end in pauses)], (
            job,
            found,
            pauses,
        )


def start_cache_processes(machine: Machine) -> None:
    machine.run("install", "--directory", "--owner=sereno", "/run/soak")
    for number in range(CACHE_PROCESSES):
        machine.run(
            *(
                "systemd-run",
                "--quiet",
                "--uid=sereno",
                "--property=UMask=0007",
                f"--unit=soak-{number}",
                "--property=Restart=always",
            ),
            *("--property=RestartSec=100ms", "--property=StartLimitIntervalSec=0"),
            *("--setenv=PYTHONPATH=/opt/sereno/lib", "/opt/sereno/current/venv/bin/python3"),
            *("/srv/shop/cache_process.py", str(number)),
        )


def stop_cache_processes(machine: Machine) -> int:
    """The requests that they have counted."""
    units = [f"soak-{number}.service" for number in range(CACHE_PROCESSES)]
    machine.run("systemctl", "stop", *units)
    return sum(int(machine.read(f"/run/soak/{number}")) for number in range(CACHE_PROCESSES))


def starts_by_job(machine: Machine, begin_s: float, end_s: float) -> dict[str, list[float]]:
    starts: dict[str, list[float]] = {}
    for record in machine.journal(STARTING):
        unit, moment_s = record.get("UNIT", ""), int(record["_SOURCE_REALTIME_TIMESTAMP"]) / 1e6
        if unit.startswith("sereno@") and begin_s <= moment_s <= end_s:
            job = unit.removeprefix("sereno@").removesuffix(".service")
            starts.setdefault(job, []).append(moment_s)
    return starts


def unit_files(machine: Machine) -> set[str]:
    words = ("find", "/etc/systemd/system", "(", "-type", "f", "-o", "-type", "l", ")")
    # A paused job's link is the one thing that comes and goes.
    return {
        path for path in machine.run(*words).stdout.split() if "wants/sereno@paused_" not in path
    }


def left_behind(machine: Machine) -> dict[str, Any]:
    """What must be the same before and after: files, open files of PID 1, processes of the jobs, slots of readers."""
    places = ("/etc/systemd/system", "/run/systemd/system", "/var/cache/sereno", "/tmp", "/var/tmp")
    found = machine.run("find", *places, "-xdev").stdout.splitlines()
    return {
        # systemd's own, of a process that was killed while it was being put into its sandbox (mount_private_dev() of
        # src/core/namespace.c).
        "files": sorted(path for path in found if not path.startswith("/tmp/namespace-dev-")),
        "processes": machine.run(
            "sh", "-c", "grep -l sereno[.]slice /proc/[0-9]*/cgroup", check=False
        ).stdout,
        "slots of readers": machine.run(
            "/opt/sereno/current/venv/bin/python3",
            "-c",
            READERS,
            env={"PYTHONPATH": "/opt/sereno/lib"},
        ).stdout,
        "open files of PID 1": len(machine.run("ls", "/proc/1/fd").stdout.split()),
    }
