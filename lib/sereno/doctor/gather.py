"""Asks the machine for the `Facts` of one scope: the manager in bulk, the unit files, the journal, the cache.

What cannot be looked at (rights, a tool that is missing) is named in `Facts.unread` and stops nothing else.
"""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from sereno import __version__, journal
from sereno.doctor.cache import cache_facts
from sereno.doctor.code import code_facts
from sereno.doctor.facts import DropIn, Facts
from sereno.doctor.files import UnitFiles, is_mask
from sereno.doctor.jobs import UNLOADED, Answers, job_facts
from sereno.errors import SerenoError
from sereno.history import Run
from sereno.installation import Installation
from sereno.journal_reader import JOURNAL, may_read_journal
from sereno.notify import health
from sereno.runs import Runs
from sereno.seed import machine_id
from sereno.units import TARGET, app_target_name, service_name

LINGER = Path("/var/lib/systemd/linger")
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
    found, files = units.find(), UnitFiles(scope)
    apps = sorted({job.app for job in found.jobs.values()})
    has_journal = journal.installed()
    sees_journal = has_journal and (scope.is_user or may_read_journal())
    if has_journal and not sees_journal:
        attempts.failed.append(f"journal: {getpass.getuser()} is not in the group systemd-journal")
    answers = Answers(
        states=manager.list_units("sereno@*", "sereno-app@*"),
        elapses=manager.list_timers(),
        now_s=time.time(),
        latest=ask("runs", lambda: _latest(scope.is_user, found.jobs), {}) if sees_journal else {},
    )
    jobs = job_facts(found.jobs, answers, units, files, manager, installation.local_zone)
    return Facts(
        scope=scope.name,
        user=getpass.getuser(),
        now_s=answers.now_s,
        python=sys.version_info[:2],
        systemd=manager.version(),
        has_python_systemd=has_journal,
        has_template=files.template is not None,
        code=ask("release", lambda: code_facts(files.template, __version__), None),
        jobs=jobs,
        target=manager.show(TARGET, "ActiveState", "UnitFileState"),
        apps=tuple(
            (app, units.app_is_linked(app), answers.states.get(app_target_name(app), UNLOADED))
            for app in apps
        ),
        foreign=tuple(
            (str(units.path / name), is_mask(units.path / name)) for name in sorted(found.foreign)
        ),
        interrupted=tuple(sorted(found.interrupted or ())),
        stale_files=tuple(
            ask(
                "reload",
                lambda: files.changed_since(manager.loaded_s(), found.jobs, units.path),
                [],
            )
        ),
        drop_ins=_drop_ins(files, list(found.jobs)),
        old_stamps=units.timers.old_stamps(),
        lingers=(LINGER / getpass.getuser()).exists() if scope.is_user else None,
        clock_synchronized=ask("clock", _clock_is_synchronized, None),
        journal_persistent=(JOURNAL / machine_id()).is_dir(),
        journal_begins_s=ask("journal", lambda: _begins_s(scope.is_user), None)
        if sees_journal
        else None,
        cache=ask("cache", lambda: cache_facts(scope.is_user), None),
        untold=tuple(ask("messages", lambda: health.problems(scope.is_user), [])),
        unread=(*attempts.failed, *files.unread),
    )


def _latest(user: bool, job_ids: Iterable[str]) -> dict[str, Run]:
    with Runs(user=user) as runs:
        return runs.latest(job_ids)


def _begins_s(user: bool) -> float | None:
    with Runs(user=user) as runs:
        return runs.begins_s()


def _drop_ins(files: UnitFiles, job_ids: list[str]) -> tuple[DropIn, ...]:
    services: dict[Path, list[str]] = {}
    for job_id in job_ids:
        for path in files.of_service(job_id):
            services.setdefault(path, []).append(service_name(job_id))
    return tuple(
        DropIn(str(path), files.settings(path), tuple(names)) for path, names in services.items()
    )


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
