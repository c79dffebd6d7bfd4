"""`list`, `status`, `history`, `logs`, `run`, `pause`, `resume` and `apply`: what they print, and their JSON's keys."""

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import backend_jobs
import pytest
from fake_systemd import NEXT, FakeManager

from sereno import cli, scheduler
from sereno.cache import MetadataCache
from sereno.cli import history_and_logs
from sereno.errors import JobFailed, NoAnswer, NotAvailable, SystemdError
from sereno.manager import systemctl
from sereno.manager.systemctl import Elapse
from sereno.observe import kept_runs, run_and_wait, runs, runs_of_many
from sereno.observe.cache_now import cache_now
from sereno.records.account import run_of
from sereno.records.run_record import Run
from sereno.records.verdict import CUT_OFF
from sereno.units import installation

ASKED = ("sereno@*.timer", "sereno@*.service", "sereno-app@*", "sereno.target")
RUN = "0123456789abcdef0123456789abcdef"
STATS = {"rows": 3, "hit_rate": 78.5, "note": "\x1b[31mx"}
START_S = 1_762_351_200.0  # 2025-11-05 14:00:00 UTC
RUN_KEYS = {"run", "status", "start", "end", "duration_ms", "error", "hint", "result", "stats"}
JOB_KEYS = {
    *("id", "app", "name", "function", "kwargs", "after", "trigger", "schedule", "state"),
    *("installed", "paused", "active", "running", "failing", "why_stopped", "drop_ins"),
    *("next_run", "last_run", "last_run_id", "last_status", "last_error", "last_hint"),
    *("last_result", "last_exit_status", "last_duration_s", "last_stats"),
}


def a_run(status: str = "success", job_id: str = "report", **fields: object) -> Run:
    values: dict[str, object] = {
        "run_id": RUN, "status": status,
        "start_s": START_S, "end_s": START_S + 2, "duration_ms": 2000.0, "stats": STATS, "message": "terminada"
    }  # fmt: skip
    return Run(job_id, **{**values, **fields})


class FakeRuns:
    """The journal as a value: the runs of all jobs, oldest first."""

    past: ClassVar[list[Run]] = []
    log: ClassVar[list[dict[str, object]]] = []
    bare: ClassVar[list[dict[str, str]]] = []

    def __init__(self, *, user: bool) -> None:
        assert user

    def __enter__(self) -> "FakeRuns":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def latest(self, job_ids, count: int = 1) -> dict[str, list[Run]]:
        return {job_id: self.newest(job_id, count) for job_id in job_ids}

    def newest(self, job_id: str, count: int) -> list[Run]:
        return [run for run in self.past if run.job_id == job_id][-count:]

    def begins_s(self) -> float | None:
        return 0.0

    def history(self, job_id: str, *, since_s: float, running_id: str | None) -> list[Run]:
        return [run for run in self.past if run.job_id == job_id]

    def tail(self, job_id: str, count: int) -> list[dict[str, object]]:
        return self.log[-count:]

    def follow(self, job_id: str, has_ended) -> Iterator[dict[str, object]]:
        yield {}
        while not has_ended():
            pass
        yield from self.log

    def records(self, job_id: str) -> list[dict[str, str]]:
        return [
            {"SERENO_RUN": run.run_id, "_SYSTEMD_USER_UNIT": "x"} for run in self.past
        ] + self.bare

    def await_run(self, job_id: str, is_meant, is_done, **_: object) -> Run | None:
        own = (run for run in self.past if run.job_id == job_id)
        return next((run for run in own if is_meant(run._replace(end_s=None))), None)


@pytest.fixture(autouse=True)
def shop(units: Path, manager: FakeManager, monkeypatch: pytest.MonkeyPatch) -> scheduler.Scheduler:
    """A backend with two installed jobs, and a journal without runs."""
    for module in (installation, systemctl):
        monkeypatch.setattr(module, "Systemctl", lambda user: manager)
    for module in (run_and_wait, runs):
        monkeypatch.setattr(module, "Runs", FakeRuns)
    monkeypatch.setattr(runs_of_many, "RunsOfMany", FakeRuns)
    monkeypatch.setattr(run_and_wait, "time", SimpleNamespace(time=lambda: START_S))
    monkeypatch.setattr(FakeRuns, "past", [])
    monkeypatch.setattr(FakeRuns, "log", [])
    monkeypatch.setattr(FakeRuns, "bare", [])
    shop = scheduler.Scheduler("shop", scope="user", manager=manager)
    shop.add_interval_job(backend_jobs.report, "report", minutes=5, name="The report")
    shop.add_cron_job(backend_jobs.other, "other", hour="3")
    shop.start()
    return shop


def call(*words: str) -> int:
    return cli.main([words[0], "--user", *words[1:]])


def listed(capsys) -> dict[str, dict[str, object]]:
    assert call("list", "--json", "--utc") == 0
    return {job["id"]: job for job in json.loads(capsys.readouterr().out)}


def test_list_shows_schedule_runs_and_state(capsys) -> None:
    FakeRuns.past = [a_run()]
    assert call("list", "--utc") == 0
    header, other, report = capsys.readouterr().out.splitlines()
    assert header.split() == "JOB APP SCHEDULE NEXT LAST RESULT DURATION STATE".split()
    assert other.split("  ")[0] == "other"
    assert "at 03:00 every day  2030-01-01 00:00:00 UTC  -" in other
    assert "every 5min " in report
    assert report.endswith("2025-11-05 14:00:00 UTC  success  2.00s     active")


def test_lists_json_has_a_stable_shape(capsys) -> None:
    FakeRuns.past = [a_run()]
    jobs = listed(capsys)
    assert set(jobs["report"]) == set(jobs["other"]) == JOB_KEYS
    assert {jobs["other"][key] for key in JOB_KEYS if key.startswith("last_")} == {None}
    report = jobs["report"]
    assert report["next_run"] == NEXT.isoformat(timespec="milliseconds")
    assert (report["last_run"], report["last_duration_s"]) == ("2025-11-05T14:00:00.000+00:00", 2.0)
    assert report["last_stats"] == STATS


@pytest.mark.parametrize(("before", "failing"), [("failed", True), ("success", False)])
def test_a_job_that_runs_again_is_failing_until_this_run_has_come_to_something(
    before, failing, manager, capsys
) -> None:
    FakeRuns.past = [a_run(before), a_run("lost", message=CUT_OFF, error=CUT_OFF)]
    manager.service_states = {"sereno@report.service": "activating"}
    report = listed(capsys)["report"]
    assert (report["failing"], report["running"]) == (failing, True)
    assert call("status", "report", "--json") == 0
    assert json.loads(capsys.readouterr().out)["failing"] is failing


@pytest.mark.parametrize(
    ("run", "service", "failing", "running"),
    [
        (a_run(), "inactive", False, False),
        (a_run("failed"), "failed", True, False),
        (a_run("failed"), "inactive", True, False),
        (a_run(), "failed", True, False),
        (None, "failed", True, False),
        (a_run("skipped"), "inactive", False, False),
        (a_run("interrupted"), "inactive", False, False),
        (a_run("lost", message=CUT_OFF, error=CUT_OFF), "activating", False, True),
        (a_run("lost", message=CUT_OFF, error=CUT_OFF), "inactive", True, False),
    ],
)
def test_a_job_is_failing_by_its_newest_run_or_by_the_manager(
    run, service, failing, running, manager, capsys
) -> None:
    FakeRuns.past = [run] if run else []
    manager.service_states = {"sereno@report.service": service}
    report = listed(capsys)["report"]
    assert (report["failing"], report["running"]) == (failing, running)
    assert call("list") == 0
    state = capsys.readouterr().out.splitlines()[-1]
    assert ("failing" in state, " running" in state) == (failing, running)


def test_list_asks_the_manager_twice_however_many_jobs_there_are(
    shop, manager, monkeypatch, capsys
) -> None:
    asked = []
    monkeypatch.setattr(manager, "list_timers", lambda pattern: asked.append(pattern) or {})
    monkeypatch.setattr(manager, "show", lambda *_: pytest.fail("asked for one unit"))
    manager.asked.clear()
    for number in range(20):
        shop.add_interval_job(backend_jobs.report, f"job_{number}", minutes=5)
    shop.start()
    manager.asked.clear()
    assert len(listed(capsys)) == 22
    assert (asked, manager.asked) == (["sereno@*.timer"], [ASKED])


def test_a_paused_a_stopped_and_a_changed_timer_are_marked(shop, units, manager, capsys) -> None:
    shop.pause_job("report")
    manager.active.discard("sereno@other.timer")
    drop_in = units / "sereno@other.timer.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Timer]\nOnCalendar=\nOnCalendar=04:00\n")
    assert call("list") == 0
    _, other, report = capsys.readouterr().out.splitlines()
    assert "at 03:00 every day (changed by a drop-in)" in other
    assert other.endswith("stopped")
    assert report.endswith("paused")
    jobs = listed(capsys)
    assert jobs["other"]["drop_ins"] == [str(drop_in)]
    assert (jobs["report"]["paused"], jobs["report"]["drop_ins"]) == (True, [])


def test_a_timer_that_has_failed_is_stopped_and_has_no_next_elapse(shop, manager, capsys) -> None:
    manager.active.discard("sereno@report.timer")
    manager.service_states = {"sereno@report.timer": "failed"}
    report = listed(capsys)["report"]
    assert (report["active"], report["next_run"]) == (False, None)
    assert call("list") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("stopped")
    assert [(job["active"], job["next_run"]) for job in shop.get_jobs()] == [
        (True, NEXT),
        (False, None),
    ]


def test_a_manager_that_refuses_is_an_error_and_no_empty_list(manager, monkeypatch, capsys) -> None:
    def refuse(pattern: str) -> dict[str, object]:
        raise SystemdError("systemctl list-timers: refused")

    monkeypatch.setattr(manager, "list_timers", refuse)
    assert call("list") == 1
    assert capsys.readouterr().err == "sereno: systemctl list-timers: refused\n"


def test_status_shows_statistics_as_a_table(capsys) -> None:
    FakeRuns.past = [a_run(stats={"entries_removed": 150, "hit_rate": 78.5, "by": {"a": [1]}})]
    assert call("status", "report") == 0
    text = capsys.readouterr().out
    assert "statistics: entries_removed  150\n            hit_rate         78.5\n" in text
    assert '            by               {"a": [1]}\n' in text


def test_status_says_why_a_job_failed_and_what_to_do(units, capsys) -> None:
    FakeRuns.past = [a_run("failed", error="ValueError: \x1b]0;no", result="exit-code", stats=None)]
    FakeRuns.log = [{"__REALTIME_TIMESTAMP": START_S * 1e6, "MESSAGE": b"Tarea \x1b[2J fallida"}]
    assert call("status", "report", "--utc") == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text
    for line in (
        "report - The report",
        "     state: failing",
        "  schedule: every 5min",
        "            OnUnitActiveSec=5min",
        "      last: 2025-11-05 14:00:00 UTC: failed in 2.00s",
        r"     error: ValueError: \x1b]0;no (systemd: exit-code)",
        f"            {units}/sereno@report.timer",
        r"  2025-11-05 14:00:00 UTC Tarea \x1b[2J fallida",
        "That run: sereno logs report --run 01234567 --user; again: sereno run report --wait --user",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("stopped", "says"),
    [
        ("sereno.target", "sereno.target is stopped: systemctl --user start sereno.target"),
        (
            "sereno-app@shop.target",
            "its application was shut down: let it call start(), or apply its jobs again",
        ),
        ("sereno@report.timer", "it was stopped: systemctl --user start sereno@report.timer"),
    ],
)
def test_status_names_what_keeps_a_timer_from_running_and_would_start_it(
    stopped, says, manager, capsys
) -> None:
    manager.active -= {stopped, "sereno@report.timer"}
    assert call("status", "report") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Its timer does not run: {says}"


def test_status_sends_to_the_doctor_for_a_timer_that_has_failed(manager, capsys) -> None:
    manager.active.discard("sereno@report.timer")
    manager.service_states = {"sereno@report.timer": "failed"}
    assert call("status", "report") == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "Its timer does not run: it has failed; sereno doctor --user says why"
    )


def test_a_manager_that_gives_no_answer_stops_no_timer(manager, monkeypatch, capsys) -> None:
    why = "Failed to connect to bus: Connection timed out"

    def no_answer(pattern: str) -> dict[str, object]:
        raise NotAvailable(f"systemd: {why}")

    monkeypatch.setattr(manager, "list_timers", no_answer)
    assert call("list") == 0
    said = capsys.readouterr()
    assert [line.split()[-1] for line in said.out.splitlines()[1:]] == ["unknown"] * 2
    assert said.err == f"warning: systemd: {why}: NEXT and STATE are not known\n"
    assert call("status", "report") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Whether its timer runs is not known: systemd: {why}"
    why = "System has not been booted with systemd as init system (PID 1). Can't operate."
    assert call("list") == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("stopped")


def test_a_run_without_an_end_is_not_lost_where_the_manager_gives_no_answer(
    manager, monkeypatch, capsys
) -> None:
    def no_answer(*_: str) -> dict[str, object]:
        raise NoAnswer("systemctl: no answer within 120 s", hint="wait")

    for question in ("list_timers", "show"):
        monkeypatch.setattr(manager, question, no_answer)
    FakeRuns.past = [a_run("failed"), a_run("lost", run_id="b" * 32, end_s=None, error=CUT_OFF)]
    assert listed(capsys)["report"]["last_status"] == "unknown"
    assert listed(capsys)["report"]["state"] == "unknown"
    assert call("status", "report") == 0
    assert CUT_OFF not in capsys.readouterr().out
    assert call("history", "report", "--json") == 0
    told = json.loads(capsys.readouterr().out)["history"]
    assert [run["status"] for run in told] == ["failed", "unknown"]
    # What has ended has ended.
    FakeRuns.past = [a_run("lost", error=CUT_OFF, is_over=True)]
    assert listed(capsys)["report"]["last_status"] == "lost"
    # What can say nothing without it says that.
    assert call("doctor") == 1
    assert capsys.readouterr().err == "sereno: systemctl: no answer within 120 s\nhint: wait\n"


def test_statuses_json_has_a_stable_shape(capsys) -> None:
    FakeRuns.past = [a_run()]
    FakeRuns.log = [{"__REALTIME_TIMESTAMP": START_S * 1e6, "MESSAGE": "hola"}]
    assert call("status", "report", "--json", "--utc") == 0
    status = json.loads(capsys.readouterr().out)
    assert set(status) == {*JOB_KEYS, "timer", "files", "log"}
    assert status["timer"] == ["OnUnitActiveSec=5min"]
    assert status["log"] == [{"time": "2025-11-05T14:00:00.000+00:00", "message": "hola"}]


def test_history_lists_the_newest_runs_and_sums_up_all(capsys) -> None:
    FakeRuns.past = [a_run(), a_run("failed", error="boom\x07", stats=None), a_run()]
    assert call("history", "report", "--utc", "-n", "2") == 0
    text = capsys.readouterr().out
    header, failed, _, _, period, *_ = text.splitlines()
    assert header.split() == ["START", "RESULT", "DURATION", "RUN", "WHAT"]
    assert failed.split("  ")[0] == "2025-11-05 14:00:00 UTC"
    assert failed.endswith(r"failed   2.00s     01234567  boom\x07")
    assert period == "7 days: 3 runs (1 failed, 2 success)"
    assert "run_duration_ms  6000   2000   2000   2000   2000   ▁▁▁" in text
    assert "rows             6      3      3      3      3      ▁▁" in text
    assert "hit_rate         -      78.50  78.50  78.50  78.50  ▁▁" in text
    assert "\x1b" not in text


def test_histories_json_has_a_stable_shape(capsys) -> None:
    FakeRuns.past = [a_run(), a_run("failed", error="boom", stats=None)]
    assert call("history", "report", "--json", "--days", "1") == 0
    told = json.loads(capsys.readouterr().out)
    keys = {"job", "since", "until", "runs", "counts", "duration_ms", "statistics", "now"}
    assert set(told) == {*keys, "history"}
    assert (told["runs"], told["counts"], told["now"]) == (2, {"failed": 1, "success": 1}, None)
    assert set(told["duration_ms"]) == {"total", "mean", "least", "most", "last"}
    assert set(told["statistics"]) == {"rows", "hit_rate"}
    assert all(set(run) == RUN_KEYS for run in told["history"])


def test_the_page_names_every_key() -> None:
    page = (Path(__file__).parents[3] / "docs/operating.md").read_text()
    section = page[page.index("`--json` has a shape") :]
    period_keys = {
        "runs",
        "counts",
        "duration_ms",
        "statistics",
        "now",
        "history",
        "since",
        "until",
    }
    for key in JOB_KEYS | RUN_KEYS | period_keys | {"timer", "files", "log", "total", "mean"}:
        assert f"`{key}`" in section, key


def test_who_may_not_read_the_systems_journal_is_told_so_beside_no_runs(
    units, manager, monkeypatch, capsys
) -> None:
    found = installation.Installation("user")
    found.scope = replace(found.scope, name="system")
    monkeypatch.setattr(history_and_logs, "installation_of", lambda arguments: found)
    monkeypatch.setattr(history_and_logs, "may_read_journal", lambda: False)
    monkeypatch.setattr(runs, "Runs", lambda user: FakeRuns(user=not user))
    FakeRuns.past = []
    assert call("history", "report") == 0
    said = capsys.readouterr()
    assert "0 runs" in said.out
    assert said.err == (
        "warning: runs: only members of the group systemd-journal may read the system's journal\n"
    )


def test_the_cleanups_history_has_the_cache_of_this_moment(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / "cache"))
    call("apply", "--no-diff")
    capsys.readouterr()
    assert call("history", "cache_cleanup_hourly", "--json") == 0
    assert json.loads(capsys.readouterr().out)["now"] is None
    assert not (tmp_path / "cache").exists()
    MetadataCache(tmp_path / "cache/metadata").set("key", 1)
    assert call("history", "cache_cleanup_hourly", "--json") == 0
    now = json.loads(capsys.readouterr().out)["now"]
    assert set(now) == {"size", "max_size", "hit_rate_percent"}
    assert call("history", "cache_cleanup_hourly") == 0
    size = f"{now['size']} of {now['max_size']} entries"
    assert (
        f"the cache now: {size}, hit rate {now['hit_rate_percent']:.1f}%" in capsys.readouterr().out
    )


def test_the_machines_cleanup_is_shown_with_the_machines_cache_or_with_none(
    tmp_path, monkeypatch
) -> None:
    """Who may not read it would else see, and make, a cache of their own."""
    monkeypatch.setattr("sereno.cache.place.MACHINE_DIRECTORY", str(tmp_path / "machine"))
    monkeypatch.setenv("SERENO_CACHE_DIR", str(tmp_path / "own"))
    cleanup = "sereno.jobs.cache_cleanup_job:cleanup_expired_cache"
    assert [cache_now(cleanup, user=user) for user in (False, True)] == [None, None]
    assert not list(tmp_path.glob("[mo]*"))
    for owner, size in (("machine", 2), ("own", 1)):
        cache = MetadataCache(tmp_path / owner / "metadata")
        for number in range(size):
            cache.set(f"key {number}", number)
    seen = [cache_now(cleanup, user=user) for user in (False, True)]
    assert [now and now["size"] for now in seen] == [2, 1]


@pytest.mark.parametrize("words", [("--days", "0"), ("--days", "nan")])
def test_a_period_that_cannot_be_is_refused(words, capsys) -> None:
    assert call("history", "report", *words) == 2
    assert capsys.readouterr().err.startswith(f"sereno: {words[0]}: ")


@pytest.mark.parametrize("command", ["history", "logs"])
def test_a_negative_count_is_refused(command: str, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(command, "-n", "-1", "report")
    assert "-n: '-1' is not a whole number from 0 up" in capsys.readouterr().err


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The argument vectors that would have taken this process's place."""
    vectors: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda file, words: vectors.append(words))
    return vectors


def test_logs_are_the_jobs_records_what_it_printed_and_what_systemd_said(executed) -> None:
    uid = f"_UID={os.geteuid()}"
    assert call("logs", "report") == 0
    assert executed == [
        [
            *("journalctl", "_SYSTEMD_USER_UNIT=sereno@report.service", uid, "+"),
            *("USER_UNIT=sereno@report.service", uid),
        ]
    ]


def test_logs_have_the_records_too_that_journald_has_no_unit_of_and_no_strangers(executed) -> None:
    bare = {"SERENO_JOB": "report", "SERENO_RUN": RUN, "_UID": "7", "_PID": "4711"}
    FakeRuns.bare = [bare, {**bare, "SERENO_RUN": "f" * 32}]
    words = ["+", *(f"{name}={value}" for name, value in bare.items())]
    assert call("logs", "report") == 0
    assert " ".join(words) in " ".join(executed[0])
    assert call("logs", "report", "--run", RUN) == 0
    assert executed[1][-5:] == words


def test_logs_of_one_run_are_found_by_the_beginning_of_its_id(executed, capsys) -> None:
    FakeRuns.past = [a_run()]
    assert call("logs", "report", "--run", "0123", "-f", "-n", "5", "--utc") == 0
    (words,) = executed
    assert {
        f"SERENO_RUN={RUN}",
        f"_SYSTEMD_INVOCATION_ID={RUN}",
        f"USER_INVOCATION_ID={RUN}",
    } < set(words)
    assert words[-3:] == ["--follow", "--lines=5", "--utc"]
    assert call("logs", "report", "--run", RUN.upper(), "--json") == 0
    assert executed[-1][-2:] == ["--output=json", "--all"]
    assert call("logs", "report", "--run", "ffff") == 3
    assert "SERENO_JOB=report" not in words
    FakeRuns.past = [a_run(), a_run()._replace(run_id="0123" + "f" * 28)]
    assert call("logs", "report", "--run", "0123") == 2
    assert "the beginning of 2 runs" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["", "012", "xyz0", "0" * 33, "0123 SERENO_JOB=x", "--help"])
def test_what_is_no_runs_id_never_reaches_journalctl(given, executed, capsys) -> None:
    assert call("logs", "report", f"--run={given}") == 2
    assert executed == []
    assert "is not a run's id" in capsys.readouterr().err


def test_logs_are_of_a_time_and_a_level_in_journalctls_words(executed, capsys) -> None:
    assert call("logs", "report", "--since", "-2h", "-U", "now", "--level", "WARNING") == 0
    assert call("logs", "report", "-p", "err", "-S", "yesterday") == 0
    assert [words[-3:] for words in executed] == [
        ["--since=-2h", "--until=now", "--priority=warning"],
        [executed[1][-3], "--since=yesterday", "--priority=err"],
    ]
    for level, meant in (("error", "err"), ("critical", "crit"), ("warn", "warning"), ("", "")):
        with pytest.raises(SystemExit) as ended:
            call("logs", "report", "--level", level)
        assert ended.value.code == 2
        assert not meant or f"hint: did you mean {meant!r}?" in capsys.readouterr().err
    assert len(executed) == 2


def test_run_starts_a_job_and_says_how_to_follow_it(manager, capsys) -> None:
    manager.calls.clear()
    assert call("run", "report") == 0
    assert manager.calls == [("start", "sereno@report.service")]
    assert "sereno logs -f report" in capsys.readouterr().out


def test_run_and_wait_prints_the_log_and_ends_with_the_statistics_and_status(capsys) -> None:
    FakeRuns.past = [a_run()]
    FakeRuns.log = [{"MESSAGE": "uno \x1b[1m"}, {"MESSAGE": "dos"}]
    assert call("run", "report", "--wait") == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == STATS
    assert said.err.splitlines() == [r"uno \x1b[1m", "dos"]
    FakeRuns.past = [a_run("failed", stats=None, message="fallida")]
    assert call("run", "report", "--wait") == 1
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()[-2:]) == (
        "",
        ["sereno: report: failed", f"hint: sereno logs report --run {RUN} --user"],
    )
    # Why is told once, and what the command itself says is English.
    FakeRuns.past = [a_run("failed", stats=None, message="fallida: why", error="why")]
    assert call("run", "report", "--wait") == 1
    assert capsys.readouterr().err.splitlines()[-2] == "sereno: report: failed: why"
    FakeRuns.log = [{"MESSAGE": "fallida: why"}, {"MESSAGE": "Failed with result 'exit-code'."}]
    assert call("run", "report", "--wait") == 1
    assert capsys.readouterr().err.splitlines()[-2] == "sereno: report: failed"


@pytest.mark.parametrize(
    ("status", "exit_status"), [("interrupted", 143), ("skipped", 77), ("lost", 1), ("failed", 1)]
)
def test_run_and_wait_ends_with_what_became_of_the_run(status, exit_status, capsys) -> None:
    FakeRuns.past = [a_run(status, error="why\x1b", hint="home=True")]
    assert call("run", "report", "--wait") == exit_status
    said = capsys.readouterr()
    assert json.loads(said.out) == STATS
    assert said.err.splitlines()[-2:] == [rf"sereno: report: {status}: why\x1b", "hint: home=True"]


OTHER = "f" * 32


@pytest.fixture
def answers(manager, monkeypatch) -> list[dict[str, str]]:
    """What the manager shows of the service: before the run, and after it."""
    shown: list[dict[str, str]] = []
    monkeypatch.setattr(manager, "show", lambda unit, *_: shown.pop(0))
    return shown


def test_run_and_wait_is_about_the_run_that_was_waited_for_and_not_its_successor(
    answers, capsys
) -> None:
    """A run longer than its interval, or one that somebody restarts, is followed by the next at once."""
    answers += [
        {"ActiveState": "activating", "InvocationID": RUN},
        {"ActiveState": "activating", "InvocationID": OTHER},
    ]
    FakeRuns.past = [a_run(stats={"rows": 4})._replace(run_id=OTHER), a_run()]
    assert call("run", "report", "--wait") == 0
    assert json.loads(capsys.readouterr().out) == STATS


def test_run_and_wait_takes_no_run_before_for_its_own(answers, capsys) -> None:
    answers += [{"InvocationID": OTHER}, {"InvocationID": RUN}]
    FakeRuns.past = [a_run("failed")._replace(run_id=OTHER), a_run()]
    assert call("run", "report", "--wait") == 0
    assert json.loads(capsys.readouterr().out) == STATS


@pytest.mark.parametrize("invocation", [{}, {"InvocationID": OTHER}])
def test_where_nothing_ran_systemds_own_words_are_the_error(
    invocation, answers, manager, monkeypatch, capsys
) -> None:
    def refuse(units) -> None:
        raise SystemdError("systemctl start: Unit sereno@report.service is masked.")

    monkeypatch.setattr(manager, "start", refuse)
    # Such a unit shows the result that every unit begins with, or that of the run before.
    answers += [{**invocation, "Result": "success", "ExecMainStatus": "0"}] * 2
    FakeRuns.past = [a_run()._replace(run_id=OTHER)]
    assert call("run", "report", "--wait") == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.endswith(
        "it did not start: systemctl start: Unit sereno@report.service is masked."
    )
    assert hint == "hint: systemctl --user status sereno@report.service"


def test_a_condition_that_keeps_a_run_from_starting_is_a_skip(answers, capsys) -> None:
    at = f"@{int(time.time())}"
    old = {"InvocationID": OTHER, "Result": "success"}
    answers += [old, {**old, "ConditionResult": "no", "ConditionTimestamp": at}]
    FakeRuns.past = [a_run()._replace(run_id=OTHER)]
    assert call("run", "report", "--wait") == 77
    assert "a condition of its unit" in capsys.readouterr().err


BY_MANAGER = {
    "ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0", "InvocationID": RUN,
    "ExecMainStartTimestamp": "@1764000000", "ExecMainExitTimestamp": "@1764000001",
    "ExecMainStartTimestampMonotonic": "1000000", "ExecMainExitTimestampMonotonic": "1500000",
}  # fmt: skip


@pytest.mark.parametrize(
    ("shown", "exit_status"),
    [
        ({}, 0),
        ({"ExecMainStatus": "143"}, 143),
        ({"Result": "core-dump", "ExecMainStatus": "11", "ExecMainCode": "3"}, 1),
        ({"StatusText": "success"}, 0),
        ({"StatusText": "running"}, 1),
        ({"StatusText": "running", "ExecMainStatus": "143"}, 143),
        ({"InvocationID": ""}, 1),
    ],
)
def test_without_a_journal_the_managers_account_of_this_run_counts(
    shown, exit_status, answers, capsys
) -> None:
    answers += [{"InvocationID": OTHER}, {**BY_MANAGER, **shown}]
    assert call("run", "report", "--wait") == exit_status
    said = capsys.readouterr().err
    assert ("killed by SIGSEGV" in said) is ("ExecMainCode" in shown)
    assert ("without a closing record" in said) is (exit_status == 1 and "StatusText" in shown)


def test_a_run_of_half_a_second_took_half_a_second_also_by_the_managers_account(shop) -> None:
    """Whose times of the clock come in whole seconds."""
    run = run_of("report", BY_MANAGER)
    assert run is not None
    FakeRuns.past = [run]
    assert shop.get_job_status("report")["last_duration_s"] == 0.5


def test_run_job_raises_for_a_crash_after_a_good_end_and_returns_what_was_reported(shop) -> None:
    FakeRuns.past = [a_run("failed", said="failed", result="exit-code")]
    assert shop.run_job("report") == STATS
    error = "it had ended as 'success', then: killed by SIGSEGV"
    for run in (
        a_run("failed", said="success", result="core-dump", error=error),
        a_run("failed", said="failed", result="signal", error=error),
        a_run("lost", error=error),
    ):
        FakeRuns.past = [run]
        with pytest.raises(JobFailed, match="killed by SIGSEGV"):
            shop.run_job("report")


def test_every_way_to_ask_says_the_same_of_a_run(shop, capsys) -> None:
    """Also after a reboot or a pause, when the manager knows nothing of it any more."""
    error = "it had ended as 'success', then: killed by SIGSEGV"
    FakeRuns.past = [a_run("failed", error=error, result="core-dump", exit_status=11)]
    status = shop.get_job_status("report")
    assert status in shop.get_jobs()
    assert (status["last_status"], status["last_error"]) == ("failed", error)
    assert status["last_result"] == "core-dump"
    assert (status["last_duration_s"], status["last_exit_status"]) == (2.0, 11)
    assert (status["last_run_id"], status["running"]) == (RUN, False)
    same = listed(capsys)["report"]
    assert same.keys() == status.keys()
    for key in ("next_run", "last_run"):
        assert same.pop(key) == status.pop(key).isoformat(timespec="milliseconds")
    assert same == status


def test_a_run_that_is_over_is_not_taken_for_the_one_that_follows_it(manager, capsys) -> None:
    """Of which the journal may not know yet."""
    FakeRuns.past = [a_run("failed", is_over=True)]
    manager.service_states = {"sereno@report.service": "activating"}
    report = listed(capsys)["report"]
    assert (report["last_status"], report["running"], report["failing"]) == (
        "failed",
        True,
        True,
    )


def test_a_run_that_was_stopped_and_killed_does_not_make_its_job_failing(manager, capsys) -> None:
    FakeRuns.past = [a_run("interrupted", result="timeout", is_over=True)]
    manager.service_states = {"sereno@report.service": "failed"}
    assert listed(capsys)["report"]["failing"] is False


def test_status_shows_a_hint_and_no_line_is_endless(capsys) -> None:
    FakeRuns.past = [a_run("failed", error="E", hint="network=True", stats={"page": "x" * 10**7})]
    FakeRuns.log = [{"__REALTIME_TIMESTAMP": START_S * 1e6, "MESSAGE": "x\x1b" * 10**6}] * 8
    for words in (("status", "report"), ("status", "report", "--json"), ("history", "report")):
        assert call(*words) == 0
        said = capsys.readouterr().out
        if "--json" not in words:
            assert len(said) < 30_000
            assert "\x1b" not in said
        if words[0] == "status":
            assert "network=True" in said
    assert call("run", "report", "--wait") == 1
    assert len(capsys.readouterr().err) < 30_000


def test_ctrl_c_stops_following_and_not_the_run(manager, monkeypatch, capsys) -> None:
    def interrupted(self, job_id, has_ended):
        yield {}
        raise KeyboardInterrupt

    FakeRuns.past = [a_run()]
    monkeypatch.setattr(FakeRuns, "follow", interrupted)
    assert call("run", "report", "--wait") == 130
    assert "the run goes on: sereno logs -f report" in capsys.readouterr().err
    assert "stop" not in manager.changes()[2:]


def test_pause_and_resume_say_what_they_did(manager, capsys) -> None:
    assert call("pause", "report") == 0
    assert "sereno@report.timer" not in manager.active
    assert call("resume", "report") == 0
    assert "sereno@report.timer" in manager.active
    assert call("resume", "report") == 0
    assert capsys.readouterr().out.splitlines() == [
        "paused report; sereno resume report --user lets it run again",
        "resumed report",
        "report is not paused",
    ]


def test_apply_prunes_only_when_told_and_only_its_own_application(
    units, manager, monkeypatch, capsys
) -> None:
    call("apply", "--no-diff")
    monkeypatch.setattr("sereno.cli.discovery.shipped_modules", list)
    capsys.readouterr()
    assert call("apply") == 0
    assert capsys.readouterr().out == "nothing to do\n"
    assert call("apply", "--prune") == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("--- a/sereno@cache_cleanup_hourly.timer")
    assert lines[at + 1] == "+++ /dev/null"
    assert lines[-1] == "remove sereno@cache_cleanup_hourly.timer"
    assert (units / "sereno@report.timer").exists()


def test_the_diff_is_shown_before_anything_is_changed(units, monkeypatch) -> None:
    there = []
    timer = units / "sereno@cache_cleanup_hourly.timer"
    monkeypatch.setattr(
        "sereno.cli.apply._print_diff", lambda lines, **_: there.append(timer.exists())
    )
    assert call("apply") == 0
    assert (there, timer.exists()) == ([False], True)


def test_apply_without_a_change_asks_the_manager_once_and_reloads_nothing(manager) -> None:
    call("apply")
    manager.calls.clear()
    manager.asked.clear()
    assert call("apply") == 0
    assert manager.calls == []
    assert manager.asked == [
        ("sereno.target", "sereno-app@sereno.target", "sereno@cache_cleanup_hourly.timer"),
    ]


@pytest.mark.parametrize("switch", ["sereno.target", "none"])
def test_a_dry_run_announces_what_apply_does_and_nothing_else(switch, manager, capsys) -> None:
    call("apply", "--no-diff")
    manager.active -= {"sereno@cache_cleanup_hourly.timer", "sereno.target"}
    manager.active.add(switch)
    capsys.readouterr()
    said = [call("apply", "--dry-run") or capsys.readouterr() for _ in range(2)]
    done = call("apply") or capsys.readouterr()
    done = done._replace(out=re.sub("; next .*", "", done.out))
    assert said == [done, done]
    assert ("start" in done.out) == (switch == "sereno.target")


def test_a_failed_timer_counts_as_not_active_and_is_started_again(manager, capsys) -> None:
    call("apply", "--no-diff")
    manager.active.discard("sereno@cache_cleanup_hourly.timer")
    manager.service_states = {"sereno@cache_cleanup_hourly.timer": "failed"}
    capsys.readouterr()
    assert call("apply") == 0
    assert capsys.readouterr().out.startswith("start sereno@cache_cleanup_hourly.timer; next ")


def test_what_a_job_did_last_is_known_when_the_journal_has_forgotten_it(shop, capsys) -> None:
    FakeRuns.past = [a_run("failed", error="boom", is_over=True)]
    before = listed(capsys)["report"]
    FakeRuns.past = []
    after = listed(capsys)["report"]
    assert after == {**before, "last_stats": None}
    assert (after["last_status"], after["failing"]) == ("failed", True)
    assert shop.get_job_status("report")["last_error"] == "boom"
    FakeRuns.past = [a_run("success", run_id="1" * 32, is_over=True)]
    assert listed(capsys)["report"]["last_status"] == "success"
    FakeRuns.past = []
    assert listed(capsys)["report"]["last_run_id"] == "1" * 32
    shop.remove_job("report")
    shop.add_interval_job(backend_jobs.other, "report", minutes=5)
    assert listed(capsys)["report"]["last_status"] is None


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", '{"report": 1}', '{"report": {"function": "backend_jobs:report", "x": 1}}'],
)
def test_what_was_kept_of_runs_and_is_spoilt_is_as_good_as_none(text, shop, capsys) -> None:
    path = kept_runs.path_of(shop.installation.scope)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert listed(capsys)["report"]["last_status"] is None
    FakeRuns.past = [a_run(is_over=True)]
    listed(capsys)
    FakeRuns.past = []
    assert listed(capsys)["report"]["last_status"] == "success"


def test_a_run_that_goes_on_is_not_kept_and_often_running_jobs_do_not_write_each_time(
    shop, capsys
) -> None:
    path = kept_runs.path_of(shop.installation.scope)
    FakeRuns.past = [a_run("running")]
    listed(capsys)
    assert not path.exists()
    FakeRuns.past = [a_run(is_over=True)]
    listed(capsys)
    inode = path.stat().st_ino
    for minutes in (1, 30):
        FakeRuns.past = [
            a_run(run_id=f"{minutes:032x}", end_s=START_S + 60 * minutes, is_over=True)
        ]
        listed(capsys)
    assert path.stat().st_ino == inode
    FakeRuns.past = [a_run(run_id="2" * 32, end_s=START_S + 7200, is_over=True)]
    listed(capsys)
    assert path.stat().st_ino != inode


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="no systemd-analyze (package systemd)"
)
@pytest.mark.parametrize(("at", "status"), [("03:00:02", "unknown"), ("12:34:56", None)])
def test_a_calendar_job_whose_stamp_is_an_elapse_was_due_then_whatever_the_journal_has(
    at, status, manager, monkeypatch, capsys
) -> None:
    """A stamp of another moment is of the timer's start, and of an interval it is what its first elapse counts from."""
    last = datetime.fromisoformat(f"2025-11-05 {at}").astimezone()
    timers = {f"sereno@{name}.timer": Elapse(NEXT, last) for name in ("report", "other")}
    monkeypatch.setattr(manager, "list_timers", lambda pattern: timers)
    jobs = listed(capsys)
    assert (jobs["other"]["last_status"], jobs["report"]["last_status"]) == (status, None)
    if status:
        assert datetime.fromisoformat(jobs["other"]["last_run"]) == last
        assert jobs["other"]["failing"] is False
