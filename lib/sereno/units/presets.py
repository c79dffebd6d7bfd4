"""What is enabled and what is paused, as a preset file (systemd.preset(5)).

systemd presets all units in the first boot of a machine, which is one without a machine id, as images are, and where
somebody calls `systemctl preset-all`: without such a file it enables what is paused, and a distribution whose presets
disable all else disables every timer.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from sereno.units.durable import replace_all

# Before those of a distribution: the first line that fits a unit decides.
NAME = "10-sereno.preset"
_HEADER = "# Written by sereno with each change of its timers, for first boots and `systemctl preset-all`.\n\n"


def write(units: Path, *, target: str, switched_on: bool, paused: Collection[str]) -> None:
    """Write the preset file that belongs to the directory `units`, if it would be another one.

    Args:
        target: the unit that starts all timers.
        switched_on: whether it is enabled.
        paused: names of the timers that are not.
    """
    directory = _directory(units)
    lines = [f"{'enable' if switched_on else 'disable'} {target}"]
    # Of a unit without [Install] too: to disable a template removes the links of its instances.
    lines += [*(f"disable {name}" for name in sorted(paused)), "enable sereno*"]
    text = _HEADER + "\n".join(lines) + "\n"
    with suppress(FileNotFoundError):
        if (directory / NAME).read_text("utf-8") == text:
            return
    directory.mkdir(exist_ok=True)
    replace_all(str(directory), {NAME: text})


def remove(units: Path) -> None:
    """Delete that file."""
    (_directory(units) / NAME).unlink(missing_ok=True)
    with suppress(OSError):
        _directory(units).rmdir()


def _directory(units: Path) -> Path:
    return units.with_name(f"{units.name}-preset")
