"""Which sereno asks, and which one runs the jobs: the release that the template unit names."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from sereno.doctor.facts import Code

PACKAGE = Path(__file__).parents[1]
_RELEASE = re.compile(r"^ExecStart=(/\S+)/bin/%i$", re.MULTILINE)
_VERSION = re.compile(r'^__version__ = "([^"]*)"', re.MULTILINE)


def code_facts(template: Path | None, version: str) -> Code | None:
    """What the template unit names; None where there is none, or it is not install.sh's."""
    found = _RELEASE.search(template.read_text("utf-8")) if template else None
    if found is None:
        return None
    release = Path(found[1])
    package = release / "lib/sereno"
    place = str(PACKAGE.parents[1].resolve())
    if not (package / "__init__.py").exists():
        return Code(version, place, None, None, same=False)
    installed = _VERSION.search((package / "__init__.py").read_text("utf-8"))
    return Code(
        version, place, installed[1] if installed else None, str(release),
        same=_digest(package) == _digest(PACKAGE),
    )  # fmt: skip


def _digest(package: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        whole.update(str(path.relative_to(package)).encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
