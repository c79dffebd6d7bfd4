"""`sereno explain`: the meaning, the lines, the elapses that systemd computes, and the warnings."""

import json
import shutil
from datetime import UTC, datetime

import pytest

from sereno import cli
from sereno.cli.explain import preview, read_span
from sereno.errors import InvalidTrigger, NotAvailable, SystemdError, UsageError
from sereno.manager import analyze
from sereno.manager.analyze import next_elapses
from sereno.triggers import CronTrigger, IntervalTrigger

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
needs_systemd_analyze = pytest.mark.skipif(
    shutil.which(analyze.PROGRAM) is None, reason="no systemd-analyze (package systemd)"
)


def times(found: tuple[datetime, ...]) -> list[str]:
    return [elapse.isoformat() for elapse in found]


@needs_systemd_analyze
def test_elapses_of_several_lines_are_those_of_one_timer() -> None:
    found = next_elapses(["*-*-13 00:00:00 UTC", "Fri *-*-* 00:00:00 UTC"], 4, after_s=NEW_YEAR - 1)
    assert [f"{elapse:%a %d}" for elapse in found] == ["Fri 02", "Fri 09", "Tue 13", "Fri 16"]


@needs_systemd_analyze
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_elapses_are_the_same_moments_whatever_the_machines_zone_prints(zone, monkeypatch) -> None:
    monkeypatch.setenv("TZ", zone)
    found = next_elapses(["*-*-* 12:00:00 UTC"], 2, after_s=NEW_YEAR)
    assert found == [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2)]


@needs_systemd_analyze
def test_an_expression_that_never_elapses_has_none_and_a_bad_one_is_refused() -> None:
    assert next_elapses(["*-02-30"], 3) == []
    with pytest.raises(SystemdError, match="Failed to parse calendar"):
        next_elapses(["nonsense"], 3)


@needs_systemd_analyze
@pytest.mark.parametrize(
    ("month", "expected"),
    [
        # The clocks skip 02:30 on the 29th of March, and come to it twice on the 25th of October.
        (3, ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]),
        (10, ["2026-10-24T02:30:00+02:00", "2026-10-25T02:30:00+02:00"]),
    ],
)
def test_elapses_are_shown_in_the_zone_of_the_schedule(month, expected) -> None:
    after_s = datetime(2026, month, 27 if month == 3 else 23, 12, tzinfo=UTC).timestamp()
    nightly = CronTrigger.from_expression("30 2 * * *", timezone="Europe/Berlin")
    shown = preview(nightly, 2, after_s=after_s)
    assert times(shown.elapses) == expected
    assert len(shown.warnings) == 2
    assert shown.lines == ("OnCalendar=*-*-* 02:30:00 Europe/Berlin",)


def test_an_interval_has_a_meaning_and_no_elapses_of_its_own() -> None:
    shown = preview(IntervalTrigger(minutes=90), 5)
    assert shown.meaning == "Every 1h 30min, counted from the start of the run before."
    assert (shown.lines, shown.elapses, shown.warnings) == (("OnUnitActiveSec=1h 30min",), (), ())


def test_a_run_of_each_boot_has_a_meaning_and_no_elapses(capsys) -> None:
    assert cli.main(["explain", "@reboot"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Once after each boot, for the first time after the next one.",
        "OnCalendar=2000-01-01 00:00:00 UTC",
        "warning: its line alone never elapses: sereno has systemd make up for it, once in each boot",
    ]
    assert cli.main(["explain", " @reboot ", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["trigger"], said["elapses"]) == ("cron[@reboot]", [])


@pytest.mark.parametrize("count", [-1, 1001])
def test_a_count_out_of_range_is_refused(count) -> None:
    with pytest.raises(UsageError, match="not in the range 0 to 1000"):
        preview(IntervalTrigger(minutes=90), count)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("1h30m", 5400), ("1h 30min 15s", 5415), ("2w", 1209600), (" 7 d ", 604800)],
)
def test_a_span_is_read_in_its_units(text, seconds) -> None:
    assert read_span(text) == IntervalTrigger(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "m", "1.5h", "-1h", "1h1h", "1m 1min", "1y", "0s"])
def test_what_is_no_span_is_refused(text) -> None:
    with pytest.raises(InvalidTrigger, match=r"^(--every|interval): "):
        read_span(text)


def test_without_the_program_it_says_what_is_missing_and_the_rest_works(
    monkeypatch, capsys
) -> None:
    monkeypatch.setattr(analyze, "PROGRAM", "/nonexistent/systemd-analyze")
    with pytest.raises(NotAvailable, match=r"there is no /nonexistent/systemd-analyze"):
        preview(CronTrigger.from_expression("@daily"), 1)
    assert cli.main(["explain", "@daily"]) == NotAvailable.exit_code
    assert "hint: apt install systemd" in capsys.readouterr().err
    assert cli.main(["explain", "@daily", "-n", "0"]) == 0
    assert cli.main(["explain", "--every", "90m"]) == 0


@needs_systemd_analyze
def test_explain_prints_a_sentence_the_lines_the_elapses_and_the_warnings(capsys) -> None:
    assert cli.main(["explain", "0 3 13 * fri", "--timezone", "UTC", "-n", "2"]) == 0
    meaning, first, second, *elapsing, warning = capsys.readouterr().out.splitlines()
    assert meaning == ("At 03:00 on day 13 of the month or on Friday, UTC time.")
    assert {first, second} == {
        "OnCalendar=*-*-13 03:00:00 UTC",
        "OnCalendar=Fri *-*-* 03:00:00 UTC",
    }
    assert len(elapsing) == 2
    assert all(line.startswith("next: ") and line.endswith(" 03:00:00 UTC") for line in elapsing)
    assert warning.startswith("warning: day and weekday are both restricted")


@needs_systemd_analyze
def test_explain_as_json_has_the_same(capsys) -> None:
    assert cli.main(["explain", "@daily", "--timezone", "UTC", "-n", "1", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["trigger"] == "cron[@daily timezone=UTC]"
    assert said["lines"] == ["OnCalendar=*-*-* 00:00:00 UTC"]
    assert [elapse[10:] for elapse in said["elapses"]] == ["T00:00:00+00:00"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["61 * * * *"], "minute: "),
        (["0 3 * * *", "--timezone", "Nowhere/City"], "timezone: "),
        (["--every", "90"], "--every: "),
        (["--every", "90m", "--timezone", "UTC"], "--timezone: "),
        (["@daily", "-n", "-1"], "-n: "),
        (["@reboot", "--timezone", "UTC"], "timezone: 'UTC' means nothing to @reboot"),
        (["@reboot now"], "cron_expression: "),
    ],
)
def test_a_schedule_that_cannot_be_right_ends_with_2(words, says, capsys) -> None:
    assert cli.main(["explain", *words]) == 2
    assert capsys.readouterr().err.startswith(f"sereno: {says}")
