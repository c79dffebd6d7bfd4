"""Asks the machine for the `Facts` of one scope: the manager in bulk, the unit files, the journal, the cache.

What cannot be looked at (rights, a tool that is missing) is named in `Facts.unread` and stops nothing else.
"""

from __future__ import annotations

import os
import pwd
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import TypeVar

from sereno import __version__
from sereno.declare.job import FLEET
from sereno.errors import SerenoError
from sereno.manager.names import TARGET, app_target_name, unit_of
from sereno.manager.scope import Scope
from sereno.manager.systemctl import Systemctl
from sereno.notify import config, health
from sereno.observe.doctor import PATHS, UNITS, fleet, machine
from sereno.observe.doctor.cache import cache_facts
from sereno.observe.doctor.facts import Facts
from sereno.observe.doctor.files import UnitFiles, is_mask
from sereno.observe.doctor.job_facts import Properties
from sereno.observe.doctor.jobs import UNLOADED, job_facts
from sereno.observe.doctor.places import look
from sereno.observe.doctor.run_checks import needed_paths
from sereno.observe.doctor.unit_checks import requirements
from sereno.observe.runs_of_many import RunsOfMany
from sereno.observe.survey import Answer, Question, newest_runs, states_of
from sereno.records import journal
from sereno.records.files import line_of
from sereno.records.journal_reader import may_read_journal
from sereno.records.run_record import Run
from sereno.setting_names import TEXTFILE_DIR
from sereno.units import reach
from sereno.units.installation import Installation
from sereno.units.unit_text import Installed
from sereno.units.unitdir import Found

UNIT_PROPERTIES = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "InactiveEnterTimestamp"),
    "FragmentPath",
)
# What lib/requirements.txt has installed.
PACKAGES = ("cachetools", "lmdb", "orjson")
Given = TypeVar("Given")


class _Attempts:
    """Asks, and notes what could not be answered."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.lacking: set[str] = set()
        for package in PACKAGES:
            self.ask(package, partial(import_module, package), None)

    def ask(self, what: str, question: Callable[[], Given], default: Given) -> Given:
        try:
            return question()
        except ImportError as error:
            # Also of one that is there for another Python: the installation's fault, and no matter of rights.
            self.lacking.add((error.name or str(error)).partition(".")[0])
        except Exception as error:
            # Whatever others have put where sereno looks: it spoils one answer, and never the others.
            reason = error.message if isinstance(error, SerenoError) else error or type(error)
            self.failed.append(f"{what}: {reason}")
        return default


def gather(installation: Installation) -> Facts:
    """The facts of the installation's scope. Raises NotAvailable, SystemdError where no manager answers."""
    attempts, question = _Attempts(), Question(installation.manager)
    ask, scope = attempts.ask, installation.scope
    found, files = installation.units.find(), UnitFiles(scope)
    answer, now_s = question.answer(), time.time()
    if question.refusal is not None:
        raise question.refusal
    with ThreadPoolExecutor() as pool:
        # Of a hundred jobs' units it takes the manager as long as all else takes here.
        known = partial(_stale, files, found, installation, answer.units)
        stale = pool.submit(ask, "reload", known, ())
        user = ask("user", lambda: pwd.getpwuid(os.geteuid()).pw_name, str(os.geteuid()))
        past: tuple[Mapping[str, Sequence[Run]], float | None] = {}, None
        if has_journal := journal.installed():
            past = ask("journal", lambda: _past(installation, user, found.jobs, question), past)
        states = states_of(found.jobs, installation, answer, past[0])
        facts = Facts(
            scope=scope.name,
            user=user,
            now_s=now_s,
            python=sys.version_info[:2],
            systemd=installation.manager.version(),
            has_python_systemd=has_journal,
            jobs=job_facts(states, installation, files, answer, now_s),
            config_path=config.path_of(scope.is_user, os.environ),
            code=ask("release", lambda: machine.code_facts(files.template, __version__), None),
            journal_begins_s=past[1],
            lingers=(machine.LINGER / user).exists() if scope.is_user else None,
        )
        facts = _with_files(facts, attempts, found, files, installation, answer)
    facts = replace(facts, stale_files=tuple(stale.result()))
    facts = _with_units(facts, attempts, files, installation.manager)
    facts = _with_machine(facts, attempts, scope)
    # Looked at as its owner: without that user, or without lmdb, what fails has a finding of its own.
    if not attempts.lacking and None not in facts.accounts.values():
        facts = replace(facts, cache=ask("cache", lambda: cache_facts(scope.is_user), None))
    if any(job.installed.once_per == FLEET for job in facts.jobs):
        path = str(scope.fleet_url)
        facts = replace(facts, fleet=ask("fleet", lambda: fleet.fleet_facts(path), None))
    # Whether people were told, the journal knows.
    if has_journal and facts.at(facts.config_path).kind == "file":
        untold: Iterable[str] = ask("messages", lambda: health.problems(scope.is_user), [])
        facts = replace(facts, untold=tuple(untold))
    lacking, unread = tuple(sorted(attempts.lacking)), (*attempts.failed, *files.unread)
    return replace(facts, missing_packages=lacking, unread=unread)


def _past(
    installation: Installation, user: str, jobs: Mapping[str, Installed], question: Question
) -> tuple[Mapping[str, Sequence[Run]], float | None]:
    """The newest runs, and when the journal begins."""
    is_user = installation.scope.is_user
    if not is_user and not may_read_journal():
        raise PermissionError(f"{user} is not in the group systemd-journal")
    known = newest_runs(jobs, installation, question)
    with RunsOfMany(user=is_user) as runs:
        return known, runs.begins_s()


def _with_files(
    facts: Facts, attempts: _Attempts, found: Found, files: UnitFiles, installation: Installation, answer: Answer
) -> Facts:  # fmt: skip
    """What is on disk beside what was generated."""
    scope, units, own = installation.scope, installation.units, installation.units.path
    apps = {app: app_target_name(app) for app in sorted({job.app for job in found.jobs.values()})}
    return replace(
        facts,
        apps=tuple(
            (app, units.enabled.app_is_linked(app), answer.units.get(target, UNLOADED))
            for app, target in apps.items()
        ),
        written=frozenset(map(str, (scope.units, scope.stamps, scope.runtime))),
        old_stamps=units.timers.old_stamps(),
        interrupted=tuple(sorted(found.interrupted)),
        has_template=files.template is not None,
        foreign=tuple((str(own / name), is_mask(own / name)) for name in sorted(found.foreign)),
        drop_ins={path: files.settings(path) for job in facts.jobs for path in job.drop_ins},
        odd_files=tuple(files.odd),
        orphans=attempts.ask("lost timers", lambda: machine.orphans(own, found.jobs), {}),
        masks=frozenset(files.masks),
        runtime_masks=frozenset(
            unit for unit, path in files.masks.items() if path.is_relative_to(scope.runtime)
        ),
    )


def _stale(
    files: UnitFiles, found: Found, installation: Installation, loaded: Iterable[str]
) -> Sequence[str]:
    """Unit files that the manager does not know as they are now.

    A change of a job has none read again by a reload: what is not loaded is read from disk when it is started, and of
    what is loaded the manager knows when it read it.
    """
    manager, own = installation.manager, installation.units.path
    paths = {f"{own}/{name}" for job in found.jobs.values() for name in job.files}
    paths.update(*files.drop_ins.values(), [str(files.template)] if files.template else [])
    # The time of the last change of the inode, which a copied or backdated file has as well.
    loaded_s = manager.loaded_s()
    changed = sorted(path for path in paths if os.lstat(path).st_ctime > loaded_s)
    # By the name of the file, and of the directory of drop-ins that it may be in.
    units = {
        path: unit_of("/".join(path.rsplit("/", 2)[1:])).rpartition("/")[2] for path in changed
    }
    asked = {*loaded} & {*units.values()}
    shown = manager.show_all(asked, "NeedDaemonReload") if asked else {}
    # Of a template, of which there is no unit to ask, a change is read by the reload of who installs it.
    return [
        path
        for path, unit in units.items()
        if "@." in unit or shown.get(unit, {}).get("NeedDaemonReload") == "yes"
    ]


def _with_units(facts: Facts, attempts: _Attempts, files: UnitFiles, manager: Systemctl) -> Facts:
    """sereno's own units and what jobs require, and what systemd says of unit files."""
    shown: Mapping[str, Properties] = manager.show_all(UNITS, *UNIT_PROPERTIES)
    required = {name for job in facts.jobs for name in requirements(job)} - shown.keys()
    others: Mapping[str, Properties] = {}
    if required:
        # By names that others have written: the manager may take none of them.
        others = attempts.ask("units", lambda: manager.show_all(required, *UNIT_PROPERTIES), {})
    said = partial(machine.words, facts.jobs, files, UNITS, facts.scope == "user")
    return replace(
        facts,
        target=shown.get(TARGET, {}),
        units={**shown, **others},
        words=attempts.ask("unit files", said, ()),
    )


def _with_machine(facts: Facts, attempts: _Attempts, scope: Scope) -> Facts:
    """Paths, accounts, and what the machine itself is like."""
    ask, is_user = attempts.ask, scope.is_user
    paths = {*PATHS, facts.config_path, *facts.written}
    paths |= {each["FragmentPath"] for each in facts.units.values() if each.get("FragmentPath")}
    for job in facts.jobs:
        paths |= {*job.code, *needed_paths(job), *filter(None, [job.variable(TEXTFILE_DIR)])}
    if facts.code and (release := facts.code.installed_place):
        paths |= {release, f"{release}/venv/bin/python3"}
    users = {health.SYSTEM_USER, *(job.user for job in facts.jobs)}
    groups = {name for job in facts.jobs for name in job.groups}
    places = {path: look(path) for path in paths}
    # What scripts name in their first line.
    more = {each.interpreter for each in places.values() if each.interpreter}
    places |= {path: look(path) for path in more - places.keys()}
    return replace(
        facts,
        places=places,
        accounts={} if is_user else {name: reach.account(name) for name in users},
        groups={} if is_user else {name: reach.group(name) for name in groups},
        twice=tuple(ask("other scope", lambda: machine.twice(facts.jobs, scope), [])),
        machine_id=line_of("/etc/machine-id"),
        bus_id=line_of("/var/lib/dbus/machine-id"),
        mounts=ask("mounts", machine.mounts, 0),
        journal_storage=ask("journald", machine.journal_storage, None),
        clock_synchronized=ask("clock", machine.clock_is_synchronized, None),
    )
