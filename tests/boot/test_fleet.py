"""Three hosts that share a PostgreSQL: each elapse once, whoever dies; a pause that holds for all of them."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from machine import Machine
from shop import FINISHED, SKIPPED, Shop

from database import SCHEMA, Database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Its three machines wait for elapses and leases. Nothing in it is for one release alone; the trees of one are enough.
pytestmark = [pytest.mark.waiting, pytest.mark.first_systemd]
ELAPSES = 60 if os.environ.get("SERENO_TEST_LONG") == "1" else 8
NAMES = ("alba", "brisa", "cala")
LOST = "MESSAGE_ID=7c3f1be0a4d2495f8e66d0c9b1a75e34"
DELIVERED = "MESSAGE_ID=b82a1f12aa2447cf978f113b9238b1b8"
SHARED = "timezone='UTC', network=True, once_per='fleet'"
JOBS = """
import time
import sereno

def quick():
    time.sleep(0.01)
    return {"token": sereno.fence()}

def hold():
    time.sleep(600)
"""
QUICK = f"add_cron_job(jobs.quick, 'quick', second='*/3', accuracy=0.001, jitter=0.2, {SHARED})"
HELD = (
    f"add_cron_job(jobs.hold, 'long_one', hour=4, {SHARED})",
    f"add_cron_job(jobs.hold, 'short_one', hour=4, timeout=3, {SHARED})",
)
NIGHTLY = f"add_cron_job(jobs.quick, 'nightly', hour=0, {SHARED})"


class Host(Machine):
    """A machine with a name and a machine id of its own, which the database's socket is bound into."""

    def __init__(self, name: str, layers: tuple[Path, ...], binds: dict[str, Path]) -> None:
        super().__init__(layers, binds=binds)
        self.host = name
        (self._root / "etc/hostname").write_text(f"{name}\n")
        (self._root / "etc/machine-id").write_text(f"{uuid4().hex}\n")

    def make_late(self, job_id: str) -> None:
        """While it is off: the timer has not elapsed for three days."""
        stamp = self._root / f"var/lib/systemd/timers/stamp-sereno@{job_id}.timer"
        os.utime(stamp, times=(time.time() - 3 * 86400,) * 2)


class Fleet:
    def __init__(self, hosts: list[Host], database: Database) -> None:
        self.hosts, self.database = hosts, database
        self.shops = [Shop(host) for host in hosts]

    def install(self, *registrations: str) -> None:
        for shop in self.shops:
            shop.install(*registrations, functions="fleet_jobs")

    def records(self, *matches: str) -> list[dict[str, Any]]:
        """Of all hosts."""
        return [record for host in self.hosts for record in host.journal(*matches)]

    def rows(self, job_id: str, *columns: str) -> list[list[str]]:
        return self.database.sql(
            f"select {', '.join(columns)} from sereno.elapse where job = '{job_id}' order by claimed_at"
        )

    def await_state(self, job_id: str, state: str) -> None:
        self.hosts[0].wait_for(
            lambda: [state] == (self.rows(job_id, "state") or [[]])[-1],
            what=f"{job_id} {state}",
            deadline_s=60,
        )


@pytest.fixture(scope="module")
def fleet(installed_layers: tuple[Path, ...], checkout: Path, wheels: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        database = Database()
        stack.callback(database.close)
        binds = {"/src": checkout, "/wheels": wheels, "/database": database.place}
        hosts = [stack.enter_context(Host(name, installed_layers, binds)) for name in NAMES]
        for host in hosts:
            host.start()
            host.write("/srv/shop/fleet_jobs.py", JOBS)
            host.write(
                "/etc/sereno/fleet.url", "postgresql://sereno@/postgres?host=/database\n", 0o600
            )
            host.write(
                "/etc/sereno/notify.toml",
                '[[handler]]\ntype = "command"\ncommand = ["/bin/true"]\n',
                0o600,
            )
            host.run("systemctl", "restart", "sereno-notify.socket")
        yield Fleet(hosts, database)


def elapses_after(fleet: Fleet, begin_s: float) -> list[int]:
    rows = fleet.rows("quick", "extract(epoch from elapse)::bigint")
    return [int(elapse) for (elapse,) in rows if int(elapse) > begin_s]


def test_each_elapse_is_run_once_and_a_pause_on_one_host_holds_on_all_over_a_reboot(
    fleet: Fleet,
) -> None:
    alba, brisa, cala = fleet.hosts
    assert alba.run("sereno", "fleet", "init").stdout == SCHEMA.read_text()
    fleet.install(QUICK)
    # From here on all of them have it, and have nothing else to do.
    begin_s = time.time()
    alba.wait_for(
        lambda: len(elapses_after(fleet, begin_s)) >= ELAPSES,
        what="the elapses",
        deadline_s=3 * ELAPSES + 60,
    )
    assert alba.run("sereno", "pause", "quick").stdout.startswith(
        "paused quick in the whole fleet; sereno resume"
    )
    # What was claimed before ends, and nothing is claimed any more.
    alba.wait_for(
        lambda: len(fleet.records("SERENO_JOB=quick", FINISHED)) == len(fleet.rows("quick", "1")),
        what="the ends of the runs",
    )
    rows = fleet.rows("quick", "state")
    elapses = elapses_after(fleet, begin_s)
    left_out = fleet.records("SERENO_JOB=quick", SKIPPED)
    why = [record["MESSAGE"] for record in left_out]
    assert elapses == list(range(elapses[0], elapses[0] + 3 * len(elapses), 3)), why
    assert len(elapses) >= ELAPSES
    assert rows == [["success"]] * len(rows)
    assert len(fleet.records("SERENO_JOB=quick", FINISHED)) == len(rows)
    assert len(left_out) > len(rows)
    brisa.reboot()
    time.sleep(6.5)
    assert len(fleet.rows("quick", "1")) == len(rows)
    assert "paused" in cala.run("sereno", "list", "--fleet").stdout
    assert "on this host alone" in brisa.run("sereno", "pause", "--host", "quick").stdout
    fleet.shops[2].call("scheduler.resume_job('quick')")
    fleet.hosts[0].wait_for(
        lambda: len(fleet.rows("quick", "1")) > len(rows) + 1, what="runs again"
    )
    assert brisa.run("sereno", "resume", "quick").stdout == (
        "quick is not paused in the whole fleet\n"
        "on this host it stays paused by itself: sereno resume quick --host\n"
    )
    fleet.install(*HELD)
    ((made_up,),) = fleet.database.sql(
        "select count(*) from sereno.elapse, sereno.job where elapse <= resumed_at and claimed_at > resumed_at"
    )
    assert made_up == "0"


def test_a_run_by_hand_is_refused_where_another_host_has_one_and_a_killed_one_is_ended_by_its_host(
    fleet: Fleet,
) -> None:
    alba, brisa, _ = fleet.hosts
    fleet.install(*HELD)
    alba.run("sereno", "run", "long_one")
    fleet.await_state("long_one", "running")
    refused = brisa.run("sereno", "run", "--wait", "long_one", check=False)
    assert refused.returncode == 77
    assert "Tarea long_one omitida: se ejecuta en alba desde 20" in refused.stderr
    alba.run("systemctl", "kill", "--signal=KILL", "sereno@long_one.service")
    fleet.await_state("long_one", "failed")
    assert fleet.rows("long_one", "host", "kind", "error") == [
        ["alba", "hand", "killed by SIGKILL"]
    ]


def test_the_run_of_a_host_that_died_is_lost_when_its_lease_is_over_and_told_once(
    fleet: Fleet,
) -> None:
    alba, brisa, cala = fleet.hosts
    fleet.install(*HELD)
    cala.run("sereno", "run", "short_one")
    fleet.await_state("short_one", "running")
    cala.crash()
    refused = brisa.run("sereno", "run", "--wait", "short_one", check=False)
    assert refused.returncode == 77 and "se ejecuta en cala" in refused.stderr
    cala.start()
    # timeout= and TimeoutStopSec= of the template.
    fleet.hosts[0].wait_for(
        lambda: fleet.database.sql(
            "select 1 from sereno.elapse where state = 'running' and lease_until < now()"
        ),
        what="the end of the lease",
    )
    for host in (brisa, alba, cala):
        host.run("sereno", "run", "--wait", "short_one", check=False)
    rows = fleet.rows("short_one", "host", "state", "error")
    assert rows[0][:2] == ["cala", "lost"] and {state for _, state, _ in rows[1:]} == {"failed"}
    assert rows[1][2].startswith("over its time limit")
    (record,) = fleet.records(LOST)
    assert record["SERENO_JOB"] == "short_one" and record["_HOSTNAME"] == "brisa"

    def told() -> list[dict[str, Any]]:
        return fleet.records(DELIVERED, "SERENO_EVENT=lost")

    brisa.wait_for(told, what="the message")
    assert len(told()) == 1


def test_a_store_that_stands_still_or_is_gone_leaves_runs_out_as_failures_and_keeps_its_claims(
    fleet: Fleet,
) -> None:
    alba, brisa, cala = fleet.hosts
    fleet.install(QUICK.replace("second='*/3'", "hour=4"))
    before = len(fleet.rows("quick", "1"))
    fleet.database.freeze()
    began = time.monotonic()
    left_out = alba.run("sereno", "run", "--wait", "quick", check=False)
    assert left_out.returncode == 1 and "no answer of the store within 2 s" in left_out.stderr
    assert time.monotonic() - began < 20
    fleet.database.freeze(thaw=True)
    fleet.database.kill()
    left_out = brisa.run("sereno", "run", "--wait", "quick", check=False)
    assert left_out.returncode == 1 and "no se puede pedir su turno" in left_out.stderr
    assert brisa.show("sereno@quick.service", "Result")["Result"] == "exit-code"
    (record,) = brisa.journal("SERENO_JOB=quick", SKIPPED, "PRIORITY=3")
    assert record["SERENO_ERROR"].startswith(
        "not run: its turn cannot be asked for: fleet: connection"
    )
    fleet.database.start()
    assert len(fleet.rows("quick", "1")) == before
    assert cala.run("sereno", "run", "--wait", "quick").stdout.startswith('{"token"')
    assert len(fleet.rows("quick", "1")) == before + 1


def test_what_all_hosts_were_off_for_is_made_up_once(fleet: Fleet) -> None:
    fleet.install(NIGHTLY)
    for host in fleet.hosts:
        host.stop()
    for host in fleet.hosts:
        host.make_late("nightly")
    for host in fleet.hosts:
        host.start()
    for host in fleet.hosts:
        host.wait_for(
            lambda host=host: (
                host.journal("SERENO_JOB=nightly", FINISHED)
                + host.journal("SERENO_JOB=nightly", SKIPPED)
            ),
            what="the run that is made up for",
            deadline_s=60,
        )
    assert len(fleet.records("SERENO_JOB=nightly", FINISHED)) == 1
    ((kind, state, elapse),) = fleet.rows("nightly", "kind", "state", "elapse at time zone 'UTC'")
    assert (kind, state, elapse[10:]) == ("timer", "success", " 00:00:00")
