"""What systemd is to start: links, as `systemctl enable` makes them, and the presets that leave them as they are.

sereno-jobs@APP.target.wants has the timers of an application that are not paused, sereno-apps.target.wants the
applications that are not shut down. Both targets are unloaded as soon as they have started what is linked, so that
systemd reads each of these units when it starts it (systemd/system/sereno-start.service says more).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
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
from sereno.units import presets
from sereno.units.durable import TEMPORARY_PREFIX

# Directories of links, and where they were up to 0.1: in units that stay loaded.
_APPS, _OLD_APPS = f"{APPS_TARGET}.wants", f"{TARGET}.wants"


class Enablement:
    """The links of one scope; see `sereno.manager.scope.Scope`. Changed only under the scope's lock."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.path = scope.units

    def timers(self, app: str | None = None) -> set[str]:
        """Names of the timers that are not paused; of one application, or of all."""
        places = [self.path / _wants(jobs_target_name(app))] if app else self._wants_of_apps()
        return {name for place in places for name in _names(place)}

    def apps(self) -> set[str]:
        """The applications that sereno.target starts."""
        names = (*_names(self.path / _APPS), *_names(self.path / _OLD_APPS))
        return {app for name in names if (app := _app_in(name, app_target_name)) is not None}

    def since_s(self, job_id: str, app: str) -> float:
        """When a timer and its application were enabled, the later of both; FileNotFoundError: one is not."""
        timer, target = timer_name(job_id), app_target_name(app)
        links = (f"{_wants(jobs_target_name(app))}/{timer}", f"{_APPS}/{target}")
        return max((self.path / link).lstat().st_mtime for link in links)

    def link(self, jobs: Mapping[str, str]) -> None:
        """Let the timers of these jobs be started, {id: application}."""
        for app in set(jobs.values()):
            timers = [timer_name(job_id) for job_id in jobs if jobs[job_id] == app]
            wants = _wants(jobs_target_name(app))
            self._link(wants, {timer: f"../{timer}" for timer in timers})

    def unlink(self, app: str, job_ids: Iterable[str]) -> None:
        wants = self.path / _wants(jobs_target_name(app))
        for job_id in job_ids:
            (wants / timer_name(job_id)).unlink(missing_ok=True)
        remove_if_empty(wants)

    def app_is_linked(self, app: str) -> bool:
        """Whether `sereno.target` starts the application, by a link that leads to where its template is."""
        links = self._app_links({app, *self.apps()})
        return all(_target(f"{self.path}/{_APPS}/{name}") == to for name, to in links.items())

    def link_app(self, app: str) -> None:
        """Let `sereno.target` start the application."""
        self._link(_APPS, self._app_links({app, *self.apps()}))

    def unlink_app(self, app: str) -> None:
        (self.path / _APPS / app_target_name(app)).unlink(missing_ok=True)
        remove_if_empty(self.path / _APPS)

    def is_old(self) -> bool:
        """Whether there are links where an older sereno had them."""
        return any(_names(each) for each in (self.path / _OLD_APPS, *self._old_wants().values()))

    def move(self) -> None:
        """Move the links of an older sereno to where they are now; killed half-way, the next call goes on."""
        for app, old in self._old_wants().items():
            self.link({job: app for name in _names(old) if (job := job_of(name)) is not None})
            _remove(old)
        if apps := self.apps():
            self._link(_APPS, self._app_links(apps))
        _remove(self.path / _OLD_APPS)

    def sweep(self) -> None:
        """Remove the links of jobs that are no more, and directories that have none."""
        for directory in self._found(jobs_target_name).values():
            for name in _names(directory):
                if not os.path.lexists(self.path / name):
                    (directory / name).unlink()
            remove_if_empty(directory)
        remove_if_empty(self.path / _APPS)

    def write_presets(self, timers: Iterable[str]) -> None:
        """Let presets leave what is enabled and what is paused as it is: see `sereno.units.presets`.

        Args:
            timers: all that are installed.
        """
        timers = set(timers)
        if not timers:
            return presets.remove(self.path)
        return presets.write(
            self.path,
            target=TARGET,
            switched_on=(self.path / "timers.target.wants" / TARGET).is_symlink(),
            paused=timers - self.timers(),
        )

    def _wants_of_apps(self) -> list[Path]:
        return [*self._found(jobs_target_name).values(), *self._old_wants().values()]

    def _old_wants(self) -> dict[str, Path]:
        return self._found(app_target_name)

    def _found(self, target_name: Callable[[str], str]) -> dict[str, Path]:
        """Directories of links that belong to these targets, by application."""
        found = {}
        for name in _names(self.path):
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

    def _link(self, place: str, links: Mapping[str, str]) -> None:
        """Make symbolic links, {name: target}, in the directory `place`, where they are not there."""
        if links:
            os.makedirs(f"{self.path}/{place}", exist_ok=True)
        for name, target in links.items():
            path = f"{self.path}/{place}/{name}"
            if _target(path) != target:
                temporary = f"{self.path}/{TEMPORARY_PREFIX}link"
                with suppress(FileNotFoundError):
                    os.unlink(temporary)
                os.symlink(target, temporary)
                os.replace(temporary, path)


def remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()


def _remove(directory: Path) -> None:
    for name in _names(directory):
        (directory / name).unlink(missing_ok=True)
    remove_if_empty(directory)


def _wants(target: str) -> str:
    return f"{target}.wants"


def _app_in(target: str, target_name: Callable[[str], str]) -> str | None:
    """The application in the name of one of its targets; None: it is no such name."""
    begin, end = target_name("@").split("@@")
    app = target.removeprefix(f"{begin}@").removesuffix(end)
    return app if target == target_name(app) else None


def _names(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _target(link: str) -> str | None:
    """What a symbolic link leads to; None: it is none."""
    try:
        return os.readlink(link)
    except OSError:
        return None
