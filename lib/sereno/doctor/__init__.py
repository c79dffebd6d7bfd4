"""What goes wrong with jobs on a machine, and the way out of it.

    gather (asks the machine) → Facts (a value) → checks (pure, one function each) → Findings

A check is a function from `Facts` to findings; it is tested with facts that are made up. To add one, write it in the
module of its kind and name it in that module's CHECKS.
"""

from __future__ import annotations

from dataclasses import replace

from sereno.doctor import job_checks, machine_checks
from sereno.doctor.facts import Facts
from sereno.doctor.findings import PROBLEM, Finding

CHECKS = {**machine_checks.CHECKS, **job_checks.CHECKS}


def examine(facts: Facts) -> list[Finding]:
    """What every check finds, problems first; empty when all is well."""
    found = [
        replace(finding, check=name) for name, check in CHECKS.items() for finding in check(facts)
    ]
    return sorted(found, key=lambda finding: finding.level != PROBLEM)
