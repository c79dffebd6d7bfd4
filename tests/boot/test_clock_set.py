"""The wall clock is set forward and back by hours, and goes over the days on which it changes, under a real systemd."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import clocked
import pytest
from clocked import ClockedMachine
from shop import Shop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from machine import Machine

pytestmark = [
    pytest.mark.skipif(clocked.why_not() is not None, reason=str(clocked.why_not())),
    pytest.mark.waiting,
    pytest.mark.first_systemd,
]

BASE = datetime(2027, 2, 10, 12, 20, tzinfo=UTC)
HOURS = timedelta(hours=5)
CALENDARS = ("hourly", "hourly_missed", "madrid_hourly", "madrid_night", "cache_cleanup_hourly")
JOBS = (
    "add_cron_job(shop_jobs.quick, 'hourly', minute=0, timezone='UTC', persistent=False)",
    "add_cron_job(shop_jobs.quick, 'hourly_missed', minute=0, timezone='UTC')",
    "add_cron_job(shop_jobs.quick, 'madrid_hourly', minute=0, timezone='Europe/Madrid')",
    "add_cron_job(shop_jobs.quick, 'madrid_night', hour=2, minute=30, timezone='Europe/Madrid')",
    "add_interval_job(shop_jobs.quick, 'each_20_s', seconds=20)",
    "add_interval_job(shop_jobs.quick, 'each_3_hours', hours=3)",
    "add_interval_job(shop_jobs.quick, 'each_5_years', hours=5 * 365 * 24)",
)
DEADLINE_S = 90.0
# Between what a command inside said and the moment at which it did.
CALL = timedelta(seconds=15)


@pytest.fixture(scope="module")
def shop(boot: Callable[..., Machine], installed_layers: tuple[Path, ...]) -> Iterator[Shop]:
    """Jobs of each kind that have all run since the clock was set to BASE, but for the one of each five years."""
    with boot(*installed_layers) as machine:
        Shop(machine).install(*JOBS)
        machine.stop()
        with ClockedMachine((machine.upper, *installed_layers)) as clocked_machine:
            shop = Shop(clocked_machine.start())
            set_clock(shop, BASE)
            wait_for(shop, lambda: {*CALENDARS, "each_3_hours"} <= set(runs(shop)), "a run of each")
            yield shop


def set_clock(shop: Shop, moment: datetime) -> None:
    assert isinstance(shop.machine, ClockedMachine)
    shop.machine.set_clock(moment)


def now(shop: Shop) -> datetime:
    assert isinstance(shop.machine, ClockedMachine)
    return shop.machine.now()


def wait_for(shop: Shop, predicate: Callable[[], object], what: str) -> None:
    shop.machine.wait_for(predicate, deadline_s=DEADLINE_S, what=what)


def runs(shop: Shop) -> dict[str, int]:
    """Finished runs of each job so far."""
    counts: dict[str, int] = {}
    for record in shop.machine.journal("SERENO_STATUS=success"):
        counts[record["SERENO_JOB"]] = counts.get(record["SERENO_JOB"], 0) + 1
    return counts


def elapse(shop: Shop, job_id: str) -> datetime | None:
    """The next one, to the second; None while the job runs."""
    found = shop.next_elapse(job_id)
    return None if found is None else datetime.fromtimestamp(found // 1_000_000, UTC)


def remaining(shop: Shop, job_id: str) -> timedelta:
    next_run = elapse(shop, job_id)
    assert next_run is not None
    return next_run - now(shop)


def test_a_clock_set_forward_by_hours_makes_up_once_and_leaves_intervals_and_lifetimes_alone(
    shop: Shop,
) -> None:
    shop.machine.run("sereno", "cache", "set", "kept", "1", "--ttl", "3600")
    before, left = runs(shop), remaining(shop, "each_3_hours")
    set_clock(shop, BASE + HOURS)
    for job_id in ("hourly", "hourly_missed", "madrid_hourly", "cache_cleanup_hourly"):
        following = (BASE + HOURS).replace(minute=0) + timedelta(hours=1)
        wait_for(
            shop,
            lambda job_id=job_id, following=following: elapse(shop, job_id) == following,
            f"{job_id} on its grid",
        )
    goes_on = runs(shop)["each_20_s"]
    wait_for(shop, lambda: runs(shop)["each_20_s"] > goes_on, "the short interval")
    after = runs(shop)
    made_up = {job_id: after[job_id] - before[job_id] for job_id in (*CALENDARS, "each_3_hours")}
    assert made_up == {
        **dict.fromkeys(CALENDARS, 1), "madrid_night": 0, "each_3_hours": 0,
    }  # fmt: skip
    # The interval counts the time that passed, not the clock's.
    assert left - 3 * CALL - timedelta(seconds=DEADLINE_S) < remaining(shop, "each_3_hours") < left
    assert shop.machine.run("sereno", "cache", "get", "kept").stdout == "1\n"


def test_a_clock_set_back_by_hours_holds_up_no_job_and_revives_no_entry(shop: Shop) -> None:
    shop.machine.run("sereno", "cache", "set", "brief", "1", "--ttl", "0.1")
    before, left = runs(shop), remaining(shop, "each_3_hours")
    back = now(shop) - HOURS
    set_clock(shop, back)
    following = back.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    for job_id in ("hourly", "hourly_missed", "madrid_hourly", "cache_cleanup_hourly"):
        wait_for(
            shop, lambda job_id=job_id: elapse(shop, job_id) == following, f"{job_id} on its grid"
        )
    wait_for(shop, lambda: runs(shop)["each_20_s"] > before["each_20_s"] + 1, "the short interval")
    after = runs(shop)
    assert {job_id: after[job_id] - before[job_id] for job_id in (*CALENDARS, "each_3_hours")} == (
        dict.fromkeys((*CALENDARS, "each_3_hours"), 0)
    )
    assert remaining(shop, "each_3_hours") < left
    assert shop.machine.run("sereno", "cache", "get", "brief", check=False).returncode == 3
    set_clock(shop, following - timedelta(seconds=2))
    wait_for(shop, lambda: runs(shop)["hourly"] == before["hourly"] + 1, "the run at the hour")


def test_an_interval_that_has_not_run_since_the_boot_is_not_late_by_what_the_clock_was_set_back(
    shop: Shop,
) -> None:
    interval = timedelta(days=5 * 365)
    assert remaining(shop, "each_5_years") < interval
    set_clock(shop, now(shop) - timedelta(days=700))
    try:
        wait_for(shop, lambda: remaining(shop, "each_5_years") <= interval, "a new first elapse")
        assert remaining(shop, "each_5_years") > interval - timedelta(minutes=5)
        assert "each_5_years" not in runs(shop)
    finally:
        set_clock(shop, BASE)


@pytest.mark.long
@pytest.mark.parametrize(
    ("evening", "hours", "nights"),
    [
        # The clock goes from 01:59:59 to 03:00: 02:30 does not exist.
        (datetime(2027, 3, 27, 22, 10, tzinfo=UTC), 4, 0),
        # From 02:59:59 back to 02:00: 02:30 comes twice, the job at the first.
        (datetime(2027, 10, 30, 22, 10, tzinfo=UTC), 4, 1),
    ],
    ids=["spring", "autumn"],
)
def test_on_the_days_the_clocks_change_no_hour_is_lost_and_no_night_comes_twice(
    shop: Shop, evening: datetime, hours: int, nights: int
) -> None:
    set_clock(shop, evening)
    wait_for(
        shop,
        lambda: elapse(shop, "madrid_hourly") == evening.replace(hour=23, minute=0),
        "the evening",
    )
    before = runs(shop)
    moment = evening.replace(minute=30)
    # To each half hour: the jobs' times are all among them.
    for _ in range(2 * hours):
        set_clock(shop, moment - timedelta(seconds=1))
        wait_for(
            shop, lambda moment=moment: now(shop) > moment + timedelta(seconds=2), "the half hour"
        )
        wait_for(
            shop,
            lambda moment=moment: all((elapse(shop, job) or moment) > moment for job in CALENDARS),
            f"all runs of {moment}",
        )
        moment += timedelta(minutes=30)
    after = runs(shop)
    assert after["madrid_hourly"] - before["madrid_hourly"] == hours
    assert after["madrid_night"] - before["madrid_night"] == nights
