"""`sereno doctor`: what is not well, and the way out of it."""

from __future__ import annotations

import argparse
import json

from sereno.cli.arguments import Commands, add_scope, installation_of


def add_to(commands: Commands) -> None:
    sub = commands.add(
        "doctor", _doctor, "look for what goes wrong and say how to mend it; mends nothing"
    )
    sub.add_argument("--json", action="store_true", help="print it as JSON")
    add_scope(sub)


def _doctor(arguments: argparse.Namespace) -> int:
    from sereno.observe.doctor import CHECKS, examine
    from sereno.observe.doctor.gather import gather

    facts = gather(installation_of(arguments))
    findings = examine(facts)
    if arguments.json:
        shown = {
            "scope": facts.scope,
            "jobs": len(facts.jobs),
            "well": not findings,
            "findings": [finding.as_json() for finding in findings],
        }
        print(json.dumps(shown, ensure_ascii=False, indent=2))
    else:
        for found in findings:
            print(f"{found.level}: {found.subject}: {found.message} ({found.field}: {found.value})")
            print(f"  hint: {found.hint}")
        if not findings:
            print(
                f"{facts.scope} scope: all is well; jobs: {len(facts.jobs)}, checks: {len(CHECKS)}"
            )
    return 1 if findings else 0
