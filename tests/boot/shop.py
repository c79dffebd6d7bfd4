"""A backend on a booted machine: a package of its own, an interpreter of its own, and sereno's library on its path."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from machine import Machine

STARTED = "MESSAGE_ID=5e6016bdb0a94162b63c3f18577a34a6"
FINISHED = "MESSAGE_ID=d273f3f974d24dcca798ba71c698c7c5"
FAILED = "MESSAGE_ID=c8db476b7d964ab2bd2d7abc51d7b261"
SKIPPED = "MESSAGE_ID=b2cd3c4d8cd044c392c152a1cdb22abe"
INTERRUPTED = "MESSAGE_ID=41d737715db34f399ecab3f142b40e50"
TRY_FAILED = "MESSAGE_ID=74c63f1b04a141e6abd2df573682eab9"
OVERRUN = "MESSAGE_ID=405ad1c80d9f46258c3c6f80fe95b15a"

JOBS = """
import os, sys, time

def quick():
    return {"rows": 3, "interpreter": sys.executable}

async def quick_async():
    import asyncio  # it takes as long to import as a whole run does
    await asyncio.sleep(0)
    return {"rows": 4}

def slow():
    time.sleep(3)
    return {"slept": 3}

def slow_by_name():
    time.sleep(5)
    return {"run": os.environ["INVOCATION_ID"]}

def endless():
    time.sleep(600)

def raises():
    raise ValueError("no such table: ventas")

def reports_error():
    return {"error": "disk on fire", "entries_removed": 0}

def a_list():
    return [1, 2]

def prints():
    print("printed by the job")

def killed():
    os.kill(os.getpid(), 9)

def connects():
    import socket
    socket.socket(socket.AF_INET).close()
    return {"uid": os.getuid()}
"""


def lay_out(machine: Machine) -> None:
    """The backend's package and its interpreter."""
    machine.write("/srv/shop/shop_jobs.py", JOBS)
    make = ("python3", "-m", "venv", "--without-pip", "--system-site-packages")
    machine.run(*make, "/srv/shop/venv")


def install_for(machine: Machine, user: str) -> None:
    """sereno for one user of a machine that has it, with a copy of its environment: that takes seconds to make."""
    own = "~/.local/share/sereno"
    copy = f"mkdir -p {own} && cp -a /opt/sereno/environments {own}"
    machine.run("sh", "-ec", copy, user=user)
    machine.run("/src/install.sh", "--user", "--wheels", "/wheels", user=user, timeout=180)


class Shop:
    """The application "shop" of one machine."""

    def __init__(self, machine: Machine, app: str = "shop") -> None:
        self.machine = machine
        self.app = app
        if not machine.exists("/srv/shop"):
            lay_out(machine)

    def call(self, body: str, *, user: str | None = None, check: bool = True) -> Any:
        """Run `body` in the backend's interpreter with `scheduler` at hand; return what it puts into `result`."""
        code = (
            "import json, shop_jobs\nfrom sereno import get_scheduler\n"
            f"scheduler = get_scheduler(app={self.app!r})\nresult = None\n"
            f"{textwrap.dedent(body)}\nprint(json.dumps(result, default=str))\n"
        )
        python, env = "/srv/shop/venv/bin/python", {"PYTHONPATH": "/opt/sereno/lib:/srv/shop"}
        if user:
            done = self.machine.run(python, "-c", code, env=env, user=user, check=check)
        else:
            library = "/opt/sereno/lib/sereno/__init__.py"
            done = self.machine.run_python(python, library, code, env=env, check=check)
        return json.loads(done.stdout.splitlines()[-1]) if check else done

    def install(self, *registrations: str, functions: str = "shop_jobs") -> None:
        """Register jobs and start: each argument is what follows `scheduler.`.

        Args:
            functions: the module of the backend that they know as `jobs`.
        """
        lines = [f"scheduler.{registration}" for registration in registrations]
        self.call("\n".join([f"import {functions} as jobs", *lines, "scheduler.start()"]))

    def remove_all(self) -> None:
        self.install()
        self.machine.run("systemctl", "reset-failed")

    def runs(self, job_id: str, kind: str = STARTED) -> list[dict[str, Any]]:
        return self.machine.journal(f"SERENO_JOB={job_id}", kind)

    def next_elapse(self, job_id: str) -> int | None:
        """Microseconds of the wall clock."""
        for timer in self.machine.list_timers():
            if timer["unit"] == f"sereno@{job_id}.timer":
                return timer["next"]
        return None
