"""The user data of docs/servers.md in a first boot, run as cloud-init runs it: by a service that the boot waits for."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from pages import blocks

if TYPE_CHECKING:
    from machine import Machine

SERVICE = """
[Unit]
After=network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
StandardInput=null
TimeoutStartSec=150
ExecStart=/bin/sh /root/runcmd
[Install]
WantedBy=multi-user.target
"""


def test_the_first_boot_of_the_page_installs_without_anybody(blank_machine: Machine) -> None:
    machine = blank_machine
    (user_data,) = (block.text for block in blocks() if block.argument == "servers/user-data")
    assert user_data.startswith("#cloud-config\n")
    # A command that is text is the shell's, one that is a list is taken as it is.
    commands = "\n".join(
        each if isinstance(each, str) else shlex.join(each)
        for each in yaml.safe_load(user_data)["runcmd"]
    )
    version = re.search(r"sereno-[\d.]+\d", commands)
    assert version
    commands = re.sub(r"curl -fsS \S+", "cat /root/archive", commands)
    commands = commands.replace("/install.sh", "/install.sh --wheels /wheels")
    pack = ("tar", "-czf", "/root/archive", f"--transform=s,^src,{version[0]},", "-C", "/", "src")
    machine.run(*pack)
    machine.write("/root/runcmd", f"#!/bin/sh\n{commands}\n")
    machine.write("/etc/systemd/system/first-boot.service", SERVICE)
    machine.run("systemctl", "enable", "first-boot.service")
    machine.reboot()
    machine.wait_for(
        lambda: machine.show("first-boot.service", "ActiveState")["ActiveState"] == "active",
        what="the end of the first boot's commands",
        deadline_s=180,
    )
    (job,) = json.loads(machine.run("sereno", "list", "--json").stdout)
    assert (job["id"], job["active"], job["last_status"]) == (
        "cache_cleanup_hourly",
        True,
        "success",
    )
    said = machine.run("journalctl", "-u", "first-boot.service", "-o", "cat").stdout
    assert "\nchanged\n" in said
    # Anybody may ask what a run would change.
    install = f"/usr/local/src/{version[0]}/install.sh"
    asked = machine.run(install, "--dry-run", "--wheels", "/wheels", user="nobody")
    assert asked.stdout == "unchanged\n"
