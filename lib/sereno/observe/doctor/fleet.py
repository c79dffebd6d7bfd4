"""The check of what the hosts of a fleet share, and the questions that it needs."""

from __future__ import annotations

import os
import shlex
from collections import defaultdict
from collections.abc import Iterator

from sereno.errors import SerenoError
from sereno.observe.doctor.facts import Facts, Finding, FleetFacts, problem, warning


def fleet_facts(path: str) -> FleetFacts:
    """What the database says whose URL is in a file. Raises PermissionError for a caller who may not read it."""
    from sereno.fleet.postgresql import PostgreSQL

    is_there = os.path.exists(path)
    if is_there and not os.access(path, os.R_OK):
        raise PermissionError(f"{path} is not for you")
    is_open = is_there and bool(os.stat(path).st_mode & 0o077)
    try:
        store = PostgreSQL.of_file(path)
        return FleetFacts(path, is_open, "", store.ahead_s(), tuple(store.hosts()))
    except (SerenoError, OSError) as error:
        return FleetFacts(path, is_open, str(error).partition("\nhint: ")[0])


def fleet(facts: Facts) -> Iterator[Finding]:
    found = facts.fleet
    if found is None:
        return
    from sereno.fleet.claim import MOST_APART_S

    if found.is_open:
        yield problem(found.path, "mode", "open to others", "others can read the password of the fleet's database",
                      f"chmod 600 {shlex.quote(found.path)}")  # fmt: skip
    if found.error:
        yield problem("fleet", "database", "not asked", f"no job of the fleet runs on this host: {found.error}",
                      "mend the URL or the way to it; `sereno fleet init` shows the tables")  # fmt: skip
    if abs(found.ahead_s) > MOST_APART_S / 2:
        yield problem("fleet", "clock", f"{found.ahead_s:+.1f} s", "the clock of this host is not that of the database:"
                      f" from {MOST_APART_S:g} s on its runs are left out", "timedatectl set-ntp true")  # fmt: skip
    yield from _about_hosts(found, MOST_APART_S)


def _about_hosts(found: FleetFacts, most_apart_s: float) -> Iterator[Finding]:
    machines: dict[str, set[str]] = defaultdict(set)
    declared: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in found.hosts:
        machines[one.machine].add(one.host)
        declared[one.app, one.job][one.declaration].add(one.host)
        if abs(one.ahead_s) > most_apart_s:
            yield warning(f"fleet: {one.host}", "clock", f"{one.ahead_s:+.1f} s", "its runs are left out: its clock is"
                          " not that of the database", "timedatectl set-ntp true, on that host")  # fmt: skip
    for machine, hosts in machines.items():
        if machine and len(hosts) > 1:
            yield warning("fleet", "machine id", machine, f"{_joined(hosts)} share it, so jitter= spreads nothing over"
                          " them", "rm /etc/machine-id && systemd-machine-id-setup, on the copies")  # fmt: skip
    for (app, job), declarations in declared.items():
        if len(declarations) > 1:
            said = "; ".join(f"{_joined(hosts)}: {text}" for text, hosts in declarations.items())
            yield warning(f"fleet: {job}", "declaration", said, f"hosts have different schedules of {app}, and all of"
                          " them hold", "bring the same release of the application onto them")  # fmt: skip


def _joined(hosts: set[str]) -> str:
    return ", ".join(sorted(hosts))
