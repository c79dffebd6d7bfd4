"""Another apt at work on a machine, for tests of what has to wait for it.

with busy_apt(machine):
    ...  # apt-get install fails: "Could not get lock /var/lib/dpkg/lock-frontend"
"""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from machine import Machine

# Of whoever installs; of `apt-get update`, as a first boot does it; of whoever downloads packages.
INSTALLING = "/var/lib/dpkg/lock-frontend"
UPDATING = "/var/lib/apt/lists/lock"
DOWNLOADING = "/var/cache/apt/archives/lock"
# Locks as apt does (fcntl(2), not flock(2)), until its standard input ends.
HOLD_LOCK = """\
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o640)
fcntl.lockf(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def busy_apt(machine: Machine, lock: str = INSTALLING) -> Iterator[None]:
    """One of apt's locks is taken."""
    words, environment = machine.command("python3", "-c", HOLD_LOCK, lock)
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as apt:
        assert apt.stdout and apt.stdin
        assert apt.stdout.readline() == "held\n"
        yield
        apt.stdin.close()
