"""The checkout with no job but the one that sereno ships: who adds jobs to it need change no test of sereno's."""

from __future__ import annotations

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DIRECTORIES = ("bin", "docs", "lib", "systemd", "tests")
FILES = ("CHANGELOG.md", "LICENSE", "README.es.md", "README.md", "install.sh", "pyproject.toml")
HOME = "cache_cleanup_job"
SCRIPTS = ("sereno", "cache_cleanup_hourly")


def copy_of_checkout(to: Path) -> Path:
    """Copy the checkout to `to` without the jobs that somebody has added: their module, test and entry script.

    It is a copy also because the checkout may be edited while the tests run.
    """
    to.mkdir(parents=True)
    for name in DIRECTORIES:
        shutil.copytree(REPOSITORY / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(REPOSITORY / name, to / name)
    for script in (to / "bin").iterdir():
        if script.name not in SCRIPTS:
            script.unlink()
    for module in (to / "lib/sereno/jobs").glob("*_job.py"):
        if module.stem != HOME:
            module.unlink()
            (to / f"tests/unit/test_{module.name}").unlink(missing_ok=True)
    return to
