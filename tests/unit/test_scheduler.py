"""The facade of the contract over generated timers, with a manager that only records."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from struct import pack

import backend_jobs
import nobody
import pytest
from fake_systemd import NEXT, FakeManager

import sereno
from sereno.declare.job import Job
from sereno.errors import (
    Conflict,
    InvalidJob,
    InvalidTrigger,
    NoSuchJob,
    NotAvailable,
    SystemdError,
)
from sereno.jobs import register_cache_cleanup_job
from sereno.manager.systemctl import Elapse
from sereno.scheduler import Scheduler
from sereno.triggers import IntervalTrigger
from sereno.units import cautions

# What the manager is asked for a timer whose schedule changes: stopped, it is unloaded, and its last elapse forgotten.
WITH_ANOTHER_SCHEDULE = [("stop", "sereno@report.timer"), ("start", "sereno@report.timer")]


@pytest.fixture
def scheduler(units: Path, manager: FakeManager) -> Scheduler:
    return Scheduler("backend", scope="user", manager=manager)


def another(manager: FakeManager, app: str = "backend") -> Scheduler:
    """What a second process would have."""
    return Scheduler(app, scope="user", manager=manager)


def files(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): "→ " + str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_get_scheduler_gives_one_scheduler_per_process_and_application() -> None:
    assert sereno.get_scheduler() is sereno.get_scheduler()
    assert sereno.get_scheduler(app="one") is not sereno.get_scheduler(app="two")


def test_a_package_that_the_cache_misses_is_named_with_how_to_install_it() -> None:
    code = (
        "import sys\nsys.modules['lmdb'] = None\n"
        "try:\n    from sereno import get_metadata_cache\n"
        "except ImportError as error:\n    print(error)"
    )
    lib = Path(sereno.__file__).parents[1]
    words = [sys.executable, "-c", code]
    done = subprocess.run(
        words, env={"PYTHONPATH": str(lib)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"get_metadata_cache: {sys.executable} has no 'lmdb'\n"
        f"hint: {sys.executable} -m pip install -r {lib}/requirements.txt\n"
    )


def test_the_application_is_sereno_app_else_sereno(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERENO_APP", raising=False)
    assert sereno.get_scheduler().app == "sereno"
    monkeypatch.setenv("SERENO_APP", "shop")
    assert sereno.get_scheduler().app == "shop"


def test_a_timer_that_cannot_be_started_fails_the_start_which_the_next_finishes(
    scheduler, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_cron_job(backend_jobs.sync, "sync", hour=3)
    manager.refused = {"sereno@sync.timer"}
    with pytest.raises(SystemdError, match=r"sereno@sync\.timer"):
        scheduler.start()
    manager.refused = set()
    scheduler.start()
    assert {"sereno@report.timer", "sereno@sync.timer"} <= manager.active


def test_many_timers_are_started_by_one_target_and_what_that_could_not_start_by_name(
    scheduler, manager, monkeypatch
) -> None:
    monkeypatch.setattr("sereno.units.apply._BY_NAME", 1)
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_cron_job(backend_jobs.sync, "sync", hour=3)
    manager.refused = {"sereno@sync.timer"}
    with pytest.raises(SystemdError, match=r"sereno@sync\.timer"):
        scheduler.start()
    started = ["sereno-app@backend.target", "sereno-jobs@backend.target", "sereno@sync.timer"]
    assert manager.calls == [("start", unit) for unit in started]
    manager.refused = set()
    scheduler.start()
    assert {"sereno@report.timer", "sereno@sync.timer"} <= manager.active


def test_adding_registers_and_touches_nothing(scheduler, units, manager) -> None:
    assert scheduler.add_interval_job(backend_jobs.report, "report", minutes=5) == "report"
    assert not units.exists()
    assert manager.calls == []
    assert not scheduler.is_running


def test_start_installs_the_registered_jobs_with_one_start_and_no_reload(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", hours=1, minutes=30, seconds=15)
    scheduler.add_cron_job(backend_jobs.sync, "sync", hour="3", minute="0")
    scheduler.start()
    timers = ("sereno@report.timer", "sereno@sync.timer")
    assert manager.calls == [("start", "sereno-app@backend.target", *timers)]
    assert {"sereno@report.timer", "sereno@sync.timer"} <= manager.active
    assert set(files(units)) == {
        "sereno@report.timer",
        "sereno@report.service.d/50-sereno.conf",
        "sereno@sync.timer",
        "sereno@sync.service.d/50-sereno.conf",
        "sereno-jobs@backend.target.wants/sereno@report.timer",
        "sereno-jobs@backend.target.wants/sereno@sync.timer",
        "sereno-apps.target.wants/sereno-app@backend.target",
    }
    assert scheduler.is_running


def test_starting_twice_changes_nothing_and_asks_for_nothing(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    before = files(units)
    manager.calls.clear()
    scheduler.start()
    worker = another(manager)
    worker.add_interval_job(backend_jobs.report, "report", minutes=5)
    worker.start()
    assert manager.calls == []
    assert files(units) == before


def test_start_removes_what_is_no_longer_registered(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_interval_job(backend_jobs.other, "other", minutes=5)
    scheduler.start()
    later = another(manager)
    later.add_interval_job(backend_jobs.report, "report", minutes=5)
    later.start()
    assert [job["id"] for job in later.get_jobs()] == ["report"]
    assert "sereno@other.timer" not in manager.active
    assert not any("other" in name for name in files(units))


def test_a_backend_in_the_default_application_leaves_the_shipped_jobs_alone(units, manager) -> None:
    installer = another(manager, "sereno")
    register_cache_cleanup_job(installer)
    installer.apply()
    backend = another(manager, "sereno")
    backend.add_interval_job(backend_jobs.report, "report", minutes=5)
    backend.start()
    installer = another(manager, "sereno")
    register_cache_cleanup_job(installer)
    assert installer.apply() == []
    assert [job["id"] for job in backend.get_jobs()] == ["cache_cleanup_hourly", "report"]


def test_after_start_adding_and_removing_take_effect_at_once(scheduler, units, manager) -> None:
    scheduler.start()
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    assert "sereno@report.timer" in manager.active
    assert scheduler.remove_job("report") is True
    assert "sereno@report.timer" not in manager.active
    assert scheduler.get_jobs() == []
    assert scheduler.remove_job("report") is False


def test_a_changed_interval_is_stopped_forgotten_and_started_anew(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    manager.calls.clear()
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=6)
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    assert "OnUnitActiveSec=6min" in (units / "sereno@report.timer").read_text()


def test_a_changed_calendar_skips_what_it_would_have_missed(
    scheduler, units, manager, tmp_path
) -> None:
    scheduler.add_cron_job(backend_jobs.report, "report", cron_expression="0 3 * * *")
    scheduler.start()
    stamp = tmp_path / ".local/share/systemd/timers/stamp-sereno@report.timer"
    assert not stamp.exists()
    manager.calls.clear()
    scheduler.add_cron_job(backend_jobs.report, "report", cron_expression="0 4 * * *")
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    assert stamp.exists()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze")
@pytest.mark.parametrize(("jitter", "is_held_back"), [(600, True), (0, False)])
def test_an_elapse_that_jitter_holds_back_is_made_up_by_a_changed_schedule(
    jitter, is_held_back, scheduler, units, manager, tmp_path, monkeypatch
) -> None:
    """Due a minute after the last one, held back for five more, and the schedule changes in between."""
    scheduler.add_cron_job(
        backend_jobs.report, "report", cron_expression="* * * * *", jitter=jitter
    )
    scheduler.start()
    stamp = tmp_path / ".local/share/systemd/timers/stamp-sereno@report.timer"
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    now_s = time.time()
    had_s, next_at = now_s - 90, datetime.fromtimestamp(now_s + 200, UTC)
    os.utime(stamp, (had_s, had_s))
    monkeypatch.setattr(
        manager, "list_timers", lambda *_: {"sereno@report.timer": Elapse(next_at, None)}
    )
    scheduler.add_cron_job(
        backend_jobs.report, "report", cron_expression="*/2 * * * *", jitter=jitter
    )
    due_s = (had_s // 60 + 1) * 60
    skipped_s = stamp.stat().st_mtime
    assert (had_s < skipped_s < due_s) is is_held_back
    assert skipped_s < time.time()


def test_a_changed_calendar_without_a_stamp_is_forgotten_before_it_starts_anew(
    scheduler, units, manager, tmp_path
) -> None:
    """systemd 252 would count from the last elapse in memory, and run the job at once."""
    for expression in ("0 3 * * *", "0 4 * * *"):
        manager.calls.clear()
        scheduler.add_cron_job(
            backend_jobs.report, "report", cron_expression=expression, persistent=False
        )
        scheduler.start()
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    assert not (tmp_path / ".local/share/systemd/timers/stamp-sereno@report.timer").exists()
    manager.calls.clear()
    scheduler.add_cron_job(backend_jobs.report, "report", cron_expression="0 4 * * *")
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    stamp = tmp_path / ".local/share/systemd/timers/stamp-sereno@report.timer"
    assert stamp.exists()
    manager.calls.clear()
    scheduler.add_cron_job(
        backend_jobs.report, "report", cron_expression="0 4 * * *", persistent=False
    )
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    assert not stamp.exists()


def test_a_job_without_a_stamp_is_forgotten_before_it_is_resumed(scheduler, units, manager) -> None:
    scheduler.add_cron_job(backend_jobs.report, "report", hour=3, persistent=False)
    scheduler.start()
    scheduler.pause_job("report")
    manager.calls.clear()
    scheduler.resume_job("report")
    assert manager.calls == WITH_ANOTHER_SCHEDULE


@pytest.mark.parametrize(("switch", "start"), [("sereno.target", False), ("none", True)])
def test_a_timer_that_runs_never_sees_its_schedule_change_also_where_nothing_may_be_started(
    switch, start, scheduler, units, manager
) -> None:
    """By the daemon-reload alone it would count from its last elapse, and might run the job at once."""
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_interval_job(backend_jobs.other, "stopped", minutes=5)
    scheduler.start()
    manager.stop(["sereno@stopped.timer"])
    manager.active.discard("sereno.target")
    manager.active.add(switch)
    there = set(manager.active)
    later = another(manager)
    for job_id in ("report", "stopped", "new"):
        later.add_interval_job(backend_jobs.report, job_id, minutes=6)
    manager.calls.clear()
    later.apply(start=start)
    assert manager.calls == WITH_ANOTHER_SCHEDULE
    assert manager.active == there


def test_a_changed_limit_does_not_touch_the_running_timer(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    # The timer that goes on names it.
    manager.loaded.add("sereno@report.service")
    manager.calls.clear()
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5, timeout=30)
    assert manager.calls == [("reload",)]
    drop_in = units / "sereno@report.service.d/50-sereno.conf"
    assert "TimeoutStartSec=30s" in drop_in.read_text()


def test_adding_pausing_resuming_and_removing_need_no_reload(scheduler, units, manager) -> None:
    scheduler.start()
    manager.calls.clear()
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.pause_job("report")
    scheduler.resume_job("report")
    scheduler.remove_job("report")
    started, stopped = (("start", "sereno@report.timer"), ("stop", "sereno@report.timer"))
    assert manager.calls == [started, stopped, stopped, started, stopped]


@pytest.mark.parametrize(
    ("stays", "minutes", "asked"),
    [
        ("inactive", 6, ["stop", "reload", "start"]),
        ("activating", 6, ["stop", "reload", "start"]),
        ("failed", 6, ["stop", "reset-failed", "start"]),
        ("failed", 5, ["reload"]),
    ],
)
def test_what_stays_loaded_is_reset_if_it_failed_else_read_anew_by_one_reload(
    scheduler, manager, stays, minutes, asked
) -> None:
    """A service that runs, or that another one names, or one whose run failed."""
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    manager.service_states = {"sereno@report.service": stays}
    manager.calls.clear()
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=minutes, timeout=60)
    assert manager.changes() == asked
    assert "sereno@report.timer" in manager.active


def as_before_0_2(units: Path) -> None:
    """The links where an older sereno had them."""
    for new in units.glob("sereno-jobs@*.wants"):
        new.rename(units / new.name.replace("sereno-jobs@", "sereno-app@"))
    (units / "sereno-apps.target.wants").rename(units / "sereno.target.wants")


@pytest.mark.parametrize("killed", [False, True])
def test_links_of_an_older_sereno_are_moved_for_all_applications_by_anybodys_change_with_one_reload(
    scheduler, units, manager, monkeypatch, killed
) -> None:
    other = another(manager, "other")
    for job_id in ("runs", "paused"):
        other.add_interval_job(backend_jobs.other, job_id, minutes=5)
    other.start()
    other.pause_job("paused")
    before = files(units)
    as_before_0_2(units)
    assert [job["paused"] for job in other.get_jobs()] == [True, False]
    manager.calls.clear()
    if killed:
        with monkeypatch.context() as patch, pytest.raises(SystemdError):
            manager.fail_at = 0
            patch.setattr(manager, "reload", lambda: manager._record("reload"))
            scheduler.start()
        manager.fail_at = None
    scheduler.start()
    assert manager.calls == [("reload",), ("start", "sereno-app@backend.target")]
    assert files(units) == before | {
        name: text for name, text in files(units).items() if "backend" in name
    }
    assert other.is_running


def test_an_application_that_starts_again_also_starts_jobs_that_it_no_longer_registers(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_interval_job(backend_jobs.other, "other", minutes=5)
    scheduler.start()
    scheduler.shutdown()
    later = another(manager)
    later.add_interval_job(backend_jobs.report, "report", minutes=5)
    later.apply(prune=False)
    assert {"sereno@report.timer", "sereno@other.timer"} <= manager.active


def test_a_paused_job_stays_paused_over_start_and_is_resumed_without_a_run(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    scheduler.pause_job("report")
    assert "sereno@report.timer" not in manager.active
    assert scheduler.get_job_status("report")["paused"] is True
    worker = another(manager)
    worker.add_interval_job(backend_jobs.report, "report", minutes=7)
    worker.start()
    assert "sereno@report.timer" not in manager.active
    scheduler.resume_job("report")
    assert "sereno@report.timer" in manager.active
    assert scheduler.get_job_status("report")["paused"] is False
    scheduler.resume_job("report")


def test_run_immediately_runs_once_when_the_timer_is_first_started(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5, run_immediately=True)
    scheduler.start()
    assert manager.calls[-1] == ("start", "sereno@report.service")
    manager.calls.clear()
    scheduler.start()
    assert manager.calls == []


def test_shutdown_stops_this_application_until_its_next_start(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    other = another(manager, "other")
    other.add_interval_job(backend_jobs.other, "other", minutes=5)
    other.start()
    manager.runs = [{"sereno@report.service"}, {"sereno@report.service"}, set()]
    scheduler.shutdown(wait=True)
    assert manager.runs == []
    assert not scheduler.is_running
    assert other.is_running
    assert "sereno-apps.target.wants/sereno-app@backend.target" not in files(units)
    assert "sereno-apps.target.wants/sereno-app@other.target" in files(units)
    scheduler.start()
    assert scheduler.is_running
    assert "sereno@report.timer" in manager.active


def test_shutdown_without_wait_does_not_ask_for_runs(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    manager.runs = [{"sereno@report.service"}]
    scheduler.shutdown(wait=False)
    assert manager.runs == [{"sereno@report.service"}]


def test_the_administrators_switch_is_respected(scheduler, units, manager, caplog) -> None:
    manager.active.remove("sereno.target")
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    assert (units / "sereno@report.timer").exists()
    assert not scheduler.is_running
    assert "start" not in manager.changes()
    assert "sereno.target is stopped" in caplog.text


def test_an_id_of_another_application_is_refused_and_nothing_changes(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    before, calls = files(units), len(manager.calls)
    other = another(manager, "other")
    other.add_interval_job(backend_jobs.other, "fine", minutes=5)
    other.add_interval_job(backend_jobs.other, "report", minutes=5)
    with pytest.raises(Conflict, match="'report' belongs to the application 'backend'"):
        other.start()
    for change in (other.pause_job, other.resume_job, other.run_job):
        with pytest.raises(Conflict, match="belongs to the application 'backend'"):
            change("report")
    with pytest.raises(Conflict):
        another(manager, "other").remove_job("report")
    assert files(units) == before
    assert len(manager.calls) == calls


@pytest.mark.parametrize("name", ["sereno@report.timer", "sereno@report.service.d/50-sereno.conf"])
def test_a_foreign_file_is_refused_by_name_and_left_as_it_is(
    scheduler, units, manager, name
) -> None:
    (units / name).parent.mkdir(parents=True)
    (units / name).write_text("[Timer]\nOnCalendar=daily\n")
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    with pytest.raises(Conflict, match=name):
        scheduler.start()
    assert files(units) == {name: "[Timer]\nOnCalendar=daily\n"}
    assert manager.calls == []


def test_without_sereno_installed_start_says_how_to_install_it(
    scheduler, units, tmp_path, manager
) -> None:
    (tmp_path / ".local/share/systemd/user/sereno@.service").unlink()
    with pytest.raises(NotAvailable, match=r"sereno@\.service") as refusal:
        scheduler.start()
    assert "./install.sh --user" in refusal.value.hint


@pytest.mark.parametrize("fail_at", range(4))
def test_a_start_that_fails_anywhere_is_finished_by_the_next(
    scheduler, units, manager, fail_at
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    changed = another(manager)
    changed.add_interval_job(backend_jobs.report, "report", minutes=6)
    changed.add_cron_job(backend_jobs.sync, "sync", hour=3)
    manager.calls.clear()
    manager.fail_at = fail_at
    try:
        changed.start()
    except SystemdError:
        assert fail_at < 2
    else:
        assert fail_at >= 2
    manager.fail_at = None
    changed.start()
    assert {"sereno@report.timer", "sereno@sync.timer"} <= manager.active
    assert "OnUnitActiveSec=6min" in (units / "sereno@report.timer").read_text()
    assert [job["paused"] for job in changed.get_jobs()] == [False, False]
    assert not [name for name in files(units) if name.startswith(".sereno")]
    manager.calls.clear()
    changed.start()
    assert manager.calls == []


def test_get_jobs_says_id_name_trigger_and_next_run(scheduler, units, manager) -> None:
    scheduler.add_interval_job(
        backend_jobs.report, "report", hours=1, minutes=30, seconds=15, name="The report"
    )
    scheduler.add_cron_job(backend_jobs.sync, "sync", cron_expression="0 3 * * *")
    registered = scheduler.get_jobs()
    assert [job["next_run"] for job in registered] == [None, None]
    scheduler.start()
    report, sync = scheduler.get_jobs()
    assert (report["id"], report["name"], report["trigger"]) == (
        "report",
        "The report",
        "interval[1:30:15]",
    )
    assert sync["trigger"] == "cron[0 3 * * *]"
    assert report["next_run"] == NEXT
    assert report["next_run"].tzinfo is not None


def test_get_job_status_has_the_latest_run_or_is_none(scheduler, units, manager) -> None:
    assert scheduler.get_job_status("report") is None
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    assert scheduler.get_job_status("report")["last_run"] is None
    scheduler.start()
    manager.service_states = {"sereno@report.service": "failed"}
    manager.shown = {
        "ActiveState": "failed",
        "Result": "exit-code",
        "ExecMainStartTimestamp": "@1700000000",
        "ExecMainExitTimestamp": "@1700000002",
        "ExecMainStatus": "1",
        "InvocationID": "abc",
    }
    status = scheduler.get_job_status("report")
    assert status["last_result"] == "exit-code"
    assert status["last_exit_status"] == 1
    assert status["last_duration_s"] == 2.0
    assert status["last_run"].tzinfo is UTC
    assert status["running"] is False


def test_an_unknown_job_is_named(scheduler, units) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    for call in (scheduler.pause_job, scheduler.resume_job, scheduler.run_job):
        with pytest.raises(NoSuchJob, match="'nobody'"):
            call("nobody")
        with pytest.raises(NoSuchJob) as refusal:
            call("report")
        assert "start()" in refusal.value.hint


def test_an_id_that_is_registered_is_replaced_unless_told_otherwise(scheduler) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=6)
    assert scheduler.get_jobs()[0]["trigger"] == "interval[0:06:00]"
    with pytest.raises(Conflict, match="'report' is registered already"):
        scheduler.add_interval_job(backend_jobs.report, "report", minutes=7, replace_existing=False)
    assert scheduler.get_jobs()[0]["trigger"] == "interval[0:06:00]"


def test_one_id_for_two_functions_is_warned_of(scheduler, caplog) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=6)
    assert caplog.text == ""
    scheduler.add_interval_job(backend_jobs.other, "report", minutes=5)
    said = "job id: 'report' was registered for backend_jobs:report and is backend_jobs:other's from now on"
    assert said in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file that is another user's")
@pytest.mark.parametrize(
    ("mode", "owner", "gid", "listed", "is_closed"),
    [
        (0o700, 0, 0, False, True),
        (0o711, 0, 0, False, True),
        (0o755, 0, 0, False, False),
        (0o500, nobody.ID, 0, False, False),
        (0o750, 0, 4321, False, False),
        # An access list of its own (acl(5)) lets in whom the mode does not.
        (0o750, 0, 0, True, False),
    ],
)
def test_code_that_the_jobs_user_may_not_look_into_is_warned_of(
    mode: int, owner: int, gid: int, listed: bool, is_closed: bool
) -> None:
    # Not below pytest's own directory, which is closed to everybody else.
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        place = Path(made, "code")
        place.mkdir()
        place.chmod(mode)
        os.chown(place, owner, gid)
        if listed:
            rights = ((1, 7, -1), (2, 5, nobody.ID), (4, 5, -1), (16, 5, -1), (32, 0, -1))
            entries = b"".join(pack("<HHi", *right) for right in rights)
            os.setxattr(place, "system.posix_acl_access", pack("<I", 2) + entries)
        jobs = [
            Job(
                name,
                "m:f",
                IntervalTrigger(hours=1),
                user=user,
                group="4321",
                interpreter="/usr/bin/python3",
                import_paths=(str(place),),
            )
            for name, user in (("one", "nobody"), ("two", "nobody"), ("roots", "root"))
        ]
        said = list(cautions.out_of_reach(jobs))
    assert [f"nobody may not look into {place};" in sentence for sentence in said] == [
        True
    ] * is_closed


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file that is another user's")
@pytest.mark.parametrize("closed", ["shop", "shop/jobs", "behind"])
def test_a_closed_package_and_what_a_link_leads_through_are_warned_of(closed: str) -> None:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        code, link = Path(made, "behind/code"), Path(made, "link")
        (code / "shop/jobs").mkdir(parents=True)
        link.symlink_to(code)
        (Path(made, closed) if closed == "behind" else code / closed).chmod(0o700)
        paths = (made, str(link))
        job = Job(
            "one", "shop.jobs.daily:f", IntervalTrigger(hours=1), user="nobody",
            interpreter="/usr/bin/python3", import_paths=paths,
        )  # fmt: skip
        (said,) = cautions.out_of_reach([job])
    assert f"will not find shop.jobs.daily in {link}: nobody may not look into {made}/" in said
    assert said.partition(";")[0].endswith(closed)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file that is another user's")
@pytest.mark.parametrize(("mode", "count"), [(0o644, 0), (0o640, 1)])
def test_an_archive_of_modules_need_only_be_readable(mode: int, count: int) -> None:
    with tempfile.NamedTemporaryFile() as archive:
        os.chmod(archive.name, mode)
        job = Job(
            "one", "shop.jobs:f", IntervalTrigger(hours=1), user="nobody",
            interpreter="/usr/bin/python3", import_paths=(archive.name,),
        )  # fmt: skip
        assert len(list(cautions.out_of_reach([job]))) == count


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_instances": 2}, "max_instances: 2"),
        ({"timeout": -1}, "timeout: -1"),
        ({"user": "web"}, "user: 'web'"),
        ({"group": "web"}, "group: 'web'"),
        ({"umask": 0o027}, "umask: 23 is not a mask of file modes"),
        ({"umask": "27"}, "umask: '27'"),
        ({"umask": "0888"}, "umask: '0888'"),
        ({"working_directory": "out"}, "working_directory: 'out' is not the path"),
        ({"working_directory": "/srv/a\nExecStart=/bin/sh"}, "working_directory: .* is not the"),
        ({"working_directory": 3}, "working_directory: 3"),
        ({"network": "no"}, "network: 'no'"),
        ({"home": "ro"}, "home: 'ro' is neither"),
        ({"write_paths": "out"}, "write_paths: 'out' is not the path"),
        ({"write_paths": ["/srv/a", "/srv/../b"]}, "write_paths: '/srv/../b' is not the path"),
        ({"write_paths": ["/srv/a\nExecStart=/bin/sh"]}, "write_paths: .* is not the path"),
        ({"write_paths": "/"}, "write_paths: '/' would leave nothing"),
        ({"write_paths": 3}, "write_paths: 3 is not a path, nor a list"),
        ({"write_paths": "/home/ada/out"}, "write_paths: '/home/ada/out' is in a home"),
        ({"timeout": 1e-7}, "timeout: 1e-07"),
        ({"jitter": 300}, "jitter: 300 s is not less than the interval"),
        ({"persistent": False}, "persistent: an interval"),
        ({"accuracy": True}, "accuracy: True"),
        ({"misfire_grace": 0}, "misfire_grace: 0 s is not in the range above 0"),
        ({"misfire_grace": "60"}, "misfire_grace: '60' is not a time span"),
        ({"timeout": "5 parsecs"}, "timeout: '5 parsecs' is not a time span"),
        ({"retries": 3, "timeout": "1min"}, "retries: the delays of 3 retries take 70 s"),
        ({"retry_delay": None}, "retry_delay: None is not a number of seconds"),
        ({"memory_max": "512"}, "memory_max: '512' is not a size"),
        ({"cpu_quota": 50}, "cpu_quota: 50 is not a percentage"),
        ({"nice": -1}, "nice: -1 is below 0, which only root may give"),
        ({"io_class": "realtime"}, "io_class: 'realtime' is a class that only root may give"),
        ({"environment": {"SERENO_APP": "x"}}, "environment: 'SERENO_APP'"),
        ({"environment": {"PYTHONPATH": "/x"}}, "environment: 'PYTHONPATH' is how the run finds"),
        ({"credentials": {"token": "s3cr3t"}}, "credentials: token="),
        (
            {"kwargs": {"rows": 1}},
            "kwargs: backend_jobs.report .* unexpected keyword argument 'rows'",
        ),
        ({"kwargs": [1]}, "kwargs: .* is not a mapping"),
        ({"after": "report"}, "after: .* names the job itself"),
        ({"after": 3}, "after: 3 is neither the id of a job nor a list of ids"),
        ({"only_if_success": True}, "only_if_success: True without after="),
    ],
)
def test_an_option_that_cannot_be_right_is_refused_when_the_job_is_added(
    scheduler, options, says
) -> None:
    with pytest.raises(InvalidJob, match=f"^job report: {says}"):
        scheduler.add_interval_job(backend_jobs.report, "report", minutes=5, **options)
    assert scheduler.get_jobs() == []


def test_a_schedule_that_is_refused_names_its_job_and_an_id_that_is_refused_itself(
    scheduler,
) -> None:
    with pytest.raises(InvalidTrigger, match=r"^job report: hour: '26' is out of range"):
        scheduler.add_cron_job(backend_jobs.report, "report", hour="26")
    with pytest.raises(InvalidTrigger, match=r"^job report: minutes: -1 is negative"):
        scheduler.add_interval_job(backend_jobs.report, "report", minutes=-1)
    with pytest.raises(InvalidJob, match=r"^id: "):
        scheduler.add_cron_job(backend_jobs.report, "not an id", hour=3)


def test_spans_and_sizes_may_be_given_as_text(scheduler) -> None:
    scheduler.add_cron_job(
        backend_jobs.report, "report", hour=3,
        timeout="5min", jitter="1m", accuracy="10s", misfire_grace="1h30m",
        retries=2, retry_delay="30s", memory_max="512M",
    )  # fmt: skip
    unit = "".join(scheduler.render().values())
    for line in (
        "TimeoutStartSec=300s", "RandomizedDelaySec=60s", "AccuracySec=10s", "MemoryMax=536870912",
        "Environment=SERENO_MISFIRE_GRACE_S=5400", "Environment=SERENO_RETRY_DELAY_S=30",
    ):  # fmt: skip
        assert f"\n{line}\n" in unit


def test_a_job_comes_after_jobs_that_are_registered_or_installed(scheduler, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "last", minutes=5, after=["first", "other"])
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=5)
    with pytest.raises(InvalidJob, match="'last' comes after 'other', and no job of that id"):
        scheduler.start()
    assert manager.calls == []
    elsewhere = another(manager, "elsewhere")
    elsewhere.add_interval_job(backend_jobs.report, "other", minutes=5)
    elsewhere.start()
    scheduler.start()
    assert scheduler.get_job_status("last")["after"] == ["first", "other"]
    # Another application leads back to it; what is installed counts as what is registered does.
    with pytest.raises(InvalidJob, match="'other' after 'last' after 'other' is a circle"):
        elsewhere.add_interval_job(backend_jobs.report, "other", minutes=5, after="last")


def test_a_job_cannot_be_left_out_of_a_start_while_another_comes_after_it(
    scheduler, manager
) -> None:
    for job_id, after in (("first", ()), ("last", ("first",))):
        scheduler.add_interval_job(backend_jobs.report, job_id, minutes=5, after=after)
    scheduler.start()
    later = another(manager)
    later.add_interval_job(backend_jobs.report, "last", minutes=5, after="first")
    with pytest.raises(InvalidJob, match="'last' comes after 'first', and no job of that id"):
        later.start()


def test_a_job_is_not_removed_while_another_comes_after_it(scheduler, units, manager) -> None:
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=5)
    scheduler.start()
    elsewhere = another(manager, "elsewhere")
    elsewhere.add_interval_job(backend_jobs.report, "last", minutes=5, after="first")
    elsewhere.start()
    before = files(units)
    manager.calls.clear()
    with pytest.raises(InvalidJob, match="'first' cannot be removed: 'last' comes after it") as no:
        scheduler.remove_job("first")
    assert no.value.hint is not None
    assert "remove 'last' first" in no.value.hint
    assert (files(units), manager.calls) == (before, [])
    assert elsewhere.remove_job("last")
    assert scheduler.remove_job("first")


@pytest.mark.parametrize("first_app", ["a", "z"])
def test_all_jobs_are_removed_whatever_their_order(first_app, units, manager) -> None:
    first = another(manager, first_app)
    first.add_interval_job(backend_jobs.report, "first", minutes=5)
    first.start()
    last = another(manager, "m")
    last.add_interval_job(backend_jobs.report, "last", minutes=5, after="first")
    last.start()
    first.installation.remove_all()
    assert files(units) == {}


def test_an_application_drops_a_job_that_anothers_comes_after_and_says_so(
    scheduler, manager, caplog
) -> None:
    """No application keeps another from starting."""
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=5)
    scheduler.start()
    elsewhere = another(manager, "elsewhere")
    elsewhere.add_interval_job(backend_jobs.report, "last", minutes=5, after="first")
    elsewhere.start()
    later = another(manager)
    for dry_run in (True, False):
        caplog.clear()
        assert later.apply(shipped=False, dry_run=dry_run) == ["remove sereno@first.timer"]
        assert "'last' comes after 'first', which is removed" in caplog.text


def test_nothing_is_said_of_a_job_that_comes_after_a_dropped_one_no_longer(
    scheduler, manager, caplog
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=5)
    scheduler.add_interval_job(backend_jobs.report, "last", minutes=5, after="first")
    scheduler.start()
    later = another(manager)
    later.add_interval_job(backend_jobs.report, "last", minutes=5)
    later.start()
    assert caplog.text == ""


def test_the_arguments_of_a_job_are_shown_with_it(scheduler) -> None:
    kwargs = {"limit": 3, "text": "50% \\"}
    scheduler.add_interval_job(backend_jobs.trim, "trim", minutes=5, kwargs=kwargs)
    assert scheduler.get_job_status("trim")["kwargs"] == kwargs
    scheduler.start()
    assert scheduler.get_job_status("trim")["kwargs"] == kwargs


@pytest.mark.parametrize(
    ("result", "status", "shown"),
    [
        ("success", "0", "success"),
        ("success", "77", "skipped"),
        ("success", "143", "interrupted"),
        ("success", "15", "interrupted"),
        ("success", "3", "lost"),
        ("timeout", "143", "timeout"),
        ("exit-code", "77", "exit-code"),
    ],
)
def test_a_run_that_was_left_out_or_stopped_is_not_shown_as_a_success(
    scheduler, manager, result, status, shown
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    manager.service_states = {"sereno@report.service": "inactive"}
    manager.shown = {
        "ActiveState": "inactive", "Result": result, "ExecMainStatus": status, "InvocationID": "",
        "ExecMainStartTimestamp": "@1764000000", "ExecMainExitTimestamp": "@1764000001",
    }  # fmt: skip
    # A result without an invocation is what every unit begins with.
    assert scheduler.get_job_status("report")["last_result"] is None
    manager.shown["InvocationID"] = "abc"
    assert scheduler.get_job_status("report")["last_result"] == shown


def test_both_forms_of_a_cron_job_at_once_are_refused(scheduler) -> None:
    with pytest.raises(InvalidTrigger, match="cron_expression: given together with hour"):
        scheduler.add_cron_job(backend_jobs.report, "report", hour=3, cron_expression="0 3 * * *")


def test_a_change_that_was_killed_is_finished_by_its_own_application_after_anothers(
    units, manager, monkeypatch
) -> None:
    first = another(manager, "first")
    for number in range(3):
        first.add_interval_job(backend_jobs.report, f"first-{number}", minutes=5)

    class Killed(BaseException):
        pass

    def kill(*_arguments):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(first.installation.units.timers, "forget_elapses", kill)
        first.start()
    second = another(manager, "second")
    second.add_interval_job(backend_jobs.other, "second", minutes=5)
    second.start()
    manager.calls.clear()
    second.start()
    assert manager.calls == []
    again = another(manager, "first")
    for number in range(3):
        again.add_interval_job(backend_jobs.report, f"first-{number}", minutes=5)
    again.start()
    assert [job["paused"] for job in again.get_jobs()] == [False] * 3
    assert {f"sereno@first-{number}.timer" for number in range(3)} <= manager.active
    assert not [name for name in files(units) if name.startswith(".sereno")]


@pytest.mark.parametrize("kind", ["dangling link", "directory", "bad number"])
def test_something_odd_under_a_timers_name_is_only_in_the_way_of_that_job(
    scheduler, units, manager, kind
) -> None:
    odd = units / "sereno@odd.timer"
    units.mkdir(parents=True)
    if kind == "dangling link":
        odd.symlink_to("/nonexistent")
    elif kind == "directory":
        odd.mkdir()
    else:
        odd.write_text("[X-Sereno]\nApp=backend\nIntervalSec=abc\n")
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    assert [job["id"] for job in scheduler.get_jobs()] == ["report"]
    with pytest.raises(Conflict, match=r"sereno@odd\.timer exists and is not sereno's"):
        scheduler.add_interval_job(backend_jobs.report, "odd", minutes=5)


def test_a_removal_that_is_refused_leaves_the_registration(scheduler, units, manager) -> None:
    other = another(manager, "other")
    other.add_interval_job(backend_jobs.other, "taken", minutes=5)
    other.start()
    scheduler.add_interval_job(backend_jobs.report, "taken", minutes=5)
    with pytest.raises(Conflict):
        scheduler.remove_job("taken")
    with pytest.raises(Conflict):
        scheduler.start()


def test_a_job_that_was_removed_since_it_was_looked_up_is_neither_paused_nor_resumed(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.start()
    scheduler.pause_job("report")
    job = scheduler.installation.job("report")
    another(manager).remove_job("report")
    for change in (scheduler.installation.resume, scheduler.installation.pause):
        with pytest.raises(NoSuchJob):
            change(job)
    assert not [name for name in files(units) if "report" in name]


def test_a_staged_system_can_be_shut_down(tmp_path, units) -> None:
    staged = Scheduler("backend", root=tmp_path / "image")
    template = tmp_path / "image/etc/systemd/system/sereno@.service"
    template.parent.mkdir(parents=True)
    template.touch()
    staged.add_interval_job(backend_jobs.report, "report", minutes=5)
    staged.start()
    link = template.parent / "sereno-apps.target.wants/sereno-app@backend.target"
    assert link.is_symlink()
    staged.shutdown(wait=True)
    assert not link.is_symlink()


def test_the_last_process_that_started_them_stops_the_timers(scheduler, units, manager) -> None:
    def worker() -> Scheduler:
        made = another(manager)
        made.add_interval_job(backend_jobs.report, "report", minutes=5)
        made.start()
        return made

    first, second = worker(), worker()
    first.shutdown()
    first.shutdown()
    assert second.is_running
    third = worker()
    second.shutdown()
    assert third.is_running
    third.shutdown()
    assert not third.is_running
    # Who lives no more, by whatever end, keeps no timers.
    gone = worker()
    del gone
    scheduler.shutdown()
    assert not scheduler.is_running


def test_a_schedule_that_is_probably_a_mistake_is_warned_of_once(
    scheduler, units, manager, caplog
) -> None:
    scheduler.add_cron_job(backend_jobs.sync, "often", cron_expression="*/90 * * * *")
    scheduler.add_cron_job(backend_jobs.sync, "either", cron_expression="0 3 13 * fri")
    scheduler.add_cron_job(backend_jobs.sync, "nightly", cron_expression="0 3 * * *")
    scheduler.start()
    assert "job often: minute: */90 is its first value alone" in caplog.text
    assert "job either: day and weekday are both restricted" in caplog.text
    assert "nightly" not in caplog.text
    caplog.clear()
    scheduler.start()
    assert caplog.text == ""


def test_a_job_after_one_whose_jitter_may_make_it_later_is_warned_of(
    scheduler, units, manager, caplog
) -> None:
    scheduler.add_cron_job(backend_jobs.report, "spread_out", hour=3, jitter=600, timezone="UTC")
    for job_id, minute in (("too_soon", 5), ("late_enough", 15)):
        scheduler.add_cron_job(
            backend_jobs.sync, job_id, hour=3, minute=minute, after="spread_out", timezone="UTC"
        )
    scheduler.start()
    assert "'too_soon' comes after 'spread_out', whose jitter" in caplog.text
    assert "late_enough" not in caplog.text


def test_an_active_timer_without_a_next_elapse_is_shown_as_not_active_and_is_healed_by_start(
    scheduler, units, manager
) -> None:
    scheduler.add_interval_job(backend_jobs.report, "report", minutes=5)
    scheduler.add_cron_job(backend_jobs.sync, "warm_up", cron_expression="@reboot")
    scheduler.start()
    manager.service_states = dict.fromkeys(
        ("sereno@report.timer", "sereno@warm_up.timer"), "elapsed"
    )
    assert {job["id"]: job["active"] for job in scheduler.get_jobs()} == {
        "report": False,
        "warm_up": True,
    }
    assert not scheduler.is_running
    manager.calls.clear()
    another(manager).installation.install("backend", scheduler._jobs.values(), enable_app=True)
    assert [call for call in manager.calls if "sereno@warm_up.timer" in call] == []
    assert manager.calls[0] == ("stop", "sereno@report.timer")


def test_timers_of_jobs_that_come_after_a_changed_interval_stop_meanwhile_and_go_on(
    scheduler, units, manager, tmp_path
) -> None:
    """Their services, as long as they are loaded, keep its last activation in the manager's memory."""
    other = another(manager, "other")
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=5)
    scheduler.add_cron_job(backend_jobs.sync, "calendar", hour=3)
    scheduler.start()
    other.add_interval_job(backend_jobs.other, "follower", hours=10 * 365 * 24, after="first")
    other.add_cron_job(backend_jobs.sync, "follows_that", hour=3, after="follower")
    other.start()
    manager.calls.clear()
    scheduler.add_interval_job(backend_jobs.report, "first", minutes=6)
    held = ("sereno@follower.timer", "sereno@follows_that.timer")
    assert manager.calls[0] == ("stop", "sereno@first.timer", *held)
    assert manager.calls[-1] == ("start", "sereno@first.timer", *held)
    assert all(job.enabled for job in other.installation.jobs().values())
    seed = tmp_path / "run/systemd/user/sereno@follower.timer.d/50-sereno-seed.conf"
    assert f"OnCalendar={NEXT:%Y-%m-%d %H:%M:%S}" in seed.read_text()
    assert not [name for name in files(units) if name.startswith(".sereno")]
