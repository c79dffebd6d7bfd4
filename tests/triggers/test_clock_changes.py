"""When clocks change, no run of an hourly schedule is lost, and a schedule with hours keeps the zone's time."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from trigger_judges import elapses_of_timers

from sereno.triggers import CronTrigger, machine_zone, warnings
from sereno.triggers.zone import ZONE_DATABASE, clocks, minutes_in_utc

CHANGING = ("Europe/Berlin", "Europe/London", "America/New_York", "America/St_Johns", "Australia/Adelaide",
            "Pacific/Chatham", "Antarctica/Troll", "Africa/Casablanca")  # fmt: skip
CONSTANT = ("UTC", "Etc/GMT+5", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Eucla")
EVERY_HOUR = (
    "5 * * * *",
    "@hourly",
    "*/7 * * * *",
    "*/45 * * * *",
    "10,40 * * * *",
    "*/15 * * * *",
    "0-9 * * * *",
)


def changes(zone: ZoneInfo, year: int) -> list[datetime]:
    """The hours of `year` in which the zone's offset changes."""
    start = datetime(year, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=hour) for hour in range(366 * 24)]
    offsets = itertools.pairwise(hour.astimezone(zone).utcoffset() for hour in hours)
    return [hour for hour, (before, after) in zip(hours, offsets, strict=False) if before != after]


def minutes_after(base: datetime, zone: ZoneInfo, hours: int) -> list[tuple[str, int]]:
    """Every minute after `base`, as UTC text, and which one of its hour it is by the zone's clock."""
    each = (base + timedelta(minutes=step) for step in range(1, hours * 60))
    return [(str(at.replace(tzinfo=None)), at.astimezone(zone).minute) for at in each]


@pytest.mark.oracle
@pytest.mark.parametrize("zone_name", [*CHANGING, *CONSTANT])
def test_a_schedule_of_every_hour_loses_and_doubles_no_run_in_any_zone(zone_name: str) -> None:
    zone = ZoneInfo(zone_name)
    around = changes(zone, 2027) or [datetime(2027, 3, 28, 1, tzinfo=UTC)]
    given = [CronTrigger.from_expression(text, timezone=zone_name) for text in EVERY_HOUR]
    # Lines that leave the zone to the machine cannot be read here, where the judge's machine is in UTC.
    timers = [trigger.timer_lines() for trigger in given]
    for trigger, lines in zip(map(CronTrigger.from_expression, EVERY_HOUR), timers, strict=True):
        assert trigger.timer_lines(local_zone=zone_name) == tuple(
            line.removesuffix(f" {zone_name}") if zone_name != "UTC" else line for line in lines
        )
    for change in around:
        base = change - timedelta(hours=4)
        clock = minutes_after(base, zone, 9)
        right = [[at for at, minute in clock if minute in trigger.minutes] for trigger in given]
        # systemd 252 forks for each elapse in a zone.
        most = max(map(len, right))
        for text, ours, wanted in zip(
            EVERY_HOUR, elapses_of_timers(timers, base, most), right, strict=True
        ):
            assert ours[: len(wanted)] == wanted, f"{text} around {change}"


@pytest.mark.parametrize(
    "text", ["*/15 * * * *", "*/5 * * * *", "* * * * *", "2-59/5 * * * *", "7,22,37,52 * * * *"]
)
def test_minutes_that_look_the_same_from_every_quarter_are_utc_without_knowing_the_zone(
    text: str,
) -> None:
    (line,) = CronTrigger.from_expression(text).timer_lines()
    assert line.endswith(" UTC")


def test_minutes_that_look_the_same_from_every_half_hour_do_not_do_for_all_zones() -> None:
    # Nepal is 5:45 ahead of UTC, the Chatham Islands 12:45 and 13:45.
    assert minutes_in_utc((0, 30), None) is None
    assert minutes_in_utc((0, 30), "Asia/Kolkata") is None
    assert minutes_in_utc((0, 30), "Australia/Adelaide") == (0, 30)
    assert minutes_in_utc((0, 30), "Pacific/Chatham") == (15, 45)


def test_every_zone_is_off_utc_by_quarters_of_an_hour() -> None:
    # What the rule above rests on. If this fails, a country has chosen otherwise: see `_COMMON_STEP_MIN`.
    names = [
        line.split("\t")[2].strip()
        for line in (ZONE_DATABASE / "zone1970.tab").read_text("utf-8").splitlines()
        if not line.startswith("#")
    ]
    assert len(names) > 300
    assert {offset % 15 for name in names for offset in clocks(name).offsets_min} == {0}


def test_a_zone_that_is_not_known_keeps_its_own_time() -> None:
    assert CronTrigger.from_expression("5 * * * *").timer_lines() == ("OnCalendar=*-*-* *:05:00",)


def test_a_part_of_an_hour_in_a_zone_without_changes_stays_readable() -> None:
    trigger = CronTrigger.from_expression("5 * * * *", timezone="Asia/Kolkata")
    assert trigger.timer_lines() == ("OnCalendar=*-*-* *:05:00 Asia/Kolkata",)
    assert CronTrigger.from_expression("5 * * * *").timer_lines(local_zone="Asia/Kolkata") == (
        "OnCalendar=*-*-* *:05:00",
    )


def test_a_part_of_an_hour_in_a_zone_with_changes_is_shifted() -> None:
    trigger = CronTrigger.from_expression("5 * * * *", timezone="Pacific/Chatham")
    assert trigger.timer_lines() == ("OnCalendar=*-*-* *:20:00 UTC",)


def test_on_lord_howe_island_every_hour_keeps_the_zones_time_and_loses_what_comes_twice() -> None:
    # Its clocks change by half an hour, so no list of UTC's minutes is minute 50 of its hours all the year.
    zone = "Australia/Lord_Howe"
    assert minutes_in_utc((50,), zone) is None
    assert minutes_in_utc((5, 35), zone) == (5, 35)
    trigger = CronTrigger.from_expression("50 * * * *", timezone=zone)
    assert trigger.timer_lines() == ("OnCalendar=*-*-* *:50:00 Australia/Lord_Howe",)
    (lost,) = warnings(trigger)
    assert lost.startswith("no runs of their own in the time that comes twice")


@pytest.mark.parametrize(
    "text", ["0 * * * 1-5", "0 * 1 * *", "0 * * 6 *", "0 0-22 * * *", "*/15 3 * * *"]
)
def test_a_schedule_that_names_an_hour_or_a_day_is_not_written_in_utc(text: str) -> None:
    for line in CronTrigger.from_expression(text, timezone="Europe/Berlin").timer_lines():
        assert line.endswith(" Europe/Berlin")


def berlin(text: str, base: datetime, count: int) -> list[str]:
    lines = CronTrigger.from_expression(text, timezone="Europe/Berlin").timer_lines()
    return elapses_of_timers([lines], base, count)[0]


@pytest.mark.oracle
def test_02_30_is_left_out_on_the_day_on_which_it_does_not_exist() -> None:
    # Debian's cron would run it at 03:00 of that day.
    elapses = berlin("30 2 * * *", datetime(2027, 3, 27, 0, tzinfo=UTC), 3)
    assert elapses == ["2027-03-27 01:30:00", "2027-03-29 00:30:00", "2027-03-30 00:30:00"]


@pytest.mark.oracle
def test_02_30_runs_once_the_first_time_on_the_day_on_which_it_comes_twice() -> None:
    # As Debian's cron does.
    elapses = berlin("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert elapses == ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]


@pytest.mark.oracle
def test_03_00_runs_every_day() -> None:
    elapses = berlin("0 3 * * *", datetime(2027, 3, 27, 0, tzinfo=UTC), 3)
    assert elapses == ["2027-03-27 02:00:00", "2027-03-28 01:00:00", "2027-03-29 01:00:00"]
    elapses = berlin("0 3 * * *", datetime(2026, 10, 24, 0, tzinfo=UTC), 3)
    assert elapses == ["2026-10-24 01:00:00", "2026-10-25 02:00:00", "2026-10-26 02:00:00"]


def test_the_minutes_that_a_zone_skips_and_repeats_are_found() -> None:
    assert (
        clocks("Europe/Berlin").skipped == clocks("Europe/Berlin").repeated == set(range(120, 180))
    )
    assert clocks("Europe/London").skipped == set(range(60, 120))
    assert clocks("America/Santiago").skipped == set(range(60))
    assert clocks("America/Santiago").repeated == set(range(23 * 60, 24 * 60))
    assert clocks("Australia/Lord_Howe").skipped == set(range(120, 150))
    assert clocks("Australia/Lord_Howe").repeated == set(range(90, 120))
    assert clocks("Antarctica/Troll").skipped == set(range(60, 180))
    assert not clocks("Asia/Tokyo").skipped | clocks("Asia/Tokyo").repeated


class TestMachineZone:
    def test_a_link_into_the_database_names_the_zone(self, tmp_path: Path) -> None:
        for target in ("/usr/share/zoneinfo/Europe/Madrid", "../usr/share/zoneinfo/Europe/Madrid"):
            (tmp_path / "etc").mkdir(exist_ok=True)
            (tmp_path / "etc/localtime").unlink(missing_ok=True)
            (tmp_path / "etc/localtime").symlink_to(target)
            assert machine_zone(tmp_path) == "Europe/Madrid"

    def test_without_a_setting_it_is_utc(self, tmp_path: Path) -> None:
        assert machine_zone(tmp_path) == "UTC"

    def test_a_copied_zone_file_is_named_by_etc_timezone_or_not_at_all(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/localtime").write_bytes(b"TZif2")
        assert machine_zone(tmp_path) is None
        (tmp_path / "etc/timezone").write_text("Europe/Madrid\n")
        assert machine_zone(tmp_path) == "Europe/Madrid"

    @pytest.mark.parametrize(
        "target", ["/etc/elsewhere", "/usr/share/zoneinfo/No/Where", "/usr/share/zoneinfo/"]
    )
    def test_a_setting_that_cannot_be_understood_is_not_known(
        self, tmp_path: Path, target: str
    ) -> None:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc/localtime").symlink_to(target)
        assert machine_zone(tmp_path) is None
