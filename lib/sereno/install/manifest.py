"""The manifest: what lies outside the releases.

First line `sereno installing|upgrading|installed RELEASE`, then `dir - PATH`, `file SHA256 PATH`, `link TARGET PATH`.
Before anything is switched (a first time: staged) it is written with the old lines and the new ones: whatever a kill
leaves there is known as ours.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sereno.errors import Conflict
from sereno.install.places import SYSTEM_FILES, Places
from sereno.manager.names import TEMPLATE
from sereno.units.durable import link_of


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is written there; `state` and `release` are "" where nothing is installed."""

    state: str = ""
    release: str = ""
    lines: frozenset[str] = frozenset()

    @classmethod
    def read(cls, path: str) -> Manifest:
        """Raises OSError when it is there and cannot be read."""
        try:
            first, *lines = Path(path).read_text("utf-8", "surrogateescape").splitlines() or [""]
        except FileNotFoundError:
            return cls()
        _, state, release = (*first.split(" "), "", "", "")[:3]
        return cls(state, release, frozenset(lines))

    @property
    def is_first(self) -> bool:
        """Whether no installation has been done before."""
        return self.state in ("", "installing")

    def text(self) -> str:
        return "\n".join([f"sereno {self.state} {self.release}", *sorted(self.lines)]) + "\n"

    def entries(self, kind: str) -> Iterator[tuple[str, str]]:
        """(hash or target, path) of the lines of one kind."""
        for line in sorted(self.lines):
            if line.startswith(f"{kind} "):
                _, value, path = line.split(" ", 2)
                yield value, path

    def has(self, places: Places, kind: str, path: str) -> bool:
        """Whether the file or link is there as sereno wrote it."""
        there = places.at(path)
        value = hash_of(there) if kind == "file" else link_of(there)
        return f"{kind} {value} {path}" in self.lines


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to lie outside the releases: `files` by path, `links` by path, and the directories that they need."""

    files: Mapping[str, str]
    links: Mapping[str, str]
    directories: tuple[str, ...]


def wanted(places: Places, code: Path, release: str, named: str | None = None) -> Wanted:
    """What the units and files of `code` are, with the release in their text, or what is `named` in its place."""
    units = {
        path.name: path
        for directory in ("both", places.scope.name)
        for path in (code / "systemd" / directory).iterdir()
    }
    system_files = {} if places.is_user else SYSTEM_FILES
    files = {path: code / "systemd" / name for path, name in system_files.items()}
    # The template comes last: it names the release, so it is what switches the jobs over.
    names = sorted(units, key=lambda name: (name == TEMPLATE, name))
    files |= {f"{places.units}/{name}": units[name] for name in names}
    tree = named or f"{places.prefix}/releases/{release}"
    links = places.links(release, sorted(os.listdir(code / "systemd/man")))
    outside = [path for path in links if not path.startswith(f"{places.prefix}/")]
    directories = [*map(os.path.dirname, (*files, *outside, places.switch))]
    if not places.is_user:
        directories.append(os.path.dirname(places.cache))
    texts = {path: file.read_text("utf-8") for path, file in files.items()}
    template = f"{places.units}/{TEMPLATE}"
    texts[template] = _terse(texts[template])
    return Wanted(
        {path: text.replace("@RELEASE@", tree) for path, text in texts.items()},
        links,
        tuple(dict.fromkeys(directories)),
    )


def _terse(text: str) -> str:
    """A unit file with its first comment alone: systemd reads the template anew for each job, a character at a time,
    and two thirds of it are comments, an eighth of what a job costs a daemon-reload."""
    head, _, rest = text.partition("\n\n")
    lines = (line for line in rest.splitlines() if line and not line.startswith("#"))
    return "\n".join((head, *lines, ""))


def complete(old: Manifest, new: Wanted, places: Places, release: str) -> Manifest:
    """The manifest of an installation that is done."""
    prefix = places.prefix
    directories = {prefix, f"{prefix}/releases", f"{prefix}/environments"}
    directories |= {path for _, path in old.entries("dir")}
    for path in (*new.directories, os.path.dirname(prefix)):
        while path != "/" and not os.path.isdir(places.at(path)):
            directories.add(path)
            path = os.path.dirname(path)
    lines = {f"dir - {path}" for path in directories}
    lines |= {f"file {_digest(text)} {path}" for path, text in new.files.items()}
    lines |= {f"link {target} {path}" for path, target in new.links.items()}
    return Manifest("installed", release, frozenset(lines))


def refuse_foreign(old: Manifest, new: Wanted, places: Places) -> None:
    """Raise Conflict for what is in the way and not as sereno wrote it."""
    shall_be = complete(old, new, places, "")
    foreign = [
        places.at(path)
        for kind, paths in (("file", new.files), ("link", new.links))
        for path in paths
        if os.path.lexists(places.at(path))
        and not (old.has(places, kind, path) or shall_be.has(places, kind, path))
    ]
    if foreign:
        raise Conflict(
            f"in the way, and not as sereno installed it: {' '.join(foreign)}",
            hint="Nothing was changed. Move it away and run again.\n(A change of your own to a unit"
            f" belongs in a drop-in: {places.scope.command('systemctl edit UNIT')}.)",
        )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def hash_of(path: str) -> str:
    """SHA-256 of a file's content; "" when there is none to be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""
