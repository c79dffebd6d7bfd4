"""Changes of schedules in a real systemd: none of them runs a job, and what was decided survives a reboot."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from shop import FINISHED, STARTED, Shop

if TYPE_CHECKING:
    pass

HOUR_US = 3600 * 1_000_000


def now_us() -> int:
    return time.time_ns() // 1000


@pytest.mark.every_systemd
def test_a_new_interval_timer_elapses_one_interval_later_and_not_at_once(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'hourly', hours=1)")
    elapse = shop.next_elapse("hourly")
    assert elapse is not None
    assert abs(elapse - now_us() - HOUR_US) < 30 * 1_000_000
    assert shop.runs("hourly") == []
    (job,) = shop.call("result = scheduler.get_jobs()")
    assert job["next_run"].endswith("+00:00")


@pytest.mark.every_systemd
def test_neither_a_reload_nor_a_second_start_nor_another_job_moves_an_interval(shop: Shop) -> None:
    hourly = "add_interval_job(shop_jobs.quick, 'hourly', hours=1)"
    shop.install(hourly)
    shop.machine.run("systemctl", "start", "sereno@hourly.service")
    elapse = shop.machine.wait_for(lambda: shop.next_elapse("hourly"), what="a next elapse")
    shop.machine.run("systemctl", "daemon-reload")
    shop.install(hourly)
    shop.install(hourly, "add_interval_job(shop_jobs.quick, 'other', hours=2)")
    shop.install(hourly.replace("hours=1", "hours=1, timeout=60"))
    moved_us = abs((shop.next_elapse("hourly") or 0) - elapse)
    assert moved_us < 1_000_000
    assert len(shop.runs("hourly")) == 1
    assert shop.runs("other") == []


@pytest.mark.every_systemd
def test_no_change_of_a_schedule_runs_a_job(shop: Shop) -> None:
    """Each change is made when an elapse of the old or of the new schedule has just been missed."""
    cron = "add_cron_job(shop_jobs.quick, 'calendar', second={!r}, minute='*')"
    unstamped = cron.replace("'calendar'", "'unstamped', persistent=False")
    interval = "add_interval_job(shop_jobs.quick, 'interval', seconds={})"
    job_ids = ("calendar", "unstamped", "interval")
    shop.install(cron.format("*/2"), unstamped.format("*/2"), interval.format(2))
    for job_id in job_ids:
        shop.machine.wait_for(lambda job_id=job_id: shop.runs(job_id), what=f"a run of {job_id}")
    shop.call(f"for job_id in {job_ids}: scheduler.pause_job(job_id)")
    shop.machine.run("systemctl", "daemon-reload")
    paused = {job_id: len(shop.runs(job_id)) for job_id in job_ids}
    # More than one interval passes before the schedules change and the timers start again.
    deadline_us = now_us() + 3_000_000
    shop.machine.wait_for(lambda: now_us() > deadline_us, what="three seconds")
    shop.install(cron.format("1"), unstamped.format("1"), interval.format(600))
    shop.call("scheduler.resume_job('interval')")
    minute_us = 60 * 1_000_000
    if now_us() % minute_us > 40 * 1_000_000 or now_us() % minute_us < 3 * 1_000_000:
        shop.machine.wait_for(
            lambda: 3 < now_us() / 1e6 % 60 < 40, what="a time away from second 1 of a minute"
        )
    shop.call("scheduler.resume_job('calendar'); scheduler.resume_job('unstamped')")
    shop.install(cron.format("1"), unstamped.format("1,2"), interval.format(2000))
    shop.machine.run("systemctl", "daemon-reload")
    shop.call("scheduler.shutdown(wait=True)")
    shop.install(cron.format("1,2"), unstamped.format("1"), interval.format(2000))
    assert all(shop.next_elapse(job_id) for job_id in job_ids)
    assert {job_id: len(shop.runs(job_id)) for job_id in paused} == paused


@pytest.mark.every_systemd
def test_a_change_without_starting_anything_runs_no_job_whose_timer_is_active(shop: Shop) -> None:
    """Each new schedule has just missed an elapse, which a daemon-reload would make up at once."""
    cron = (
        "add_cron_job(shop_jobs.quick, 'by_stamp', hour={}, minute={}, second={}, timezone='UTC')"
    )
    unstamped = cron.replace("'by_stamp'", "'by_memory', persistent=False")
    job_ids = ("by_stamp", "by_memory")
    ahead = time.gmtime(time.time() + 12 * 3600)[3:6]
    shop.install(cron.format(*ahead), unstamped.format(*ahead))
    for job_id in job_ids:
        # What it counts from: systemd 252 takes the last activation for one without a stamp.
        shop.machine.run("systemctl", "start", f"sereno@{job_id}.service")
    deadline_us = now_us() + 3_000_000
    shop.machine.wait_for(lambda: now_us() > deadline_us, what="three seconds")
    missed = time.gmtime(time.time() - 1)[3:6]
    changes = (cron.format(*missed), unstamped.format(*missed))
    body = "".join(f"scheduler.{change}\n" for change in changes)
    shop.call(body + "scheduler.apply(start=False, shipped=False)")
    shop.machine.run("systemctl", "daemon-reload")
    for job_id in job_ids:
        # A day later, less a moment.
        assert (shop.next_elapse(job_id) or 0) - now_us() > 23 * HOUR_US
    deadline_us = now_us() + 1_000_000
    shop.machine.wait_for(lambda: now_us() > deadline_us, what="a run that comes at once")
    assert [len(shop.runs(job_id)) for job_id in job_ids] == [1, 1]


@pytest.mark.every_systemd
def test_a_jitter_delays_a_calendar_and_moves_an_intervals_first_run_and_no_reload_draws_it_anew(
    shop: Shop,
) -> None:
    shop.install(
        "add_cron_job(shop_jobs.quick, 'spread_out', minute=0, jitter=1800)",
        "add_interval_job(shop_jobs.quick, 'brought_forward', hours=1, jitter=1800)",
    )
    job_ids = ("spread_out", "brought_forward")
    elapses = [shop.next_elapse(job_id) for job_id in job_ids]
    calendar, interval = elapses
    assert calendar and interval
    # By the machine's own share, which is below the jitter; the calendar's is late by up to its accuracy too.
    assert calendar % HOUR_US < 1_801 * 1_000_000
    assert HOUR_US // 2 - 30_000_000 < interval - now_us() <= HOUR_US
    for _ in range(3):
        shop.machine.run("systemctl", "daemon-reload")
        moved_us = [
            abs((shop.next_elapse(job_id) or 0) - elapse)
            for job_id, elapse in zip(job_ids, elapses, strict=True)
        ]
        assert max(moved_us) < 1_000_000
    assert shop.runs("spread_out") == shop.runs("brought_forward") == []


@pytest.mark.every_systemd
def test_a_timer_that_was_disabled_and_enabled_by_hand_is_not_stuck(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'hourly', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@hourly.service")
    shop.machine.run("systemctl", "disable", "--now", "sereno@hourly.timer")
    shop.machine.run("systemctl", "enable", "--now", "sereno@hourly.timer")
    assert shop.machine.wait_for(lambda: shop.next_elapse("hourly"), what="a next elapse")


def test_run_immediately_runs_once(shop: Shop) -> None:
    once = "add_interval_job(shop_jobs.quick, 'once', hours=1, run_immediately=True)"
    shop.install(once)
    shop.machine.wait_for(lambda: shop.runs("once", FINISHED), what="the run asked for")
    shop.install(once)
    assert len(shop.runs("once")) == 1


def test_a_timer_that_cannot_start_fails_the_start_in_systemds_words_and_none_other(
    shop: Shop,
) -> None:
    machine, drop_in = shop.machine, "/etc/systemd/system/sereno@stuck.timer.d/local.conf"
    machine.write(drop_in, "[Unit]\nAssertPathExists=/nowhere\n")
    try:
        said = shop.call(
            """
            from sereno.errors import SystemdError
            scheduler.add_interval_job(shop_jobs.quick, "stuck", hours=1)
            scheduler.add_cron_job(shop_jobs.quick, "well", hour=3)
            try:
                scheduler.start()
            except SystemdError as error:
                result = str(error)
            """
        )
    finally:
        machine.run("rm", "-r", drop_in.rpartition("/")[0])
    assert "sereno@stuck.timer" in said
    assert shop.next_elapse("well") is not None
    assert shop.next_elapse("stuck") is None
    shop.install(
        "add_interval_job(shop_jobs.quick, 'stuck', hours=1)",
        "add_cron_job(shop_jobs.quick, 'well', hour=3)",
    )
    assert shop.next_elapse("stuck") is not None
    assert machine.run("find", "/etc/systemd/system", "-name", ".sereno*").stdout == ""


def test_workers_that_start_the_same_jobs_at_once_do_what_one_does(shop: Shop) -> None:
    shop.call(
        """
        import subprocess, sys
        code = '''
        import shop_jobs
        from sereno import get_scheduler
        s = get_scheduler(app="shop")
        s.add_interval_job(shop_jobs.quick, "a", hours=1)
        s.add_cron_job(shop_jobs.quick, "b", hour=3)
        s.start()
        '''
        import textwrap
        code = textwrap.dedent(code)
        workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
        assert [worker.wait() for worker in workers] == [0] * 6
        """
    )
    jobs = shop.call("result = scheduler.get_jobs()")
    assert [(job["id"], job["active"]) for job in jobs] == [("a", True), ("b", True)]
    assert shop.runs("a") == shop.runs("b") == []


def test_remove_leaves_no_trace_of_a_job(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'gone', hours=1, timeout=5)")
    assert shop.call("result = scheduler.remove_job('gone')") is True
    assert shop.call("result = scheduler.remove_job('gone')") is False
    left = shop.machine.run(
        "find", "/etc/systemd", "/run/systemd/system", "/var/lib/systemd/timers", "-name", "*gone*"
    ).stdout
    assert left == ""
    assert shop.machine.show("sereno@gone.timer", "LoadState") == {"LoadState": "not-found"}


def test_shutdown_waits_for_the_runs_under_way_and_stops_only_its_own_timers(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.slow, 'slow', hours=1)")
    shop.machine.run("systemctl", "start", "--no-block", "sereno@slow.service")
    shop.machine.wait_for(lambda: shop.runs("slow", STARTED), what="the run")
    shop.call("scheduler.shutdown(wait=True)")
    assert len(shop.runs("slow", FINISHED)) == 1
    assert shop.call("result = scheduler.is_running") is False
    assert shop.next_elapse("slow") is None
    assert shop.next_elapse("cache_cleanup_hourly") is not None


def test_start_without_rights_says_which_and_offers_the_user_scope(shop: Shop) -> None:
    body = """
    from sereno.errors import NotAllowed
    scheduler = get_scheduler(app="shop", scope="system")
    scheduler.add_interval_job(shop_jobs.quick, "mine", hours=1)
    try:
        scheduler.start()
    except NotAllowed as error:
        result = str(error)
    """
    said = shop.call(body, user="nobody")
    assert "no right to write /etc/systemd/system" in said
    assert "--user" in said


@pytest.mark.every_systemd
def test_a_reboot_keeps_timers_pauses_phases_and_the_cache(shop: Shop) -> None:
    machine = shop.machine
    shop.install(
        "add_interval_job(shop_jobs.quick, 'weekly', hours=168)",
        "add_interval_job(shop_jobs.quick, 'overdue', hours=1)",
        "add_interval_job(shop_jobs.quick, 'held', hours=1)",
        "add_cron_job(shop_jobs.quick, 'missed', minute=0)",
        "add_cron_job(shop_jobs.quick, 'let_go', minute=0, persistent=False)",
    )
    shop.call("scheduler.pause_job('held')")
    machine.run("sereno", "cache", "set", "kept", '{"n": 1}', user="root")
    before = shop.next_elapse("weekly")
    assert before is not None
    # As if the machine were off for two hours: what elapsed last longer ago than its interval is overdue.
    stamps = "/var/lib/systemd/timers/stamp-sereno@{}.timer"
    for job_id in ("overdue", "missed"):
        machine.run("touch", "--date=2 hours ago", stamps.format(job_id))
    machine.reboot()
    for job_id in ("overdue", "missed"):
        machine.wait_for(
            lambda job_id=job_id: shop.runs(job_id, FINISHED), what=f"{job_id} made up"
        )
        assert len(shop.runs(job_id)) == 1
    after = shop.next_elapse("weekly")
    assert after is not None
    assert abs(after - before) < 2_000_000
    assert shop.next_elapse("held") is None
    assert shop.next_elapse("cache_cleanup_hourly") is not None
    assert shop.next_elapse("let_go") is not None
    assert shop.runs("weekly") == shop.runs("held") == shop.runs("let_go") == []
    assert machine.run("sereno", "cache", "get", "kept").stdout == '{"n": 1}\n'


@pytest.mark.every_systemd
def test_a_shorter_interval_counts_from_the_change_and_not_from_the_last_run(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'changed', hours=1)")
    shop.machine.run("systemctl", "start", "sereno@changed.service")
    since_us = now_us()
    shop.machine.wait_for(lambda: now_us() > since_us + 8_000_000, what="eight seconds")
    shop.install("add_interval_job(shop_jobs.quick, 'changed', seconds=7)")
    elapse = shop.next_elapse("changed")
    assert elapse is not None
    assert elapse - now_us() > 3_000_000
    assert len(shop.runs("changed")) == 1
