"""Units printed by `sereno import-crontab` do in a real systemd what cron did with the line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from machine import Machine

CRONTAB = r"""
GREETING = "100% \ 'sure'  $HOME"
30 2 * * *  ana   printf '<\%s>' "$GREETING" "$HOME" "$PWD" 'a  b' "${NONE:-c}" \\ "$LOGNAME"
@daily      root  cat -E%  Dear all,%%100\% "done" \ $HOME ñ  %
@reboot     root  echo started
"""


def test_commands_get_the_words_the_variables_and_the_input_that_cron_gives(
    machine: Machine,
) -> None:
    machine.run("useradd", "--create-home", "ana")
    machine.write("/root/crontab", CRONTAB)
    printed = machine.run("sereno", "import-crontab", "--system", "/root/crontab").stdout
    for path, text in re.findall(r"^# (/etc/\S+) \(line \d+\)\n((?:(?!^# ).*\n)*)", printed, re.M):
        machine.write(path, text)
    machine.run("systemctl", "daemon-reload")

    def output_of(unit: str) -> list[str]:
        machine.run("systemctl", "start", unit)
        records = machine.journal("_TRANSPORT=stdout", unit=unit)
        return [record["MESSAGE"] for record in records]

    assert output_of("cron-printf-3.service") == [
        r"<100% \ 'sure'  $HOME></home/ana></home/ana><a  b><c><\><ana>"
    ]
    assert output_of("cron-cat-4.service") == [
        "  Dear all,$",
        "$",
        '100% "done" \\ $HOME ñ  $',
    ]
    machine.run("systemctl", "enable", "--now", "cron-printf-3.timer", "cron-cat-4.timer")
    machine.run("systemctl", "enable", "cron-echo-5.service")
    timers = {timer["unit"]: timer["next"] for timer in machine.list_timers()}
    assert timers["cron-printf-3.timer"] and timers["cron-cat-4.timer"]
    machine.reboot()
    assert "started" in [
        record["MESSAGE"] for record in machine.journal(unit="cron-echo-5.service")
    ]
