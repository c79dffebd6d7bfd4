"""Asks the machine for the `Facts` of one scope: the manager in bulk, the unit files, the journal, the cache.

What cannot be looked at (rights, a tool that is missing) is named in `Facts.unread` and stops nothing else.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from sereno import __version__, journal
from sereno.doctor.cache import cache_facts
from sereno.doctor.code import code_facts
from sereno.doctor.facts import DropIn, Facts, JobFacts
from sereno.doctor.jobs import job_facts
from sereno.errors import SerenoError
from sereno.installation import TEMPLATE, Installation
from sereno.seed import machine_id
from sereno.systemctl import Systemctl
from sereno.units import TARGET, Installed, app_target_name, drop_in_name, service_name, timer_name

# Of all units, of timers, of services; what a unit does not have is left out.
PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "DropInPaths"),
    *("Result", "TimersCalendar", "AccuracyUSec", "RandomizedDelayUSec"),
    *("ExecMainStatus", "ExecStart", "InactiveExitTimestamp"),
)
LINGER = Path("/var/lib/systemd/linger")
JOURNAL, VOLATILE_JOURNAL = Path("/var/log/journal"), Path("/run/log/journal")
_TIMEOUT_S = 10

Found = TypeVar("Found")


class _Attempts:
    """Asks, and notes what could not be answered."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def ask(self, what: str, question: Callable[[], Found], default: Found) -> Found:
        try:
            return question()
        except (SerenoError, OSError, ImportError, subprocess.SubprocessError) as error:
            reason = error.message if isinstance(error, SerenoError) else error
            self.failed.append(f"{what}: {reason}")
            return default


def gather(installation: Installation) -> Facts:
    """The facts of the installation's scope.

    Raises:
        NotAvailable: no manager runs there.
    """
    attempts = _Attempts()
    ask = attempts.ask
    scope, units, manager = installation.scope, installation.units, installation.manager
    found = units.find()
    apps = sorted({job.app for job in found.jobs.values()})
    shown = _shown(manager, list(found.jobs), apps)
    jobs, now_s = _jobs(installation, found.jobs, shown, ask)
    has_journal = journal.installed()
    sees_journal = has_journal and (scope.is_user or _may_read_journal())
    if has_journal and not sees_journal:
        attempts.failed.append(f"journal: {getpass.getuser()} is not in the group systemd-journal")
    return Facts(
        scope=scope.name,
        user=getpass.getuser(),
        now_s=now_s,
        python=sys.version_info[:2],
        systemd=manager.version(),
        has_python_systemd=has_journal,
        has_template=any((place / TEMPLATE).exists() for place in scope.search),
        code=ask("release", lambda: code_facts(scope.search, __version__), None),
        jobs=jobs,
        target=shown[TARGET],
        apps=tuple((app, units.app_is_linked(app), shown[app_target_name(app)]) for app in apps),
        foreign=tuple(
            (str(units.path / name), _is_mask(units.path / name)) for name in sorted(found.foreign)
        ),
        interrupted=tuple(sorted(found.interrupted or ())),
        drop_ins=ask("drop-ins", lambda: _drop_ins(jobs, units.path), ()),
        old_stamps=units.old_stamps(),
        lingers=(LINGER / getpass.getuser()).exists() if scope.is_user else None,
        clock_synchronized=ask("clock", _clock_is_synchronized, None),
        journal_persistent=(JOURNAL / machine_id()).is_dir(),
        journal_begins_s=ask("journal", journal.begins_s, None) if sees_journal else None,
        cache=ask("cache", lambda: cache_facts(scope.is_user), None),
        unread=tuple(attempts.failed),
    )


def _shown(manager: Systemctl, ids: list[str], apps: list[str]) -> dict[str, dict[str, str]]:
    units = [TARGET, *map(app_target_name, apps), *map(timer_name, ids), *map(service_name, ids)]
    return manager.show_all(units, *PROPERTIES)


def _jobs(
    installation: Installation,
    jobs: Mapping[str, Installed],
    shown: Mapping[str, Mapping[str, str]],
    ask: Callable[..., Any],
) -> tuple[tuple[JobFacts, ...], float]:
    """The jobs' facts, and the time for which they hold."""
    elapses = installation.manager.list_timers()
    now_s = time.time()
    latest: dict[str, tuple[str, float]] = {}
    if journal.installed():
        latest = ask("runs in the journal", lambda: journal.latest_statuses(jobs), latest)
    zone = installation.local_zone
    return job_facts(jobs, shown, elapses, latest, installation.units, zone, now_s), now_s


def _may_read_journal() -> bool:
    """Whether the system's own records are shown to this user; without the right only a user's own are."""
    for place in (JOURNAL, VOLATILE_JOURNAL):
        found = place / machine_id() / "system.journal"
        if found.exists():
            return os.access(found, os.R_OK)
    return True


def _is_mask(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path) == "/dev/null"


def _drop_ins(jobs: tuple[JobFacts, ...], own: Path) -> tuple[DropIn, ...]:
    services: dict[str, list[str]] = {}
    for job in jobs:
        for path in job.service.get("DropInPaths", "").split():
            if path != str(own / drop_in_name(job.installed.id)):
                services.setdefault(path, []).append(job.service_name)
    return tuple(
        DropIn(
            path, tuple(service_settings(Path(path).read_text("utf-8", "replace"))), tuple(names)
        )
        for path, names in sorted(services.items())
    )


def service_settings(text: str) -> list[tuple[str, str]]:
    """The (key, value) pairs of the section `[Service]` of a unit file (systemd.syntax(7))."""
    section, settings, line = "", [], ""
    for part in text.splitlines():
        if part.lstrip().startswith(("#", ";")):
            continue
        line += part.strip()
        if line.endswith("\\"):
            line = line[:-1] + " "
            continue
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line:
            key, _, value = line.partition("=")
            settings.append((key.strip(), value.strip()))
        line = ""
    return settings


def _clock_is_synchronized() -> bool | None:
    if _output("systemd-detect-virt", "--container") not in ("", "none"):
        return None
    return {"yes": True, "no": False}.get(
        _output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    )


def _output(*argv: str) -> str:
    environment: Mapping[str, str] = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    return done.stdout.strip()
