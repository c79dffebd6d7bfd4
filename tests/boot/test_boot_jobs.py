"""@reboot in a real systemd: one run after each boot, and none for any other reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shop import FINISHED, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

pytestmark = pytest.mark.waiting

WARM_UP = "add_cron_job(shop_jobs.quick, 'warm_up', cron_expression='@reboot')"
TIMER = "sereno@warm_up.timer"
NETWORK = "late-network.service"
# As a wait-online service is that waits for a cable: everything else of the boot is long over.
LATE_NETWORK = """\
[Unit]
Before=network-online.target

[Service]
Type=oneshot
SyslogIdentifier=late-network
ExecStart=/bin/sh -c 'sleep 2; echo no carrier; exit 1'

[Install]
WantedBy=network-online.target
"""


# A backend that is there before its timers are: what starts them is slow here, as it is on a busy machine.
EARLY = """\
[Unit]
After=sereno.target

[Service]
Type=oneshot
Environment=PYTHONPATH=/opt/sereno/lib:/srv/shop
ExecStart=/srv/shop/venv/bin/python /srv/shop/early.py

[Install]
WantedBy=multi-user.target
"""
EARLY_JOBS = f"""\
import shop_jobs
from sereno import get_scheduler
scheduler = get_scheduler(app="shop")
scheduler.{WARM_UP}
scheduler.add_interval_job(shop_jobs.quick, "often", hours=5)
scheduler.start()
"""
SLOW_START = "/etc/systemd/system/sereno-start@shop.service.d/slow.conf"


def what_starts_no_job(shop: Shop, *, by_sereno: bool) -> Iterator[str]:
    """Carries out every change that is none of a boot's, and says each when it is done.

    Args:
        by_sereno: not systemctl's alone.
    """
    system = (
        f"daemon-reload; restart {TIMER}; restart {TIMER}; daemon-reload; daemon-reexec;"
        f" stop {TIMER}; daemon-reload; start {TIMER}; disable --now {TIMER}; enable --now {TIMER};"
        f" stop sereno.target; start sereno.target; start sereno-seed.service; restart {TIMER}"
    )
    for command in system.split("; "):
        shop.machine.run("systemctl", *command.split())
        yield command
    if not by_sereno:
        return
    calls = (
        "scheduler.pause_job('warm_up'); scheduler.resume_job('warm_up')",
        f"scheduler.{WARM_UP}; scheduler.start(); scheduler.shutdown(); scheduler.start()",
    )
    for call in calls:
        shop.call(call)
        yield call
    for options in ("timeout=60", "timeout=60, jitter=1", "accuracy=0.5"):
        changed = WARM_UP.replace("'@reboot'", f"'@reboot', {options}")
        shop.install(changed, "add_cron_job(shop_jobs.quick, 'other', hour=3)")
        yield changed
    shop.install("add_cron_job(shop_jobs.quick, 'warm_up', hour=3)")
    shop.install("add_interval_job(shop_jobs.quick, 'warm_up', hours=1)")
    shop.install(WARM_UP)
    yield "another schedule and back"
    shop.machine.run("sereno", "apply")
    shop.machine.run("systemctl", "restart", TIMER)
    yield "sereno apply and a restart of the timer"


def moment_us(machine: Machine, unit: str, which: str) -> int:
    """When the main process of a service last started or ended in this boot; 0: it has not."""
    name = f"ExecMain{which}TimestampMonotonic"
    return int(machine.show(unit, name)[name])


def runs_settled(machine: Machine, shop: Shop) -> int:
    """How many runs there were, once nothing that could be one is under way."""
    units = ("list-jobs", "--no-legend")
    machine.wait_for(lambda: not machine.run("systemctl", *units).stdout, what="no job queued")
    return len(shop.runs("warm_up"))


@pytest.mark.every_systemd
def test_each_boot_runs_it_once_and_no_change_of_anything_does(shop: Shop) -> None:
    machine = shop.machine
    shop.install(WARM_UP)
    (job,) = shop.call("result = scheduler.get_jobs()")
    assert (job["trigger"], job["next_run"], job["active"]) == ("cron[@reboot]", None, True)
    # Before the job's first boot and after one.
    for boots in (0, 1):
        for done in what_starts_no_job(shop, by_sereno=boots == 1):
            assert runs_settled(machine, shop) == boots, done
        if boots == 1:
            machine.run("systemctl", "start", "sereno-seed.service")
            machine.crash()
            machine.start()
        else:
            machine.reboot()
        expected = boots + 1
        machine.wait_for(
            lambda expected=expected: len(shop.runs("warm_up", FINISHED)) == expected,
            what=f"the run of boot {expected}",
        )
    assert runs_settled(machine, shop) == 2
    assert "warm_up" in machine.run("sereno", "list").stdout


@pytest.mark.every_systemd
def test_a_backend_that_starts_before_its_timers_are_up_takes_no_boot_from_them_and_begins_no_interval_again(
    shop: Shop,
) -> None:
    machine = shop.machine
    machine.write("/srv/shop/early.py", EARLY_JOBS)
    machine.write("/etc/systemd/system/early.service", EARLY)
    machine.write(SLOW_START, "[Service]\nExecStartPre=/bin/sleep 6\n")
    shop.call(EARLY_JOBS)
    before_us = shop.next_elapse("often")
    machine.run("systemctl", "enable", "early.service")
    machine.reboot()
    machine.wait_for(lambda: moment_us(machine, "early.service", "Exit"), what="the backend")
    # It was there first, or this shows nothing.
    began_us = moment_us(machine, "early.service", "Start")
    timer = machine.show("sereno@often.timer", "ActiveEnterTimestampMonotonic")
    assert began_us < int(timer["ActiveEnterTimestampMonotonic"])
    assert machine.show("early.service", "Result") == {"Result": "success"}
    machine.wait_for(lambda: shop.runs("warm_up", FINISHED), what="the run of this boot")
    after_us = shop.next_elapse("often")
    assert before_us is not None
    assert after_us is not None
    assert abs(after_us - before_us) < 1_000_000
    machine.run("systemctl", "disable", "early.service")
    machine.run("rm", "-r", SLOW_START, "/etc/systemd/system/early.service")
    machine.run("systemctl", "daemon-reload")


@pytest.mark.every_systemd
def test_at_boot_a_job_with_network_waits_for_it_and_runs_all_the_same_when_it_does_not_come(
    shop: Shop,
) -> None:
    machine = shop.machine
    machine.write(f"/etc/systemd/system/{NETWORK}", LATE_NETWORK)
    shop.install(WARM_UP, WARM_UP.replace("'warm_up', ", "'remote', network=True, "))
    # Nobody has waited for the network so far, and nothing here brings it up.
    machine.run("systemctl", "start", "sereno@remote.service")
    machine.run("systemctl", "enable", NETWORK)
    machine.reboot()
    # systemd's own times: on a busy machine Python takes seconds to say its first word.
    begun_us = {
        job_id: machine.wait_for(
            lambda unit=f"sereno@{job_id}.service": moment_us(machine, unit, "Start"),
            what=f"the run of {job_id}",
        )
        for job_id in ("warm_up", "remote")
    }
    assert begun_us["warm_up"] < moment_us(machine, NETWORK, "Exit") < begun_us["remote"]
    machine.run("systemctl", "disable", NETWORK)


@pytest.mark.every_systemd
def test_a_boot_in_which_it_is_paused_or_shut_down_runs_it_neither_then_nor_when_it_resumes(
    shop: Shop,
) -> None:
    machine = shop.machine
    shop.install(WARM_UP)
    ways = (
        (lambda: shop.call("scheduler.pause_job('warm_up')"),
         lambda: shop.call("scheduler.resume_job('warm_up')")),
        (lambda: machine.run("systemctl", "disable", "--now", TIMER),
         lambda: machine.run("systemctl", "enable", "--now", TIMER)),
        (lambda: shop.call("scheduler.shutdown()"), lambda: shop.install(WARM_UP)),
    )  # fmt: skip
    before = len(shop.runs("warm_up"))
    for stop, resume in ways:
        stop()
        machine.reboot()
        resume()
        machine.run("systemctl", "restart", TIMER)
        assert runs_settled(machine, shop) == before
    machine.reboot()
    machine.wait_for(lambda: len(shop.runs("warm_up", FINISHED)) > before, what="the next boot's")
    assert runs_settled(machine, shop) == before + 1


@pytest.mark.every_systemd
def test_a_jitter_spreads_the_runs_of_a_boot_and_a_reload_does_not_draw_it_anew(shop: Shop) -> None:
    machine = shop.machine
    shop.install(WARM_UP.replace("'@reboot'", "'@reboot', jitter=3600"))
    before = len(shop.runs("warm_up"))
    machine.reboot()
    elapse = machine.wait_for(lambda: shop.next_elapse("warm_up"), what="a next elapse")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", TIMER)
    assert abs((shop.next_elapse("warm_up") or 0) - elapse) < 1_000_000
    assert len(shop.runs("warm_up")) == before


@pytest.mark.every_systemd
def test_a_new_interval_or_calendar_in_its_place_has_elapses_of_its_own_only(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'was_interval', seconds=3600)")
    shop.machine.reboot()
    shop.machine.wait_for(lambda: shop.next_elapse("was_interval"), what="a next elapse")
    shop.install("add_cron_job(shop_jobs.quick, 'was_interval', hour=0, minute=0, day=1, month=1)")
    shown = shop.machine.show("sereno@was_interval.timer", "TimersCalendar", "DropInPaths")
    assert "*-01-01 00:00:00" in shown["TimersCalendar"]
    assert shown["DropInPaths"] == ""


def test_a_machine_without_stamps_gets_their_directory_from_the_seed(shop: Shop) -> None:
    stamps = "/var/lib/systemd/timers"
    shop.install("add_interval_job(shop_jobs.quick, 'first', hours=1)")
    shop.call("scheduler.pause_job('first')")
    shop.machine.run("rm", "-r", stamps)
    shop.machine.run("systemctl", "start", "sereno-seed.service")
    assert shop.machine.exists(f"{stamps}/stamp-sereno@first.timer")
