"""What systemd is to start: links, as `systemctl enable` makes them, and the presets that leave them as they are.

sereno-jobs@APP.target.wants has the timers of an application that are not paused, sereno-apps.target.wants the
applications that are not shut down. Both targets are unloaded as soon as they have started what is linked, so that
systemd reads each of these units when it starts it (systemd/system/sereno-start.service says more).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from sereno.manager.names import (
    APPS_TARGET,
    TARGET,
    app_target_name,
    job_of,
    jobs_target_name,
    timer_name,
)
from sereno.manager.scope import Scope
from sereno.units.durable import link_of, names_in, remove_if_empty, replace_all, replace_link

# Directories of links, and where they were up to 0.1: in units that stay loaded.
_APPS, _OLD_APPS = f"{APPS_TARGET}.wants", f"{TARGET}.wants"
# Before those of a distribution: the first line that fits a unit decides.
_PRESETS = "10-sereno.preset"
_PRESETS_HEADER = "# Written by sereno with each change of its timers, for first boots and `systemctl preset-all`.\n\n"


class Enablement:
    """The links of one scope; see `sereno.manager.scope.Scope`. Changed only under the scope's lock."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path = scope.units

    def timers(self, app: str | None = None) -> set[str]:
        """Names of the timers that are not paused; of one application, or of all."""
        found = (*self._found(jobs_target_name).values(), *self._old_wants().values())
        places = found if app is None else [self._wants(app)]
        return {name for place in places for name in names_in(place)}

    def apps(self) -> set[str]:
        """The applications that sereno.target starts."""
        names = (*names_in(self.path / _APPS), *names_in(self.path / _OLD_APPS))
        return {app for name in names if (app := _app_in(name, app_target_name)) is not None}

    def since_s(self, job_id: str, app: str) -> float:
        """When a timer and its application were enabled, the later of both; FileNotFoundError: one is not."""
        links = (self._wants(app) / timer_name(job_id), self.path / _APPS / app_target_name(app))
        return max(link.lstat().st_mtime for link in links)

    def link(self, jobs: Mapping[str, str]) -> None:
        """Let the timers of these jobs be started, {id: application}."""
        for app in set(jobs.values()):
            timers = [timer_name(job_id) for job_id in jobs if jobs[job_id] == app]
            _link(self._wants(app), {timer: f"../{timer}" for timer in timers})

    def unlink(self, app: str, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            (self._wants(app) / timer_name(job_id)).unlink(missing_ok=True)
        remove_if_empty(self._wants(app))

    def app_is_linked(self, app: str) -> bool:
        """Whether `sereno.target` starts the application, by a link that leads to where its template is."""
        links = self._app_links({app, *self.apps()})
        return all(link_of(f"{self.path}/{_APPS}/{name}") == to for name, to in links.items())

    def link_app(self, app: str) -> None:
        """Let `sereno.target` start the application."""
        _link(self.path / _APPS, self._app_links({app, *self.apps()}))

    def unlink_app(self, app: str) -> None:
        (self.path / _APPS / app_target_name(app)).unlink(missing_ok=True)
        remove_if_empty(self.path / _APPS)

    def is_old(self) -> bool:
        """Whether there are links where an older sereno had them."""
        return any(names_in(each) for each in (self.path / _OLD_APPS, *self._old_wants().values()))

    def move(self) -> None:
        """Move the links of an older sereno to where they are now; killed half-way, the next call goes on."""
        for app, old in self._old_wants().items():
            self.link({job: app for name in names_in(old) if (job := job_of(name)) is not None})
            _remove(old)
        if apps := self.apps():
            _link(self.path / _APPS, self._app_links(apps))
        _remove(self.path / _OLD_APPS)

    def sweep(self) -> None:
        """Remove the links of jobs that are no more, and directories that have none."""
        for directory in self._found(jobs_target_name).values():
            for name in names_in(directory):
                if not os.path.lexists(self.path / name):
                    (directory / name).unlink()
            remove_if_empty(directory)
        remove_if_empty(self.path / _APPS)

    def _wants(self, app: str) -> Path:
        return self.path / f"{jobs_target_name(app)}.wants"

    def _old_wants(self) -> dict[str, Path]:
        return self._found(app_target_name)

    def _found(self, target_name: Callable[[str], str]) -> dict[str, Path]:
        """Directories of links that belong to these targets, by application."""
        found = {}
        for name in names_in(self.path):
            app = _app_in(name.removesuffix(".wants"), target_name)
            if app is not None and name.endswith(".wants"):
                found[app] = self.path / name
        return found

    def _app_links(self, apps: Iterable[str]) -> dict[str, str]:
        template = app_target_name("")
        places = [directory / template for directory in self.scope.search]
        found = next((place for place in places if place.exists()), places[self.scope.is_user])
        if self.scope.name == "system":
            # A staged tree's links must be right in the system that it becomes.
            found = Path("/") / found.relative_to(self.path.parents[2])
        return {app_target_name(app): str(found) for app in apps}


def _link(directory: Path, links: Mapping[str, str]) -> None:
    """Make symbolic links, {name: target}, where they are not there."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        if link_of(directory / name) != target:
            replace_link(f"{directory}/{name}", target, durable=False)


def _remove(directory: Path) -> None:
    for name in names_in(directory):
        (directory / name).unlink(missing_ok=True)
    remove_if_empty(directory)


def _app_in(target: str, target_name: Callable[[str], str]) -> str | None:
    """The application in the name of one of its targets; None: it is no such name."""
    begin, end = target_name("@").split("@@")
    app = target.removeprefix(f"{begin}@").removesuffix(end)
    return app if target == target_name(app) else None


def write_presets(units: Path, *, enabled: Collection[str], paused: Collection[str]) -> None:
    """Write the preset file (systemd.preset(5)) for these timers in the directory `units`; without any, delete it.

    systemd presets all units in the first boot of a machine, which is one without a machine id, as images are, and
    where somebody calls `systemctl preset-all`: without such a file it enables what is paused, and a distribution whose
    presets disable all else disables every timer.
    """
    directory = units.with_name(f"{units.name}-preset")
    if not enabled and not paused:
        (directory / _PRESETS).unlink(missing_ok=True)
        remove_if_empty(directory)
        return
    is_on = (units / "timers.target.wants" / TARGET).is_symlink()
    lines = [f"{'enable' if is_on else 'disable'} {TARGET}"]
    # Of a unit without [Install] too: to disable a template removes the links of its instances.
    lines += [*(f"disable {name}" for name in sorted(paused)), "enable sereno*"]
    text = _PRESETS_HEADER + "\n".join(lines) + "\n"
    with suppress(FileNotFoundError):
        if (directory / _PRESETS).read_text("utf-8") == text:
            return
    directory.mkdir(exist_ok=True)
    replace_all(str(directory), {_PRESETS: text})
