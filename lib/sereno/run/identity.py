"""Whether this process is the run that systemd started: that one alone opens, closes and counts the run.

A process that somebody starts in a terminal is not, even below user@.service, whose INVOCATION_ID it inherits; nor is
one that the run starts, whatever it executes: a worker of multiprocessing, another job's entry script.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

RUN = "SERENO_RUN"
"""What the run leaves in the environment of its children: its id."""


def is_the_run(service: str, environ: MutableMapping[str, str] = os.environ) -> bool:
    """Whether this process is the run of `service`; if so, no process that it starts will be."""
    run_id = environ.get("INVOCATION_ID")
    if not run_id or environ.get(RUN) == run_id:
        return False
    # The unit: below a wrapper in ExecStart=, such as flock.
    if not _is_main(environ) and not _is_in(service):
        return False
    environ[RUN] = run_id
    return True


def take_manager(environ: MutableMapping[str, str] = os.environ) -> str:
    """Where the manager hears this process (sd_notify(3)), taken from the environment: for its children it is nothing.

    "": nowhere, as below a wrapper, for NotifyAccess=main.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    return address if _is_main(environ) else ""


def _is_main(environ: Mapping[str, str]) -> bool:
    # 1: the first of a namespace of its own (PrivatePIDs=), where systemd's number is another.
    return os.getpid() == 1 or str(os.getpid()) == environ.get("SYSTEMD_EXEC_PID")


def _is_in(service: str) -> bool:
    try:
        with open("/proc/self/cgroup", "rb") as file:
            return any(line.rstrip().rpartition(b"/")[2] == service.encode() for line in file)
    except OSError:
        return False
