"""Single questions to the machine, each with a value for an answer; `gather` asks them all."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from sereno.manager.names import DROP_IN, job_of, service_name, timer_name
from sereno.manager.scope import Scope, others
from sereno.manager.systemctl import asked
from sereno.observe.doctor.facts import Code, Words
from sereno.observe.doctor.files import UnitFiles
from sereno.observe.doctor.job_facts import JobFacts
from sereno.observe.doctor.places import text_of
from sereno.records.journal_reader import JOURNAL
from sereno.units.seed import machine_id
from sereno.units.unit_text import own_keys

LINGER = Path("/var/lib/systemd/linger")
PACKAGE = Path(__file__).parents[2]
# What checks of their own tell.
_TOLD_BETTER = ("is not executable", "is masked", "not found.")
_RELEASE = re.compile(r"^ExecStart=(/\S+)/bin/%i$", re.MULTILINE)
_VERSION = re.compile(r'^__version__ = "([^"]*)"', re.MULTILINE)
_SAID = re.compile(
    r"(?:(/.+?):(\d+)|(sereno[^ :]*|Unit sereno\S*|Failed to \S+ sereno[^ :]*)):? (.*)"
)
_TIMEOUT_S = 10


def orphans(units: Path, known: Collection[str]) -> dict[str, str]:
    """Jobs whose timer is gone while their service's drop-in is there, but those `known` to be whole: {id: app}."""
    found = {}
    for directory in units.glob(f"{service_name('*')}.d"):
        path, job_id = directory / DROP_IN, job_of(f"{directory.name}/{DROP_IN}")
        if job_id is None or job_id in known or os.path.lexists(units / timer_name(job_id)):
            continue
        if path.is_file():
            found[job_id] = own_keys(text_of(path)).get("App", "sereno")
    return found


def code_facts(template: Path | None, version: str) -> Code | None:
    """What the template unit names; None where there is none, or it is not install.sh's."""
    found = _RELEASE.search(text_of(template)) if template else None
    if found is None:
        return None
    package, place = Path(found[1], "lib/sereno"), str(PACKAGE.parents[1].resolve())
    if not (package / "__init__.py").exists():
        return Code(version, place, None, None, same=False)
    installed = _VERSION.search(text_of(package / "__init__.py"))
    same = package.samefile(PACKAGE) or _digest(package) == _digest(PACKAGE)
    return Code(version, place, installed[1] if installed else None, found[1], same)


def _digest(package: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        whole.update(str(path.relative_to(package)).encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def words(
    jobs: Iterable[JobFacts], files: UnitFiles, own_units: Iterable[str], user: bool
) -> tuple[Words, ...]:
    """What systemd says of sereno's own units, of those of one job for all, and of each job's that may be special."""
    if files.odd:
        # It would wait for what is in a FIFO.
        return ()
    chosen = dict.fromkeys(unit for unit in own_units if unit.startswith("sereno"))
    for number, job in enumerate(jobs):
        is_odd = job.has_own_drop_ins or (job.calendars and job.expected_s is None)
        timer, service = job.timer.get("LoadState"), job.service.get("LoadState")
        if number == 0 or is_odd or job.changed_files or {timer, service} - {"loaded", "unloaded"}:
            chosen[job.timer_name] = None
        if number == 0 or job.service_name in files.drop_ins or service == "bad-setting":
            chosen[job.service_name] = None
    # Without the dependencies of a start: they are all of the machine's units. What jobs require is looked up instead.
    verify = ("verify", "--man=no", "--recursive-errors=no", *chosen)
    said = _output("systemd-analyze", *(("--user",) if user else ()), *verify, errors=True)
    found: dict[Words, None] = {}
    for line in said.splitlines():
        match = _SAID.fullmatch(line)
        if match and not any(words in line for words in _TOLD_BETTER):
            path, line_number, unit, text = match.groups()
            found[Words(path or unit.split()[-1], int(line_number or 0), text)] = None
    return tuple(found)


def twice(jobs: Iterable[JobFacts], scope: Scope) -> list[tuple[str, str]]:
    """Jobs of the same id in another scope, each with that one's user.

    Those that install.sh brings with it are each scope's own.
    """
    return [
        (job.id, name)
        for name, place in others(scope)
        for job in jobs
        if not job.installed.has_entry_script and os.path.lexists(place / job.timer_name)
    ]


def mounts() -> int:
    """How many file systems are mounted, those that are mounted again elsewhere included."""
    return Path("/proc/self/mountinfo").read_bytes().count(b"\n")


def journal_storage() -> str:
    """What journald's configuration and its directory make of its records (journald.conf(5), Storage=)."""
    text = _output("systemd-analyze", "cat-config", "systemd/journald.conf")
    chosen = re.findall(r"^Storage=[ \t]*(\w*)", text, re.MULTILINE)
    storage = str(chosen[-1]) if chosen else "auto"
    if storage in ("none", "volatile"):
        return storage
    return "persistent" if (JOURNAL / machine_id()).is_dir() else "volatile"


def clock_is_synchronized() -> bool | None:
    """None: not known, or a container, whose clock is its host's."""
    if _output("systemd-detect-virt", "--container") not in ("", "none"):
        return None
    return {"yes": True, "no": False}.get(
        _output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    )


def _output(*argv: str, errors: bool = False) -> str:
    done = asked(argv, _TIMEOUT_S)
    return done.stderr if errors else done.stdout.strip()
