"""The README and the pages followed to the letter on a server: every command for a server, and what they show."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import blocks, write_into_checkout

from shipped import copy_of_checkout

if TYPE_CHECKING:
    from machine import Machine

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def commands(text: str) -> str:
    """A server block as root without a network: without sudo, and with the wheels from a folder."""
    return re.sub(r"\bsudo ", "", text).replace("./install.sh", "./install.sh --wheels /wheels")


def without_figures(text: str) -> str:
    """What a machine prints differently each time, the widths of columns included, taken out."""
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?(ms|s\b)?", "N", text))


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_a_newcomer_who_follows_the_pages_gets_what_they_show(
    half_installed_machine: Machine, tmp_path: Path
) -> None:
    machine = half_installed_machine
    shown = ("server", "part of", "shows")
    install, *later = [block for block in blocks() if {block.argument, block.kind} & {*shown}]
    machine.run("cp", "-r", "/src", "/root/sereno")
    run(machine, install.text, "/root/sereno")
    assert "cache_cleanup_hourly" in machine.run("sereno", "list").stdout

    checkout = copy_of_checkout(tmp_path / "sereno")
    write_into_checkout(checkout)
    for path in (*checkout.glob("lib/sereno/jobs/*.py"), *checkout.glob("bin/*")):
        mode = 0o755 if path.parent.name == "bin" else 0o644
        machine.write(f"/root/sereno/{path.relative_to(checkout)}", path.read_text(), mode)
    for block in blocks():
        if block.kind == "file" and block.argument.startswith("/"):
            mode = 0o600 if block.argument.endswith("notify.toml") else 0o644
            machine.write(block.argument, block.text, mode)
    for block in later:
        if block.kind == "part of":
            written = machine.read(block.argument).splitlines()
            assert [line for line in lines(block.text) if line not in written] == []
        elif block.kind == "shows":
            printed = lines(without_figures(machine.run(*block.argument.split()).stdout))
            assert [
                line for line in lines(without_figures(block.text)) if line not in printed
            ] == []
        else:
            run(machine, block.text, "/root/sereno")

    installed = machine.run(
        "sh", "-c", "ls /srv/shop/venv/lib/python3.*/site-packages"
    ).stdout.split()
    assert "orjson" in installed
    assert "urwid" not in installed

    # The last page starts sereno.target again, which is over before the timers are up.
    machine.wait_for(
        lambda: "sereno@cache_report_daily.timer" in machine.run("systemctl", "list-timers").stdout,
        what="the timer of the page's job",
    )
    machine.run("systemctl", "start", "sereno@cache_cleanup_hourly.service")
    assert machine.exists("/var/lib/prometheus/node-exporter/sereno_cache_metadata.prom")
    assert machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""


def run(machine: Machine, text: str, directory: str) -> None:
    script = f"set -eu\ncd {directory}\n{commands(text)}"
    machine.run("sh", "-c", script, env=OFFLINE, timeout=180)
