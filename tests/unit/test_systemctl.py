"""What is read out of systemctl's answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from sereno.systemctl import Systemctl, calendars_in

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

    def call(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
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
            call=lambda argv, shown=shown: subprocess.CompletedProcess(argv, 0, shown, "")
        )
        assert round(manager.loaded_s() * 1e6) == expected_us
