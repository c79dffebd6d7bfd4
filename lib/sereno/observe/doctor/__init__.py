"""What goes wrong with jobs on a machine, and the way out of it.

    gather (asks the machine) → Facts (a value) → checks (pure, one function each) → Findings

To add a check: a function from `Facts` to findings, a row of CHECKS, which also names the units that the manager is
asked about and the paths that are looked at for it, and a row of tests/boot/test_doctor_on_a_machine.py with the fault
and the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from sereno.observe.doctor import (
    cache_checks,
    fleet,
    job_checks,
    machine_checks,
    run_checks,
    sandbox,
    unit_checks,
)
from sereno.observe.doctor.facts import PROBLEM, Facts, Finding, warning
from sereno.records.printable import printable


class Check(NamedTuple):
    """What a check finds, and which units and paths are looked at for it, beside those of the jobs."""

    find: Callable[[Facts], Iterable[Finding]]
    units: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


CHECKS = {
    "versions": Check(machine_checks.versions),
    "installation": Check(machine_checks.installation),
    "interrupted change": Check(machine_checks.interrupted),
    "target": Check(machine_checks.switches),
    "lingering": Check(machine_checks.lingering),
    "clock": Check(machine_checks.clock),
    "journal": Check(machine_checks.journal, units=(machine_checks.JOURNALD,)),
    "disk": Check(machine_checks.disks, paths=machine_checks.WRITTEN),
    "mounts": Check(machine_checks.mounts),
    "machine id": Check(machine_checks.machine_ids),
    "fleet": Check(fleet.fleet),
    "cache rights": Check(cache_checks.rights),
    "cache": Check(cache_checks.health),
    "stamp": Check(machine_checks.stamps),
    "messages": Check(machine_checks.messages),
    "own unit": Check(
        unit_checks.own_units, units=tuple(unit_checks.OWN_UNITS), paths=(unit_checks.ADDRESS,)
    ),
    "masked": Check(unit_checks.masked),
    "foreign file": Check(unit_checks.foreign),
    "unit file": Check(unit_checks.words),
    "dependency": Check(unit_checks.dependencies),
    "command": Check(unit_checks.commands),
    "elsewhere": Check(unit_checks.elsewhere),
    "changed unit": Check(unit_checks.changed),
    "daemon-reload": Check(unit_checks.stale),
    "sandbox": Check(sandbox.sandbox),
    "paused": Check(job_checks.paused),
    "timer inactive": Check(job_checks.inactive),
    "timer wedged": Check(job_checks.wedged),
    "next elapse": Check(job_checks.elapses),
    "time zone": Check(job_checks.zone),
    "entry script": Check(run_checks.programs),
    "package": Check(run_checks.packages),
    "account": Check(run_checks.accounts),
    "closed": Check(run_checks.closed),
    "needed path": Check(run_checks.needed),
    "metrics": Check(run_checks.metrics),
    "code of root": Check(run_checks.code_of_root),
    "both scopes": Check(job_checks.twice),
    "run": Check(job_checks.runs),
    "not checked": Check(machine_checks.unread),
}


def examine(facts: Facts) -> list[Finding]:
    """What every check finds, problems first; empty when all is well. Each of its texts is printable, on one line."""
    found = [finding for name, check in CHECKS.items() for finding in _findings(name, check, facts)]
    return sorted(found, key=lambda finding: finding.level != PROBLEM)


def _findings(name: str, check: Check, facts: Facts) -> list[Finding]:
    try:
        found = list(check.find(facts))
    except Exception as error:
        # What others have put where sereno looks spoils one check, and never the others.
        hint = "report it to sereno's authors"
        found = [warning("doctor", name, repr(error), "this check failed", hint)]
    # What differs in the subject alone has one cause, and one way out.
    alike: dict[tuple[str, ...], list[Finding]] = {}
    for each in found:
        alike.setdefault((each.field, each.value, each.message, each.hint), []).append(each)
    return [_as_one(name, each) for each in alike.values()]


def _as_one(name: str, found: list[Finding]) -> Finding:
    first, *others = found
    message = first.message
    if others:
        message += f"; the same of {others[0].subject}"
        message += f" and {len(others) - 1} more" * (len(others) > 1)
    shown = replace(first, check=name, message=message).as_json()
    return Finding(**{key: printable(text) for key, text in shown.items()})
