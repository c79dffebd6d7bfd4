"""What is on disk around the generated units: drop-ins of administrators, masks, and what services execute.

Read from the files: asked for it, a manager with 1,000 jobs loads every service and takes half a minute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from sereno.installation import TEMPLATE
from sereno.scope import Scope
from sereno.timer_memory import SEED_DROP_IN
from sereno.units import DROP_IN, Installed, drop_in_name, service_name

Settings = tuple[tuple[str, str], ...]
_PREFIXES = "@-:+!|"


class UnitFiles:
    """The unit files of one scope that are not generated.

    Attributes:
        drop_ins: administrators' drop-ins, {unit name: paths}; those of the template are under its name.
        masks: services that are links to /dev/null, {unit name: path}.
        template: path of sereno@.service; None: it is not installed.
        unread: files that the caller may not read.
    """

    def __init__(self, scope: Scope) -> None:
        places = list(dict.fromkeys((scope.units, scope.runtime, *scope.search)))
        self.drop_ins: dict[str, list[Path]] = {}
        self.masks: dict[str, Path] = {}
        for place in places:
            for name in _names(place):
                if not name.startswith("sereno@"):
                    continue
                path = place / name
                if name.endswith(".d"):
                    files = sorted(each for each in _names(path) if each.endswith(".conf"))
                    found = [path / each for each in files if each not in (DROP_IN, SEED_DROP_IN)]
                    if found:
                        self.drop_ins.setdefault(name.removesuffix(".d"), []).extend(found)
                elif name.endswith(".service") and is_mask(path):
                    self.masks.setdefault(name, path)
        found_templates = (place / TEMPLATE for place in scope.search)
        self.template = next((path for path in found_templates if path.exists()), None)
        self.unread: list[str] = []
        self._settings: dict[Path, Settings] = {}

    def of_service(self, job_id: str) -> list[Path]:
        """The drop-ins that change a job's service."""
        return [*self.drop_ins.get(TEMPLATE, ()), *self.drop_ins.get(service_name(job_id), ())]

    def program(self, job: Installed) -> str | None:
        """What the job's service executes; None if it cannot be told from the files."""
        template = self.settings(self.template) if self.template else ()
        own = service_settings(job.files.get(drop_in_name(job.id), ""))
        others = (pair for path in self.of_service(job.id) for pair in self.settings(path))
        lines = [value for key, value in (*template, *own, *others) if key == "ExecStart" and value]
        return _first_word(lines[-1], job.id) if lines else None

    def settings(self, path: Path) -> Settings:
        """The settings of a file's section `[Service]`; none if it cannot be read."""
        if path not in self._settings:
            try:
                text = path.read_text("utf-8", "surrogateescape")
            except OSError as error:
                self.unread.append(f"{path}: {error.strerror}")
                text = ""
            self._settings[path] = service_settings(text)
        return self._settings[path]

    def changed_since(self, loaded_s: float, jobs: Mapping[str, Installed], own: Path) -> list[str]:
        """Paths of files that were changed after the manager read them.

        The time of the last change of the inode, which a copied or backdated file has as well.
        """
        paths = {own / name for job in jobs.values() for name in job.files}
        paths |= {path for found in self.drop_ins.values() for path in found}
        paths |= {self.template} if self.template else set()
        return sorted(str(path) for path in paths if path.lstat().st_ctime > loaded_s)


def is_mask(path: Path) -> bool:
    return path.is_symlink() and os.readlink(path) == "/dev/null"


def service_settings(text: str) -> Settings:
    """The (key, value) pairs of the section `[Service]` of a unit file (systemd.syntax(7))."""
    section, line, settings = "", "", []
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
    return tuple(settings)


def _first_word(value: str, job_id: str) -> str | None:
    """The program of an `ExecStart=` line; None if it holds specifiers or escapes beyond those that sereno writes."""
    value = value.lstrip(_PREFIXES)
    quoted = re.match(r'"([^"\\]*)"', value)
    word = quoted[1] if quoted else value.partition(" ")[0]
    word = word.replace("%i", job_id)
    return (
        None
        if re.search(r'["\\]|(?<!%)%(?:%%)*(?!%)', word)
        else word.replace("%%", "%").replace("$$", "$")
    )


def _names(place: Path) -> Iterable[str]:
    try:
        return sorted(os.listdir(place))
    except OSError:
        return ()
