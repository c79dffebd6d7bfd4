"""Jobs configure logging, fork, leave threads, catch all, close descriptors: what is said of their runs is true."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from shop import FAILED, FINISHED, INTERRUPTED, STARTED, TRY_FAILED, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

# What backends do before they work; the libraries are their own.
LOGGING = """
import logging, logging.config, os, sys, tempfile
sys.path.append("/libraries")

def force():
    logging.basicConfig(force=True)

def level():
    logging.getLogger().setLevel(logging.WARNING)

def disabled():
    logging.disable(logging.CRITICAL)

def django():
    import django
    from django.conf import settings
    handlers = {"console": {"class": "logging.StreamHandler"}}
    root = {"handlers": ["console"], "level": "WARNING"}
    settings.configure(LOGGING={"version": 1, "handlers": handlers, "root": root, "disable_existing_loggers": True})
    django.setup()

def alembic():
    from alembic import command
    from alembic.config import Config
    place = tempfile.mkdtemp()
    config = Config(f"{place}/alembic.ini")
    command.init(config, f"{place}/migrations")
    config.set_main_option("sqlalchemy.url", f"sqlite:///{place}/base.db")
    command.upgrade(config, "head")

def loguru():
    from loguru import logger
    class InterceptHandler(logging.Handler):
        def emit(self, record):
            logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())
    logging.basicConfig(handlers=[InterceptHandler()], level=0, force=True)
    logger.remove()
    logger.add(sys.stderr, format="{message}")

def structlog():
    import structlog
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory(), processors=[
        structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter])
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processor=structlog.processors.JSONRenderer()))
    logging.getLogger().handlers[:] = [handler]
    structlog.get_logger("shop").warning("said by structlog")

def handler():
    class Broken(logging.Handler):
        def emit(self, record):
            try: 1 / 0
            except ZeroDivisionError: self.handleError(record)
    logging.getLogger().addHandler(Broken())
    logging.getLogger("shop").warning("careful")

def factory():
    logging.setLogRecordFactory(lambda *args, **kwargs: 1 / 0)

def works(how, fails=False):
    globals()[how]()
    if fails:
        raise ValueError("table is locked")
    return {"rows": 12}
"""
WAYS = "force level disabled django alembic loguru structlog handler factory".split()


def service(job_id: str) -> str:
    return f"sereno@{job_id}.service"


def start(machine: Machine, job_id: str) -> dict[str, str]:
    machine.run("systemctl", "start", service(job_id), check=False)
    return machine.show(service(job_id), "Result", "ExecMainStatus")


def said(shop: Shop, job_id: str) -> list[str]:
    """The ids of the records by which the job's runs are judged, in order."""
    kinds = {kind.partition("=")[2]: kind for kind in (STARTED, FINISHED, FAILED, INTERRUPTED)}
    found = shop.machine.journal(f"SERENO_JOB={job_id}", *kinds.values())
    return [kinds[record["MESSAGE_ID"]] for record in found]


def install(shop: Shop, code: str, *registrations: str) -> None:
    shop.machine.write("/srv/shop/true_jobs.py", code)
    shop.install(*registrations, functions="true_jobs")


@pytest.fixture
def metrics(machine: Machine) -> Iterator[str]:
    """The directory where all runs leave metrics."""
    drop_in = "/etc/systemd/system/sereno@.service.d/metrics.conf"
    lines = "[Service]\nEnvironment=SERENO_TEXTFILE_DIR=/run/metrics\nReadWritePaths=/run/metrics\n"
    machine.run("install", "-d", "-m", "777", "/run/metrics")
    machine.write(drop_in, lines)
    machine.run("systemctl", "daemon-reload")
    yield "/run/metrics"
    machine.run("rm", drop_in)
    machine.run("systemctl", "daemon-reload")


def test_whatever_a_job_does_to_logging_its_run_is_what_it_was(shop: Shop, metrics: str) -> None:
    kinds = (("good", False), ("bad", True))
    install(
        shop,
        LOGGING,
        *(
            f"add_interval_job(jobs.works, '{way}_{kind}', hours=1, kwargs={{'how': {way!r}, 'fails': {fails}}})"
            for way in WAYS
            for kind, fails in kinds
        ),
    )
    for way in WAYS:
        done = shop.machine.run("sereno", "run", "--wait", f"{way}_good", check=False)
        assert (done.returncode, json.loads(done.stdout or "{}")) == (0, {"rows": 12}), (way, done)
        assert said(shop, f"{way}_good") == [STARTED, FINISHED]
        left = shop.machine.read(f"{metrics}/sereno_job_{way}_good.prom")
        assert 'status="success"} 1.0' in left
        assert start(shop.machine, f"{way}_bad") == {"Result": "exit-code", "ExecMainStatus": "1"}
        assert said(shop, f"{way}_bad") == [STARTED, FAILED]
        (record,) = shop.runs(f"{way}_bad", FAILED)
        assert record["SERENO_ERROR"].startswith("ValueError: table is locked (true_jobs.py:"), way
        assert "Traceback" in record["EXCEPTION_TEXT"]
    # What the job says itself goes where the job sent it, and lands in the journal by its outputs.
    lines = [record["MESSAGE"] for record in shop.machine.journal("SERENO_JOB=structlog_good")]
    assert any("said by structlog" in line for line in lines)
    lines = [record["MESSAGE"] for record in shop.machine.journal("SERENO_JOB=handler_good")]
    assert "careful" in lines
    assert "ZeroDivisionError: division by zero" in lines


CHILDREN = """
import multiprocessing, os

def square(number):
    return number * number

def spawns(method="spawn"):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return {"n": pool.map(square, range(5))[-1]}

def forks():
    if os.fork() == 0:
        raise ValueError("in the child")
    os.wait()
    return {"parent": os.getpid()}

def execs_itself_in_a_child():
    import subprocess, sys
    done = subprocess.run([sys.executable, *sys.orig_argv[1:]], capture_output=True, text=True,
                          env={**os.environ, "SHOP_INNER": "1"}) if "SHOP_INNER" not in os.environ else None
    return {"inner": done.stderr if done else ""}
"""
OLD_SCRIPT = """#!/usr/bin/env python3
import sys
sys.path[:0] = ["/opt/sereno/lib", "/srv/shop"]
from sereno.runner import main
sys.exit(main("{job_id}", "true_jobs:spawns"))
"""


def test_children_of_a_run_neither_run_its_job_nor_close_it(shop: Shop) -> None:
    machine = shop.machine
    install(
        shop,
        CHILDREN,
        *(
            f"add_interval_job(jobs.spawns, '{method}s', hours=1, kwargs={{'method': {method!r}}})"
            for method in ("spawn", "forkserver")
        ),
        "add_interval_job(jobs.forks, 'forks', hours=1)",
        "add_interval_job(jobs.execs_itself_in_a_child, 'nests', hours=1)",
    )
    for job_id in ("spawns", "forkservers"):
        ran = json.loads(machine.run("sereno", "run", "--wait", job_id).stdout)
        assert ran == {"n": 16}
    machine.run("sereno", "run", "--wait", "forks")
    inner = json.loads(machine.run("sereno", "run", "--wait", "nests").stdout)["inner"]
    assert "INFO: Tarea nests terminada en " in inner
    script = machine.run("sh", "-c", "echo /opt/sereno/current/bin").stdout.strip() + "/old_script"
    machine.write(script, OLD_SCRIPT.format(job_id="old_script"), 0o755)
    try:
        machine.run("systemctl", "start", service("old_script"))
    finally:
        machine.run("rm", script)
    assert shop.runs("old_script", FINISHED)[-1]["SERENO_STAT_N"] == "16"
    for job_id in ("spawns", "forkservers", "forks", "nests", "old_script"):
        assert said(shop, job_id) == [STARTED, FINISHED], job_id
    lines = [record["MESSAGE"] for record in machine.journal("SERENO_JOB=forks")]
    assert "ValueError: in the child" in lines


def test_what_the_wrapper_of_an_entry_script_starts_is_the_run_and_by_hand_it_prints(
    machine: Machine,
) -> None:
    script = machine.run("systemctl", "show", "-P", "ExecStart", service("cache_cleanup_hourly"))
    path = script.stdout.partition("path=")[2].split()[0]
    drop_in = "/etc/systemd/system/sereno@cache_cleanup_hourly.service.d/wrapped.conf"
    wrapped = f"[Service]\nExecStart=\nExecStart=/usr/bin/flock /tmp/lock {path}\n"
    machine.write(drop_in, wrapped)
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("sereno", "run", "--wait", "cache_cleanup_hourly")
    finally:
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")
    # A terminal below user@.service has the INVOCATION_ID of that.
    before = len(machine.journal("SERENO_JOB=cache_cleanup_hourly"))
    done = machine.run_unit("sh", "-c", f"{path}; exit $?")
    assert "INFO: Tarea cache_cleanup_hourly terminada en " in done.stderr
    assert len(machine.journal("SERENO_JOB=cache_cleanup_hourly")) == before


ENDS = """
import asyncio, atexit, os, signal, threading, time

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def crashes_at_exit():
    atexit.register(crash)
    return {"n": 1}

def leaves_a_thread():
    threading.Thread(target=time.sleep, args=(3600,), name="poller").start()
    return {"n": 1}

def fails_and_leaves_a_thread():
    leaves_a_thread()
    raise ValueError("no")

async def leaves_an_executors_thread():
    asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
    return {"n": 1}

def ignores_sigterm_in_a_child():
    import multiprocessing
    def stay():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(3600)
    multiprocessing.get_context("fork").Process(target=stay, name="worker").start()
    return {"n": 1}
"""


@pytest.mark.parametrize(
    ("function", "result", "kept"),
    [
        ("leaves_a_thread", ("success", "0"), "poller"),
        ("fails_and_leaves_a_thread", ("exit-code", "1"), "poller"),
        ("leaves_an_executors_thread", ("success", "0"), "asyncio_0"),
    ],
)
def test_a_process_that_stays_after_its_record_is_ended_with_the_result_of_its_run(
    shop: Shop, function: str, result: tuple[str, str], kept: str
) -> None:
    install(shop, ENDS, f"add_interval_job(jobs.{function}, {function!r}, hours=1)")
    began = time.monotonic()
    assert tuple(start(shop.machine, function).values()) == result
    assert time.monotonic() - began < 20
    ends = FINISHED if result[1] == "0" else FAILED
    assert said(shop, function) == [STARTED, ends]
    if ends == FINISHED:
        assert shop.runs(function, FINISHED)[0]["SERENO_STAT_N"] == "1"
    (warning,) = (
        record
        for record in shop.machine.journal(f"SERENO_JOB={function}")
        if "lo retenía" in record["MESSAGE"]
    )
    assert kept in warning["MESSAGE"]


def test_a_crash_after_the_record_has_its_python_frames_in_the_journal(shop: Shop) -> None:
    install(shop, ENDS, "add_interval_job(jobs.crashes_at_exit, 'crashes', hours=1)")
    assert start(shop.machine, "crashes")["Result"] in ("signal", "core-dump")
    lines = [record["MESSAGE"] for record in shop.machine.journal("SERENO_JOB=crashes")]
    assert "Fatal Python error: Segmentation fault" in lines
    assert any("true_jobs.py" in line and "in crash" in line for line in lines)


STOPS = """
import asyncio, time
from concurrent.futures import ThreadPoolExecutor

def plain_function_with_a_busy_task():
    async def busy():
        while True:
            try: await asyncio.sleep(3600)
            except asyncio.CancelledError: pass
    async def main():
        asyncio.create_task(busy())
        await asyncio.sleep(0)
        print("waiting", flush=True)
        await asyncio.sleep(3600)
    asyncio.run(main())

def catches_everything():
    while True:
        try:
            print("waiting", flush=True)
            time.sleep(3600)
        except BaseException:
            pass

def waits_for_a_pool():
    with ThreadPoolExecutor() as pool:
        pool.submit(time.sleep, 3600)
        print("waiting", flush=True)

def cleans_up_for_nine_seconds():
    try:
        print("waiting", flush=True)
        time.sleep(3600)
    finally:
        time.sleep(9)
        print("cleaned up", flush=True)
"""
DEAF = (
    "plain_function_with_a_busy_task",
    "catches_everything",
    "waits_for_a_pool",
    "cleans_up_for_nine_seconds",
)


@pytest.mark.every_systemd
@pytest.mark.parametrize("how", ["stop", "limit"])
def test_whatever_a_job_makes_of_sigterm_its_run_is_interrupted_or_over_its_limit(
    shop: Shop, how: str
) -> None:
    machine, limit = shop.machine, ", timeout=5" if how == "limit" else ""
    jobs = {f"{function}_{how}": function for function in DEAF}
    install(
        shop,
        STOPS,
        *(f"add_interval_job(jobs.{name}, {job!r}, hours=1{limit})" for job, name in jobs.items()),
    )
    units = list(map(service, jobs))
    machine.run("systemctl", "start", "--no-block", *units)
    for job_id in jobs:
        machine.wait_for(
            lambda job_id=job_id: machine.journal(f"SERENO_JOB={job_id}", "MESSAGE=waiting"),
            what=f"the start of {job_id}",
        )
    if how == "stop":
        machine.run("systemctl", "stop", *units)
    kind = INTERRUPTED if how == "stop" else FAILED
    for job_id in jobs:
        (record,) = machine.wait_for(
            lambda job_id=job_id: shop.runs(job_id, kind), what=f"the record of {job_id}"
        )
        machine.wait_for(
            lambda job_id=job_id: (
                machine.show(service(job_id), "ActiveState")["ActiveState"]
                in ("inactive", "failed")
            ),
            what=f"the end of {job_id}",
        )
        assert said(shop, job_id) == [STARTED, kind]
        assert ("límite de tiempo superado" in record["MESSAGE"]) is (how == "limit")
        shown = machine.show(service(job_id), "Result", "ExecMainStatus")
        expected = ("success", "143") if how == "stop" else ("timeout", "1")
        assert tuple(shown.values()) == expected, job_id
    lines = machine.journal(f"SERENO_JOB=cleans_up_for_nine_seconds_{how}", "MESSAGE=cleaned up")
    assert len(lines) == 1


ERRORS = """
import asyncio, json, os, pathlib, socket, urllib.request

async def asks_shops():
    async def ask(shop):
        raise ConnectionError(f"shop {shop} answers 503")
    async with asyncio.TaskGroup() as group:
        for shop in range(1, 6):
            group.create_task(ask(shop))

def reads_json():
    json.loads("<html>")

def connects():
    urllib.request.urlopen("https://shop.example.org/")

def wants_a_home():
    pathlib.Path("~/.cache").expanduser().mkdir()

def looks_at_homes():
    pathlib.Path("/home/shop/list").read_text()

def writes():
    pathlib.Path("/srv/out.txt").write_text("x")

def reads_anothers_file():
    pathlib.Path("/srv/secret").read_text()

tries = []

def is_interrupted_once():
    tries.append(1)
    if len(tries) == 1:
        raise KeyboardInterrupt

def closes_all():
    os.closerange(3, 1024)
    return {"n": 1}

def gives_its_descriptors_to_connections():
    ours, theirs = socket.socketpair()
    for number in range(3, 256):
        if number not in (ours.fileno(), theirs.fileno()):
            os.dup2(theirs.fileno(), number)
    ours.setblocking(False)
    import threading
    def look():
        try: print("heard", ours.recv(100))
        except BlockingIOError: print("heard nothing")
    import atexit
    atexit.register(look)
    return {"n": 1}

def opens_until_it_may_open_no_more():
    kept = []
    while True:
        kept.append(open("/dev/null"))
"""


def test_an_error_says_what_and_where_and_the_way_out_of_the_sandbox(shop: Shop) -> None:
    machine = shop.machine
    machine.run("install", "-m", "600", "-o", "nobody", "/dev/null", "/srv/secret")
    root = ", user='root'"
    expected = {
        ("asks_shops", ""): (
            "ConnectionError: shop 1 answers 503; ConnectionError: shop 2 answers 503;"
            " ConnectionError: shop 3 answers 503; 2 more (true_jobs.py:",
            None,
        ),
        ("reads_json", ""): ("JSONDecodeError: Expecting value", None),
        ("connects", ""): ("URLError: ", "network=True"),
        ("wants_a_home", ""): ("OSError: [Errno 30] Read-only file system: '/.cache'", "home=True"),
        ("looks_at_homes", ""): ("PermissionError: ", "home='read-only'"),
        ("writes", ""): ("OSError: [Errno 30]", "write_paths=['/srv']"),
        ("reads_anothers_file", root): ("PermissionError: ", "root without capabilities"),
        ("opens_until_it_may_open_no_more", ""): ("OSError: [Errno 24]", None),
    }
    install(
        shop,
        ERRORS,
        *(f"add_interval_job(jobs.{name}, '{name}', hours=1{more})" for name, more in expected),
    )
    for (name, _), (error, hint) in expected.items():
        assert start(machine, name)["Result"] == "exit-code"
        (record,) = shop.runs(name, FAILED)
        assert record["SERENO_ERROR"].startswith(error), name
        where = "ask" if name == "asks_shops" else name
        assert record["SERENO_ERROR"].endswith(f", {where})")
        assert (hint in record["SERENO_HINT"]) if hint else ("SERENO_HINT" not in record), name
        shown = machine.run("sereno", "status", name).stdout
        assert ("hint: " in shown and hint in shown) if hint else ("hint: " not in shown), name


def test_descriptors_and_interrupts_are_the_jobs_and_the_records_arrive(shop: Shop) -> None:
    names = ("closes_all", "gives_its_descriptors_to_connections")
    install(
        shop,
        ERRORS,
        *(f"add_interval_job(jobs.{name}, '{name}', hours=1)" for name in names),
        "add_interval_job(jobs.is_interrupted_once, 'once', hours=1, retries=1, retry_delay=0)",
    )
    for name in names:
        assert json.loads(shop.machine.run("sereno", "run", "--wait", name).stdout) == {"n": 1}
        assert said(shop, name) == [STARTED, FINISHED]
    lines = [record["MESSAGE"] for record in shop.machine.journal(f"SERENO_JOB={names[1]}")]
    assert "heard nothing" in lines
    assert start(shop.machine, "once")["Result"] == "success"
    assert said(shop, "once") == [STARTED, FINISHED]
    assert "KeyboardInterrupt" in shop.runs("once", TRY_FAILED)[0]["SERENO_ERROR"]
