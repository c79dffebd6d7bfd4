"""Who comes from APScheduler: what can be taken is taken, and every other call says what to write instead.

Held against APScheduler 3 itself: the arguments and methods that it has, and the times that its schedules mean.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy
import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from sample_jobs import of_a_shop as sync
from sample_jobs import stats as tick
from sample_jobs import stats_async as tick_async

from sereno.declare.apscheduler import ANSWERS, answered
from sereno.declare.options import Registration
from sereno.errors import InvalidJob, SerenoError, UsageError
from sereno.manager.analyze import next_elapses
from sereno.scheduler import Scheduler, get_scheduler
from sereno.triggers import CronTrigger as OurCronTrigger
from shipped import REPOSITORY

PAGE = (REPOSITORY / "docs/from-apscheduler.md").read_text("utf-8")
ARGUMENTS = {name[:-1]: said for name, said in ANSWERS.items() if name.endswith("=")}
METHODS = {name: said for name, said in ANSWERS.items() if not name.endswith("=")}
ADDING = (Scheduler.add_interval_job, Scheduler.add_cron_job)


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    return Scheduler(root=tmp_path)


def arguments_of(*functions: Callable[..., Any]) -> set[str]:
    found = {name for each in functions for name in inspect.signature(each).parameters}
    return found - {"self", "options", "trigger_args"}


def test_every_argument_of_apscheduler_is_taken_or_answered() -> None:
    theirs = arguments_of(
        BackgroundScheduler.add_job, BackgroundScheduler.start, BackgroundScheduler.get_jobs,
        BackgroundScheduler.shutdown, CronTrigger, IntervalTrigger, DateTrigger, CalendarIntervalTrigger,
    )  # fmt: skip
    taken = arguments_of(*ADDING, Scheduler.shutdown) | Registration.__optional_keys__
    assert theirs - taken <= set(ARGUMENTS)
    # A zone is one of a calendar job alone.
    assert set(ARGUMENTS) & taken == {"timezone"}


def test_every_method_of_apscheduler_is_there_or_answered(scheduler: Scheduler) -> None:
    theirs = {name for name in dir(BackgroundScheduler()) if not name.startswith("_")}
    assert theirs - set(dir(Scheduler)) - {"timezone"} == set(METHODS)
    for name in METHODS:
        assert not hasattr(scheduler, name)
        with pytest.raises(UsageError, match=re.escape(METHODS[name])):
            getattr(scheduler, name)


def test_the_page_has_the_words_of_the_code() -> None:
    for name, said in ANSWERS.items():
        assert name == "trigger=" or f"\n| `{name}` | {said} |\n" in PAGE, name


def test_the_page_shows_such_an_answer(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "__name__", "sync_prices")
    with pytest.raises(InvalidJob) as caught:
        scheduler.add_job(sync, "interval", minutes=15, args=["lima"], id="sync")
    assert f"```text\n{caught.value}\n```\n" in PAGE


INTERVAL, CRON = "add_interval_job", "add_cron_job"
MOVED = [
    (("interval",), {"seconds": 3}, "interval[0:00:03]"),
    (("interval",), {"weeks": 1, "days": 1, "id": "x", "coalesce": True}, "interval[192:00:00]"),
    (("interval", ["lima"]), {"minutes": 15, "id": "x", "max_instances": 1}, "interval[0:15:00]"),
    (("interval",), {"hours": 1, "args": ["lima"], "kwargs": {"deep": True}}, "interval[1:00:00]"),
    (("interval",), {"hours": 1, "id": "x", "timezone": "UTC", "jitter": 9}, "interval[1:00:00]"),
    ((IntervalTrigger(hours=2, jitter=60),), {"id": "x"}, "interval[2:00:00]"),
    (("x", IntervalTrigger(days=2)), {}, "interval[48:00:00]"),
    ((), {"trigger": "cron", "day_of_week": "0-4", "hour": 5, "end_date": "2030-05-30"}, "cron[0 5 * * mon-fri]"),
    (("cron",), {"day_of_week": 6, "hour": "*/6", "misfire_grace_time": 60}, "cron[0 */6 * * sun]"),
    (("cron",), {"day_of_week": "mon,2-4", "minute": "0-30/10"}, "cron[0-30/10 * * * mon,wed,thu,fri]"),
    (("cron",), {"day": "last", "next_run_time": datetime(2026, 1, 1, tzinfo=UTC)}, "cron[0 0 L * *]"),
    (("cron",), {"day": "3rd fri", "hour": "0-3", "month": "6-8"}, "cron[0 0-3 * 6-8 fri#3]"),
    (("cron",), {"day": "last fri"}, "cron[0 0 * * friL]"),
    ((CronTrigger.from_crontab("0 22 * * 0-4", timezone="UTC"),), {}, "cron[0 22 * * mon-fri timezone=UTC]"),
    ((CronTrigger(minute="*/15", timezone="UTC"), [], None, "x", "Quarter"), {}, "cron[*/15 * * * * timezone=UTC]"),
    (("x", CronTrigger(hour=3, timezone="Europe/Madrid")), {}, "cron[0 3 * * * timezone=Europe/Madrid]"),
]  # fmt: skip


def call_that_says_the_same(scheduler: Scheduler, error: SerenoError) -> dict[str, Any]:
    """Follow the hint to the letter; return what `get_jobs()` has of the job."""
    call = str(error.hint).partition("; what else differs: docs/from-apscheduler.md")[0]
    assert call.startswith("scheduler.add_"), error
    names = {"scheduler": scheduler, "of_a_shop": sync, "stats": tick, "stats_async": tick_async}
    job_id = eval(call, names)  # the page tells people to write it down
    (job,) = [job for job in scheduler.get_jobs() if job["id"] == job_id]
    return job


@pytest.mark.parametrize(("args", "kwargs", "trigger"), MOVED)
def test_a_call_of_apscheduler_names_the_call_that_says_the_same(
    scheduler: Scheduler, args: tuple[Any, ...], kwargs: dict[str, Any], trigger: str
) -> None:
    needs = args[1:2] == (["lima"],) or "args" in kwargs
    with pytest.raises(InvalidJob) as caught:
        scheduler.add_job(sync if needs else tick, *args, **kwargs)
    for name in kwargs.keys() & ARGUMENTS.keys() - {"trigger", "timezone"}:
        assert f"{name}=: {ARGUMENTS[name]}" in caught.value.message
    assert call_that_says_the_same(scheduler, caught.value)["trigger"] == trigger


def test_what_else_was_said_of_the_job_is_in_that_call(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidJob) as caught:
        scheduler.add_job(
            sync, "cron", ["lima"], {"deep": True}, "x", "Of Lima", 60, hour=3, jitter=5,
            next_run_time=datetime(2026, 1, 1, tzinfo=UTC), timezone=ZoneInfo("Europe/Madrid"),
        )  # fmt: skip
    assert call_that_says_the_same(scheduler, caught.value)["id"] == "x"
    job = scheduler._jobs["x"]
    assert (job.name, job.misfire_grace_s, job.jitter_s) == ("Of Lima", 60, 5)
    assert job.inputs.kwargs == {"shop": "lima", "deep": True}
    assert job.trigger.text == "cron[0 3 * * * timezone=Europe/Madrid]"
    assert scheduler._run_now == {"x"}


# Five jobs as an administrator has them in a script of APScheduler's: the call as it is there, what `list` says of what
# the answer makes of it, and which of its differences are named.
SCRIPT: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str, list[str]]] = [
    (tick, (CronTrigger.from_crontab("30 6 * * 1-5", timezone="Europe/Madrid"),),
     {"id": "report", "misfire_grace_time": 3600}, "at 06:30 on Tuesday to Saturday, Europe/Madrid",
     ["misfire_grace=3600", "day_of_week='tue-sat'"]),
    (sync, ("interval",), {"minutes": 15, "args": ["lima"], "id": "prices", "max_instances": 1},
     "every 15min", ["kwargs={'shop': 'lima'}", "`kwargs=`, by their names"]),
    (tick, ("cron",), {"hour": 3, "jitter": 300, "id": "database", "executor": "processpool", "coalesce": True},
     "at 03:00 every day", ["jitter=300", "each run is a process of its own", "was missed is made up once"]),
    (tick, ("interval",), {"hours": 6, "id": "media", "next_run_time": datetime(2026, 1, 1, tzinfo=UTC)},
     "every 6h", ["run_immediately=True"]),
    (tick_async, ("cron",), {"day": "last", "hour": 23, "id": "month", "replace_existing": True, "jobstore": "db"},
     "at 23:00 on the last day of the month", ["day='L'", "systemd keeps the jobs"]),
]  # fmt: skip


def test_an_administrators_five_jobs_are_right_at_the_second_try_and_the_first_says_how(
    scheduler: Scheduler,
) -> None:
    for func, args, kwargs, schedule, told in SCRIPT:
        with pytest.raises(InvalidJob) as caught:
            scheduler.add_job(func, *args, **kwargs)
        assert scheduler.get_job_status(kwargs["id"]) is None
        for words in (*told, "what else differs: docs/from-apscheduler.md"):
            assert words in str(caught.value), (kwargs["id"], words)
        assert call_that_says_the_same(scheduler, caught.value)["schedule"] == schedule
    assert len(scheduler.get_jobs()) == len(SCRIPT)
    # What no call shows, the page has: it is named in each answer.
    for difference in (
        "Numbers of weekdays",
        "Time limit of a run",
        "The network",
        "backend's environment",
    ):
        assert difference in PAGE


@pytest.mark.parametrize(
    "theirs",
    [
        CronTrigger.from_crontab("30 6 * * 1-5", timezone="UTC"),
        CronTrigger(day_of_week="5,6", hour="8-18/2", timezone="UTC"),
        CronTrigger(day_of_week="*/2", timezone="UTC"),
        CronTrigger(day_of_week="tue-sun/2", timezone="UTC"),
        CronTrigger(day_of_week="sat-sun", timezone="UTC"),
        CronTrigger(day_of_week="1-6", timezone="UTC"),
        CronTrigger(day_of_week="0-6", day="*/3", timezone="UTC"),
        CronTrigger.from_crontab("0 0 1-15 may-aug *", timezone="UTC"),
        CronTrigger(day_of_week="0-6", day=7, hour=3, timezone="UTC"),
        CronTrigger(day_of_week="mon", day="1-31", hour=3, timezone="UTC"),
        CronTrigger(day_of_week="mon-fri", day="*/1", timezone="UTC"),
        CronTrigger(day_of_week="sat,mon", day="*", hour=3, timezone="UTC"),
        CronTrigger(day_of_week="fri", day="1-15,16-31", hour=3, timezone="UTC"),
        CronTrigger(day_of_week="*/1", day="13", hour=3, timezone="UTC"),
        CronTrigger(day_of_week="0-6", timezone="UTC"),
        CronTrigger(day="last", hour=23, minute=59, timezone="UTC"),
        CronTrigger(day="2nd tue", timezone="UTC"),
        CronTrigger(month="jan,jul", day=1, timezone="UTC"),
        CronTrigger(second="*/20", minute=5, timezone="Europe/Madrid"),
    ],
    ids=str,
)
def test_it_runs_at_the_times_at_which_apscheduler_ran_it(
    scheduler: Scheduler, theirs: CronTrigger
) -> None:
    with pytest.raises(InvalidJob) as caught:
        scheduler.add_job(tick, theirs, id="x")
    call_that_says_the_same(scheduler, caught.value)
    trigger = scheduler._jobs["x"].trigger
    assert isinstance(trigger, OurCronTrigger)
    lines = [line.removeprefix("OnCalendar=") for line in trigger.timer_lines()]
    now = datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC)
    wanted: list[datetime] = []
    while len(wanted) < 20:
        found = theirs.get_next_fire_time(None, (wanted or [now])[-1] + timedelta(seconds=1))
        wanted.append(found.astimezone(UTC))
    assert [
        each.astimezone(UTC) for each in next_elapses(lines, 20, after_s=now.timestamp())
    ] == wanted


def test_of_a_field_that_covers_all_days_nothing_is_said_to_differ(scheduler: Scheduler) -> None:
    for options in (
        {"day": "1-31", "day_of_week": "mon"},
        {"day": 13, "day_of_week": "mon-sun"},
        {"day": "2nd tue", "day_of_week": "0-6"},
    ):
        with pytest.raises(InvalidJob) as caught:
            scheduler.add_job(tick, "cron", id="x", **options)
        assert "both to hold" not in str(caught.value)
        call_that_says_the_same(scheduler, caught.value)


@pytest.mark.parametrize(
    ("method", "args", "kwargs", "said"),
    [
        ("add_job", (tick,), {}, "run at a date is `systemd-run"),
        ("add_job", (tick, "date"), {"run_date": "2030-01-01"}, "run at a date is `systemd-run"),
        ("add_job", (tick, DateTrigger()), {"id": "x"}, "run at a date is `systemd-run"),
        ("add_job", (tick, AndTrigger([])), {"id": "x"}, "and: none: two jobs, or"),
        ("add_job", (tick, CalendarIntervalTrigger(months=1)), {}, "calendarinterval: none: two jobs, or"),
        ("add_job", (tick, "calendarinterval"), {"months": 2, "hour": 16}, "calendarinterval: none: two jobs, or"),
        ("add_job", (tick, "cron"), {"year": 2030, "week": 3}, "week=: leave it away"),
        ("add_job", (tick, CronTrigger(year=2030, jitter=3)), {"id": "x"}, "year=: leave it away"),
        ("add_job", (tick, IntervalTrigger(1, end_date="2030-01-01")), {}, "end_date=: leave it away"),
        ("add_job", (tick, "cron"), {"day": 13, "day_of_week": "fri"}, "both to hold, cron either"),
        ("add_job", (tick, "cron"), {"day": 13, "max_instances": 3}, "max_instances=: always 1"),
        ("add_job", ("shop:tick", "cron"), {"hour": 3}, "'shop:tick' is text: import it"),
        ("add_job", (tick, "x", 5), {}, "trigger: 5 is no schedule"),
        ("add_job", (tick, "x", numpy.zeros(2)), {}, "is no schedule"),
        ("add_job", (tick, "interval", 5), {"hours": numpy.ones(2), "kwargs": [1]}, "scheduler.add_interval_job("),
        ("add_job", (tick, "x", timedelta(1)), {}, "is no schedule"),
        ("add_job", (), {}, "missing a required argument: 'func'"),
        (INTERVAL, (), {}, "missing a required argument: 'func'"),
        (INTERVAL, (tick,), {"minutes": 3}, "missing a required argument: 'job_id'"),
        (INTERVAL, (tick, "x", 1, 2, 3, 4), {}, "too many positional arguments"),
        (INTERVAL, (tick, "x"), {"minute": 3}, "did you mean 'minutes'?"),
        (INTERVAL, (tick, "x"), {"minutes": 3, "retrys": 2}, "did you mean 'retries'?"),
        (INTERVAL, (tick, "x"), {"interval": timedelta(1)}, "interval=: no argument of"),
        (CRON, (tick, "x"), {"day_of_week": 1, "coalesce": True}, "APScheduler counts from Monday, cron"),
        (CRON, (tick, "x"), {"hours": 3}, "did you mean 'hour'?"),
        (CRON, (tick, "x"), {"cron": "0 3 * * *"}, "did you mean 'cron_expression'?"),
        (CRON, (tick, "x"), {"weekday": "mon", "hour": 3}, "did you mean 'day_of_week'?"),
        (CRON, (tick, "x"), {"crontab": "0 3 * * *"}, "did you mean 'cron_expression'?"),
        (CRON, (tick, "x"), {"at": "03:00"}, "did you mean 'hour'?"),
        (CRON, (tick, "x"), {"hour": 3, "tz": "UTC"}, "did you mean 'timezone'?"),
        (CRON, (tick, "x"), {"hour": 3, "timezone": "Europe/Madird"}, "did you mean 'Europe/Madrid'?"),
        (CRON, (tick, "x"), {"hour": 3, "timezone": "europe/madrid"}, "did you mean 'Europe/Madrid'?"),
        (INTERVAL, (tick, "x"), {"every": "5m"}, "did you mean 'minutes'?"),
        (INTERVAL, (tick, "x"), {"minutes": 3, "retry": 2}, "did you mean 'retries'?"),
        (INTERVAL, (tick, "x"), {"minutes": "5"}, "hint: it is text: write minutes=5, without quotes"),
        (INTERVAL, (tick, "x"), {"minutes": 5, "timeout": 0}, "0 s is not in the range 0.000001 to 31622400 s"),
        (CRON, (tick, "x", "0 3 * * *"), {}, "hint: cron_expression='0 3 * * *'"),
        (CRON, (tick, "x"), {"day": "2nd mon"}, "hint: day_of_week='mon#2'"),
        (CRON, (tick, "x"), {"day": "last mon"}, "hint: day_of_week='monL'"),
        (CRON, (tick, "x"), {"hour": 3, "timezone": UTC.__class__(timedelta(hours=2))}, "not the name"),
        ("start", (), {"paused": True}, "start: paused=: `pause_job(id)`"),
        ("get_jobs", (), {"jobstore": "x"}, "systemd keeps the jobs"),
        ("remove_job", ("x", "default"), {}, "too many positional arguments"),
        ("shutdown", (), {"wiat": False}, "did you mean 'wait'?"),
        ("__init__", (), {"job_defaults": {}}, "Scheduler: job_defaults=: the arguments of each job"),
        ("__getattribute__", ("get_job_state",), {}, "did you mean 'get_job_status'?"),
    ],
)  # fmt: skip
def test_a_call_that_does_not_fit_is_no_bare_typeerror(
    scheduler: Scheduler, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(SerenoError) as caught:
        if method == "__getattribute__":
            getattr(scheduler, *args)
        getattr(scheduler, method)(*args, **kwargs)
    assert said in str(caught.value)
    assert scheduler.get_jobs() == []


def test_what_can_be_taken_is_taken(scheduler: Scheduler) -> None:
    scheduler.add_interval_job(tick, "days", weeks=1, days=1, timeout=timedelta(minutes=5))
    scheduler.add_cron_job(tick, "zone", hour=3, timezone=ZoneInfo("Europe/Madrid"))
    scheduler.add_cron_job(tick, "utc", hour=3, timezone=UTC)
    scheduler.add_job(tick, "text", "0 3 * * *")
    scheduler.add_job(tick, "cron", "0 4 * * *")
    assert {job["id"]: job["trigger"] for job in scheduler.get_jobs()} == {
        "days": "interval[192:00:00]",
        "zone": "cron[0 3 * * * timezone=Europe/Madrid]",
        "utc": "cron[0 3 * * * timezone=UTC]",
        "text": "cron[0 3 * * *]",
        "cron": "cron[0 4 * * *]",
    }
    assert scheduler._jobs["days"].timeout_s == 300


def test_a_function_says_it_as_a_method_does() -> None:
    with pytest.raises(UsageError, match="get_scheduler: timezone=: leave it away"):
        get_scheduler("x", timezone="UTC")  # type: ignore[call-arg]
    assert answered(lambda self, wait: wait)(None, 3) == 3
