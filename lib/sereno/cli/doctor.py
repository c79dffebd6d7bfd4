"""`sereno doctor`: what is not well, and the way out of it."""

from __future__ import annotations

import argparse

from sereno.cli.arguments import add_scope, installation_of, print_json
from sereno.observe.doctor import CHECKS, examine
from sereno.observe.doctor.gather import gather


def add_doctor(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--json", action="store_true", help="print it as JSON")
    add_scope(sub)
    sub.set_defaults(command=_doctor)


def _doctor(arguments: argparse.Namespace) -> int:
    facts = gather(installation_of(arguments))
    findings = examine(facts)
    if arguments.json:
        shown = {"scope": facts.scope, "jobs": len(facts.jobs), "well": not findings}
        print_json({**shown, "findings": [finding.as_json() for finding in findings]})
        return int(bool(findings))
    for found in findings:
        print(f"{found.level}: {found.subject}: {found.message} ({found.field}: {found.value})")
        print(f"  hint: {found.hint}")
    if not findings:
        print(f"{facts.scope} scope: all is well; jobs: {len(facts.jobs)}, checks: {len(CHECKS)}")
    return int(bool(findings))
