"""What is enabled and what is paused, as a preset file (systemd.preset(5)).

systemd presets all units in the first boot of a machine, which is one without a machine id, as images are, and where
somebody calls `systemctl preset-all`: without such a file it enables what is paused, and a distribution whose presets
disable all else disables every timer.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sereno.manager.names import TARGET
from sereno.units.durable import remove_if_empty, replace_all

# Before those of a distribution: the first line that fits a unit decides.
NAME = "10-sereno.preset"
_HEADER = "# Written by sereno with each change of its timers, for first boots and `systemctl preset-all`.\n\n"


def write(units: Path, *, enabled: Collection[str], paused: Collection[str]) -> None:
    """Write the preset file that belongs to the directory `units`; without any timer, delete it.

    Args:
        enabled, paused: names of the timers.
    """
    directory = units.with_name(f"{units.name}-preset")
    if not enabled and not paused:
        (directory / NAME).unlink(missing_ok=True)
        remove_if_empty(directory)
        return
    is_on = (units / "timers.target.wants" / TARGET).is_symlink()
    lines = [f"{'enable' if is_on else 'disable'} {TARGET}"]
    # Of a unit without [Install] too: to disable a template removes the links of its instances.
    lines += [*(f"disable {name}" for name in sorted(paused)), "enable sereno*"]
    text = _HEADER + "\n".join(lines) + "\n"
    with suppress(FileNotFoundError):
        if (directory / NAME).read_text("utf-8") == text:
            return
    directory.mkdir(exist_ok=True)
    replace_all(str(directory), {NAME: text})
