"""Asking a machine again and again: what has happened since is known, and nothing is read twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import backend_jobs
import pytest
from fake_systemd import FakeManager

from sereno.errors import OVER_LIMIT, NoAnswer
from sereno.observe import look as poll_module
from sereno.observe.job_state import JobState
from sereno.observe.look import Poll
from sereno.records.journal import FAILED, FINISHED, STARTED
from sereno.records.run_record import START_DONE, UNIT_FAILED, Run, runs_of
from sereno.scheduler import Scheduler
from sereno.units.installation import Installation

JOB = "report"
SERVICE = "sereno@report.service"


def a_record(kind: str, run: str, at_s: float, **fields: str) -> dict[str, Any]:
    return {
        "MESSAGE_ID": kind,
        "SERENO_RUN": run,
        "__REALTIME_TIMESTAMP": at_s * 1e6,
        **fields,
    }


def started(run: str, at_s: float) -> dict[str, Any]:
    return a_record(STARTED, run, at_s)


def finished(run: str, at_s: float, duration_ms: float = 1000.0) -> dict[str, Any]:
    fields = {"SERENO_STATUS": "success", "SERENO_DURATION_MS": str(duration_ms)}
    return a_record(FINISHED, run, at_s, **fields)


def failed(run: str, at_s: float) -> dict[str, Any]:
    fields = {"SERENO_STATUS": "failed", "SERENO_DURATION_MS": "1", "SERENO_ERROR": "boom"}
    return a_record(FAILED, run, at_s, **fields)


class FakeJournal:
    """The journal as a value; `recent` counts how often it is asked for what."""

    records: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    asked: ClassVar[list[tuple[str, int]]] = []
    unheard: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, *, user: bool) -> None:
        assert user
        self._place = 0

    def __enter__(self) -> FakeJournal:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def listen(self) -> None:
        self._place = len(self.records)

    def news(self, job_ids):
        new, self._place = self.records[self._place :], len(self.records)
        return iter([(name, record) for name, record in new if name in job_ids])

    def latest(self, job_ids, count: int = 1) -> dict[str, list[Run]]:
        return {job_id: self.newest(job_id, count) for job_id in job_ids}

    def newest(self, job_id: str, count: int) -> list[Run]:
        self.asked.append((job_id, count))
        own = [record for name, record in self.records if name == job_id]
        return runs_of(job_id, [*own, *self.unheard])[-count:]


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    monkeypatch.setattr(poll_module, "RunsOfMany", FakeJournal)
    monkeypatch.setattr(FakeJournal, "records", [])
    monkeypatch.setattr(FakeJournal, "asked", [])
    monkeypatch.setattr(FakeJournal, "unheard", [])
    return FakeJournal.records


@pytest.fixture
def shop(units: Path, manager: FakeManager) -> Scheduler:
    shop = Scheduler("shop", scope="user", manager=manager)
    shop.add_interval_job(backend_jobs.report, JOB, minutes=5)
    shop.start()
    return shop


@pytest.fixture
def poll(shop: Scheduler, manager: FakeManager, journal: object) -> Poll:
    return Poll(Installation("user", manager=manager))


def seen(poll: Poll) -> JobState:
    (job,) = poll.ask().jobs
    return job


def what(job: JobState) -> tuple[str | None, bool, bool]:
    return (job.last and job.last.status, job.running, job.failing)


def test_a_run_is_followed_from_its_start_to_its_end(poll, manager, journal) -> None:
    assert what(seen(poll)) == (None, False, False)
    journal.append((JOB, started("a", 10)))
    manager.service_states = {SERVICE: "activating"}
    assert what(seen(poll)) == ("running", True, False)
    journal.append((JOB, failed("a", 12)))
    manager.service_states = {SERVICE: "failed"}
    assert what(seen(poll)) == ("failed", False, True)


def test_a_run_that_began_or_ended_while_the_manager_was_asked_is_not_taken_for_lost(
    poll, manager, journal
) -> None:
    seen(poll)
    journal.append((JOB, started("a", 10)))
    assert what(seen(poll)) == ("running", True, False)
    journal.append((JOB, finished("a", 11)))
    assert what(seen(poll)) == ("success", False, False)


def test_a_run_whose_end_never_comes_is_lost_at_the_second_look(poll, journal) -> None:
    seen(poll)
    journal.append((JOB, started("a", 10)))
    seen(poll)
    assert what(seen(poll)) == ("lost", False, True)


def test_a_run_that_left_without_a_record_is_lost_at_the_first_look(poll, manager, journal) -> None:
    seen(poll)
    over = a_record(START_DONE, "a", 11, JOB_RESULT="done", _PID="1")
    journal += [(JOB, started("a", 10)), (JOB, over)]
    assert what(seen(poll)) == ("lost", False, True)


def test_a_run_whose_process_goes_on_after_its_record_is_running(poll, manager, journal) -> None:
    journal += [(JOB, started("a", 10)), (JOB, finished("a", 11))]
    manager.service_states = {SERVICE: "activating"}
    assert what(seen(poll)) == ("running", True, False)
    journal.append((JOB, a_record(UNIT_FAILED, "a", 12, UNIT_RESULT="core-dump", _PID="1")))
    manager.service_states = {SERVICE: "failed"}
    assert what(seen(poll)) == ("failed", False, True)


def test_whether_a_timeout_was_the_limit_is_looked_up(poll, manager, journal) -> None:
    """The manager's word for it has no kind, by which records of all jobs are read."""
    seen(poll)
    said = {"_PID": "1", "MESSAGE": f"{SERVICE}: start operation timed out. Terminating."}
    limit = a_record("", "a", 11, **said)
    failed = a_record(UNIT_FAILED, "a", 12, UNIT_RESULT="timeout", _PID="1")
    journal += [(JOB, started("a", 10)), (JOB, failed)]
    FakeJournal.unheard = [limit]
    assert seen(poll).last.error == OVER_LIMIT


def test_a_run_that_was_lost_before_is_lost_at_the_first_look(poll, journal) -> None:
    journal.append((JOB, started("a", 10)))
    poll._news.listen()
    assert what(seen(poll)) == ("lost", False, True)


def test_a_failed_job_that_runs_again_is_failing_until_it_succeeds(poll, manager, journal) -> None:
    journal += [(JOB, started("a", 10)), (JOB, failed("a", 11)), (JOB, started("b", 20))]
    manager.service_states = {SERVICE: "activating"}
    assert what(seen(poll)) == ("running", True, True)
    manager.service_states = {}
    journal.append((JOB, finished("b", 21)))
    assert what(seen(poll)) == ("success", False, False)


def test_durations_of_runs_before_and_since_are_in_order(poll, journal) -> None:
    for number in range(5):
        journal.append((JOB, finished(f"r{number}", 10 + number, number)))
    poll._news.listen()
    assert poll.ask().durations_ms == {JOB: [0, 1, 2, 3, 4]}
    journal.append((JOB, finished("new", 100, 9)))
    assert poll.ask().durations_ms == {JOB: [0, 1, 2, 3, 4, 9]}


def test_the_past_is_read_once_and_the_units_when_they_change(
    poll, shop, units, monkeypatch
) -> None:
    read = []
    jobs = Installation.jobs
    monkeypatch.setattr(Installation, "jobs", lambda self: read.append(1) or jobs(self))
    for _ in range(4):
        poll.ask()
    assert (len(read), FakeJournal.asked) == (1, [(JOB, 1), (JOB, 24)])
    shop.pause_job(JOB)
    assert not seen(poll).job.enabled
    shop.resume_job(JOB)
    assert seen(poll).job.enabled
    shop.add_interval_job(backend_jobs.other, "other", minutes=5)
    assert [job.job.id for job in poll.ask().jobs] == ["other", JOB]
    assert FakeJournal.asked[2:] == [("other", 1), ("other", 24)]
    drop_in = units / "sereno@report.timer.d/override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Timer]\n")
    assert poll.ask().jobs[1].drop_ins == (str(drop_in),)
    shop.remove_job("other")
    assert [job.job.id for job in poll.ask().jobs] == [JOB]


def test_the_manager_is_asked_as_often_as_for_a_list(poll, manager) -> None:
    poll.ask()
    manager.asked.clear()
    poll.ask()
    assert len(manager.asked) == 1


def test_without_time_the_past_is_looked_up_later(shop, manager, journal) -> None:
    shop.add_interval_job(backend_jobs.other, "other", minutes=5)
    for name in (JOB, "other"):
        journal.append((name, finished("a", 1, 5)))
        journal.append((name, finished("b", 2, 6)))
    ticks = iter(range(1000))
    poll = Poll(Installation("user", manager=manager), clock=lambda: next(ticks) / 5)
    assert poll.ask().durations_ms == {"other": [5, 6], JOB: [6]}
    assert poll.ask().durations_ms == {"other": [5, 6], JOB: [5, 6]}


def test_what_systemd_says_after_a_runs_last_record_counts(poll, journal) -> None:
    journal += [(JOB, started("a", 1)), (JOB, finished("a", 2)), (JOB, started("b", 3))]
    seen(poll)
    late = a_record(UNIT_FAILED, "a", 2.5, UNIT_RESULT="exit-code", _PID="1")
    journal += [(JOB, late), (JOB, late)]
    seen(poll)
    assert [run.status for run in poll._runs[JOB]] == ["failed", "lost"]


def test_only_so_many_runs_are_remembered(poll, journal) -> None:
    for number in range(50):
        journal.append((JOB, finished(f"r{number}", number)))
        if number % 2:
            seen(poll)
    assert [run.run_id for run in poll._runs[JOB]] == [f"r{n}" for n in range(26, 50)]
    assert poll.ask().durations_ms[JOB] == [1000.0] * 24


def test_without_a_journal_the_manager_alone_is_shown(shop, manager, monkeypatch) -> None:
    from sereno.errors import NotAvailable

    def none(**_: object) -> None:
        raise NotAvailable("python-systemd: none")

    monkeypatch.setattr(poll_module, "RunsOfMany", none)
    manager.service_states = {SERVICE: "activating"}
    assert what(seen(Poll(Installation("user", manager=manager)))) == (None, True, False)


def test_a_job_that_is_removed_while_it_is_watched_is_gone_and_its_runs_are_nobodys(
    poll, shop, journal
) -> None:
    seen(poll)
    over = {**finished("a", 12), "MESSAGE_ID": START_DONE, "USER_UNIT": SERVICE, "_PID": "1"}
    journal += [(JOB, started("a", 10)), (JOB, finished("a", 11)), (JOB, over)]
    assert seen(poll).last.is_over
    shop.remove_job(JOB)
    assert poll.ask().jobs == []


def test_a_manager_that_gives_no_answer_is_an_error_and_ends_no_run(
    poll: Poll, manager: FakeManager, journal: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_answer(*_: str) -> dict[str, object]:
        raise NoAnswer("systemctl list-timers: no answer within 120 s")

    manager.service_states = {SERVICE: "activating"}
    journal.append((JOB, started("a", 10)))
    assert what(seen(poll)) == ("running", True, False)
    with monkeypatch.context() as patch:
        patch.setattr(manager, "list_timers", no_answer)
        for _ in range(3):
            with pytest.raises(NoAnswer):
                poll.ask()
    assert what(seen(poll)) == ("running", True, False)
