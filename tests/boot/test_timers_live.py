"""No timer dies in silence, whatever was done to the machine: mounts, first boots, seeds, changes of schedules."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
from shop import FINISHED, Shop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

pytestmark = pytest.mark.waiting

JOBS = (
    "add_interval_job(shop_jobs.quick, 'interval', hours=1)",
    "add_cron_job(shop_jobs.quick, 'calendar', hour=3)",
    "add_cron_job(shop_jobs.quick, 'each_boot', cron_expression='@reboot')",
)
SLOW_SEED = "/run/systemd/system/sereno-seed.service.d/slow.conf"


def installed(machine: Machine, *more: str) -> Shop:
    """Jobs of each kind, and more, on a machine of the test's own."""
    shop = Shop(machine)
    shop.install(*JOBS, *more)
    return shop


def runs_of_this_boot(shop: Shop, job_id: str) -> list[dict[str, Any]]:
    boot_id = shop.machine.read("/proc/sys/kernel/random/boot_id").strip().replace("-", "")
    return [run for run in shop.runs(job_id) if run["_BOOT_ID"] == boot_id]


def assert_all_live(shop: Shop) -> None:
    """Each timer has a next elapse, and this boot had its run."""
    machine = shop.machine
    timers = {"sereno@interval.timer", "sereno@calendar.timer"}
    machine.wait_for(
        lambda: timers <= {each["unit"] for each in machine.list_timers() if each["next"]},
        what="next elapses of an interval and a calendar",
    )
    machine.wait_for(lambda: runs_of_this_boot(shop, "each_boot"), what="the run of this boot")
    assert machine.show("sereno@cache_cleanup_hourly.timer", "SubState") == {"SubState": "waiting"}
    assert shop.call("result = scheduler.is_running") is True


@pytest.fixture
def slow_seed(shop: Shop) -> Iterator[Shop]:
    """The seed takes its time after it has looked at the jobs."""
    shop.machine.write(SLOW_SEED, "[Service]\nExecStartPost=/bin/sleep 3\n")
    shop.machine.run("systemctl", "daemon-reload")
    yield shop
    shop.machine.run("rm", SLOW_SEED)
    shop.machine.run("systemctl", "daemon-reload")


def seed_is_asleep(machine: Machine) -> bool:
    shown = machine.show("sereno-seed.service", "SubState", "ControlPID")
    return shown["SubState"] == "start-post"


@pytest.mark.every_systemd
def test_a_timer_that_is_started_while_the_seed_runs_elapses(slow_seed: Shop) -> None:
    machine = slow_seed.machine
    machine.run("systemctl", "start", "--no-block", "sereno-seed.service")
    machine.wait_for(lambda: seed_is_asleep(machine), what="the seed is at work")
    slow_seed.install("add_interval_job(shop_jobs.quick, 'young', seconds=2)")
    machine.wait_for(lambda: len(slow_seed.runs("young")) > 1, what="two runs")


@pytest.mark.every_systemd
def test_a_timer_without_a_next_elapse_counts_as_not_active_and_start_heals_it(shop: Shop) -> None:
    interval = "add_interval_job(shop_jobs.quick, 'wedged', hours=1)"
    shop.install(interval, "add_cron_job(shop_jobs.quick, 'well', hour=3)")
    assert shop.call("result = scheduler.is_running") is True
    machine = shop.machine
    drop_in = "/run/systemd/system/sereno@wedged.timer.d"

    def wedge() -> None:
        machine.run("systemctl", "stop", "sereno@wedged.timer")
        machine.run("rm", "-r", drop_in)
        machine.run("systemctl", "daemon-reload")
        start = ("systemctl", "start", "--job-mode=ignore-dependencies", "sereno@wedged.timer")
        machine.run(*start)
        assert machine.show("sereno@wedged.timer", "SubState") == {"SubState": "elapsed"}

    wedge()
    jobs = {job["id"]: job for job in shop.call("result = scheduler.get_jobs()")}
    assert (jobs["wedged"]["active"], jobs["well"]["active"]) == (False, True)
    assert shop.call("result = scheduler.is_running") is False
    listed = machine.run("sereno", "list").stdout
    assert "no next elapse" in next(line for line in listed.splitlines() if "wedged" in line)
    for words in (("status", "wedged"), ("report", "-o", "-")):
        assert "systemctl start sereno-seed.service" in machine.run("sereno", *words).stdout
    machine.run("systemctl", "start", "sereno-seed.service")
    assert machine.wait_for(lambda: shop.next_elapse("wedged"), what="what status says helps")
    wedge()
    shop.install(interval, "add_cron_job(shop_jobs.quick, 'well', hour=3)")
    assert shop.next_elapse("wedged")
    assert shop.call("result = scheduler.is_running") is True
    assert shop.runs("wedged") == []


# Of /opt and /srv, alone and late, is the next one.
@pytest.mark.parametrize("path", ["/usr/local", "/var"])
def test_they_live_where_a_directory_is_on_a_file_system_of_its_own(
    own_machine: Machine, path: str
) -> None:
    shop = installed(own_machine)
    own_machine.put_on_a_mount(path)
    own_machine.reboot()
    assert_all_live(shop)


@pytest.mark.parametrize("path", ["/opt", "/srv"])
def test_they_wait_for_a_file_system_that_comes_late(own_machine: Machine, path: str) -> None:
    shop = installed(own_machine)
    own_machine.put_on_a_mount(path, late_s=5)
    own_machine.reboot()
    assert_all_live(shop)
    own_machine.wait_for(lambda: shop.runs("each_boot", FINISHED), what="the end of its run")
    unit = own_machine.run("systemd-escape", "--path", "--suffix=mount", path).stdout.strip()
    assert own_machine.show(unit, "ActiveState") == {"ActiveState": "active"}


@pytest.mark.every_systemd
def test_a_seed_that_could_not_start_is_tried_again_until_all_live(own_machine: Machine) -> None:
    """The code is not there, by a mount that no unit knows of, and comes a minute later."""
    own_machine.write(
        "/etc/systemd/system/sereno-seed.service.d/soon.conf", "[Service]\nRestartSec=2\n"
    )
    shop = installed(own_machine)
    own_machine.run("mv", "/opt/sereno", "/opt/elsewhere")
    own_machine.reboot()
    own_machine.wait_for(
        lambda: own_machine.show("sereno-seed.service", "NRestarts")["NRestarts"] > "0",
        what="the seed is tried again",
    )
    own_machine.run("mv", "/opt/elsewhere", "/opt/sereno")
    assert_all_live(shop)


@pytest.mark.parametrize("machine_id", [None, "", "uninitialized\n"])
def test_a_first_boot_resumes_no_paused_job_and_keeps_the_others(
    own_machine: Machine, machine_id: str | None
) -> None:
    shop = installed(
        own_machine, "add_cron_job(shop_jobs.quick, 'paused', second='*/2', minute='*')"
    )
    shop.call("scheduler.pause_job('paused')")
    own_machine.boot_first(machine_id)
    assert_all_live(shop)
    assert shop.call("result = scheduler.get_job_status('paused')['paused']") is True
    assert runs_of_this_boot(shop, "paused") == []
    own_machine.run("systemctl", "preset-all")
    own_machine.reboot()
    assert_all_live(shop)
    assert runs_of_this_boot(shop, "paused") == []


@pytest.mark.every_systemd
def test_presets_that_disable_all_else_leave_timers_enabled(own_machine: Machine) -> None:
    shop = installed(own_machine)
    own_machine.write("/etc/systemd/system-preset/99-site.preset", "disable *\n")
    own_machine.run("systemctl", "preset-all")
    own_machine.boot_first()
    assert_all_live(shop)


@pytest.mark.every_systemd
def test_an_elapse_between_stopping_and_starting_a_changed_timer_is_made_up_once(
    shop: Shop,
) -> None:
    """The change takes long: each step of systemctl waits until the elapse is over."""
    machine = shop.machine
    at = (time.time_ns() // 1_000_000_000) + 12
    hour, minute, second = time.gmtime(at)[3:6]
    cron = f"add_cron_job(shop_jobs.quick, 'due', hour={{}}, minute={minute}, second={second}, timezone='UTC')"
    shop.install(cron.format(repr(f"{hour}")))
    slow = f"""
    from sereno.units.unitdir import UnitDirectory
    import time
    replace = UnitDirectory.replace
    def slow(self, files):
        if "sereno@due.timer" in files:
            time.sleep(max(0, {at} + 2 - time.time()))
        replace(self, files)
    UnitDirectory.replace = slow
    scheduler.{cron.format(repr(f"{hour},{(hour + 12) % 24}"))}
    scheduler.start()
    """
    shop.call(slow)
    assert time.time() > at + 1
    machine.wait_for(
        lambda: shop.runs("due", FINISHED), what="the elapse that fell into the change"
    )
    machine.wait_for(lambda: shop.next_elapse("due"), what="a next elapse")
    assert (shop.next_elapse("due") or 0) / 1e6 - time.time() > 3600
    assert len(shop.runs("due")) == 1


@pytest.mark.parametrize("change", ["interval", "resume"])
def test_no_change_of_an_interval_runs_it_where_others_come_after_it(
    shop: Shop, change: str
) -> None:
    """The new interval is over since the last run, which the manager remembers as long as a service is loaded."""
    first, second, third = (f"{name}_{change}" for name in ("first", "second", "third"))
    interval = f"add_interval_job(shop_jobs.quick, '{first}', seconds={{}})"
    others = (
        f"add_cron_job(shop_jobs.quick, '{second}', hour=3, after='{first}')",
        f"add_interval_job(shop_jobs.quick, '{third}', hours=2, after='{second}')",
    )
    shop.install(interval.format(1000), *others)
    machine = shop.machine
    for job_id in (first, third):
        machine.run("systemctl", "start", f"sereno@{job_id}.service")
    elapse = shop.next_elapse(third)
    assert elapse
    if change == "resume":
        shop.call(f"scheduler.pause_job('{first}')")
        shop.install(interval.format(15), *others)
    deadline = time.time() + 16
    machine.wait_for(lambda: time.time() > deadline, what="the new interval")
    if change == "resume":
        shop.call(f"scheduler.resume_job('{first}')")
    else:
        shop.install(interval.format(15), *others)
    deadline = time.time() + 2
    machine.wait_for(lambda: time.time() > deadline, what="a run that comes at once")
    assert len(shop.runs(first)) == 1
    assert shop.next_elapse(first)
    assert len(shop.runs(third)) == 1
    assert shop.runs(second) == []
    assert abs((shop.next_elapse(third) or 0) - elapse) < 2_000_000
    assert shop.next_elapse(second)


def test_a_job_after_a_changed_one_of_another_application_goes_on(shop: Shop) -> None:
    shop.install("add_interval_job(shop_jobs.quick, 'leader', hours=1)")
    other = Shop(shop.machine, "other")
    other.install("add_interval_job(shop_jobs.quick, 'follower', hours=2, after='leader')")
    try:
        for job_id in ("leader", "follower"):
            shop.machine.run("systemctl", "start", f"sereno@{job_id}.service")
        elapse = other.next_elapse("follower")
        deadline = time.time() + 31
        shop.machine.wait_for(lambda: time.time() > deadline, deadline_s=60, what="half a minute")
        shop.install("add_interval_job(shop_jobs.quick, 'leader', seconds=30)")
        assert len(shop.runs("leader")) == 1
        assert abs((other.next_elapse("follower") or 0) - (elapse or 0)) < 2_000_000
        assert other.call("result = scheduler.is_running") is True
    finally:
        other.remove_all()


def test_a_copied_machine_keeps_what_is_paused_and_makes_up_for_nothing(
    own_machine: Machine,
) -> None:
    """By the README's three commands."""
    shop = installed(own_machine, "add_cron_job(shop_jobs.quick, 'paused', minute='*')")
    shop.call("scheduler.pause_job('paused')")
    for words in ("systemctl stop sereno.target", "rm -f /var/lib/systemd/timers/stamp-sereno@*"):
        own_machine.run("sh", "-c", words)
    own_machine.boot_first()
    assert_all_live(shop)
    assert shop.call("result = scheduler.get_job_status('paused')['paused']") is True
    assert [shop.runs(job_id) for job_id in ("paused", "calendar", "interval")] == [[], [], []]


LIVES = """
import sys, time, shop_jobs
from sereno import get_scheduler
scheduler = get_scheduler(app="shop")
scheduler.add_interval_job(shop_jobs.quick, "shared", hours=1)
scheduler.start()
print("started", flush=True)
sys.stdin.readline()
scheduler.shutdown(wait=True)
print("ended", flush=True)
"""


def test_the_shutdown_of_one_worker_leaves_the_timers_to_the_others(shop: Shop) -> None:
    """Two workers, a rolling restart, and one that is killed: the last process stops the timers."""
    words, environment = shop.machine.command(
        "/srv/shop/venv/bin/python", "-c", LIVES, env={"PYTHONPATH": "/opt/sereno/lib:/srv/shop"}
    )

    def worker() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stdout.readline() == "started\n"
        return process

    def end(process: subprocess.Popen[str]) -> None:
        assert process.communicate("\n", timeout=60)[0] == "ended\n"

    def is_running() -> Any:
        return shop.call("result = scheduler.is_running")

    first, second = worker(), worker()
    end(first)
    assert is_running() is True
    third = worker()
    end(second)
    assert is_running() is True
    killed = worker()
    end(third)
    assert is_running() is True
    pid = shop.machine.run("pgrep", "-n", "-f", "sys.stdin.readline").stdout.strip()
    shop.machine.run("kill", "-KILL", pid)
    killed.communicate()
    last = worker()
    end(last)
    assert is_running() is False
    assert shop.next_elapse("shared") is None


@pytest.mark.every_systemd
def test_rescue_and_back_a_reexec_and_an_administrators_disable_and_enable(
    own_machine: Machine,
) -> None:
    shop = installed(own_machine)
    own_machine.run("systemctl", "isolate", "--no-block", "rescue.target")
    timer = "sereno@interval.timer"
    own_machine.wait_for(
        lambda: own_machine.show(timer, "ActiveState") == {"ActiveState": "inactive"},
        what="rescue stops timers",
    )
    own_machine.run("systemctl", "isolate", "--no-block", "multi-user.target")
    own_machine.wait_for(lambda: shop.next_elapse("interval"), what="the interval is back")
    own_machine.run("systemctl", "daemon-reexec")
    own_machine.wait_for(lambda: shop.next_elapse("interval"), what="the interval after a reexec")
    own_machine.run("systemctl", "disable", "--now", timer)
    assert shop.call("result = scheduler.get_job_status('interval')['paused']") is True
    own_machine.run("systemctl", "enable", "--now", timer)
    assert shop.next_elapse("interval")
    assert shop.call("result = scheduler.is_running") is True
    assert [shop.runs(job_id) for job_id in ("interval", "calendar", "each_boot")] == [[], [], []]


@pytest.mark.parametrize("lost", ["/etc", "/var"])
def test_they_live_when_one_of_etc_and_var_is_restored_from_a_backup(
    own_machine: Machine, lost: str
) -> None:
    """Jobs of after the backup are gone with /etc; with /var the stamps are those of then."""
    shop = installed(own_machine)
    kept = "etc/systemd" if lost == "/etc" else "var/lib/systemd"
    own_machine.run("tar", "-C", "/", "-cf", "/root/backup.tar", kept)
    shop.install(*JOBS, "add_interval_job(shop_jobs.quick, 'younger', minutes=30)")
    own_machine.run("rm", "-rf", f"/{kept}/timers" if lost == "/var" else f"/{kept}/system")
    own_machine.run("tar", "-C", "/", "-xf", "/root/backup.tar")
    own_machine.reboot()
    assert_all_live(shop)
    shop.install(*JOBS, "add_interval_job(shop_jobs.quick, 'younger', minutes=30)")
    assert shop.next_elapse("younger")
    assert shop.runs("younger") == []


@pytest.mark.every_systemd
def test_a_nofail_mount_that_never_comes_is_told_and_mended_when_it_comes(
    own_machine: Machine,
) -> None:
    """The code is on it: nothing can run meanwhile, and the target's start is all that it takes afterwards."""
    shop = installed(own_machine)
    own_machine.put_on_a_mount("/opt", late_s=1)
    own_machine.write(
        "/etc/systemd/system/late-disk.service.d/absent.conf",
        "[Service]\nExecStart=\nExecStart=/bin/test -e /data/plugged-in\n",
    )
    own_machine.reboot()
    own_machine.wait_for(
        lambda: own_machine.show("sereno@interval.timer", "SubState")["SubState"] == "elapsed",
        what="the timer starts without its seed",
    )
    own_machine.run("touch", "/data/plugged-in")
    own_machine.run("systemctl", "start", "opt.mount")
    assert shop.call("result = scheduler.is_running") is False
    assert "no next elapse" in own_machine.run("sereno", "list").stdout
    own_machine.run("systemctl", "start", "sereno.target")
    assert_all_live(shop)
