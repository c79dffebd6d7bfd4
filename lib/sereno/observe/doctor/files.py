"""What is on disk around the generated units: drop-ins of administrators, masks, and the lines of services.

Read from the files: asked for it, a manager with 1,000 jobs loads every service and takes half a minute.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sereno.manager.names import (
    DROP_IN,
    TEMPLATE,
    TIMER_TEMPLATE,
    drop_in_name,
    service_name,
    timer_name,
)
from sereno.manager.scope import Scope
from sereno.observe.doctor.job_facts import Settings
from sereno.observe.doctor.places import text_of
from sereno.units.stamps import SEED_DROP_IN
from sereno.units.unit_text import Installed

# Drop-ins of all units of a kind (systemd.unit(5)) change those of sereno as well.
_OF_ALL = ("service", "timer", "target", "socket")


class UnitFiles:
    """The unit files of one scope that are not generated.

    Attributes:
        drop_ins: administrators' drop-ins, {unit name: paths}; those of the template are under its name.
        masks: units that are links to /dev/null, {unit name: path}.
        odd: paths of drop-ins that are no files.
        template: path of sereno@.service; None: it is not installed.
        unread: files that the caller may not read.
    """

    def __init__(self, scope: Scope) -> None:
        self.drop_ins: dict[str, list[str]] = {}
        self.masks: dict[str, Path] = {}
        self.odd: list[str] = []
        # Where `systemctl set-property` writes.
        control = (
            place.with_name(f"{place.name}.control") for place in (scope.units, scope.runtime)
        )
        for place in dict.fromkeys((scope.units, scope.runtime, *scope.search, *control)):
            for name in _names(place):
                path, unit = place / name, name.removesuffix(".d")
                if not name.startswith("sereno") and unit not in _OF_ALL:
                    continue
                if unit != name:
                    files = (each for each in _names(path) if each.endswith(".conf"))
                    for each in files:
                        if each in (DROP_IN, SEED_DROP_IN):
                            continue
                        if (path / each).is_file():
                            self.drop_ins.setdefault(unit, []).append(str(path / each))
                        else:
                            self.odd.append(str(path / each))
                elif is_mask(path):
                    self.masks.setdefault(name, path)
        found_templates = (place / TEMPLATE for place in scope.search)
        self.template = next((path for path in found_templates if path.is_file()), None)
        self.unread: list[str] = []
        self._settings: dict[str, Settings] = {}

    def of_timer(self, job_id: str) -> list[str]:
        """The drop-ins that change a job's timer."""
        return self._of("timer", TIMER_TEMPLATE, timer_name(job_id))

    def of_job(self, job_id: str) -> list[str]:
        """The drop-ins that change a job's service, and those that change its timer."""
        return [*self._of("service", TEMPLATE, service_name(job_id)), *self.of_timer(job_id)]

    def _of(self, *units: str) -> list[str]:
        return [path for unit in units for path in self.drop_ins.get(unit, ())]

    def lines_of(self, job: Installed) -> Settings:
        """The lines of a job's service, and of administrators' drop-ins of it and its timer."""
        template = self.settings(str(self.template)) if self.template else ()
        own = settings_in(job.files.get(drop_in_name(job.id), ""))
        return (
            *template,
            *own,
            *(line for path in self.of_job(job.id) for line in self.settings(path)),
        )

    def settings(self, path: str) -> Settings:
        """The lines of a file; none if it cannot be read."""
        if path not in self._settings:
            try:
                text = text_of(path)
            except OSError as error:
                self.unread.append(f"{path}: {error.strerror}")
                text = ""
            self._settings[path] = settings_in(text)
        return self._settings[path]


def is_mask(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path) == "/dev/null"


def settings_in(text: str) -> Settings:
    """The (section, key, value) lines of a unit file (systemd.syntax(7))."""
    section, line, settings = "", "", []
    for part in text.splitlines():
        if part.lstrip().startswith(("#", ";")):
            continue
        line += part.strip()
        if line.endswith("\\"):
            line = line[:-1] + " "
            continue
        key, found, value = line.partition("=")
        if line.startswith("["):
            section = line
        elif found:
            settings.append((section, key.strip(), value.strip()))
        line = ""
    return tuple(settings)


def _names(place: Path) -> Iterable[str]:
    try:
        return sorted(os.listdir(place))
    except OSError:
        return ()
