"""Whether a run comes too late, and whether an elapse passed during it; the elapses are systemd's own."""

import logging
import shutil
import subprocess
from datetime import UTC, datetime

import pytest

from sereno.manager import analyze
from sereno.manager.systemctl import Systemctl
from sereno.records import messages
from sereno.run.lateness import Misfires
from sereno.setting_names import MISFIRE_GRACE_S, TIMER_SLACK_S

pytestmark = pytest.mark.skipif(
    shutil.which(analyze.PROGRAM) is None, reason="no systemd-analyze (package systemd)"
)
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
DAILY = "*-*-* 00:00:00 UTC"
EACH_MINUTE = "*-*-* *:*:00"


def judge(
    *calendars: str, elapsed: str = "1h 2.5s", grace_s: float | None = 60, slack_s: float = 1
) -> Misfires:
    """The run before ended an hour and two seconds after the boot."""
    lines = [
        f"TimersCalendar={{ OnCalendar={calendar} ; next_elapse=Thu 2026-01-01 00:00:00 UTC }}"
        for calendar in calendars
    ]
    service = "InactiveEnterTimestampMonotonic=3602000000"
    shown = "\n".join([*lines, f"LastTriggerUSecMonotonic={elapsed}\n\n{service}", ""])

    def call(argv, _):
        return subprocess.CompletedProcess(argv, 0, shown, "")

    grace = {} if grace_s is None else {MISFIRE_GRACE_S: str(grace_s)}
    environ = {**grace, TIMER_SLACK_S: str(slack_s)}
    return Misfires("nightly", environ, Systemctl(call=call))


@pytest.mark.parametrize(
    ("late_s", "skipped"),
    [(0, False), (0.2, False), (60, False), (60.9, False), (61.1, True), (7200, True)],
)
def test_a_run_is_skipped_later_than_its_grace_and_the_timers_slack(late_s, skipped) -> None:
    assert (judge(DAILY).skip(MIDNIGHT + late_s) is not None) is skipped


def test_the_latest_elapse_counts_not_the_first_that_was_missed() -> None:
    assert not judge(EACH_MINUTE).skip(MIDNIGHT + 10.5)
    assert not judge(DAILY, "*-*-* 05:00:00 UTC").skip(MIDNIGHT + 5 * 3600 + 30)
    assert judge(DAILY, "*-*-* 05:00:00 UTC").skip(MIDNIGHT + 4 * 3600)


@pytest.mark.parametrize("elapsed", ["1h 1.999999s", "59min", "0", ""])
def test_a_run_that_the_timer_did_not_start_is_never_skipped(elapsed) -> None:
    assert not judge(DAILY, elapsed=elapsed).skip(MIDNIGHT + 7200)


@pytest.mark.parametrize("elapsed", ["1h 2.000001s", "1month 2w 3d 1us", "1y"])
def test_a_run_is_the_timers_if_that_elapsed_after_the_run_before(elapsed) -> None:
    assert judge(DAILY, elapsed=elapsed).skip(MIDNIGHT + 7200)


def test_a_timer_without_calendar_is_not_judged() -> None:
    assert not judge().skip(MIDNIGHT + 7200)


@pytest.mark.parametrize(
    ("calendar", "elapse"),
    [
        (DAILY, "2026-01-01T00:00:00+00:00"),
        ("*-12-24 18:00:00 UTC", "2025-12-24T18:00:00+00:00"),
        ("*-02-29 00:00:00 UTC", "2024-02-29T00:00:00+00:00"),
        ("*-*-* 00:00..30:00 UTC", "2026-01-01T00:30:00+00:00"),
    ],
)
def test_a_skipped_run_is_recorded_with_the_elapse_that_it_missed(calendar, elapse) -> None:
    start_s = MIDNIGHT + 3 * 3600
    text, fields = judge(calendar).skip(start_s)
    late_s = start_s - datetime.fromisoformat(elapse).timestamp()
    shown = datetime.fromisoformat(elapse).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert text == (
        f"Tarea nightly omitida: prevista para {shown}, con {late_s:.0f}s de retraso (margen: 60s)"
    )
    assert fields == {"SERENO_ELAPSE": elapse, "SERENO_LATE_S": f"{late_s:.3f}"}


@pytest.mark.parametrize(
    ("start_s", "end_s", "elapse"),
    [
        (0.1, 59, None),
        (0.1, 60.5, None),
        (0.1, 61.5, "2026-01-01T00:01:00+00:00"),
        (0.1, 250, "2026-01-01T00:04:00+00:00"),
        # More elapses than are asked for at once.
        (0.1, 130 * 60 + 30, "2026-01-01T02:10:00+00:00"),
    ],
)
def test_the_last_elapse_that_surely_passed_during_a_run_is_recorded(
    start_s, end_s, elapse, caplog
) -> None:
    misfires = judge(EACH_MINUTE)
    assert not misfires.skip(MIDNIGHT + start_s)
    misfires.note_overrun(MIDNIGHT + start_s, MIDNIGHT + end_s)
    found = [record.SERENO_ELAPSE for record in caplog.records]
    assert found == ([elapse] if elapse else [])
    assert all(messages.OVERRUN_INTERVAL.kind == record.MESSAGE_ID for record in caplog.records)


def test_a_run_by_hand_that_an_elapse_passes_is_an_overrun_too(caplog) -> None:
    misfires = judge(EACH_MINUTE, elapsed="59min")
    assert not misfires.skip(MIDNIGHT + 30)
    misfires.note_overrun(MIDNIGHT + 30, MIDNIGHT + 90)
    assert [record.MESSAGE_ID for record in caplog.records] == [messages.OVERRUN_INTERVAL.kind]


@pytest.mark.parametrize("elapsed", ["2h", "59min"])
def test_without_a_grace_no_run_is_skipped_and_an_overrun_is_recorded_all_the_same(
    elapsed, caplog
) -> None:
    misfires = judge(EACH_MINUTE, elapsed=elapsed, grace_s=None)
    assert not misfires.skip(MIDNIGHT + 7200)
    misfires.note_overrun(MIDNIGHT + 0.1, MIDNIGHT + 50)
    assert caplog.records == []
    misfires.note_overrun(MIDNIGHT + 0.1, MIDNIGHT + 90)
    assert [record.MESSAGE_ID for record in caplog.records] == [messages.OVERRUN_INTERVAL.kind]


def test_a_run_without_a_timer_has_no_overrun(caplog) -> None:
    judge(grace_s=None).note_overrun(MIDNIGHT, MIDNIGHT + 86400)
    assert caplog.records == []


def test_what_cannot_be_asked_is_said_and_nothing_is_skipped(monkeypatch, caplog) -> None:
    monkeypatch.setattr(analyze, "PROGRAM", "/nonexistent")
    caplog.set_level(logging.INFO)
    misfires = judge(DAILY)
    assert not misfires.skip(MIDNIGHT + 7200)
    misfires.note_overrun(MIDNIGHT, MIDNIGHT + 86400)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "retraso no comprobado" in said[0]
    assert "solape no comprobado" in said[1]
    # Only the first was asked for.
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]
