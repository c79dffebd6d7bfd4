"""What is read out of systemctl's answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from sereno.errors import NoAnswer
from sereno.manager import systemctl
from sereno.manager.systemctl import Systemctl, calendars_in

SHOWN = """\
TimersCalendar={ OnCalendar=*-*-13 00:00:00 ; next_elapse=@1 }
TimersCalendar={ OnCalendar=Fri *-*-* 00:00:00 ; next_elapse=@2 }
ActiveState=active
Id=sereno@a.timer

ActiveState=inactive
Result=
Id=sereno@b.service
"""


def test_many_units_are_shown_by_one_call_and_told_apart() -> None:
    calls: list[Sequence[str]] = []

    def call(argv: Sequence[str], _: float | None) -> subprocess.CompletedProcess[str]:
        calls.append(argv)
        return subprocess.CompletedProcess(argv, 0, SHOWN, "")

    manager = Systemctl(call=call)
    found = manager.show_all(["sereno@a.timer", "sereno@b.service"], "ActiveState", "Result")
    assert len(calls) == 1
    assert calendars_in(found["sereno@a.timer"]["TimersCalendar"]) == [
        "*-*-13 00:00:00",
        "Fri *-*-* 00:00:00",
    ]
    assert found["sereno@b.service"] == {
        "ActiveState": "inactive",
        "Result": "",
        "Id": "sereno@b.service",
    }
    assert manager.show_all([], "ActiveState") == {}
    assert len(calls) == 1


def test_the_units_were_read_at_boot_or_by_the_last_reload() -> None:
    for reloaded, expected_us in (("", 100_500), ("Thu 1970-01-01 00:00:02.000001 UTC", 2_000_001)):
        shown = f"Thu 1970-01-01 00:00:00.100500 UTC\n{reloaded}\n"
        manager = Systemctl(
            call=lambda argv, _, shown=shown: subprocess.CompletedProcess(argv, 0, shown, "")
        )
        assert round(manager.loaded_s() * 1e6) == expected_us


def test_a_manager_that_does_not_answer_is_waited_for_as_long_as_a_run_alone(
    tmp_path, monkeypatch
) -> None:
    """A systemctl that hangs, as where the manager is stopped or its disk is gone."""
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(systemctl, "LIMIT_S", 0.2)
    manager = Systemctl(user=True)
    questions = (
        manager.reload, manager.list_timers, manager.version, manager.loaded_s,
        lambda: manager.states("a*"), lambda: manager.show("a", "b"), lambda: manager.stop(["a.timer"]),
        lambda: manager.start(["a.timer"]), lambda: manager.start(["a.service"], wait=False),
    )  # fmt: skip
    for question in questions:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.2 s") as raised:
            question()
        assert raised.value.hint.startswith("systemctl --user list-jobs")
    # Or one whose own time is over, which is root's.
    for said in ("Transport endpoint is not connected", "Connection timed out"):
        failed = subprocess.CompletedProcess([], 1, "", f"Failed to list units: {said}")
        with pytest.raises(NoAnswer, match=said):
            Systemctl(call=lambda *_, failed=failed: failed).list_timers()
    limits: list[float | None] = []

    def call(argv: Sequence[str], limit_s: float | None) -> subprocess.CompletedProcess[str]:
        limits.append(limit_s)
        return subprocess.CompletedProcess(argv, 0, "", "")

    Systemctl(call=call).start(["a.service"])
    assert limits == [None]
