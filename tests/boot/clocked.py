"""A Debian on a kernel of its own, whose clock a test may set.

A container has the host's clock. User Mode Linux (Debian's package user-mode-linux) is a Linux kernel that runs as a
process, with clocks of its own and a directory of the host as its disk; it needs no virtualisation and boots in some
10 s. It has no seccomp and no BPF, so what those add to the sandbox of a job is not tested on it.

Commands go through files on that disk: a service inside, the agent, runs them one by one.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from machine import ENVIRONMENT, BootError, Machine, keeper

if TYPE_CHECKING:
    from collections.abc import Mapping

KERNEL = "linux.uml"
# User Mode Linux hands ptrace(2) the registers up to AVX. The host answers EFAULT where the processor has more, and the
# machine's init dies at its first instruction. With the older request, which knows none of these, PID 1 loses them.
MORE_REGISTERS = {"avx512f", "amx_tile", "pku"}
MEMORY = "1024M"
BOOT_DEADLINE_S = 240.0
CALL_DEADLINE_S = 120.0
POLL_S = 0.02
AGENT = """
number=1
while :; do
    if [ -e "/agent/$number" ]; then
        sh "/agent/$number" >"/agent/$number.stdout" 2>"/agent/$number.stderr"
        echo "$?" >"/agent/$number.new"
        mv "/agent/$number.new" "/agent/$number.status"
        number=$((number + 1))
    else
        sleep 0.05
    fi
done
"""
# Idle: after everything else of the boot, as READY=1 of a container.
AGENT_UNIT = "[Service]\nType=idle\nExecStart=/bin/sh /agent/loop\n"
WANTED = "etc/systemd/system/multi-user.target.wants"


class ClockedMachine(Machine):
    """A `Machine` to boot once; `set_clock` is what it is for."""

    def start(self) -> Machine:
        """Boot, and wait until the boot is done. Raises BootError."""
        self._agent = self._root / "agent"
        self._agent.mkdir()
        self._numbers = itertools.count(1)
        (self._agent / "loop").write_text(AGENT)
        (self._root / "etc/systemd/system/agent.service").write_text(AGENT_UNIT)
        wanted = self._root / WANTED / "agent.service"
        wanted.parent.mkdir(exist_ok=True)
        wanted.symlink_to("/etc/systemd/system/agent.service")
        with self._console.open("ab") as console:
            # Without a terminal a getty starts again and again.
            (self._root / "etc/systemd/system/getty.target").symlink_to("/dev/null")
            self._kernel = subprocess.Popen(
                [
                    *keeper(self._home, "", "KILL"),
                    *(KERNEL, f"mem={MEMORY}"),
                    *("rootfstype=hostfs", f"rootflags={self._root}", "rw", "init=/sbin/init"),
                    *("con=null", "con0=null,fd:1", f"umid={self.name}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={"PATH": ENVIRONMENT["PATH"], "HOME": str(self._home)},
                start_new_session=True,
            )
        self._running = True
        try:
            self.run("true", timeout=BOOT_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise BootError(f"no answer within {BOOT_DEADLINE_S:g} s\n{self.console()}") from None
        return self

    def stop(self) -> None:
        """End it at once: nothing of it is kept."""
        if self.running:
            self._running = False
            if self._kernel.poll() is None:
                os.killpg(self._kernel.pid, signal.SIGKILL)
            self._kernel.wait()

    @property
    def running(self) -> bool:
        return getattr(self, "_running", False)

    def run(
        self,
        *argv: str,
        check: bool = True,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = CALL_DEADLINE_S,
        input: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """As `Machine.run`; a call takes some 0.2 s."""
        assert user is None, "not needed so far"
        environment = {**ENVIRONMENT, **(env or {})}
        words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *argv]
        number = str(next(self._numbers))
        place = self._agent / number
        place.with_suffix(".stdin").write_text(input or "")
        place.with_suffix(".new").write_text(f"exec {shlex.join(words)} </agent/{number}.stdin\n")
        place.with_suffix(".new").rename(place)
        deadline = time.monotonic() + timeout
        while not place.with_suffix(".status").exists():
            if self._kernel.poll() is not None:
                raise BootError(
                    f"the kernel ended with {self._kernel.returncode}\n{self.console()}"
                )
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(argv, timeout)
            time.sleep(POLL_S)
        stdout, stderr = (
            place.with_suffix(f".{name}").read_text() for name in ("stdout", "stderr")
        )
        status = int(place.with_suffix(".status").read_text())
        assert not (check and status), f"{shlex.join(argv)} ended with {status}\n{stdout}{stderr}"
        return subprocess.CompletedProcess(argv, status, stdout, stderr)

    def set_clock(self, moment: datetime) -> None:
        """Set the wall clock, as an administrator or a time server does; the kernel's other clocks go on."""
        self.run("date", "--set", moment.astimezone(UTC).isoformat())

    def now(self) -> datetime:
        """The machine's wall clock."""
        return datetime.fromtimestamp(float(self.run("date", "+%s.%N").stdout), UTC)


def why_not() -> str | None:
    """Why none can be booted here; None when it can."""
    if not shutil.which(KERNEL):
        return f"a clock of its own needs {KERNEL} (package user-mode-linux)"
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    if flags and MORE_REGISTERS & set(flags[1].split()):
        return "a clock of its own: User Mode Linux does not start on a processor with AVX-512"
    return None
