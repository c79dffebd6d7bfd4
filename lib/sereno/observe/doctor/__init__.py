"""What goes wrong with jobs on a machine, and the way out of it.

    gather (asks the machine) → Facts (a value) → checks (pure, one function each) → Findings

To add a check: a function from `Facts` to findings, a row of CHECKS, the units and paths that it needs in UNITS and
PATHS, and a row of tests/boot/test_doctor_on_a_machine.py with the fault and the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

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

Check = Callable[[Facts], Iterable[Finding]]
CHECKS: dict[str, Check] = {
    "versions": machine_checks.versions,
    "installation": machine_checks.installation,
    "interrupted change": machine_checks.interrupted,
    "target": machine_checks.switches,
    "lingering": machine_checks.lingering,
    "clock": machine_checks.clock,
    "journal": machine_checks.journal,
    "disk": machine_checks.disks,
    "mounts": machine_checks.mounts,
    "machine id": machine_checks.machine_ids,
    "fleet": fleet.fleet,
    "cache rights": cache_checks.rights,
    "cache": cache_checks.health,
    "stamp": machine_checks.stamps,
    "messages": machine_checks.messages,
    "own unit": unit_checks.own_units,
    "masked": unit_checks.masked,
    "foreign file": unit_checks.foreign,
    "unit file": unit_checks.words,
    "dependency": unit_checks.dependencies,
    "command": unit_checks.commands,
    "elsewhere": unit_checks.elsewhere,
    "changed unit": unit_checks.changed,
    "daemon-reload": unit_checks.stale,
    "sandbox": sandbox.sandbox,
    "paused": job_checks.paused,
    "timer inactive": job_checks.inactive,
    "timer wedged": job_checks.wedged,
    "next elapse": job_checks.elapses,
    "time zone": job_checks.zone,
    "entry script": run_checks.programs,
    "package": run_checks.packages,
    "account": run_checks.accounts,
    "closed": run_checks.closed,
    "needed path": run_checks.needed,
    "metrics": run_checks.metrics,
    "code of root": run_checks.code_of_root,
    "both scopes": job_checks.twice,
    "run": job_checks.runs,
    "not checked": machine_checks.unread,
}
# What the manager is asked about, and what is looked at, beside what belongs to jobs.
UNITS = (machine_checks.JOURNALD, *unit_checks.OWN_UNITS)
PATHS = (*machine_checks.WRITTEN, unit_checks.ADDRESS)


def examine(facts: Facts) -> list[Finding]:
    """What every check finds, problems first; empty when all is well. Each of its texts is printable, on one line."""
    found = [finding for name, check in CHECKS.items() for finding in _findings(name, check, facts)]
    return sorted(found, key=lambda finding: finding.level != PROBLEM)


def _findings(name: str, check: Check, facts: Facts) -> list[Finding]:
    try:
        found = list(check(facts))
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
