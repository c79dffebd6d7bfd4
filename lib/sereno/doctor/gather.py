"""Asks the machine for the `Facts` of one scope: the manager in bulk, the unit files, the journal, the cache.

What cannot be looked at (rights, a tool that is missing) is named in `Facts.unread` and stops nothing else.
"""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import TypeVar

from sereno import __version__, journal
from sereno.doctor import CHECKS, machine
from sereno.doctor.cache import cache_facts
from sereno.doctor.facts import Facts
from sereno.doctor.files import UnitFiles, is_mask
from sereno.doctor.job_facts import JobFacts
from sereno.doctor.jobs import UNLOADED, Answers, job_facts
from sereno.doctor.machine import LINGER
from sereno.doctor.places import look
from sereno.doctor.run_checks import needed_paths
from sereno.doctor.unit_checks import requirements
from sereno.errors import SerenoError
from sereno.history import Run
from sereno.installation import Installation
from sereno.journal_reader import may_read_journal
from sereno.notify import config, health
from sereno.runs import Runs
from sereno.units import TARGET, app_target_name

UNIT_PROPERTIES = ("LoadState", "ActiveState", "InactiveEnterTimestamp", "FragmentPath")
# What lib/requirements.txt has installed.
PACKAGES = ("cachetools", "lmdb", "orjson")

Found = TypeVar("Found")


class _Attempts:
    """Asks, and notes what could not be answered."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def ask(self, what: str, question: Callable[[], Found], default: Found) -> Found:
        try:
            return question()
        except Exception as error:
            # Whatever others have put where sereno looks: it spoils one answer, and never the others.
            reason = error.message if isinstance(error, SerenoError) else error or type(error)
            self.failed.append(f"{what}: {reason}")
            return default


def gather(installation: Installation) -> Facts:
    """The facts of the installation's scope.

    Raises:
        NotAvailable: no manager runs there.
    """
    attempts = _Attempts()
    ask = attempts.ask
    user = ask("user", lambda: pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid()))
    scope, units, manager = installation.scope, installation.units, installation.manager
    found, files = units.find(), UnitFiles(scope)
    apps = sorted({job.app for job in found.jobs.values()})
    has_journal = journal.installed()
    sees_journal = has_journal and (scope.is_user or may_read_journal())
    if has_journal and not sees_journal:
        attempts.failed.append(f"journal: {user} is not in the group systemd-journal")
    answers = Answers(
        states=manager.list_units("sereno@*", "sereno-app@*"),
        elapses=manager.list_timers(),
        now_s=time.time(),
        latest=ask("runs", lambda: _latest(scope.is_user, found.jobs), {}) if sees_journal else {},
    )
    jobs = job_facts(found.jobs, answers, units, files, manager, installation.local_zone)
    code = ask("release", lambda: machine.code_facts(files.template, __version__), None)
    config_path = config.path_of(scope.is_user, os.environ)
    own_units = dict.fromkeys(unit for check in CHECKS.values() for unit in check.units)
    required = {name for job in jobs for name in requirements(job)}
    asked = [*own_units, *required]
    nothing: dict[str, dict[str, str]] = {}
    no_orphans: dict[str, str] = {}
    shown = ask("units", lambda: manager.show_all(asked, *UNIT_PROPERTIES), nothing)
    paths = {path for check in CHECKS.values() for path in check.paths}
    written = {str(each) for each in (scope.units, scope.stamps, scope.runtime)}
    paths |= {config_path, *written}
    paths |= {each["FragmentPath"] for each in shown.values() if each.get("FragmentPath")}
    paths |= {path for job in jobs for path in paths_of(job)}
    if code and code.installed_place:
        paths |= {code.installed_place, f"{code.installed_place}/venv/bin/python3"}
    places = {path: look(path) for path in paths}
    # What scripts name in their first line.
    more = {each.interpreter for each in places.values() if each.interpreter}
    places |= {path: look(path) for path in more - places.keys()}
    accounts = {} if scope.is_user else machine.accounts(jobs)
    lacking = tuple(name for name in PACKAGES if find_spec(name) is None)
    return Facts(
        scope=scope.name,
        user=user,
        now_s=answers.now_s,
        python=sys.version_info[:2],
        systemd=manager.version(),
        has_python_systemd=has_journal,
        has_template=files.template is not None,
        code=code,
        jobs=jobs,
        target=manager.show(TARGET, "ActiveState", "UnitFileState"),
        apps=tuple(
            (app, units.app_is_linked(app), answers.states.get(app_target_name(app), UNLOADED))
            for app in apps
        ),
        units=shown,
        words=ask(
            "unit files", lambda: machine.words(jobs, files, [*own_units], scope.is_user), ()
        ),
        places=places,
        accounts=accounts,
        groups={} if scope.is_user else machine.groups(jobs),
        written=frozenset(written),
        config_path=config_path,
        twice=tuple(ask("other scope", lambda: machine.twice(jobs, scope.is_user), [])),
        machine_id=machine.line_of("/etc/machine-id"),
        bus_id=machine.line_of("/var/lib/dbus/machine-id"),
        journal_storage=ask("journald", machine.journal_storage, None),
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
        drop_ins={
            str(path): files.settings(path)
            for job in found.jobs
            for path in (*files.of_service(job), *files.of_timer(job))
        },
        odd_files=tuple(files.odd),
        orphans=ask("lost timers", lambda: machine.orphans(units.path), no_orphans),
        masks=frozenset(files.masks),
        missing_packages=lacking,
        runtime_masks=frozenset(
            unit for unit, path in files.masks.items() if path.is_relative_to(scope.runtime)
        ),
        old_stamps=units.timers.old_stamps(),
        lingers=(LINGER / user).exists() if scope.is_user else None,
        clock_synchronized=ask("clock", machine.clock_is_synchronized, None),
        journal_begins_s=ask("journal", lambda: _begins_s(scope.is_user), None)
        if sees_journal
        else None,
        # Looked at as its owner: without that user, or without lmdb, what fails has a finding of its own.
        cache=None
        if lacking or None in accounts.values()
        else ask("cache", lambda: cache_facts(scope.is_user), None),
        untold=tuple(ask("messages", lambda: health.problems(scope.is_user), []))
        if places[config_path].kind == "file"
        else (),
        unread=(*attempts.failed, *files.unread),
    )


def paths_of(job: JobFacts) -> set[str]:
    """What a job names and its checks look at."""
    metrics = job.variable("SERENO_TEXTFILE_DIR")
    return {*job.code, *needed_paths(job), *([metrics] if metrics else [])}


def _latest(user: bool, job_ids: Iterable[str]) -> dict[str, Run]:
    with Runs(user=user) as runs:
        return runs.latest(job_ids)


def _begins_s(user: bool) -> float | None:
    with Runs(user=user) as runs:
        return runs.begins_s()
