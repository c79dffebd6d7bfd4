"""The sandbox of runs: how strict it is, what a registration lets through it, and that usual Python lives in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from shop import FAILED, Shop

if TYPE_CHECKING:
    from machine import Machine

# In tenths, as --threshold= wants it.
MOST_EXPOSURE = 2

JOBS = """
import asyncio, ctypes, os, pathlib, tempfile

def looks_at_home():
    return {"seen": sorted(os.listdir("/home"))}

def writes(**paths):
    done = {}
    for name, path in paths.items():
        try:
            pathlib.Path(path).write_text("written")
            done[name] = "written"
        except OSError as error:
            done[name] = error.strerror
    return done

def square(number):
    return number * number

def lives():
    import concurrent.futures, multiprocessing, socket, sqlite3, ssl, subprocess, threading, zoneinfo
    ssl.create_default_context()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(10))[-1] == 81
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        assert pool.submit(square, 3).result() == 9
    with tempfile.TemporaryDirectory() as directory:
        with sqlite3.connect(f"{directory}/x.db") as base:
            base.execute("pragma journal_mode=wal")
            base.execute("create table t (n)")
        (left, right) = socket.socketpair()
        shared = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
        shared.close()
        shared.unlink()
    assert subprocess.run(["sh", "-c", "echo $((6 * 7))"], capture_output=True).stdout == b"42\\n"
    callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    numbers = (ctypes.c_int * 3)(3, 1, 2)
    ctypes.CDLL(None).qsort(numbers, 3, 4, callback(lambda one, other: one[0] - other[0]))
    assert list(numbers) == [1, 2, 3]
    assert pathlib.Path("/proc/meminfo").read_text().startswith("MemTotal")
    zoneinfo.ZoneInfo("Europe/Madrid")
    thread = threading.Thread(target=os.cpu_count)
    thread.start()
    thread.join()
    return {"lived": asyncio.run(asyncio.sleep(0, "well"))}
"""


@pytest.fixture
def jobs(shop: Shop) -> Shop:
    """The shop with the functions of these tests as `jobs`."""
    shop.machine.write("/srv/shop/sandbox_jobs.py", "import multiprocessing.shared_memory\n" + JOBS)
    return shop


def install(shop: Shop, *registrations: str) -> None:
    shop.install(*registrations, functions="sandbox_jobs")


def stats(shop: Shop, job_id: str) -> Any:
    return json.loads(shop.machine.run("sereno", "run", "--wait", job_id).stdout)


def test_the_cleanup_job_is_exposed_no_further_than_that_and_works(machine: Machine) -> None:
    unit = "sereno@cache_cleanup_hourly.service"
    machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={MOST_EXPOSURE}", unit)
    stricter = machine.run(
        *("systemd-analyze", "security", "--no-pager", f"--threshold={MOST_EXPOSURE - 1}", unit),
        check=False,
    )
    assert stricter.returncode != 0, "the template has become stricter: lower the figure"
    assert json.loads(machine.run("sereno", "run", "--wait", "cache_cleanup_hourly").stdout)[
        "duration_ms"
    ]


def test_usual_python_lives_in_the_sandbox(jobs: Shop) -> None:
    install(jobs, "add_interval_job(jobs.lives, 'lives', hours=1)")
    assert stats(jobs, "lives") == {"lived": "well"}


def test_a_job_sees_homes_only_if_it_says_so(jobs: Shop) -> None:
    jobs.machine.run("useradd", "--create-home", "--user-group", "ada")
    install(
        jobs,
        "add_interval_job(jobs.looks_at_home, 'homeless', hours=1)",
        "add_interval_job(jobs.looks_at_home, 'visitor', hours=1, home='read-only')",
        "add_interval_job(jobs.writes, 'guest', hours=1, home='read-only', user='ada', kwargs={'home': '/home/ada/x'})",
        "add_interval_job(jobs.writes, 'owner', hours=1, home=True, user='ada', kwargs={'home': '/home/ada/x'})",
    )
    assert jobs.machine.run("sereno", "run", "--wait", "homeless", check=False).returncode == 1
    assert "Permission denied" in jobs.runs("homeless", FAILED)[-1]["MESSAGE"]
    assert stats(jobs, "visitor") == {"seen": ["ada"]}
    assert stats(jobs, "guest") == {"home": "Read-only file system"}
    assert stats(jobs, "owner") == {"home": "written"}
    assert jobs.machine.read("/home/ada/x") == "written"


def test_a_job_writes_where_it_says_and_nowhere_else(jobs: Shop) -> None:
    odd = '/srv/100% "odd" \\path $HOME ñ'
    for directory in ("/srv/out", "/srv/closed", odd):
        jobs.machine.run("install", "-d", "-o", "sereno", directory)
    paths = {"out": "/srv/out/x", "odd": f"{odd}/x", "closed": "/srv/closed/x", "none": "/srv/no/x"}
    install(
        jobs,
        f"add_interval_job(jobs.writes, 'writer', hours=1, kwargs={paths!r},"
        f" write_paths=['/srv/out', {odd!r}, '/srv/no'])",
    )
    assert stats(jobs, "writer") == {
        "out": "written",
        "odd": "written",
        "closed": "Read-only file system",
        "none": "No such file or directory",
    }
    assert jobs.machine.read(f"{odd}/x") == "written"
