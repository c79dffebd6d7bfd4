"""What a plan does to unit files, as a unified diff. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff

from sereno.units.plan import Plan
from sereno.units.unit_text import Installed


def unit_diff(plan: Plan, installed: Mapping[str, Installed]) -> list[str]:
    """The lines of the diff, without line ends; empty if no file changes.

    Args:
        installed: every job before the change, by id.
    """
    before = {name: text for job in installed.values() for name, text in job.files.items()}
    lines: list[str] = []
    for name in sorted({*plan.write, *plan.delete}):
        old, new = before.get(name), plan.write.get(name)
        lines += unified_diff(
            (old or "").splitlines(),
            (new or "").splitlines(),
            "/dev/null" if old is None else f"a/{name}",
            "/dev/null" if new is None else f"b/{name}",
            lineterm="",
        )
    return lines
