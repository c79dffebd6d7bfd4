"""What install.sh shows when it is done: what there is now, and what comes next."""

from __future__ import annotations

import os
import pwd
import subprocess

from sereno.errors import JobFailed
from sereno.install.commit import target_is
from sereno.install.places import JOB, Order
from sereno.manager.names import ALL_JOBS, TARGET


def tell(changed: bool) -> None:
    """The last line, for programs: whether anything was changed, or in a dry run would be."""
    print("changed" if changed else "unchanged")


def report(order: Order, changed: bool) -> None:
    if order.dry_run:
        tell(changed)
        return
    name, prefix = f"sereno {order.release}", order.places.prefix
    same = f"Nothing was changed: {name} is installed in {prefix}"
    print(f"Installed: {name} in {prefix}" if changed else same)
    runs = order.start and changed
    {"staged": _staged, "absent": _absent, "running": _running}[order.manager](order, runs)
    tell(changed)


def _staged(order: Order, runs: bool) -> None:
    root = order.places.root
    print(f"Staged in {root or '/'}; the timers start when that system boots.")
    if not os.path.exists(f"{root}/usr/lib/python3/dist-packages/systemd/journal.py"):
        print("The image needs the package python3-systemd.")
    print("For journalctl -x, run in the image: journalctl --update-catalog")
    if os.geteuid():
        print(
            "Made without root: in the image run systemd-sysusers, then systemd-tmpfiles --create."
        )


def _absent(order: Order, runs: bool) -> None:
    print(
        "systemd is not process 1 here: everything is installed and enabled, no timer runs until it is."
    )
    if runs:
        print(f"One run of {JOB}, directly:", flush=True)
        words = "setpriv --reuid=sereno --regid=sereno --clear-groups --reset-env"
        if subprocess.run([*words.split(), f"{order.code}/bin/{JOB}"], check=False).returncode:
            raise JobFailed(f"{JOB} failed")
    print(f"Next: {order.places.command} list")


def _running(order: Order, runs: bool) -> None:
    if runs:
        print(f"One run of {JOB}:", flush=True)
        words = [f"{order.code}/bin/sereno", "run", "--wait", order.scope_option, JOB]
        done = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise JobFailed(f"{JOB} failed", hint=f"{done.stderr}sereno logs {JOB}")
    # The job's own records: from systemd 257 those of the manager about it have the field SERENO_JOB as well.
    records = ["journalctl", "-q", "--no-pager", "-o", "cat", "-n", "2"]
    subprocess.run([*records, f"SERENO_JOB={JOB}", f"SYSLOG_IDENTIFIER={JOB}"], check=False)
    subprocess.run([*order.systemctl, "--no-pager", "list-timers", ALL_JOBS], check=False)
    print("LAST of an interval that has not elapsed yet is the moment that it counts from.")
    systemctl = " ".join(order.systemctl)
    if not target_is(order, "active"):
        print(f"{TARGET} is stopped, no timer elapses. To start: {systemctl} start {TARGET}")
    if not target_is(order, "enabled"):
        print(f"{TARGET} is disabled. To start it at boot: {systemctl} enable {TARGET}")
    user = pwd.getpwuid(os.getuid()).pw_name
    if order.places.is_user and not os.path.exists(f"/var/lib/systemd/linger/{user}"):
        print("Your timers stop when you log out. To keep them: loginctl enable-linger")
    directory = os.path.dirname(order.places.command)
    if directory not in os.environ.get("PATH", "").split(":"):
        print(f"{directory} is not in your PATH: log in anew, or export PATH={directory}:$PATH")
    print(
        f"Next: {order.places.command} list; journalctl SERENO_JOB={JOB};"
        " when something is wrong: man sereno-troubleshooting"
    )
