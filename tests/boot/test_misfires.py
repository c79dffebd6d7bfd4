"""Runs that come too late are left out and recorded, runs by hand never are, and overruns are recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from shop import FINISHED, OVERRUN, SKIPPED, STARTED, Shop

if TYPE_CHECKING:
    pass

DAILY = "add_cron_job(shop_jobs.quick, {!r}, hour=0, minute=0, timezone='UTC', misfire_grace={})"
STAMP = "/var/lib/systemd/timers/stamp-sereno@{}.timer"


@pytest.mark.every_systemd
def test_a_run_made_up_too_late_is_skipped_and_recorded_and_one_within_its_grace_runs(
    shop: Shop,
) -> None:
    machine = shop.machine
    # Midnight is more than a second and less than two days ago.
    shop.install(DAILY.format("too_late", 1), DAILY.format("in_time", 2 * 86400))
    for job_id in ("too_late", "in_time"):
        machine.run("systemctl", "stop", f"sereno@{job_id}.timer")
        machine.run("touch", "--date=3 days ago", STAMP.format(job_id))
        machine.run("systemctl", "start", f"sereno@{job_id}.timer")
    machine.wait_for(lambda: shop.runs("in_time", FINISHED), what="the run in time")
    (skipped,) = machine.wait_for(lambda: shop.runs("too_late", SKIPPED), what="the record")
    assert shop.runs("too_late", STARTED) == shop.runs("in_time", SKIPPED) == []
    assert skipped["MESSAGE"].startswith("Tarea too_late omitida: prevista para 20")
    assert (skipped["PRIORITY"], skipped["SERENO_STATUS"]) == ("4", "skipped")
    assert skipped["SERENO_ELAPSE"].endswith("T00:00:00+00:00")
    assert 1 < float(skipped["SERENO_LATE_S"]) < 86400
    shown = machine.show("sereno@too_late.service", "ActiveState", "Result")
    assert shown == {"ActiveState": "inactive", "Result": "success"}
    assert shop.next_elapse("too_late") is not None


def test_a_run_by_hand_is_never_too_late(shop: Shop) -> None:
    shop.install(DAILY.format("by_hand", 1))
    assert shop.call("result = scheduler.run_job('by_hand')")["rows"] == 3
    assert json.loads(shop.machine.run("sereno", "run", "--wait", "by_hand").stdout)["rows"] == 3
    shop.machine.run("systemctl", "start", "sereno@by_hand.service")
    assert len(shop.runs("by_hand", FINISHED)) == 3
    assert shop.runs("by_hand", SKIPPED) == []


@pytest.mark.every_systemd
def test_an_elapse_that_passes_during_a_run_is_recorded_for_calendars_and_intervals(
    shop: Shop,
) -> None:
    shop.install(
        "add_cron_job(shop_jobs.slow, 'calendar_over', second='*/2', accuracy=0.001)",
        "add_cron_job(shop_jobs.slow, 'graced_over', second='*/2', misfire_grace=60, accuracy=0.001)",
        "add_interval_job(shop_jobs.slow, 'interval_over', seconds=1)",
    )
    for job_id, says in (
        ("calendar_over", "pasó durante la ejecución"),
        ("graced_over", "pasó durante la ejecución"),
        ("interval_over", "más que su intervalo de 1s"),
    ):
        overrun = shop.machine.wait_for(
            lambda job_id=job_id: shop.runs(job_id, OVERRUN), what=f"an overrun of {job_id}"
        )[0]
        assert overrun["MESSAGE"].startswith(f"Tarea {job_id} solapada: ")
        assert says in overrun["MESSAGE"]
        assert overrun["SERENO_RUN"] == overrun["_SYSTEMD_INVOCATION_ID"]
        assert shop.runs(job_id, SKIPPED) == []


def test_a_run_that_an_overrun_made_late_is_skipped(shop: Shop) -> None:
    """The job takes 3 s of every 2: each second elapse or so is started more than a second late."""
    shop.install(
        "add_cron_job(shop_jobs.slow, 'late', second='*/2', misfire_grace=0.9, accuracy=0.001)"
    )
    skipped = shop.machine.wait_for(lambda: shop.runs("late", SKIPPED), what="a skipped run")
    assert 0.9 < float(skipped[0]["SERENO_LATE_S"]) < 2.5
    shop.machine.wait_for(lambda: len(shop.runs("late", FINISHED)) >= 2, what="runs in time")


@pytest.mark.every_systemd
def test_a_run_whose_timer_is_stopped_between_its_elapse_and_its_start_stays_the_timers(
    shop: Shop,
) -> None:
    """It asks who started it when its timer is "dead", and unloaded unless something holds it."""
    machine, unit = shop.machine, "sereno@queued.{}"
    shop.install(
        "add_cron_job(shop_jobs.slow, 'first', hour=4)",
        DAILY.format("queued", 1).replace("misfire", "after='first', misfire"),
    )
    machine.run("systemctl", "stop", unit.format("timer"))
    machine.run("touch", "--date=3 days ago", STAMP.format("queued"))
    machine.run("systemctl", "start", "--no-block", "sereno@first.service")
    machine.wait_for(lambda: shop.runs("first"), what="the run that it waits for")
    machine.run("systemctl", "start", unit.format("timer"))
    machine.run("systemctl", "stop", unit.format("timer"))
    assert shop.runs("first", FINISHED) == []
    machine.wait_for(lambda: shop.runs("queued", SKIPPED), what="the record")
    assert shop.runs("queued", STARTED) == []
    # Its elapse is over with it, also where the timer never began again.
    machine.run("systemctl", "start", unit.format("service"))
    assert len(shop.runs("queued", FINISHED)) == len(shop.runs("queued", SKIPPED)) == 1
