"""`sereno report`: from unit files, manager, journal and schedules to a file."""

import os
import re
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import backend_jobs
import pytest
from fake_systemd import FakeManager

from sereno import cli, scheduler
from sereno.errors import NoAnswer
from sereno.manager import systemctl
from sereno.manager.systemctl import Elapse
from sereno.observe import runs_of_many
from sereno.observe.report import gather, schedules
from sereno.records import messages
from sereno.records.run_record import Run
from sereno.records.verdict import CUT_OFF
from sereno.units import installation

pytestmark = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze (package systemd)"
)
HOUR_S = 3_600
TEXT = "Caché al 95.0% de capacidad (1900/2000). Considere aumentar max_size o reducir TTL."


class FakeRuns:
    """The journal as a value."""

    past: ClassVar[list[Run]] = []
    records: ClassVar[list[dict[str, object]]] = []
    begins: ClassVar[float | None] = 0.0

    def __init__(self, *, user: bool) -> None:
        self.user = user

    def __enter__(self) -> "FakeRuns":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def histories(self, job_ids, *, since_s: float, with_stats) -> dict[str, list[Run]]:
        """As the journal has them: of a run that has not ended, its beginning alone."""
        return {
            job_id: [run for run in own if (run.end_s or run.start_s or 0) >= since_s]
            for job_id, own in self.latest(job_ids, 0).items()
        }

    def latest(self, job_ids, count: int) -> dict[str, list[Run]]:
        return {each: [run for run in self.past if run.job_id == each][-count:] for each in job_ids}

    def begins_s(self) -> float | None:
        return self.begins

    def notices(self, job_ids, *kinds: str, since_s: float) -> list[dict[str, object]]:
        return [record for record in self.records if record["MESSAGE_ID"] in kinds]


@pytest.fixture(autouse=True)
def shop(units: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> scheduler.Scheduler:
    """A backend with a job of each ten minutes and one of each hour from its run, and an empty journal."""
    monkeypatch.setattr(installation, "Systemctl", lambda user: manager)
    for module in (gather, runs_of_many):
        monkeypatch.setattr(module, "RunsOfMany", FakeRuns)
    for name, value in (("past", []), ("records", []), ("begins", 0.0)):
        monkeypatch.setattr(FakeRuns, name, value)
    shop = scheduler.Scheduler("shop", scope="user", manager=manager)
    shop.add_cron_job(backend_jobs.other, "ten", cron_expression="*/10 * * * *")
    shop.add_interval_job(backend_jobs.report, "hourly", hours=1)
    shop.start()
    written(units, 30 * 24)
    return shop


def written(units: Path, hours: float, *names: str) -> None:
    """Make the timers, and the links that switch them on, as old as that."""
    for path in (*units.glob("*.timer"), *units.glob("*.wants/*")):
        if not names or path.name in names:
            os.utime(path, (time.time() - hours * HOUR_S,) * 2, follow_symlinks=False)


def a_run(job_id: str, hours: float, status: str = "success") -> Run:
    begin_s = time.time() - hours * HOUR_S
    end_s = None if status in ("running", "lost") else begin_s + 1
    return Run(job_id, "ab" * 16, status, begin_s, end_s, end_s and 1000.0, None, "", "no db")


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.main(["report", "--user", "--utc", *words, "-o", "-"]) == 0
    return capsys.readouterr().out


def counts(text: str, job_id: str) -> dict[str, int]:
    """What the picture of a job's runs says in words."""
    found = re.search(rf"Runs of {job_id} over time</title>\s*<desc[^>]*>(.*?), from ", text)
    words = found[1].split(", ") if found else []
    return {status: int(count) for count, status in (word.split() for word in words)}


def test_the_report_is_written_where_it_was_told_to(tmp_path: Path, capsys) -> None:
    target = tmp_path / "jobs.html"
    assert cli.main(["report", "--user", "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert target.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_each_jobs_runs_are_counted_by_what_they_came_to(capsys) -> None:
    FakeRuns.past = [
        a_run("hourly", 9),
        a_run("hourly", 5, "failed"),
        a_run("hourly", 3, "skipped"),
    ]
    text = page(capsys)
    assert counts(text, "hourly") == {"success": 1, "failed": 1, "skipped": 1}
    assert "no db" in text


def test_a_run_without_an_end_runs_if_the_manager_says_so_and_is_lost_if_not(
    manager, capsys
) -> None:
    FakeRuns.past = [a_run("hourly", 2, "lost")._replace(error=CUT_OFF, message=CUT_OFF)]
    assert counts(page(capsys), "hourly") == {"lost": 1}
    manager.service_states = {"sereno@hourly.service": "activating"}
    assert counts(page(capsys), "hourly") == {"running": 1}


def test_where_the_manager_gives_no_answer_the_page_says_so_and_calls_no_run_lost(
    manager, monkeypatch, capsys
) -> None:
    def no_answer(*_: str) -> dict[str, object]:
        raise NoAnswer("systemctl list-timers: no answer within 120 s")

    monkeypatch.setattr(manager, "list_timers", no_answer)
    FakeRuns.past = [a_run("hourly", 2, "lost")._replace(error=CUT_OFF, message=CUT_OFF)]
    text = page(capsys)
    assert counts(text, "hourly") == {"unknown": 1}
    assert "states and next elapses: systemctl list-timers: no answer within 120 s" in text
    assert CUT_OFF not in text


def test_a_run_that_began_before_the_days_that_are_shown_still_runs_and_nothing_is_missed(
    manager, capsys
) -> None:
    FakeRuns.past = [a_run("ten", 60, "lost")]
    manager.service_states = {"sereno@ten.service": "activating"}
    assert counts(page(capsys, "--days", "1"), "ten") == {"running": 1}


def test_elapses_without_a_run_are_missed_since_the_timer_was_written(units, capsys) -> None:
    assert counts(page(capsys, "--days", "1"), "ten")["missed"] in (143, 144)
    written(units, 2, "sereno@ten.timer")
    found = page(capsys, "--days", "1")
    assert counts(found, "ten")["missed"] in (11, 12)
    assert "Missed elapses were looked for since" in found
    assert counts(found, "hourly") == {}


def test_no_elapse_is_missed_before_the_journal_begins_or_in_a_job_that_is_paused(
    shop, units, capsys
) -> None:
    FakeRuns.begins = time.time() - HOUR_S
    assert counts(page(capsys), "ten")["missed"] in (5, 6)
    FakeRuns.begins = None
    assert counts(page(capsys), "ten") == {}
    FakeRuns.begins = 0.0
    shop.pause_job("ten")
    written(units, 24)
    assert counts(page(capsys), "ten") == {}


def test_no_elapse_is_missed_of_the_time_in_which_a_job_or_its_application_paused(
    shop, units, capsys
) -> None:
    shop.pause_job("ten")
    shop.resume_job("ten")
    assert counts(page(capsys), "ten") == {}
    written(units, 2)
    shop.shutdown()
    shop.start()
    assert counts(page(capsys), "ten") == {}


def test_a_run_of_each_elapse_leaves_none_missed(capsys) -> None:
    ten_s = 600
    last_s = time.time() // ten_s * ten_s
    FakeRuns.past = [
        a_run("ten", 0)._replace(start_s=last_s - each * ten_s + 3, end_s=last_s - each * ten_s + 4)
        for each in range(200, -1, -1)
        if each != 7
    ]
    assert counts(page(capsys, "--days", "1"), "ten")["missed"] == 1


def test_where_an_administrator_changed_the_timer_the_manager_alone_knows_what_holds(
    units, manager, monkeypatch, capsys
) -> None:
    (units / "sereno@ten.timer.d").mkdir()
    (units / "sereno@ten.timer.d/own.conf").write_text("[Timer]\nOnCalendar=\nOnCalendar=*:00\n")
    shown = {"TimersCalendar": "{ OnCalendar=*-*-* *:00:00 ; next_elapse=n/a }"}
    asked: list[str] = []
    monkeypatch.setattr(
        manager, "show_all", lambda units, *_: asked.extend(units) or dict.fromkeys(units, shown)
    )
    next_at = datetime.fromtimestamp(time.time() // HOUR_S * HOUR_S + HOUR_S, UTC)
    monkeypatch.setattr(
        manager, "list_timers", lambda pattern: {"sereno@ten.timer": Elapse(next_at, None)}
    )
    text = page(capsys)
    assert asked == ["sereno@ten.timer"]
    assert counts(text, "ten") == {}
    assert "24 elapses, at most 1 in a quarter of an hour" in text


def test_who_may_not_read_the_systems_journal_is_told_so_and_nothing_is_called_missed(
    monkeypatch,
) -> None:
    monkeypatch.setattr(gather, "may_read_journal", lambda: False)
    found = installation.Installation("user")
    found.scope = replace(found.scope, name="system")
    report = gather.gather(found, days=1, now_s=time.time())
    assert report.count("missed") == 0
    assert report.remarks == (
        "runs: only members of the group systemd-journal may read the system's journal",
    )


def test_an_alert_is_shown_with_its_text(capsys) -> None:
    FakeRuns.records = [
        {
            "MESSAGE_ID": messages.ALERT_CAPACITY.kind,
            "MESSAGE": TEXT,
            "SERENO_JOB": "hourly",
            "__REALTIME_TIMESTAMP": int(time.time() * 1e6),
        }
    ]
    text = page(capsys)
    assert TEXT in text
    assert "cache nearly full" in text


def test_what_elapses_too_often_is_said_to_be_incomplete_and_not_guessed(
    manager, monkeypatch, capsys
) -> None:
    soon = datetime.fromtimestamp(time.time() + 60, UTC)
    timers = {f"sereno@{job_id}.timer": Elapse(soon, None) for job_id in ("ten", "hourly")}
    monkeypatch.setattr(manager, "list_timers", lambda pattern: timers)
    monkeypatch.setattr(schedules, "_MOST", 20)
    text = page(capsys)
    assert "Of 1 jobs that elapse very often, only the first elapses are counted: ten." in text
    assert "25 elapses" in text
    assert counts(text, "ten") == {}


def test_a_machine_without_systemd_analyze_still_has_a_report(monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    text = page(capsys)
    assert "<strong>Not known:</strong> elapses: systemd: there is no systemd-analyze here" in text
    assert counts(text, "ten") == {}


@pytest.mark.parametrize("days", ["0", "-1", "nan", "1000"])
def test_days_that_cannot_be_are_refused(days: str, tmp_path: Path, capsys) -> None:
    target = tmp_path / "jobs.html"
    assert cli.main(["report", "--user", "--days", days, "-o", str(target)]) == 2
    assert f"--days: {float(days):g} is not in the range" in capsys.readouterr().err
    assert not target.exists()


def test_the_elapses_of_an_interval_are_counted_from_the_run_that_is_under_way() -> None:
    now_s = time.time()
    known = schedules.Schedules({}, {}, {}, now_s, ())
    job = installation.Installation("user").job("hourly")
    running = Elapse(None, datetime.fromtimestamp(now_s - 60, UTC))
    moments, is_all = known.ahead(job, running, now_s)
    assert is_all
    assert len(moments) == 24
    assert moments[0] == pytest.approx(now_s - 60 + HOUR_S)
    assert known.ahead(job, None, now_s) == ([], True)


def test_a_timer_that_does_not_run_is_shown_with_what_keeps_it_and_the_way_out(
    manager, capsys
) -> None:
    assert "no next elapse" not in page(capsys)
    manager.service_states = {"sereno@hourly.timer": systemctl.ELAPSED}
    text = page(capsys)
    assert "1 no next elapse" in text
    assert (
        "<p>no next elapse: its first elapse is missing: systemctl --user start sereno-seed.service"
        in text
    )
    manager.service_states = {}
    manager.active.discard("sereno@ten.timer")
    assert "<p>stopped: it was stopped: systemctl --user start sereno@ten.timer" in page(capsys)
