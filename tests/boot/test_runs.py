"""Runs in a real systemd: they fire, leave their records, fail visibly, are limited and never overlap."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from shop import FAILED, FINISHED, STARTED, Shop

if TYPE_CHECKING:
    from machine import Machine

CLEANUP = "SERENO_JOB=cache_cleanup_hourly"
# sd-messages.h: SD_MESSAGE_UNIT_STARTING.
STARTING = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5"


@pytest.mark.every_systemd
def test_both_kinds_of_trigger_fire_and_every_run_leaves_its_records(shop: Shop) -> None:
    shop.install(
        "add_interval_job(shop_jobs.quick, 'by_interval', seconds=2)",
        "add_cron_job(shop_jobs.quick_async, 'by_calendar', second='*/2')",
    )
    for job_id, rows in (("by_interval", "3"), ("by_calendar", "4")):
        finished = shop.machine.wait_for(
            lambda job_id=job_id: len(found := shop.runs(job_id, FINISHED)) >= 3 and found,
            what=f"three runs of {job_id}",
        )
        last = finished[-1]
        assert last["SERENO_STATUS"] == "success"
        assert last["SERENO_STAT_ROWS"] == rows
        assert json.loads(last["SERENO_STATS"])["rows"] == int(rows)
        assert float(last["SERENO_DURATION_MS"]) > 0
        assert last["SERENO_RUN"] == last["_SYSTEMD_INVOCATION_ID"]
        assert last["SYSLOG_IDENTIFIER"] == job_id
        runs = [record["SERENO_RUN"] for record in finished]
        assert len(set(runs)) == len(runs)
    # By the manager's own records of the starts: how long a run takes depends on what else the computer does.
    starts = shop.machine.journal("UNIT=sereno@by_calendar.service", STARTING)
    assert len(starts) >= len(finished)
    periods_s = [
        (int(after["__REALTIME_TIMESTAMP"]) - int(before["__REALTIME_TIMESTAMP"])) / 1e6
        for before, after in pairwise(starts)
    ]
    assert all(1.0 < period_s < 4.0 for period_s in periods_s), periods_s


def test_a_backends_function_is_run_by_the_backends_interpreter(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'own_python', hours=1)")
    stats = shop.call("result = scheduler.run_job('own_python')")
    assert stats == {"rows": 3, "interpreter": "/srv/shop/venv/bin/python"}


def test_the_cleanup_job_removes_what_other_processes_let_expire_and_raises_its_alerts(
    machine: Machine,
) -> None:
    fill = """
from sereno import MetadataCache
cache = MetadataCache(max_size=100)
for number in range(150):
    cache.set(f"k{number}", "x" * 100, ttl=0.01 if number < 50 else 3600)
for number in range(200):
    cache.get(f"missing{number}")
print(cache.get_stats()["path"])
"""
    machine.run("useradd", "--groups=sereno", "web")
    done = machine.run(
        "/opt/sereno/current/venv/bin/python", "-c", fill, user="web",
        env={"PYTHONPATH": "/opt/sereno/lib"},
    )  # fmt: skip
    assert done.stdout == "/var/cache/sereno/metadata\n"
    done = machine.run("sereno", "run", "--wait", "cache_cleanup_hourly")
    stats = json.loads(done.stdout)
    assert stats["entries_after"] == 100
    assert stats["entries_before"] == stats["entries_after"] + stats["entries_removed"]
    by_message = {
        record["MESSAGE"]: record
        for record in machine.journal(CLEANUP, f"SERENO_RUN={_last_run(machine)}")
    }
    texts = list(by_message)
    assert texts[1] == "Iniciando limpieza programada de caché de metadatos"
    assert texts[2].startswith("Limpieza completada: ")
    capacity = "Caché al 100.0% de capacidad (100/100). Considere aumentar max_size o reducir TTL."
    hit_rate = (
        "Hit rate bajo (0.0%). El caché podría no estar siendo efectivo. Hits: 0, Misses: 200"
    )
    assert by_message[capacity]["MESSAGE_ID"] == "6b70ac9b8cc943ffb3fe04c7fcfd0502"
    assert by_message[hit_rate]["MESSAGE_ID"] == "4cc3ac700904425cbc9d7816665c8d54"
    assert {by_message[text]["PRIORITY"] for text in (capacity, hit_rate)} == {"4"}
    assert {record["SERENO_JOB"] for record in by_message.values()} == {"cache_cleanup_hourly"}
    page = machine.run("sereno", "report", "-o", "-").stdout
    for title in (
        "Duration",
        "Entries removed",
        "Memory freed",
        "Hit rate",
        "Fill after the cleanup",
    ):
        assert f"{title} of cache_cleanup_hourly over time" in page
    assert capacity in page
    assert hit_rate in page


def _last_run(machine: Machine) -> str:
    return machine.journal(CLEANUP, FINISHED)[-1]["SERENO_RUN"]


def test_a_cleanup_that_fails_is_an_error_in_the_journal_and_a_failed_unit(
    machine: Machine,
) -> None:
    drop_in = "/etc/systemd/system/sereno@cache_cleanup_hourly.service.d/test.conf"
    machine.write(drop_in, "[Service]\nEnvironment=SERENO_CACHE_DIR=/proc/none\n")
    machine.run("systemctl", "daemon-reload")
    try:
        done = machine.run("sereno", "run", "--wait", "cache_cleanup_hourly", check=False)
        assert done.returncode == 1
        stats = json.loads(done.stdout)
        assert stats["entries_removed"] == 0
        assert "/proc/none" in stats["error"]
        (alert,) = machine.journal(CLEANUP, "MESSAGE_ID=48ed658150c846b4a05bf9aefdc6ae9b")
        assert alert["MESSAGE"].startswith("Error durante limpieza de caché: ")
        assert alert["PRIORITY"] == "3"
        shown = machine.show("sereno@cache_cleanup_hourly.service", "ActiveState", "Result")
        assert shown == {"ActiveState": "failed", "Result": "exit-code"}
    finally:
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "reset-failed")


@pytest.mark.parametrize(
    ("function", "result", "says"),
    [
        ("raises", "exit-code", "ValueError: no such table: ventas (shop_jobs.py:"),
        ("reports_error", "exit-code", "disk on fire"),
        ("a_list", "exit-code", "the function returned list"),
        ("killed", "signal", None),
    ],
)
def test_a_failing_job_is_seen_as_failed_by_systemctl(
    shop: Shop, function: str, result: str, says: str | None
) -> None:
    job_id = f"fails_{function}"
    shop.install(f"add_interval_job(shop_jobs.{function}, {job_id!r}, hours=1)")
    done = shop.machine.run("systemctl", "start", f"sereno@{job_id}.service", check=False)
    assert done.returncode != 0
    shown = shop.machine.show(f"sereno@{job_id}.service", "ActiveState", "Result")
    assert shown == {"ActiveState": "failed", "Result": result}
    status = shop.call(f"result = scheduler.get_job_status({job_id!r})")
    assert (status["last_result"], status["running"]) == (result, False)
    failed = shop.runs(job_id, FAILED)
    assert len(failed) == (says is not None)
    if says:
        assert says in failed[0]["MESSAGE"]
        assert failed[0]["SERENO_STATUS"] == "failed"
        assert "\n" not in failed[0]["MESSAGE"]
    if function == "raises":
        assert "Traceback" in failed[0]["EXCEPTION_TEXT"]


def test_run_job_returns_reported_errors_and_raises_for_runs_without_statistics(
    shop: Shop,
) -> None:
    shop.install(
        "add_interval_job(shop_jobs.reports_error, 'reported', hours=1)",
        "add_interval_job(shop_jobs.raises, 'raised', hours=1)",
        "add_interval_job(shop_jobs.killed, 'gone', hours=1)",
    )
    assert shop.call("result = scheduler.run_job('reported')")["error"] == "disk on fire"
    caught = """
    from sereno.errors import JobFailed
    try:
        scheduler.run_job({!r})
    except JobFailed as error:
        result = str(error)
    """
    assert "no such table: ventas" in shop.call(caught.format("raised"))
    assert "failed: killed by SIGKILL" in shop.call(caught.format("gone"))


@pytest.mark.every_systemd
def test_a_run_over_its_time_limit_is_killed(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.endless, 'endless', hours=1, timeout=1)")
    done = shop.machine.run("systemctl", "start", "sereno@endless.service", check=False)
    assert done.returncode != 0
    assert shop.machine.show("sereno@endless.service", "Result") == {"Result": "timeout"}


@pytest.mark.every_systemd
def test_a_job_never_overlaps_itself(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.slow, 'slow', seconds=1)")
    shop.machine.wait_for(lambda: shop.runs("slow", STARTED), what="the first run")
    shop.machine.run("systemctl", "start", "--no-block", "sereno@slow.service")
    shop.machine.wait_for(lambda: len(shop.runs("slow", FINISHED)) >= 2, what="two runs")
    kinds = [
        "start" if f"MESSAGE_ID={record['MESSAGE_ID']}" == STARTED else "end"
        for record in shop.machine.journal("SERENO_JOB=slow", STARTED, FINISHED)
    ]
    assert kinds == [("start", "end")[index % 2] for index in range(len(kinds))]


def test_what_a_job_prints_is_found_by_its_id(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.prints, 'prints', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@prints.service")
    messages = [record["MESSAGE"] for record in shop.machine.journal("SERENO_JOB=prints")]
    assert "printed by the job" in messages


@pytest.mark.every_systemd
def test_a_job_has_no_network_unless_it_says_so_and_runs_as_the_user_it_names(shop: Shop) -> None:
    shop.machine.run("useradd", "--system", "shopkeeper")
    shop.install(
        "add_interval_job(shop_jobs.connects, 'offline', hours=1)",
        "add_interval_job(shop_jobs.connects, 'online', hours=1, network=True, user='shopkeeper')",
    )
    assert shop.machine.run("sereno", "run", "--wait", "offline", check=False).returncode == 1
    (failed,) = shop.runs("offline", FAILED)
    assert "Address family not supported" in failed["MESSAGE"]
    uid = shop.machine.run("id", "-u", "shopkeeper").stdout.strip()
    assert json.loads(shop.machine.run("sereno", "run", "--wait", "online").stdout) == {
        "uid": int(uid)
    }
