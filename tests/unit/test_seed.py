"""The first elapse of an interval timer in a boot."""

from pathlib import Path

import backend_jobs
from fake_systemd import FakeManager

from sereno.scheduler import Scheduler
from sereno.seed import seed, seed_text
from sereno.systemctl import Elapse

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
    scheduler.add_interval_job(backend_jobs.report, "runs", minutes=5)
    scheduler.add_cron_job(backend_jobs.report, "calendar", hour=3)
    scheduler.start()
    manager.active.discard("sereno@waits.timer")
    manager.active.discard("sereno@calendar.timer")
    manager.calls.clear()
    directory = scheduler.installation.units
    assert seed(directory, manager, lambda: NOON) == ["sereno@waits.timer"]
    assert manager.calls == [("reload",)]
    written = tmp_path / "run/systemd/user/sereno@waits.timer.d/50-sereno-seed.conf"
    assert line(written.read_text()) == "OnCalendar=2023-11-14 22:18:20.000000 UTC"
    assert scheduler.remove_job("waits")
    assert not written.parent.exists()


def test_a_timer_that_never_elapsed_has_a_stamp_before_systemd_starts_it(
    units: Path, manager: FakeManager, tmp_path: Path
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "waits", seconds=2)
    scheduler.start()
    manager.active.discard("sereno@waits.timer")
    seed(scheduler.installation.units, manager, lambda: NOON)
    assert (tmp_path / ".local/share/systemd/timers/stamp-sereno@waits.timer").exists()


def test_a_timer_that_is_about_to_start_is_seeded_too(
    units: Path, manager: FakeManager, monkeypatch
) -> None:
    scheduler = Scheduler("backend", scope="user", manager=manager)
    scheduler.add_interval_job(backend_jobs.report, "starts", seconds=2)
    scheduler.start()
    pending = {"sereno@starts.timer": Elapse(None, None)}
    monkeypatch.setattr(manager, "list_timers", lambda: pending)
    assert seed(scheduler.installation.units, manager, lambda: NOON) == ["sereno@starts.timer"]
