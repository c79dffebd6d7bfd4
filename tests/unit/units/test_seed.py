"""The first elapse of an interval timer in a boot."""

import platform
from pathlib import Path

import backend_jobs
import pytest
from fake_systemd import NEXT, FakeManager

from sereno.manager.systemctl import Elapse
from sereno.scheduler import Scheduler
from sereno.triggers.interval import ELAPSE_S
from sereno.units.seed import machine_id, phase_s, seed, seed_text
from sereno.units.stamps import booted_name
from sereno.units.unitdir import UnitDirectory

NOON = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


def line(text: str) -> str:
    (found,) = [line for line in text.splitlines() if line.startswith("OnCalendar=")]
    return found


def test_it_is_one_interval_after_the_last_elapse() -> None:
    text = seed_text("sereno@x.timer", NOON, 90, NOON + 10)
    assert line(text) == "OnCalendar=2023-11-14 22:14:50.000000 UTC"


def test_the_interval_goes_on_from_the_last_elapse_even_when_that_is_overdue() -> None:
    text = seed_text("sereno@x.timer", NOON - 86400, 3600, NOON)
    assert line(text) == "OnCalendar=2023-11-13 23:13:20.000000 UTC"


def test_a_last_elapse_in_the_future_counts_as_now() -> None:
    text = seed_text("sereno@x.timer", NOON + 86400, 90, NOON)
    assert line(text) == "OnCalendar=2023-11-14 22:14:50.000000 UTC"


def test_interval_timers_that_are_not_active_are_seeded_with_one_reload(
    units: Path, manager: FakeManager, tmp_path: Path
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "waits", minutes=5)
    scheduler.add_interval_job(backend_jobs.report, "runs", hours=10 * 365 * 24)
    scheduler.add_cron_job(backend_jobs.report, "calendar", hour=3)
    scheduler.start()
    manager.active.discard("sereno@waits.timer")
    manager.active.discard("sereno@calendar.timer")
    manager.loaded.add("sereno@waits.timer")
    manager.calls.clear()
    directory = scheduler.installation.units
    assert seed(directory, manager, lambda: NOON, "a") == ["sereno@waits.timer"]
    assert manager.calls == [("reload",)]
    written = tmp_path / "run/systemd/user/sereno@waits.timer.d/50-sereno-seed.conf"
    assert line(written.read_text()) == "OnCalendar=2023-11-14 22:18:20.000000 UTC"
    # What is not loaded, as in a boot, is read when it is.
    written.write_text("older")
    manager.loaded.clear()
    manager.calls.clear()
    assert seed(directory, manager, lambda: NOON, "a") == ["sereno@waits.timer"]
    assert manager.calls == []
    assert scheduler.remove_job("waits")
    assert not written.parent.exists()


@pytest.mark.parametrize(("set_back_s", "seeded"), [(0, []), (3600, ["sereno@waits.timer"])])
def test_an_elapse_further_away_than_its_interval_is_one_of_a_clock_that_was_set_back(
    units: Path, manager: FakeManager, tmp_path: Path, set_back_s: float, seeded: list[str]
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "waits", minutes=5)
    scheduler.start()
    now_s = NEXT.timestamp() - 299 - set_back_s
    directory = scheduler.installation.units
    directory.timers.set_last_elapse("waits", now_s + set_back_s)
    written = tmp_path / "run/systemd/user/sereno@waits.timer.d/50-sereno-seed.conf"
    before = written.read_text()
    assert seed(directory, manager, lambda: now_s, "a") == seeded
    assert (written.read_text() != before) == bool(seeded)
    if seeded:
        assert line(written.read_text()) == line(seed_text("", now_s, 300, now_s))


def test_a_timer_that_never_elapsed_has_a_stamp_before_systemd_starts_it(
    units: Path, manager: FakeManager, tmp_path: Path
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "waits", seconds=2)
    scheduler.start()
    manager.active.discard("sereno@waits.timer")
    seed(scheduler.installation.units, manager, lambda: NOON, "a")
    assert (tmp_path / ".local/share/systemd/timers/stamp-sereno@waits.timer").exists()


def test_a_jitter_brings_a_first_run_forward_by_the_machines_own_share_and_only_the_first(
    units: Path, manager: FakeManager, tmp_path: Path
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "waits", hours=1, jitter=600)
    scheduler.apply(start=False, shipped=False)
    directory = scheduler.installation.units
    written = tmp_path / "run/systemd/user/sereno@waits.timer.d/50-sereno-seed.conf"
    stamp = tmp_path / ".local/share/systemd/timers/stamp-sereno@waits.timer"
    share_s = phase_s("a", "sereno@waits.timer", 600)
    assert 0 < share_s < 600
    seed(directory, manager, lambda: NOON, "a")
    first = written.read_text()
    assert first == seed_text("sereno@waits.timer", NOON - share_s, 3600, NOON)
    assert abs(stamp.stat().st_mtime - (NOON - share_s)) < 0.001
    # After a boot before the first run nothing has moved.
    seed(directory, manager, lambda: NOON + 60, "a")
    assert abs(stamp.stat().st_mtime - (NOON - share_s)) < 0.001
    assert line(written.read_text())[:-8] == line(first)[:-8]
    assert directory.timers.last_elapse_s("waits") == stamp.stat().st_mtime


def boot_job(manager: FakeManager) -> tuple[Scheduler, UnitDirectory]:
    """A scheduler with a job of each boot, installed in a boot before this one."""
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_cron_job(backend_jobs.report, "warm_up", cron_expression="@reboot")
    scheduler.start()
    directory = scheduler.installation.units
    # systemd dates the stamp when it starts the timer, and /run is empty after a boot.
    directory.timers.set_last_elapse("warm_up", NOON)
    (directory.scope.runtime / booted_name("warm_up")).unlink()
    manager.active.discard("sereno@warm_up.timer")
    return scheduler, directory


def test_each_boot_gives_its_turn_once_by_a_stamp_older_than_the_timers_elapse(
    units: Path, manager: FakeManager
) -> None:
    _, directory = boot_job(manager)
    manager.calls.clear()
    assert seed(directory, manager, lambda: NOON, "a") == ["sereno@warm_up.timer"]
    assert directory.timers.last_elapse_s("warm_up") == ELAPSE_S - 1
    directory.timers.set_last_elapse("warm_up", NOON)  # as systemd does when it has run the job
    assert seed(directory, manager, lambda: NOON, "a") == []
    assert directory.timers.last_elapse_s("warm_up") == NOON
    assert manager.calls == []


def test_a_paused_job_has_no_turn_in_the_boot_in_which_it_is_resumed(
    units: Path, manager: FakeManager
) -> None:
    scheduler, directory = boot_job(manager)
    scheduler.pause_job("warm_up")
    assert seed(directory, manager, lambda: NOON, "a") == []
    scheduler.resume_job("warm_up")
    assert seed(directory, manager, lambda: NOON, "a") == []
    assert directory.timers.last_elapse_s("warm_up") > ELAPSE_S


def test_a_boot_has_no_turn_for_what_is_made_resumed_or_rescheduled_in_it(
    units: Path, manager: FakeManager
) -> None:
    def resumed(scheduler: Scheduler) -> None:
        scheduler.pause_job("warm_up")
        scheduler.resume_job("warm_up")

    def rescheduled(scheduler: Scheduler) -> None:
        scheduler.add_cron_job(backend_jobs.report, "warm_up", cron_expression="@reboot", jitter=9)

    def made_anew(scheduler: Scheduler) -> None:
        scheduler.remove_job("warm_up")
        scheduler.add_cron_job(backend_jobs.report, "warm_up", cron_expression="@reboot")

    def found_stopped(scheduler: Scheduler) -> None:
        manager.active.discard("sereno@warm_up.timer")
        scheduler.start()

    for change in (resumed, rescheduled, made_anew, found_stopped):
        scheduler, directory = boot_job(manager)
        change(scheduler)
        assert seed(directory, manager, lambda: NOON, "a") == [], change


def test_what_is_written_while_nothing_starts_has_its_turn_in_the_next_boot(
    tmp_path: Path, units: Path, manager: FakeManager
) -> None:
    staged = Scheduler("backend", root=tmp_path / "image")
    template = tmp_path / "image/usr/lib/systemd/system/sereno@.service"
    template.parent.mkdir(parents=True)
    template.touch()
    staged.add_cron_job(backend_jobs.report, "warm_up", cron_expression="@reboot")
    staged.start()
    directory = staged.installation.units
    assert seed(directory, manager, lambda: NOON, "a") == ["sereno@warm_up.timer"]
    assert directory.timers.last_elapse_s("warm_up") == ELAPSE_S - 1


def test_a_job_that_is_no_interval_any_more_keeps_no_first_elapse_of_one(
    units: Path, manager: FakeManager, tmp_path: Path
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.start()
    written = tmp_path / "run/systemd/user/sereno@changes.timer.d/50-sereno-seed.conf"
    for cron_expression in ("0 3 * * *", "@reboot"):
        scheduler.add_interval_job(backend_jobs.report, "changes", hours=168)
        manager.active.discard("sereno@changes.timer")
        seed(scheduler.installation.units, manager, lambda: NOON, "a")
        assert written.exists()
        scheduler.add_cron_job(backend_jobs.report, "changes", cron_expression=cron_expression)
        assert not written.parent.exists()


def test_the_shares_of_many_machines_cover_the_jitter_evenly() -> None:
    unit = "sereno@x.timer"
    shares_s = sorted(phase_s(f"machine{number}", unit, 600) for number in range(1000))
    assert all(abs(share_s - place * 0.6) < 60 for place, share_s in enumerate(shares_s))
    assert phase_s("a", unit, 600) == phase_s("a", unit, 600) != phase_s("a", "other", 600)
    assert phase_s("a", unit, 0) == 0


def test_a_machine_without_an_id_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "id").write_text("0123abcd\n")
    assert machine_id(tmp_path / "id") == "0123abcd"
    assert machine_id(tmp_path / "none") == platform.node()


def test_a_timer_that_is_about_to_start_is_seeded_too(
    units: Path, manager: FakeManager, monkeypatch
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "starts", seconds=2)
    scheduler.apply(start=False, shipped=False)
    pending = {"sereno@starts.timer": Elapse(None, None)}
    monkeypatch.setattr(manager, "list_timers", lambda: pending)
    assert seed(scheduler.installation.units, manager, lambda: NOON, "a") == ["sereno@starts.timer"]


def test_what_failed_to_be_seeded_in_time_is_started_anew_and_what_runs_is_left_alone(
    units: Path, manager: FakeManager, monkeypatch
) -> None:
    """The service failed when they were started: they are active, and only a start makes up for what is over."""
    scheduler, directory = boot_job(manager)
    for job_id in ("dead", "runs"):
        scheduler.add_interval_job(backend_jobs.report, job_id, minutes=5)
    scheduler.start()
    (directory.scope.runtime / booted_name("warm_up")).unlink()
    elapses = {f"sereno@{job_id}.timer": Elapse(None, None) for job_id in ("dead", "runs")}
    monkeypatch.setattr(manager, "list_timers", lambda: elapses)
    manager.service_states = {
        "sereno@dead.timer": "elapsed",
        "sereno@warm_up.timer": "elapsed",
        "sereno@runs.timer": "active",
    }
    manager.calls.clear()
    mended = ["sereno@warm_up.timer", "sereno@dead.timer"]
    assert seed(directory, manager, lambda: NOON, "a") == mended
    assert manager.calls == [("reload",), ("restart", *reversed(mended))]


def test_a_seed_that_a_change_wrote_meanwhile_is_left_as_it_is(
    units: Path, manager: FakeManager, monkeypatch
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "changed", minutes=5)
    scheduler.apply(start=False, shipped=False)
    directory = scheduler.installation.units

    def changed_meanwhile(*_: str) -> dict[str, str]:
        directory.timers.write_seed("changed", "of the change")
        return {}

    monkeypatch.setattr(manager, "states", changed_meanwhile)
    assert seed(directory, manager, lambda: NOON, "a") == []
    assert directory.timers.seed("changed") == "of the change"
